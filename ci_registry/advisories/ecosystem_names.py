"""Names of OSV ecosystems: without their release, and one name for what has several."""

import re

_RED_HAT = re.compile(r"Red Hat:enterprise_linux:(\d+)(?:\.\d+)?(?::.*)?")
_SUSE = re.compile(
    r"SUSE:Linux Enterprise (?!Micro|Live Patching|Real Time)[A-Za-z ]+ (?P<major>\d+)"
    r"(?:(?: SP|\.)(?P<pack>\d+))?(?:-[A-Z]+(?: [A-Za-z]+)*)?"
)
_ALTERNATE_REPOSITORY = frozenset({"Maven", "Packagist", "VSCode"})
"""Their suffix is the address of a repository, not a release."""


def base_ecosystem(ecosystem: str) -> str:
    """Return an OSV ecosystem without its release: `Debian` for `Debian:12`."""
    return ecosystem.partition(":")[0]


def canonical_ecosystem(ecosystem: str) -> str:
    """Return the one name that records and questions of a release are filed under.

    - `Red Hat:enterprise_linux:9::baseos`, `…::appstream`: an image has packages of several of them, so
      all are `Red Hat:enterprise_linux:9`. Streams with longer support (`rhel_eus`) keep their names.
    - `SUSE:Linux Enterprise Server 15 SP5`, its modules and its longer support: `SUSE:15.5`.
    - `Maven:https://…`: another repository of the same packages, `Maven`.

    Everything else stays as it is.
    """
    base = base_ecosystem(ecosystem)
    if base in _ALTERNATE_REPOSITORY:
        return base
    if match := _RED_HAT.fullmatch(ecosystem):
        return f"Red Hat:enterprise_linux:{match[1]}"
    if match := _SUSE.fullmatch(ecosystem):
        pack = match["pack"]
        return f"SUSE:{match['major']}.{pack}" if pack else f"SUSE:{match['major']}"
    return ecosystem

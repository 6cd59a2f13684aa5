"""Go version order: modules by Semantic Versioning, releases of Go itself as `go1.22rc1`."""

import re
from functools import lru_cache

from ci_registry.advisories.version_semver import SemverKey, parse_semver
from ci_registry.advisories.version_syntax import UnparsableVersionError

_TOOLCHAIN = re.compile(
    r"(?P<go>go)?1\.(?P<minor>\d{1,9})(?:\.(?P<patch>\d{1,9})|(?P<pre>(?:alpha|beta|rc)\d{1,9}))?",
    re.ASCII,
)
_FIRST_WITH_PATCH_ZERO = 21
"""Since Go 1.21 the first release is `go1.21.0`, and `go1.21` is the language before all its releases."""
_OWN_BUILD = re.compile(r"(?P<version>go1[.0-9a-z]*)(?:[-+ ].*)?", re.ASCII)


@lru_cache(maxsize=100_000)
def parse_go(text: str) -> SemverKey:
    """Return the sort key of a module version, a pseudo-version, or a release of Go.

    `go1.22rc1` is what advisories call `1.22.0-rc.1`. What stands behind the version of somebody's own
    build of Go (`go1.22.3-acme`, `go1.22.3 X:boringcrypto`) does not count, as in package `go/version`.

    Raises:
        UnparsableVersionError: it is something else, for example `(devel)`.
    """
    stripped = text.strip()
    if own := _OWN_BUILD.fullmatch(stripped):
        stripped = own["version"]
    match = _TOOLCHAIN.fullmatch(stripped)
    if match is not None:
        return parse_semver(_semantic(match))
    if stripped.startswith("="):
        raise UnparsableVersionError(text, "Go")
    return parse_semver(stripped)


def _semantic(match: re.Match[str]) -> str:
    minor, patch = int(match["minor"]), match["patch"] or "0"
    pre = re.sub(r"(\d+)", r".\1", match["pre"] or "")
    if match["go"] and not match["patch"] and not pre and minor >= _FIRST_WITH_PATCH_ZERO:
        pre = "0"
    return f"1.{minor}.{patch}" + (f"-{pre}" if pre else "")

"""Version comparison for each advisory ecosystem, behind one table."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ci_registry.advisories.ecosystem_names import base_ecosystem
from ci_registry.advisories.version_apk import parse_apk
from ci_registry.advisories.version_bitnami import parse_bitnami
from ci_registry.advisories.version_composer import parse_composer
from ci_registry.advisories.version_deb import compare_deb, parse_deb
from ci_registry.advisories.version_gem import compare_gem, parse_gem
from ci_registry.advisories.version_go import parse_go
from ci_registry.advisories.version_maven import compare_maven, parse_maven
from ci_registry.advisories.version_nuget import parse_nuget
from ci_registry.advisories.version_rpm import parse_rpm
from ci_registry.advisories.version_semver import SemverKey, parse_semver
from ci_registry.advisories.version_syntax import UnparsableVersionError

__all__ = [
    "COMPARATORS",
    "UnparsableVersionError",
    "base_ecosystem",
    "can_compare",
    "compare",
    "is_version",
]

Comparator = Callable[[str, str], int]


@lru_cache(maxsize=100_000)
def _pep440_key(text: str) -> Any:
    """Return the sort key of a Python version without its local part.

    `2.0.0+cu117` is a build of 2.0.0 and as vulnerable as that; a specifier ignores the label
    of the candidate in the same way (PEP 440, "Version matching").
    """
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415 - not for every start

    try:
        return Version(Version(text).public)
    except InvalidVersion as error:
        raise UnparsableVersionError(text, "PEP 440") from error


@lru_cache(maxsize=100_000)
def _semver_key(text: str) -> SemverKey:
    return parse_semver(text)


def _by_key(parse: Callable[[str], Any]) -> Comparator:
    """Return a comparator for versions whose parsed form sorts by itself."""

    def order(a: str, b: str) -> int:
        left, right = parse(a), parse(b)
        return int(left > right) - int(left < right)

    return order


def _compare_deb(a: str, b: str) -> int:
    return compare_deb(parse_deb(a), parse_deb(b))


def _compare_gem(a: str, b: str) -> int:
    return compare_gem(parse_gem(a), parse_gem(b))


def _compare_maven(a: str, b: str) -> int:
    return compare_maven(parse_maven(a), parse_maven(b))


_apk, _rpm, _semver = _by_key(parse_apk), _by_key(parse_rpm), _by_key(_semver_key)

COMPARATORS: Mapping[str, Comparator] = {
    "Debian": _compare_deb,
    "Ubuntu": _compare_deb,
    "Alpine": _apk,
    "Alpaquita": _apk,
    "Chainguard": _apk,
    "MinimOS": _apk,
    "Wolfi": _apk,
    "AlmaLinux": _rpm,
    "Azure Linux": _rpm,
    "Mageia": _rpm,
    "Photon OS": _rpm,
    "Red Hat": _rpm,
    "Rocky Linux": _rpm,
    "SUSE": _rpm,
    "openEuler": _rpm,
    "openSUSE": _rpm,
    "Bitnami": _by_key(parse_bitnami),
    "Go": _by_key(parse_go),
    "Maven": _compare_maven,
    "NuGet": _by_key(parse_nuget),
    "Packagist": _by_key(parse_composer),
    "PyPI": _by_key(_pep440_key),
    "RubyGems": _compare_gem,
    "crates.io": _semver,
    "npm": _semver,
}
"""OSV ecosystem without its release → comparator; a new ecosystem is one line here."""


def can_compare(ecosystem: str) -> bool:
    """Say whether versions of this OSV ecosystem can be ordered at all."""
    return base_ecosystem(ecosystem) in COMPARATORS


def compare(ecosystem: str, a: str, b: str) -> int:
    """Return -1, 0 or 1 for two versions of an OSV ecosystem such as `Debian:12` or `PyPI`.

    Raises:
        UnparsableVersionError: one of them is no version there, or nobody here can order them.
    """
    comparator = COMPARATORS.get(base_ecosystem(ecosystem))
    if comparator is None:
        raise UnparsableVersionError(a, f"{ecosystem} (no comparator)")
    return comparator(a, b)


def is_version(ecosystem: str, text: str) -> bool:
    """Say whether a text is a version of this ecosystem that can be ordered."""
    try:
        compare(ecosystem, text, text)
    except UnparsableVersionError:
        return False
    return True

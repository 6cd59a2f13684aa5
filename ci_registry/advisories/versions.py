"""Version comparison for each advisory ecosystem, behind one table."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ci_registry.advisories.version_deb import compare_deb, parse_deb
from ci_registry.advisories.version_semver import SemverKey, parse_semver
from ci_registry.advisories.version_syntax import UnparsableVersionError

__all__ = ["COMPARATORS", "UnparsableVersionError", "base_ecosystem", "can_compare", "compare"]


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


def _compare_pep440(a: str, b: str) -> int:
    left, right = _pep440_key(a), _pep440_key(b)
    return int(left > right) - int(left < right)


@lru_cache(maxsize=100_000)
def _semver_key(text: str) -> SemverKey:
    return parse_semver(text)


def _compare_semver(a: str, b: str) -> int:
    left, right = _semver_key(a), _semver_key(b)
    return (left > right) - (left < right)


def _compare_deb(a: str, b: str) -> int:
    return compare_deb(parse_deb(a), parse_deb(b))


COMPARATORS: Mapping[str, Callable[[str, str], int]] = {
    "Debian": _compare_deb,
    "Ubuntu": _compare_deb,
    "PyPI": _compare_pep440,
    "npm": _compare_semver,
    "Go": _compare_semver,
}
"""OSV ecosystem without its release → comparator; a new ecosystem is one line here."""


def base_ecosystem(ecosystem: str) -> str:
    """Return an OSV ecosystem without its release: `Debian` for `Debian:12`."""
    return ecosystem.partition(":")[0]


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

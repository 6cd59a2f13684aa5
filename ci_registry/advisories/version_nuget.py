"""NuGet version order: up to four numbers, then pre-release labels without regard to case."""

import re
from functools import lru_cache

from ci_registry.advisories.version_syntax import UnparsableVersionError

_SYNTAX = re.compile(
    r"\s*v?(\d{1,10})(?:\.(\d{1,10}))?(?:\.(\d{1,10}))?(?:\.(\d{1,10}))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]*)?\s*",
    re.ASCII,
)
_LARGEST_LABEL = 2**31 - 1
_RELEASE = ((2, 0, ""),)
"""Sorts after every pre-release of the same version."""

NuGetKey = tuple[tuple[int, ...], tuple[tuple[int, int, str], ...]]
"""Four numbers, and one (kind, number, text) for each pre-release label."""


@lru_cache(maxsize=100_000)
def parse_nuget(text: str) -> NuGetKey:
    """Return the sort key of a version; build metadata does not count.

    Raises:
        UnparsableVersionError: it is something else.
    """
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise UnparsableVersionError(text, "NuGet")
    *numbers, labels = match.groups()
    pre = tuple(_label(part) for part in labels.split(".")) if labels else _RELEASE
    return tuple(int(number or 0) for number in numbers), pre


def _label(text: str) -> tuple[int, int, str]:
    """Labels that fit a 32-bit number sort as numbers, below all words."""
    if text.isdigit() and len(text) <= 40 and int(text) <= _LARGEST_LABEL:
        return (0, int(text), "")
    return (1, 0, text.upper())

"""Bitnami version order: three numbers, then the revision of the package, which is no pre-release."""

import re
from functools import lru_cache

from ci_registry.advisories.version_syntax import UnparsableVersionError

_SYNTAX = re.compile(
    r"(\d{1,20})(?:\.(\d{1,20}))?(?:\.(\d{1,20}))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?",
    re.ASCII,
)

BitnamiKey = tuple[int, int, int, tuple[tuple[int, int, str], ...]]
"""Major, minor, patch and the parts of the revision: none sorts first, words below numbers."""


@lru_cache(maxsize=100_000)
def parse_bitnami(text: str) -> BitnamiKey:
    """Return the sort key of a version such as `7.0.11-2`.

    Raises:
        UnparsableVersionError: it is something else.
    """
    match = _SYNTAX.fullmatch(text.strip())
    if match is None:
        raise UnparsableVersionError(text, "Bitnami")
    major, minor, patch, revision = match.groups()
    parts = tuple(_part(item) for item in revision.split(".")) if revision else ()
    return int(major), int(minor or 0), int(patch or 0), parts


def _part(text: str) -> tuple[int, int, str]:
    return (1, int(text), "") if text.isdigit() and len(text) <= 40 else (0, 0, text)

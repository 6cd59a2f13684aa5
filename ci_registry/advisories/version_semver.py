"""Semantic Versioning 2.0 precedence, for npm and Go."""

import re

from ci_registry.advisories.version_syntax import UnparsableVersionError

_SYNTAX = re.compile(
    r"[v=]?(\d{1,20})(?:\.(\d{1,20}))?(?:\.(\d{1,20}))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?",
    re.ASCII,
)

SemverKey = tuple[int, int, int, tuple[tuple[int, int, str], ...]]
"""Major, minor, patch and one (kind, number, text) for each pre-release identifier."""

_RELEASE = ((2, 0, ""),)
"""Sorts after every pre-release of the same version."""


def parse_semver(text: str) -> SemverKey:
    """Return the sort key of a version; build metadata does not count (clause 10).

    A leading `v` and missing minor or patch numbers are accepted, because advisories have them.

    Raises:
        UnparsableVersionError: it is something else, for example four numbers or a tag.
    """
    match = _SYNTAX.fullmatch(text.strip())
    if match is None:
        raise UnparsableVersionError(text, "semantic")
    major, minor, patch, pre = match.groups()
    identifiers = tuple(_identifier(part) for part in pre.split(".")) if pre else _RELEASE
    return int(major), int(minor or 0), int(patch or 0), identifiers


def _identifier(text: str) -> tuple[int, int, str]:
    """Numbers sort below words (clause 11.4)."""
    if text.isdigit() and len(text) <= 40:
        return (0, int(text), "")
    return (1, 0, text)

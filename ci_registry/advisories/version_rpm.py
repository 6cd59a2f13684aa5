"""RPM version order: epoch, then version, then release, the last two as `rpmvercmp` has them."""

import re
from functools import lru_cache

from ci_registry.advisories.version_syntax import UnparsableVersionError

MAX_VERSION_LENGTH = 500
_SYNTAX = re.compile(
    r"(?:(?P<epoch>[0-9]{1,10}):)?(?P<version>[A-Za-z0-9._+~^]+)(?:-(?P<release>[A-Za-z0-9._+~^]+))?",
    re.ASCII,
)
_SEGMENT = re.compile(r"[0-9]+|[A-Za-z]+|[~^]", re.ASCII)
_TILDE, _END, _CARET, _LETTERS, _DIGITS = range(5)

_Segments = tuple[tuple[int, int, str], ...]
"""(kind, number, letters) each; a tilde sorts before the end of the text, everything else after."""
RpmKey = tuple[int, _Segments, _Segments]
"""Epoch, version, release; sorts as rpm does."""


@lru_cache(maxsize=100_000)
def parse_rpm(text: str) -> RpmKey:
    """Return the sort key of `[epoch:]version[-release]`; no epoch is epoch 0.

    Raises:
        UnparsableVersionError: it has characters that rpm does not allow, or too many hyphens.
    """
    match = _SYNTAX.fullmatch(text) if len(text) <= MAX_VERSION_LENGTH else None
    if match is None:
        raise UnparsableVersionError(text, "RPM")
    return (
        int(match["epoch"] or 0),
        _segments(match["version"]),
        _segments(match["release"] or ""),
    )


def _segments(text: str) -> _Segments:
    """Split into what is compared; everything between letters, digits, `~` and `^` only separates."""
    found = tuple(_segment(part) for part in _SEGMENT.findall(text))
    return (*found, (_END, 0, ""))


def _segment(part: str) -> tuple[int, int, str]:
    if part == "~":
        return _TILDE, 0, ""
    if part == "^":
        return _CARET, 0, ""
    return (_DIGITS, int(part), "") if part.isdigit() else (_LETTERS, 0, part)

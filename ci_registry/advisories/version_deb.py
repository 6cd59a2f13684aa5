"""Debian version order, as `dpkg --compare-versions` has it (Debian policy, section 5.6.12)."""

import re
from functools import lru_cache
from itertools import zip_longest

from ci_registry.advisories.version_syntax import UnparsableVersionError

_SYNTAX = re.compile(
    r"(?:(?P<epoch>[0-9]{1,9}):)?(?P<upstream>[A-Za-z0-9.+~:-]+?)(?:-(?P<revision>[A-Za-z0-9.+~]+))?",
    re.ASCII,
)
_PART = re.compile(r"([^0-9]*)([0-9]*)", re.ASCII)
_END = 0
MAX_VERSION_LENGTH = 500

DebVersion = tuple[int, str, str]
"""Epoch, upstream version, revision."""


@lru_cache(maxsize=100_000)
def parse_deb(text: str) -> DebVersion:
    """Split a version into epoch, upstream version and revision.

    Raises:
        UnparsableVersionError: dpkg would reject it, or warn about its characters.
    """
    stripped = text.strip(" \t")
    match = _SYNTAX.fullmatch(stripped) if len(stripped) <= MAX_VERSION_LENGTH else None
    if (
        match is None
        or (match["epoch"] is None and ":" in match["upstream"])
        or stripped.endswith("-")
    ):
        raise UnparsableVersionError(text, "Debian")
    return int(match["epoch"] or 0), match["upstream"], match["revision"] or ""


def compare_deb(a: DebVersion, b: DebVersion) -> int:
    """Return -1, 0 or 1."""
    if a[0] != b[0]:
        return 1 if a[0] > b[0] else -1
    return _compare_part(a[1], b[1]) or _compare_part(a[2], b[2])


def _order(character: str) -> int:
    """Order of one non-digit: tilde before the end of the string, letters before the rest."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def _compare_part(a: str, b: str) -> int:
    for (text_a, digits_a), (text_b, digits_b) in zip_longest(
        _PART.findall(a), _PART.findall(b), fillvalue=("", "")
    ):
        order_a, order_b = [_order(c) for c in text_a], [_order(c) for c in text_b]
        length = max(len(order_a), len(order_b))
        order_a += [_END] * (length - len(order_a))
        order_b += [_END] * (length - len(order_b))
        if order_a != order_b:
            return 1 if order_a > order_b else -1
        number_a, number_b = int(digits_a or 0), int(digits_b or 0)
        if number_a != number_b:
            return 1 if number_a > number_b else -1
    return 0

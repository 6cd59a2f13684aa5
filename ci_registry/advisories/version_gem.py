"""RubyGems version order, as `Gem::Version` has it."""

import re
from functools import lru_cache
from itertools import zip_longest

from ci_registry.advisories.version_syntax import UnparsableVersionError

MAX_VERSION_LENGTH = 500
_SYNTAX = re.compile(
    r"\s*(?:[0-9]+(?:\.[0-9a-zA-Z]+)*(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)?\s*", re.ASCII
)
_SEGMENT = re.compile(r"[0-9]+|[A-Za-z]+", re.ASCII)

GemKey = tuple[tuple[int, int, str], ...]
"""(1, number, "") or (0, 0, word) each: words, which mark pre-releases, sort below numbers."""
_ZERO = (1, 0, "")


@lru_cache(maxsize=100_000)
def parse_gem(text: str) -> GemKey:
    """Split a version into numbers and words; a hyphen begins a pre-release.

    Raises:
        UnparsableVersionError: `Gem::Version` would reject it, or it is empty.
    """
    match = _SYNTAX.fullmatch(text) if len(text) <= MAX_VERSION_LENGTH else None
    if match is None or not text.strip():
        raise UnparsableVersionError(text, "RubyGems")
    parts = _SEGMENT.findall(text.replace("-", ".pre."))
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def compare_gem(a: GemKey, b: GemKey) -> int:
    """Return -1, 0 or 1; zeros before the first word and at the end do not count."""
    for left, right in zip_longest(_canonical(a), _canonical(b), fillvalue=_ZERO):
        if left != right:
            return 1 if left > right else -1
    return 0


def _canonical(key: GemKey) -> GemKey:
    word = next((place for place, segment in enumerate(key) if not segment[0]), len(key))
    return _without_zeros(key[:word]) + _without_zeros(key[word:])


def _without_zeros(key: GemKey) -> GemKey:
    end = len(key)
    while end and key[end - 1] == _ZERO:
        end -= 1
    return key[:end]

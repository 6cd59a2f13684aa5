"""Packagist version order: Composer's normal form, compared as PHP's `version_compare` does."""

import re
from functools import lru_cache

from ci_registry.advisories.version_syntax import UnparsableVersionError

MAX_VERSION_LENGTH = 500
_MODIFIER = (
    r"[._-]?(?:(?P<word>stable|beta|b|RC|alpha|a|patch|pl|p)(?P<number>(?:[.-]?\d+)*)?)?"
    r"(?P<dev>[.-]?dev)?"
)
_FLAGS = re.ASCII | re.IGNORECASE
_NUMBERS = re.compile(r"v?(?P<main>\d{1,5}(?:\.\d+){0,3})" + _MODIFIER, _FLAGS)
_DATE = re.compile(
    r"v?(?P<main>\d{4}(?:[.:-]?\d{2}){1,6}(?:[.:-]?\d{1,3}){0,2})" + _MODIFIER, _FLAGS
)
_METADATA = re.compile(r"(?P<version>[^,\s+]+)\+\S+")
_PARTS = 4
_BRANCH = 9_999_999
"""What Composer writes for the `x` of a branch."""
_DEV, _ALPHA, _BETA, _RC, _END, _DIGITS, _PATCH = range(7)
_WORDS = {
    "a": _ALPHA,
    "alpha": _ALPHA,
    "b": _BETA,
    "beta": _BETA,
    "rc": _RC,
    "p": _PATCH,
    "pl": _PATCH,
    "patch": _PATCH,
}

ComposerKey = tuple[tuple[int, int], ...]
"""(kind, number) each: dev, alpha, beta, RC, then the end of the version, numbers and patches."""


@lru_cache(maxsize=100_000)
def parse_composer(text: str) -> ComposerKey:
    """Return the sort key of a released version.

    Raises:
        UnparsableVersionError: Composer would reject it, or it is a branch (`dev-main`, `1.x-dev`),
            which says nothing about the fixes that are in it.
    """
    stripped = text.strip() if len(text) <= MAX_VERSION_LENGTH else ""
    if match := _METADATA.fullmatch(stripped):
        stripped = match["version"]
    match = _NUMBERS.fullmatch(stripped) or _DATE.fullmatch(stripped)
    if match is None:
        raise UnparsableVersionError(text, "Composer")
    numbers = _numbers(match["main"])
    if _BRANCH in numbers:
        raise UnparsableVersionError(text, "Composer")
    if match.re is _NUMBERS:
        numbers += [0] * (_PARTS - len(numbers))
    key = [(_DIGITS, number) for number in numbers]
    word = (match["word"] or "").lower()
    if word and word != "stable":
        key.append((_WORDS[word], 0))
        key += [(_DIGITS, number) for number in _numbers(match["number"])]
    if match["dev"] and word != "stable":
        key.append((_DEV, 0))
    return (*key, (_END, 0))


def _numbers(text: str | None) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text or "", re.ASCII)]

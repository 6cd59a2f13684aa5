"""Alpine version order, as apk-tools 3 has it: `1.2.3a_rc1_git20230101~hash-r4`."""

import re
from functools import lru_cache

from ci_registry.advisories.version_syntax import UnparsableVersionError

MAX_VERSION_LENGTH = 500
_SUFFIXES = ("alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p")
_FIRST_POST_SUFFIX = 4
_SYNTAX = re.compile(
    r"(?P<first>[0-9]+)(?P<numbers>(?:\.[0-9]+)*)(?P<letter>[a-z]?)"
    rf"(?P<suffixes>(?:_(?:{'|'.join(_SUFFIXES)})[0-9]*)*)"
    r"(?:~(?P<hash>[0-9a-fA-F]+))?(?:-r(?P<revision>[0-9]+))?",
    re.ASCII,
)
_SUFFIX = re.compile(r"_([a-z]+)([0-9]*)", re.ASCII)
_PRE, _END, _REVISION, _HASH, _SUFFIX_NUMBER, _POST, _LETTER, _FRACTION, _NUMBER = range(9)

_Token = tuple[int, int, str]
ApkKey = tuple[_Token, ...]
"""(kind, number, text) each; where two versions differ in kind, the kind decides."""


@lru_cache(maxsize=100_000)
def parse_apk(text: str) -> ApkKey:
    """Return the sort key of a version.

    Numbers after the first that begin with a zero sort below all others, and as text.

    Raises:
        UnparsableVersionError: apk would reject it.
    """
    match = _SYNTAX.fullmatch(text) if len(text) <= MAX_VERSION_LENGTH else None
    if match is None:
        raise UnparsableVersionError(text, "Alpine")
    tokens: list[_Token] = [(_NUMBER, int(match["first"]), "")]
    tokens += [_number(part) for part in match["numbers"].split(".")[1:]]
    if match["letter"]:
        tokens.append((_LETTER, 0, match["letter"]))
    for word, number in _SUFFIX.findall(match["suffixes"]):
        rank = _SUFFIXES.index(word)
        tokens.append((_PRE if rank < _FIRST_POST_SUFFIX else _POST, rank, ""))
        if number:
            tokens.append((_SUFFIX_NUMBER, int(number), ""))
    if match["hash"]:
        tokens.append((_HASH, 0, match["hash"]))
    if match["revision"]:
        tokens.append((_REVISION, int(match["revision"]), ""))
    return (*tokens, (_END, 0, ""))


def _number(digits: str) -> _Token:
    if digits.startswith("0"):
        return (_FRACTION, 0, digits)
    return (_NUMBER, int(digits), "")

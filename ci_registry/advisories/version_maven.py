"""Maven version order, as `ComparableVersion` of Maven 3.9 has it."""

import re
from functools import lru_cache

from ci_registry.advisories.version_syntax import UnparsableVersionError

MAX_VERSION_LENGTH = 200
"""Lists nest as deep as a version has parts."""
_SYNTAX = re.compile(r"[0-9A-Za-z._+~^:/\\@#!%&'*=-]+", re.ASCII)
_META_VERSIONS = frozenset({"latest", "release"})
_PART = re.compile(r"[0-9]+|[^0-9.-]+|[.-]", re.ASCII)
_SEPARATORS = (".", "-")
_QUALIFIERS = ("alpha", "beta", "milestone", "rc", "snapshot", "", "sp")
_RELEASE = _QUALIFIERS.index("")
_ALIASES = {"cr": "rc", "ga": "", "final": "", "release": ""}
_SHORT = {"a": "alpha", "b": "beta", "m": "milestone"}
"""Only in front of a digit: `1.0a1`, but not `1.0a`."""

Qualifier = tuple[int, str]
"""Place among the known ones; unknown ones come after them, in the order of their letters."""
MavenKey = list["int | Qualifier | MavenKey"]
"""Numbers, qualifiers, and lists for what follows a hyphen or a change between digits and letters."""


@lru_cache(maxsize=100_000)
def parse_maven(text: str) -> MavenKey:
    """Split a version into its nested lists, without what means nothing at their ends.

    Raises:
        UnparsableVersionError: it is empty, a property that was never filled in (`${revision}`), a range,
            or a name for whatever is newest.
    """
    stripped = text.strip()
    if (
        len(stripped) > MAX_VERSION_LENGTH
        or not _SYNTAX.fullmatch(stripped)
        or stripped.lower() in _META_VERSIONS
    ):
        raise UnparsableVersionError(text, "Maven")
    return _nested(stripped.lower())


def _nested(text: str) -> MavenKey:
    root: MavenKey = []
    lists = [root]
    parts = _PART.findall(text)
    for before, part, after in zip([".", *parts], parts, [*parts[1:], ""], strict=False):
        if part in _SEPARATORS:
            if before in _SEPARATORS:
                lists[-1].append(0)
            opens = part == "-" and bool(lists[-1])
        elif part.isdigit():
            opens = before not in _SEPARATORS
        else:
            opens = bool(lists[-1]) and (before not in _SEPARATORS or after not in _SEPARATORS)
        if opens:
            lists.append([])
            lists[-2].append(lists[-1])
        if part.isdigit():
            lists[-1].append(int(part))
        elif part not in _SEPARATORS:
            lists[-1].append(_qualifier(part, before_digit=after[:1].isdigit()))
    for items in reversed(lists):
        _normalise(items)
    return root


def _qualifier(word: str, *, before_digit: bool) -> Qualifier:
    if before_digit:
        word = _SHORT.get(word, word)
    word = _ALIASES.get(word, word)
    if word in _QUALIFIERS:
        return _QUALIFIERS.index(word), ""
    return len(_QUALIFIERS), word


def _is_null(item: "int | Qualifier | MavenKey") -> bool:
    return item in (0, (_RELEASE, ""), [])


def _normalise(items: MavenKey) -> None:
    for place in range(len(items) - 1, -1, -1):
        if _is_null(items[place]):
            del items[place]
        elif not isinstance(items[place], list):
            break


def compare_maven(a: MavenKey, b: MavenKey) -> int:
    """Return -1, 0 or 1."""
    for place in range(max(len(a), len(b))):
        left = a[place] if place < len(a) else None
        right = b[place] if place < len(b) else None
        order = -_compare_item(right, None) if left is None else _compare_item(left, right)
        if order:
            return order
    return 0


def _compare_item(
    left: "int | Qualifier | MavenKey | None", right: "int | Qualifier | MavenKey | None"
) -> int:
    """Order two parts: numbers are the highest, then lists, then qualifiers; None is the end."""
    if right is None:
        return _compare_with_end(left)
    if isinstance(left, list) and isinstance(right, list):
        return compare_maven(left, right)
    kinds = _kind(left), _kind(right)
    if kinds[0] != kinds[1]:
        return 1 if kinds[0] > kinds[1] else -1
    return (left > right) - (left < right)  # type: ignore[operator] # both numbers or both qualifiers


def _kind(item: "int | Qualifier | MavenKey | None") -> int:
    if isinstance(item, int):
        return 2
    return 1 if isinstance(item, list) else 0


def _compare_with_end(item: "int | Qualifier | MavenKey | None") -> int:
    if isinstance(item, int):
        return int(item != 0)
    if isinstance(item, tuple):
        return (item[0] > _RELEASE) - (item[0] < _RELEASE)
    for part in item or []:
        order = _compare_with_end(part)
        if order:
            return order
    return 0

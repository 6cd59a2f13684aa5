"""Wildcards as Go's `filepath.Match` reads them: COPY sources, and the syntax check of ignore patterns."""

import re

_CHUNK = re.compile(r"(\**)((?:\\.|\[(?:\\.|[^\]\\])*\]?|[^*\\\[])*\\?)", re.DOTALL)
"""Stars, and what follows up to the next star outside a class."""


class GlobError(ValueError):
    """The pattern is malformed."""


def has_wildcard(text: str) -> bool:
    """Whether `text` holds `*`, `?` or `[` that no backslash escapes."""
    escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in "*?[":
            return True
    return False


def unescape(text: str) -> str:
    """Return a pattern without wildcards as the plain text that it matches."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Compile a pattern for `fullmatch`; `*` and `?` stop at `/`.

    Raises:
        GlobError: an unclosed or empty class, or a backslash at the end.
    """
    result: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            result.append("[^/]*")
        elif char == "?":
            result.append("[^/]")
        elif char == "[":
            text, position = _read_class(pattern, position)
            result.append(text)
        else:
            if char == "\\":
                char, position = _read_char(pattern, position - 1, in_class=False)
            result.append(re.escape(char))
    return re.compile("".join(result), re.DOTALL)


def check_as_go(pattern: str) -> None:
    """Raise `GlobError` where Go's `filepath.Match(pattern, ".")` reports a malformed pattern.

    It looks only at the part of the pattern that it needs to see that "." does not match.
    """
    name = "."
    while pattern:
        chunk = _CHUNK.match(pattern)
        star, text = (chunk[1] != "", chunk[2]) if chunk else (False, pattern)
        pattern = pattern[len(chunk[0]) :] if chunk else ""
        if star and not text:
            return
        expression = compile_glob(text)
        starts = range(len(name) + 1) if star else range(1)
        found = next(
            (
                end
                for start in starts
                if (match := expression.match(name[start:]))
                and ((end := start + match.end()) == len(name) or pattern)
            ),
            None,
        )
        if found is None:
            return
        name = name[found:]


def _read_char(pattern: str, position: int, *, in_class: bool) -> tuple[str, int]:
    """Read one character, escaped or not; in a class `-` and `]` need the escape, and more must follow."""
    end = len(pattern)
    if position >= end or (in_class and pattern[position] in "-]"):
        raise GlobError(f"malformed pattern {pattern!r}")
    if pattern[position] == "\\":
        position += 1
        if position >= end:
            raise GlobError(f"malformed pattern {pattern!r}: a backslash at the end")
    if in_class and position + 1 >= end:
        raise GlobError(f"malformed pattern {pattern!r}: '[' is not closed")
    return pattern[position], position + 1


def _read_class(pattern: str, position: int) -> tuple[str, int]:
    """Read a class behind its `[`; returns it as a regular expression."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern.startswith("]", position)):
        low, position = _read_char(pattern, position, in_class=True)
        high = low
        if pattern.startswith("-", position):
            high, position = _read_char(pattern, position + 1, in_class=True)
        ranges.append((low, high))
    return class_of(ranges, negated=negated), position + 1


def class_of(ranges: list[tuple[str, str]], *, negated: bool) -> str:
    """Return a character class as a regular expression; a range that runs backwards matches nothing."""
    members = "".join(
        f"{_code(low)}-{_code(high)}" for low, high in ranges if ord(low) <= ord(high)
    )
    if not members:
        return r"[\s\S]" if negated else r"(?!)"
    return f"[{'^' if negated else ''}{members}]"


def _code(char: str) -> str:
    return f"\\U{ord(char):08x}"

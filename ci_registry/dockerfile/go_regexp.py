"""Go regular expressions, as far as ignore patterns can hold them, translated for Python's `re`.

`moby/patternmatcher` pastes the text of a pattern into a regular expression, so escape classes,
`[[:digit:]]` and `^` mean there what they mean in Go.
"""

import re

from ci_registry.dockerfile.glob import class_of

Ranges = list[tuple[str, str]]

_LAST = "\U0010ffff"
_DIGIT: Ranges = [("0", "9")]
_LOWER: Ranges = [("a", "z")]
_UPPER: Ranges = [("A", "Z")]
_SPACE: Ranges = [("\t", "\n"), ("\f", "\r"), (" ", " ")]
_WORD: Ranges = [*_DIGIT, *_UPPER, ("_", "_"), *_LOWER]
_PERL = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
_POSIX: dict[str, Ranges] = {
    "alnum": [*_DIGIT, *_UPPER, *_LOWER],
    "alpha": [*_UPPER, *_LOWER],
    "ascii": [("\0", "\x7f")],
    "blank": [("\t", "\t"), (" ", " ")],
    "cntrl": [("\0", "\x1f"), ("\x7f", "\x7f")],
    "digit": _DIGIT,
    "graph": [("!", "~")],
    "lower": _LOWER,
    "print": [(" ", "~")],
    "punct": [("!", "/"), (":", "@"), ("[", "`"), ("{", "~")],
    "space": [("\t", "\r"), (" ", " ")],
    "upper": _UPPER,
    "word": _WORD,
    "xdigit": [*_DIGIT, ("A", "F"), ("a", "f")],
}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ASSERTIONS = {"A": r"\A", "z": r"\Z", "b": r"(?a:\b)", "B": r"(?a:\B)"}


class RegexpError(ValueError):
    """Go refuses the expression too, or it uses an escape (p, Q, C) that no ignore file uses."""


def compile_go_regexp(text: str) -> re.Pattern[str]:
    """Compile a Go regular expression made by `ignore`; match it with `match`, it has its own anchors.

    Raises:
        RegexpError: the expression is malformed.
    """
    result: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\":
            part, position = _read_escape(text, position + 1)
        elif char == "[":
            part, position = _read_class(text, position + 1)
        else:
            part, position = (r"\Z" if char == "$" else char), position + 1
        result.append(part)
    try:
        return re.compile("".join(result))
    except re.error as error:
        raise RegexpError(str(error)) from error


def _read_escape(text: str, position: int) -> tuple[str, int]:
    """Read an escape outside a class, behind its backslash."""
    char = text[position : position + 1]
    if char in _ASSERTIONS and char:
        return _ASSERTIONS[char], position + 1
    if char.lower() in _PERL and char:
        return class_of(_perl(char), negated=False), position + 1
    literal, position = _read_literal_escape(text, position)
    return re.escape(literal), position


def _perl(char: str) -> Ranges:
    ranges = _PERL[char.lower()]
    return ranges if char.islower() else _complement(ranges)


def _complement(ranges: Ranges) -> Ranges:
    result: Ranges = []
    start = 0
    for low, high in sorted(ranges):
        if ord(low) > start:
            result.append((chr(start), chr(ord(low) - 1)))
        start = ord(high) + 1
    return [*result, (chr(start), _LAST)]


def _read_literal_escape(text: str, position: int) -> tuple[str, int]:
    """Read an escape that stands for one character."""
    char = text[position : position + 1]
    if char in _CONTROLS and char:
        return _CONTROLS[char], position + 1
    if code := re.compile(r"x([0-9A-Fa-f]{2})").match(text, position):
        return chr(int(code[1], 16)), code.end()
    if code := re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}").match(text, position):
        return chr(int(code[0], 8)), code.end()
    if not char or not char.isascii() or char.isalnum():
        raise RegexpError(f"invalid escape sequence '\\{char}'")
    return char, position + 1


def _read_class(text: str, position: int) -> tuple[str, int]:
    """Read a character class behind its `[`."""
    negated = text.startswith("^", position)
    position += negated
    ranges: Ranges = []
    first = True
    while first or not text.startswith("]", position):
        first = False
        members, position = _read_members(text, position)
        ranges += members
    return class_of(ranges, negated=negated), position + 1


def _read_members(text: str, position: int) -> tuple[Ranges, int]:
    """Read one member of a class: a named class, an escape class, a character or a range."""
    if named := re.compile(r"\[:(\^?)([a-z]*):\]").match(text, position):
        ranges = _POSIX.get(named[2])
        if ranges is None:
            raise RegexpError(f"invalid character class {named[0]}")
        return (_complement(ranges) if named[1] else ranges), named.end()
    if text.startswith("\\", position) and text[position + 1 : position + 2].lower() in tuple(
        _PERL
    ):
        return _perl(text[position + 1]), position + 2
    low, position = _read_class_char(text, position)
    high = low
    if text.startswith("-", position) and text[position + 1 : position + 2] not in ("", "]"):
        high, position = _read_class_char(text, position + 1)
        if high < low:
            raise RegexpError(f"invalid character class range {low}-{high}")
    return [(low, high)], position


def _read_class_char(text: str, position: int) -> tuple[str, int]:
    if position >= len(text):
        raise RegexpError("missing closing ]")
    if text[position] == "\\":
        return _read_literal_escape(text, position + 1)
    return text[position], position + 1

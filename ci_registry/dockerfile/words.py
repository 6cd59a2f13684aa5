"""How one instruction line is cut into keyword, flags and arguments."""

import json
import re

from ci_registry.dockerfile.expand import SPACES

_BLANKS = re.compile(r"[\t\v\f\r ]+")


class NotAllTextError(ValueError):
    """A JSON array has members that are no strings."""


def split_blanks(text: str, max_parts: int = 0) -> tuple[str, ...]:
    """Split at runs of ASCII blanks; quotes mean nothing here."""
    return tuple(_BLANKS.split(text, maxsplit=max(max_parts - 1, 0)))


def split_keyword(line: str, escape: str) -> tuple[str, tuple[str, ...], str]:
    """Return keyword, raw flags and the rest of an instruction line."""
    keyword, *rest = split_blanks(line.strip(SPACES), 2)
    if not rest:
        return keyword, (), ""
    flags, arguments = _split_flags(rest[0], escape)
    return keyword, flags, arguments.strip(SPACES)


def _split_flags(text: str, escape: str) -> tuple[tuple[str, ...], str]:
    """Take the leading words that start with `--`; a lone `--` ends them."""
    flags: list[str] = []
    position = 0
    while True:
        while position < len(text) and text[position] in SPACES:
            position += 1
        if not text.startswith("--", position):
            return tuple(flags), text[position:]
        word, quoted, position = _read_flag(text, position, escape)
        if word == "--":
            return tuple(flags), text[position:]
        if word or quoted:
            flags.append(word)


def _read_flag(text: str, position: int, escape: str) -> tuple[str, bool, int]:
    """Read one flag with its quotes removed; returns it, whether it had quotes, and where it ends."""
    word, quote, quoted = "", "", False
    while position < len(text):
        char = text[position]
        if not quote and char in SPACES:
            break
        position += 1
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote, quoted = char, True
        elif char == escape:
            word += text[position : position + 1]
            position += 1
        else:
            word += char
    return word, quoted, position


def split_words(text: str, escape: str) -> tuple[str, ...]:
    """Split at spaces outside quotes; quotes and escapes stay in the words."""
    words: list[str] = []
    word, quote, quoted = "", "", False
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if not quote and char in SPACES:
            if word or quoted:
                words.append(word)
            word, quoted = "", False
            continue
        if quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote, quoted = char, True
        elif char == escape and quote != "'":
            if position == len(text):
                break  # an escape at the very end escapes nothing
            char += text[position]
            position += 1
        word += char
    return (*words, word) if word or quoted else tuple(words)


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


def json_array(text: str) -> tuple[str, ...] | None:
    """Return the members of a JSON array of strings; None when `text` is no JSON array.

    Raises:
        NotAllTextError: it is an array, but not of strings.
    """
    text = text.lstrip(SPACES)
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text, parse_int=float, parse_constant=_no_constant)
    except RecursionError as error:
        raise NotAllTextError("arrays of the exec form hold strings only") from error
    except ValueError:
        return None
    if not all(isinstance(member, str) for member in value):
        raise NotAllTextError("arrays of the exec form hold strings only")
    return tuple(re.sub(r"[\ud800-\udfff]", "\ufffd", member) for member in value)

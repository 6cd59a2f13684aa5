"""Makes foreign text harmless: control characters, bidirectional tricks, markup, workflow commands."""

import re

_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\ufdd0-\ufdef\ufeff\ufff9-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)
_LINE_ENDS = re.compile(r"\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>&#|~!$@]")
CUT = " …"


def _as_code(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def printable(text: str) -> str:
    """Return text that can't move a cursor, colour a terminal or turn its direction; lines stay."""
    return _UNPRINTABLE.sub(_as_code, _LINE_ENDS.sub("\n", text).replace("\t", "    "))


def clip(text: str, max_chars: int) -> str:
    """Return at most `max_chars` characters, with a mark when something was cut."""
    return text if len(text) <= max_chars else text[: max_chars - len(CUT)] + CUT


def one_line(text: str, max_chars: int = 1000) -> str:
    """Return printable text on one line."""
    return printable(" ".join(clip(text, max_chars * 2).split()))[:max_chars]


def markdown(text: str, max_chars: int = 500) -> str:
    """Return text that Markdown and HTML show as it is, on one line, also in a table."""
    line = _MARKDOWN.sub(lambda m: f"&#{ord(m[0])};", one_line(text, max_chars))
    return line.replace("://", "&#58;//").replace("www.", "www&#46;")


def web_link(url: str) -> str:
    """Return the URL when it is a plain http(s) one that can stand in markup, else nothing."""
    return url if re.fullmatch(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]{1,2000}", url) else ""


def command_data(text: str) -> str:
    """Escape the message of a GitHub workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(text: str) -> str:
    """Escape a property of a GitHub workflow command."""
    return command_data(text).replace(":", "%3A").replace(",", "%2C")

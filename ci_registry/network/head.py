"""Parses the head of an HTTP/1 answer, strictly and within limits (RFC 9112)."""

import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_HEAD_BYTES = 128 * 1024
MAX_FIELDS = 256
MAX_INTERIM_ANSWERS = 8

ReadLine = Callable[[int], bytes]
"""Reads up to and with the next line feed, at most so many bytes."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\r\n]*))?")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_WITHOUT_BODY = frozenset({204, 304})


class MalformedHeadError(Exception):
    """What came is no HTTP/1 answer that we accept; the text never holds a value of a field."""


class NoHttpError(MalformedHeadError):
    """Its first line is no status line of HTTP/1."""


class CutHeadError(Exception):
    """The connection ended within the head of an answer."""


class NoAnswerError(Exception):
    """The connection ended before the first byte of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Status and fields of an answer."""

    minor_version: int
    """0 for HTTP/1.0, 1 for HTTP/1.1."""
    status: int
    reason: str = ""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    """Names in lower case, values without surrounding blanks, in the order received."""

    def all(self, name: bytes) -> tuple[bytes, ...]:
        """Return every value of a field; `name` in lower case."""
        return tuple(value for key, value in self.fields if key == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """Where the body of an answer ends."""

    chunked: bool = False
    length_bytes: int | None = None
    """None when only its chunks or the end of the connection tell."""
    closes: bool = False
    """Whether the connection is of no use afterwards."""


def read_head(read_line: ReadLine) -> Head:
    """Read the head of the final answer; interim ones (1xx) are skipped.

    Raises:
        NoAnswerError: the connection ended first.
        CutHeadError: it ended within the head.
        MalformedHeadError: it is no HTTP/1, too large, or holds text that is not UTF-8.
    """
    for _ in range(MAX_INTERIM_ANSWERS + 1):
        head = _read_one(read_line)
        if head.status == 101:
            raise MalformedHeadError("it switches to another protocol")
        if head.status >= 200:
            return head
    raise MalformedHeadError(f"more than {MAX_INTERIM_ANSWERS} interim answers")


def _read_one(read_line: ReadLine) -> Head:
    left = MAX_HEAD_BYTES
    line = read_line(left + 1)
    if not line:
        raise NoAnswerError
    found = _STATUS_LINE.fullmatch(_without_end(line, left))
    if found is None:
        raise NoHttpError("it does not begin with an HTTP/1 status line")
    left -= len(line)
    fields: list[tuple[bytes, bytes]] = []
    while True:
        line = read_line(left + 1)
        text = _without_end(line, left)
        if not text:
            break
        left -= len(line)
        if len(fields) >= MAX_FIELDS:
            raise MalformedHeadError(f"more than {MAX_FIELDS} header fields")
        fields.append(_field(text))
    return Head(
        minor_version=int(found[1]),
        status=int(found[2]),
        reason=(found[3] or b"").decode("ascii", "replace"),
        fields=tuple(fields),
    )


def _without_end(line: bytes, most_bytes: int) -> bytes:
    if len(line) > most_bytes:
        raise MalformedHeadError(f"its header is larger than {MAX_HEAD_BYTES} bytes")
    if not line.endswith(b"\n"):
        raise CutHeadError("its header is cut short")
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name):
        raise MalformedHeadError("a line of its header is no header field")
    value = value.strip(b" \t")
    if b"\r" in value or b"\0" in value:
        raise MalformedHeadError(f"header field {name.decode()[:80]} holds a control character")
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError:
            raise MalformedHeadError(f"header field {name.decode()[:80]} is not UTF-8") from None
    return name.lower(), value


def framing(method: str, head: Head) -> Framing:
    """Tell where the body ends (RFC 9112, 6.3).

    Raises:
        MalformedHeadError: lengths that disagree, or a transfer coding other than chunked.
    """
    options = b",".join(head.all(b"connection")).lower()
    closes = b"close" in options or (head.minor_version == 0 and b"keep-alive" not in options)
    if method == "HEAD" or head.status in _WITHOUT_BODY:
        return Framing(length_bytes=0, closes=closes)
    codings = head.all(b"transfer-encoding")
    if codings:
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise MalformedHeadError("its transfer coding is not chunked")
        return Framing(chunked=True, closes=closes or bool(head.all(b"content-length")))
    lengths = {part.strip() for value in head.all(b"content-length") for part in value.split(b",")}
    if not lengths:
        return Framing(closes=True)
    length = lengths.pop()
    if lengths or not length.isdigit() or len(length) > 18:
        raise MalformedHeadError("its Content-Length is not one number")
    return Framing(length_bytes=int(length), closes=closes)

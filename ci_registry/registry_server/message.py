"""Requests and responses as plain values, without sockets: what the handler takes and gives."""

import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

Headers = tuple[tuple[str, str], ...]


class BodyReader(Protocol):
    """The body of a request."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, maybe fewer; empty only at the end.

        Raises:
            BodyInterruptedError: the client went away or sent nothing for too long.
        """


class BodyInterruptedError(Exception):
    """The body ended before its time."""


class BytesReader:
    """A body that is already in memory."""

    __slots__ = ("_rest",)

    def __init__(self, data: bytes = b"") -> None:
        self._rest = memoryview(data)

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The head of a request and the reader of its body."""

    method: str
    path: str
    """Percent-encoded, as sent, without the query."""
    query: str = ""
    """As sent, without the question mark."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; repeated ones joined by `, `."""
    body: BodyReader = field(default_factory=BytesReader)
    scheme: str = "http"
    """`https` when the connection has TLS."""

    def header(self, name: str) -> str:
        """Return a header by its lower-case name, empty when absent."""
        return self.headers.get(name, "")

    def parameter(self, name: str) -> str | None:
        """Return the first query parameter of this name, None when absent."""
        return next(iter(self.parameters(name)), None)

    def parameters(self, name: str) -> tuple[str, ...]:
        """Return every query parameter of this name, in order."""
        pairs = urllib.parse.parse_qsl(self.query, keep_blank_values=True, max_num_fields=100)
        return tuple(value for key, value in pairs if key == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """Bytes of a file that the shell sends without loading them."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What to answer; an answer to HEAD has no body but the `content-length` of its GET."""

    status: int
    """0: drop the connection without any answer (a scripted fault)."""
    headers: Headers = ()
    body: bytes | FilePart = b""
    delay_s: float = 0.0
    """How long the shell waits before it answers (a scripted fault)."""
    pause: tuple[int, float] | None = None
    """After how many bytes of the body to pause, and for how many seconds (a scripted fault)."""
    user: str = ""
    """Who asked, when that was proved; for the access log."""
    reset_after_bytes: int | None = None
    """Drop the connection after this many bytes of the body (a scripted fault)."""

    @property
    def size_bytes(self) -> int:
        """How many bytes the body has."""
        return self.body.size if isinstance(self.body, FilePart) else len(self.body)

    def header(self, name: str) -> str:
        """Return a header, case-insensitively; empty when absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def without_body(self) -> Self:
        """Return the answer to HEAD that belongs to this answer to GET."""
        if self.header("content-length") or self.status in (0, 204, 304):
            return replace(self, body=b"")
        length = (("Content-Length", str(self.size_bytes)),)
        return replace(self, headers=self.headers + length, body=b"")


class RefusalError(Exception):
    """Ends the handling of a request with an error answer of the distribution specification."""

    def __init__(self, status: int, code: str, message: str, *, headers: Headers = ()) -> None:
        """`code` is one of the specification's error codes, or our own where it has none."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers

    @property
    def response(self) -> Response:
        """The answer to send."""
        errors = [{"code": self.code, "message": self.message, "detail": None}]
        return json_response({"errors": errors}, status=self.status, headers=self.headers)


class BusyError(RefusalError):
    """Refuses with 429 and plain text, as Docker Hub's outer limit does: not every error is JSON."""

    RETRY_AFTER_S = 60

    def __init__(self, *, headers: Headers = ()) -> None:
        """`headers` tell of the limit."""
        super().__init__(429, "TOOMANYREQUESTS", "too many requests", headers=headers)

    @property
    def response(self) -> Response:
        """The answer to send."""
        kind = (("Content-Type", "text/plain"), ("Retry-After", str(self.RETRY_AFTER_S)))
        body = b"Too many requests\n"
        return Response(status=429, headers=(*kind, *self.headers), body=body)


def json_response(
    value: object,
    *,
    status: int = 200,
    headers: Headers = (),
    media_type: str = "application/json",
) -> Response:
    """Return a compact JSON answer."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(status=status, headers=(("Content-Type", media_type), *headers), body=body)

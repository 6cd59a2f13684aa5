"""Reads the body of a request: its declared size, in pieces, or whole when it is small."""

import re
from collections.abc import Iterator

from ci_registry.registry_server.message import RefusalError, Request


def content_length(request: Request) -> int | None:
    """Return the declared size of the body, None when it is chunked."""
    text = request.header("content-length")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise RefusalError(400, "SIZE_INVALID", "Content-Length is no number")
    return int(text)


def pieces(request: Request, size: int) -> Iterator[bytes]:
    """Yield the body in pieces of at most `size` bytes."""
    while piece := request.body.read(size):
        yield piece


def read_small(request: Request, max_bytes: int) -> bytes:
    """Read a whole small body, or refuse one that is too large."""
    declared = content_length(request)
    if declared is not None and declared > max_bytes:
        raise RefusalError(413, "SIZE_INVALID", f"more than {max_bytes} bytes")
    body = bytearray()
    for piece in pieces(request, max_bytes + 1):
        body += piece
        if len(body) > max_bytes:
            raise RefusalError(413, "SIZE_INVALID", f"more than {max_bytes} bytes")
    return bytes(body)

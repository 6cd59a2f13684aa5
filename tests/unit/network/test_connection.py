"""How the body of an answer is read: into one buffer, in pieces that are worth their trouble."""

import io
import socket
from typing import cast

from ci_registry.network.connection import PIECE_BYTES, Answer


class _File(io.BytesIO):
    """Counts; reading by anything that makes a new object for each piece is an error."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.buffers: set[int] = set()
        self.most_bytes = 0

    def readinto1(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        self.buffers.add(id(buffer.obj))
        self.most_bytes = max(self.most_bytes, len(buffer))
        return super().readinto(buffer[:100_000])  # as much as a socket may give at once

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError(f"read({size}) instead of readinto1")

    read1 = read


class _Socket:
    def __init__(self, file: _File) -> None:
        self._file = file

    def makefile(self, _mode: str) -> _File:
        return self._file


def test_a_body_is_read_into_one_buffer_that_is_filled() -> None:
    body = bytes(range(256)) * 5000
    file = _File(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = Answer(cast("socket.socket", _Socket(file)), "GET")
    answer.begin()
    pieces = list(answer.pieces())
    assert b"".join(pieces) == body
    assert {len(piece) for piece in pieces[:-1]} == {PIECE_BYTES}
    assert len(file.buffers) == 1
    assert file.most_bytes == PIECE_BYTES
    assert answer.is_whole

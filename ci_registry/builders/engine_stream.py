"""Reads long answers of the Docker Engine API so that a cancellation cuts them off."""

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ci_registry.cancel import Cancel
from ci_registry.errors import ToolError
from ci_registry.secret import Masker

_CHUNK_BYTES = 1024 * 1024
_POLL_S = 0.2


class _Body:
    """The body of a response, read by a thread of its own."""

    def __init__(self, response: Any, chunk_bytes: int | None) -> None:
        self._response = response
        self._chunk_bytes = chunk_bytes
        self._items: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=16)
        self._stopped = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for chunk in self._response.iter_content(self._chunk_bytes):
                self._put(chunk)
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._put(error)

    def _put(self, item: bytes | BaseException | None) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=_POLL_S)
                return

    def get(self) -> bytes | BaseException | None:
        """Return the next chunk, None at the end; raises `queue.Empty` when there is none yet."""
        return self._items.get(timeout=_POLL_S)

    def cut(self) -> None:
        """End the connection even while the thread reads from it: closing alone would not wake it."""
        self._stopped.set()
        sock = getattr(getattr(self._response.raw, "_connection", None), "sock", None)
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._response.close()


def read_body(
    response: Any, cancel: Cancel, masker: Masker, deadline: float | None
) -> Iterator[bytes]:
    """Yield the body of an open response.

    Args:
        response: of `requests`, opened with `stream=True`.
        cancel: cuts the connection, which also ends a build in the engine.
        masker: keeps secrets out of errors.
        deadline: `time.monotonic()` at which a build has taken too long; with one, each piece is handed
            out as it comes.

    Raises:
        ToolError: the engine broke off, or the deadline has passed.
        CancelledError: the run was cancelled.
    """
    body = _Body(response, _CHUNK_BYTES if deadline is None else None)
    try:
        while True:
            cancel.check()
            if deadline is not None and time.monotonic() > deadline:
                raise ToolError(
                    "the build took longer than its time-out",
                    hint="raise build.timeout, or look for the step that hangs",
                )
            try:
                item = body.get()
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise ToolError(
                    f"the Docker engine broke off: {masker.mask(str(item))}",
                    hint="run the job again; the engine's own log says why it stopped",
                ) from item
            yield item
    finally:
        body.cut()


def in_thread(send: Callable[[], Any], cancel: Cancel) -> Any:
    """Call `send` while watching for a cancellation: sending a large context takes a while."""
    answer: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def work() -> None:
        try:
            answer.put((send(), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            answer.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    while True:
        cancel.check()
        with contextlib.suppress(queue.Empty):
            result, error = answer.get(timeout=_POLL_S)
            if error is not None:
                raise error
            return result


def messages(chunks: Iterator[bytes]) -> Iterator[object]:
    """Yield the JSON messages of a stream: one a line."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield _decoded(line)
    if rest.strip():
        yield _decoded(rest)


def _decoded(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ToolError("the Docker engine sent a message that is no JSON") from error


def message_of(body: bytes) -> str:
    """Return the text of an error answer."""
    try:
        data = json.loads(body)
    except ValueError:
        return body[:500].decode(errors="replace").strip() or "no message"
    return str(data.get("message", data)) if isinstance(data, dict) else str(data)

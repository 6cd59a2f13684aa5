"""The ASGI application around the pure handler: bodies, files, faults, and what the access log says."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

from ci_registry.events import EventSink, Level, Log
from ci_registry.registry_server.app import handle
from ci_registry.registry_server.contents import PIECE_BYTES
from ci_registry.registry_server.message import (
    BodyInterruptedError,
    FilePart,
    RefusalError,
    Request,
    Response,
)
from ci_registry.registry_server.options import Options
from ci_registry.registry_server.store import Store

_THREADS = 256
"""Most requests that are handled at once: a thread waits while a slow client sends its body."""
_READERS = 8
"""Threads that read files for answers; slow clients take none of them."""
_BODY_TIMEOUT_S = 60.0
"""How long a handler waits for the next bytes of a body."""
_LONGEST_LOGGED = 2000

_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]
Observer = Callable[[Request, Response], None]
"""Told of every request after it was handled; from any thread."""


class _BodyPipe:
    """Hands the body of an ASGI request to a handler thread in pieces of about 1 MiB, one ahead."""

    def __init__(self, receive: _Receive, loop: asyncio.AbstractEventLoop) -> None:
        self._receive = receive
        self._loop = loop
        self._ahead: Future[tuple[bytes, bool]] | None = None
        self._rest = memoryview(b"")
        self._ended = False
        self.taken = 0
        """How many bytes the handler has read."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; called by the handler's thread."""
        if not self._rest and not self._ended:
            waiting = self._ahead or self._read_ahead()
            try:
                piece, self._ended = waiting.result(timeout=_BODY_TIMEOUT_S)
            except (
                TimeoutError,
                CancelledError,
            ) as error:  # silent for too long, or we are stopping
                waiting.cancel()
                raise BodyInterruptedError from error
            self._rest = memoryview(piece)
            if not self._ended:
                self._read_ahead()
        piece, self._rest = bytes(self._rest[:size]), self._rest[size:]
        self.taken += len(piece)
        return piece

    def _read_ahead(self) -> Future[tuple[bytes, bool]]:
        self._ahead = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        return self._ahead

    def close(self) -> None:
        """Stop reading ahead."""
        if self._ahead is not None:
            self._ahead.cancel()

    async def _next(self) -> tuple[bytes, bool]:
        pieces: list[bytes] = []
        size = 0
        while size < PIECE_BYTES:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if (
                    pieces
                ):  # an upload can go on from here; the next call says that the client is gone
                    break
                raise BodyInterruptedError
            piece = message.get("body", b"")
            pieces.append(piece)
            size += len(piece)
            if not message.get("more_body", False):
                return b"".join(pieces), True
        return b"".join(pieces), False


@dataclass(slots=True, kw_only=True)
class _Done:
    """What became of a request."""

    started: float
    status: int = 0
    """0: the client went away before there was an answer."""
    user: str = ""
    received: int = 0
    sent: int = 0


class Application:
    """The ASGI application."""

    def __init__(
        self,
        store: Store,
        options: Options,
        observer: Observer,
        events: EventSink,
        *,
        access_log: bool,
    ) -> None:
        self._store = store
        self._options = options
        self._observer = observer
        self._events = events
        self._access_log = access_log
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="registry")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="registry-files")
        self.transports: dict[tuple[str, int], asyncio.Transport] = {}

    def close(self) -> None:
        """Let the handler threads end."""
        for pool in (self._threads, self._readers):
            pool.shutdown(wait=True, cancel_futures=True)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one HTTP request, count it and log it."""
        body = _BodyPipe(receive, asyncio.get_running_loop())
        request = _request(scope, body)
        done = _Done(started=time.monotonic())
        try:
            await self._respond(request, scope, receive, send, done)
        finally:
            body.close()
            done.received = body.taken
            self._record(request, scope, done)

    async def _respond(
        self, request: Request, scope: _Scope, receive: _Receive, send: _Send, done: _Done
    ) -> None:
        loop = asyncio.get_running_loop()
        response = await loop.run_in_executor(self._threads, self._handle, request)
        if response is None:
            return
        done.user = response.user
        if response.delay_s and await _is_gone_within(response.delay_s, receive):
            return
        if response.status:
            done.status = response.status
            await self._send(response, send, receive, done)
        if response.status == 0 or response.reset_after_bytes is not None:
            await self._drop(scope, receive)

    def _record(self, request: Request, scope: _Scope, done: _Done) -> None:
        duration_s = time.monotonic() - done.started
        self._store.metrics.count_request(
            request.method,
            done.status,
            duration_s=duration_s,
            received=done.received,
            sent=done.sent,
        )
        if self._access_log:
            line = _access_line(request, scope, done, duration_s, self._store.clock())
            self._events(Log(message=line))

    def _handle(self, request: Request) -> Response | None:
        """Run the handler in a thread; None when the client is gone."""
        try:
            response = handle(self._store, request, self._options)
        except BodyInterruptedError:
            return None
        except Exception as error:  # noqa: BLE001 - a bug must become an answer and a log line
            text = f"registry: {request.method} {request.path}: {type(error).__name__}: {error}"
            self._events(Log(level=Level.ERROR, message=text))
            response = RefusalError(500, "UNKNOWN", "internal error").response
        self._observer(request, response)
        return response

    async def _send(self, response: Response, send: _Send, receive: _Receive, done: _Done) -> None:
        headers = list(response.headers)
        if response.status not in (204, 304) and not response.header("content-length"):
            headers.append(("Content-Length", str(response.size_bytes)))
        if not response.header("date"):
            headers.append(("Date", formatdate(self._options.clock(), usegmt=True)))
        encoded = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers]
        await send({"type": "http.response.start", "status": response.status, "headers": encoded})
        left = response.reset_after_bytes
        if left == 0:
            return
        pieces = _pieces(response)
        loop = asyncio.get_running_loop()
        try:
            while piece := await loop.run_in_executor(self._readers, next, pieces, b""):
                part = piece if left is None else piece[:left]
                await self._send_part(part, response, send, receive, done)
                if left is not None:
                    left -= len(part)
                    if left <= 0:
                        return
        finally:
            pieces.close()
        if response.reset_after_bytes is None:
            await send({"type": "http.response.body", "body": b""})

    async def _send_part(
        self, part: bytes, response: Response, send: _Send, receive: _Receive, done: _Done
    ) -> None:
        """Send a piece of the body, with a scripted pause where it falls into it."""
        if response.pause is not None:
            at, duration_s = response.pause
            first = at - done.sent
            if 0 <= first < len(part):
                await send({"type": "http.response.body", "body": part[:first], "more_body": True})
                await _is_gone_within(duration_s, receive)
                done.sent, part = at, part[first:]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        done.sent += len(part)

    async def _drop(self, scope: _Scope, receive: _Receive) -> None:
        """Reset the connection, and wait until the server has noticed it."""
        await asyncio.sleep(0.01)  # what was sent goes out first
        transport = self.transports.get(tuple(scope["client"]))
        if transport is not None:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


async def _is_gone_within(delay_s: float, receive: _Receive) -> bool:
    """Wait; whether the client went away meanwhile, and nobody waits for the answer any more."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(delay_s):
            while (await receive())["type"] != "http.disconnect":
                pass
            return True
    return False


def _request(scope: _Scope, body: _BodyPipe) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    path = scope.get("raw_path") or scope["path"].encode()
    return Request(
        method=scope["method"],
        path=path.decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=body,
        scheme=scope["scheme"],
    )


def _access_line(
    request: Request, scope: _Scope, done: _Done, duration_s: float, now: float
) -> str:
    """Return one line of JSON; it never holds a password or token, which travel in headers only."""
    entry = {
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
        "client": (scope.get("client") or ("",))[0],
        "user": done.user,
        "method": request.method[:20],
        "path": request.path[:_LONGEST_LOGGED],
        "query": request.query[:_LONGEST_LOGGED],
        "status": done.status,
        "received_bytes": done.received,
        "sent_bytes": done.sent,
        "duration_s": round(duration_s, 4),
        "agent": request.header("user-agent")[:200],
    }
    return json.dumps(entry, separators=(",", ":"))


def _pieces(response: Response) -> Generator[bytes, None, None]:
    """Yield the body; a file is read as it is sent."""
    if not isinstance(response.body, FilePart):
        if response.body:
            yield response.body
        return
    left = response.body.size
    with response.body.path.open("rb") as file:
        file.seek(response.body.offset)
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece

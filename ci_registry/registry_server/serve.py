"""The socket shell of the embedded registry: uvicorn around the pure handler, on loopback only."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from ci_registry.cancel import Cancel
from ci_registry.errors import NetworkError, UsageError
from ci_registry.events import EventSink, Level, Log, ignore_events
from ci_registry.oci.reference import is_loopback
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

_THREADS = 32
_BODY_TIMEOUT_S = 60.0
"""How long a handler waits for the next bytes of a body."""
_STOP_S = 2
"""How long a stop waits for running answers."""

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

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; called by the handler's thread."""
        if not self._rest and not self._ended:
            waiting = self._ahead or asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            try:
                piece, self._ended = waiting.result(timeout=_BODY_TIMEOUT_S)
            except TimeoutError as error:
                waiting.cancel()
                raise BodyInterruptedError from error
            self._rest = memoryview(piece)
            if not self._ended:
                self._ahead = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        piece, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return piece

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


class _Application:
    """The ASGI application."""

    def __init__(
        self, store: Store, options: Options, observer: Observer, events: EventSink
    ) -> None:
        self._store = store
        self._options = options
        self._observer = observer
        self._events = events
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="registry")
        self.transports: dict[tuple[str, int], asyncio.Transport] = {}

    def close(self) -> None:
        """Let the handler threads end."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one HTTP request."""
        loop = asyncio.get_running_loop()
        body = _BodyPipe(receive, loop)
        request = _request(scope, body)
        try:
            response = await loop.run_in_executor(self._threads, self._handle, request)
        finally:
            body.close()
        if response is None:
            return
        if response.delay_s and await _is_gone_within(response.delay_s, receive):
            return
        if response.status:
            await self._send(response, send)
        if response.status == 0 or response.reset_after_bytes is not None:
            await self._drop(scope, receive)

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

    async def _send(self, response: Response, send: _Send) -> None:
        headers = list(response.headers)
        if response.status not in (204, 304) and not response.header("content-length"):
            headers.append(("Content-Length", str(response.size_bytes)))
        encoded = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers]
        await send({"type": "http.response.start", "status": response.status, "headers": encoded})
        left = response.reset_after_bytes
        pieces = _pieces(response)
        loop = asyncio.get_running_loop()
        try:
            while piece := await loop.run_in_executor(self._threads, next, pieces, b""):
                part = piece if left is None else piece[:left]
                await send({"type": "http.response.body", "body": part, "more_body": True})
                if left is not None:
                    left -= len(part)
                    if left <= 0:
                        return
        finally:
            pieces.close()
        if response.reset_after_bytes is None:
            await send({"type": "http.response.body", "body": b""})

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
    )


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


def _protocol(application: _Application) -> type:
    """Return uvicorn's h11 protocol, which also remembers its transport so that faults can reset it."""
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415 - late: 60 ms

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client is not None:
                application.transports[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client is not None:
                application.transports.pop(self.client, None)
            super().connection_lost(exc)

    return Protocol


def _listen(host: str, port: int) -> socket.socket:
    if not is_loopback(f"[{host}]:1" if ":" in host else f"{host}:1"):
        raise UsageError(
            f"the registry is served on this machine only, not on {host}",
            hint="use 127.0.0.1; put a real registry where others must reach it",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named: without it each answer takes 40 ms
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(256)
    except OSError as error:
        sock.close()
        raise NetworkError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return sock


class EmbeddedRegistry:
    """A registry on loopback, running in threads of this process while its context is open.

    It installs no signal handlers. The store stays open: it belongs to the caller.
    """

    def __init__(
        self,
        store: Store,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        options: Options | None = None,
        observer: Observer = lambda _request, _response: None,
        events: EventSink = ignore_events,
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            store: what is served.
            host: a loopback address; anything else is refused at the start.
            port: 0 = any free port.
            options: access and personality.
            observer: told of every request.
            events: told of bugs in the handler.
        """
        self._host, self._port = host, port
        self.options = options or Options()
        self._application = _Application(store, self.options, observer, events)
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`, as it stands in references; the port is known once it runs."""
        name = f"[{self._host}]" if ":" in self._host else self._host
        return f"{name}:{self._port}"

    @property
    def is_running(self) -> bool:
        """Whether it still answers."""
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Self:
        """Listen and serve.

        Raises:
            UsageError: the host is not loopback.
            NetworkError: the port is taken.
        """
        import uvicorn  # noqa: PLC0415 - late: only a process that serves pays for it

        sock = _listen(self._host, self._port)
        self._port = sock.getsockname()[1]
        config = uvicorn.Config(
            self._application,
            http=_protocol(self._application),
            loop="asyncio",
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=_STOP_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._run, args=(sock,), name="registry", daemon=True
        )
        self._thread.start()
        return self

    def _run(self, sock: socket.socket) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[sock]))
        except BaseException as error:  # noqa: BLE001 - kept for the thread that waits
            self._failure = error
        finally:
            sock.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish running answers (for at most two seconds) and stop."""
        self.stop()

    def stop(self) -> None:
        """Stop serving; calling it twice is fine."""
        if self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join()
        self._application.close()
        self._thread = None

    def check(self) -> None:
        """Raise `NetworkError` when the server has died by itself."""
        if not self.is_running:
            raise NetworkError(f"the registry on {self.host} stopped: {self._failure}")


def serve_forever(
    store: Store,
    *,
    cancel: Cancel,
    host: str = "127.0.0.1",
    port: int = 5000,
    options: Options | None = None,
    on_started: Callable[[str], None] = lambda _host: None,
    events: EventSink = ignore_events,
) -> None:
    """Serve until `cancel` is set, then stop cleanly and return.

    Args:
        store: what is served; the caller closes it.
        cancel: set by the caller's signal handler.
        host: a loopback address.
        port: 0 = any free port.
        options: access and personality.
        on_started: gets `host:port` once it listens.
        events: told of bugs in the handler.

    Raises:
        UsageError: the host is not loopback.
        NetworkError: the port is taken, or the server died.
    """
    stopped = threading.Event()
    remove = cancel.on_cancel(stopped.set)
    registry = EmbeddedRegistry(store, host=host, port=port, options=options, events=events)
    try:
        with registry:
            on_started(registry.host)
            while not stopped.wait(1.0):
                registry.check()
    finally:
        remove()

"""An httpx transport on the standard library's `http.client`: one connection per thread and host, large pieces."""

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator

from ci_registry.network.connection import (
    Answer,
    Connection,
    LiveSockets,
    ProxyRefusedError,
    Route,
    ShortBodyError,
)
from ci_registry.network.head import (
    CutHeadError,
    MalformedHeadError,
    NoAnswerError,
    NoHttpError,
)
from ci_registry.network.httpx_api import httpx
from ci_registry.network.message import Origin

REPEAT = "ci_registry.repeat"
"""Extension of a request: False when it must not go out twice."""
KEEPALIVE_S = 20.0
"""Servers close idle connections too, some after half a minute: older ones are not tried."""
MAX_IDLE = 64
"""Idle connections kept for one origin."""
_GATHERED_BYTES = 64 * 1024
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_METHOD = re.compile(rb"[A-Z]+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_FORBIDDEN = re.compile(rb"[\r\n\0]")


class MalformedAnswerError(httpx.RemoteProtocolError):
    """The server breaks HTTP, or our limits; asking again would not help."""


class NoHttpAnswerError(MalformedAnswerError):
    """Whoever answers does not speak HTTP/1, at least not without TLS."""


class ReplayableStream(httpx.SyncByteStream):
    """The body of a request that can be sent again: each iteration opens its source from the start."""

    def __init__(self, open_body: Callable[[], Iterator[bytes]]) -> None:
        self._open_body = open_body

    def __iter__(self) -> Iterator[bytes]:
        return self._open_body()


class SocketTransport(httpx.BaseTransport):
    """Sends requests over connections of its own; may be used from any number of threads.

    A connection belongs to the request under way on it, and then to the next one for its origin: the one
    used last comes first. When a kept connection dies before the first byte of an answer, the request is
    sent once more on a fresh one, if its method is idempotent (or nothing went out) and its body can
    be opened again.
    """

    def __init__(self, find_route: Callable[[Origin], Route], live: LiveSockets) -> None:
        """Prepare; `live` is told of every socket, so that whoever holds it can cut them all."""
        self._find_route = find_route
        self._live = live
        self._lock = threading.Lock()
        self._routes: dict[Origin, Route] = {}
        self._idle: dict[Origin, deque[Connection]] = {}
        self._closed = False

    def close(self) -> None:
        """Close idle connections, cut those in use."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()
        self._live.cut()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return when the head of the answer is there."""
        url = request.url
        scheme = url.scheme
        origin = Origin(scheme, url.raw_host.decode("ascii"), url.port or _default_port(scheme))
        route = self._route(origin)
        head = _head(request, route)
        connection = self._take(origin)
        if connection is not None:
            attempt = _Attempt(connection, request, head)
            try:
                return self._response(connection, request, attempt.run())
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if not attempt.may_be_repeated:
                    raise
        connection = self._opened(route, request)
        return self._response(connection, request, _Attempt(connection, request, head).run())

    def _route(self, origin: Origin) -> Route:
        with self._lock:
            if origin not in self._routes:
                self._routes[origin] = self._find_route(origin)
            return self._routes[origin]

    # --- connections

    def _take(self, origin: Origin) -> Connection | None:
        while True:
            with self._lock:
                kept = self._idle.get(origin)
                connection = kept.pop() if kept else None
            if connection is None:
                return None
            fresh = time.monotonic() - connection.idle_since_s < KEEPALIVE_S
            if fresh and connection.is_quiet:
                return connection
            connection.close()

    def _opened(self, route: Route, request: httpx.Request) -> Connection:
        connection = Connection(route, self._live)
        try:
            connection.open(_timeout(request, "connect"))
        except ProxyRefusedError as error:
            raise httpx.ProxyError(str(error), request=request) from None
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error), request=request) from error
        except (MalformedHeadError, CutHeadError, NoAnswerError, OSError, UnicodeError) as error:
            raise httpx.ConnectError(str(error), request=request) from error
        return connection

    def _give_back(self, connection: Connection, *, usable: bool) -> None:
        if usable:
            connection.idle_since_s = time.monotonic()
            with self._lock:
                kept = self._idle.setdefault(connection.route.origin, deque())
                if not self._closed and len(kept) < MAX_IDLE:
                    kept.append(connection)
                    return
        connection.close()

    def _response(
        self, connection: Connection, request: httpx.Request, answer: Answer
    ) -> httpx.Response:
        def done() -> None:
            usable = answer.is_whole and not answer.will_close
            answer.close()
            self._give_back(connection, usable=usable)

        body = _Body(answer, request, done)
        if answer.is_whole:
            body.close()  # nothing will be read: others may have the connection
        return httpx.Response(
            answer.status,
            headers=list(answer.head.fields),
            stream=body,
            extensions={"reason_phrase": answer.reason.encode(), "http_version": b"HTTP/1.1"},
        )


class _Body(httpx.SyncByteStream):
    """The body of an answer; the connection is free as soon as it was read, or closed."""

    def __init__(self, answer: Answer, request: httpx.Request, done: Callable[[], None]) -> None:
        self._answer = answer
        self._request = request
        self._done = done

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answer.pieces()
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=self._request) from error
        except OSError as error:
            raise httpx.ReadError(str(error), request=self._request) from error
        except ShortBodyError as error:
            raise httpx.RemoteProtocolError(str(error), request=self._request) from error
        self.close()

    def close(self) -> None:
        """Free the connection; calling it again does nothing."""
        done, self._done = self._done, _nothing
        done()


class _Attempt:
    """One sending of a request on one connection, which is closed when that fails."""

    def __init__(self, connection: Connection, request: httpx.Request, head: bytes) -> None:
        self._connection = connection
        self._request = request
        self._head = head
        self._anything_sent = False
        self.may_be_repeated = False

    def run(self) -> Answer:
        """Send the request and return the head of the answer.

        Raises:
            httpx.TransportError: no answer came.
        """
        try:
            failure = self._send()
            answer = self._receive(failure)
        except BaseException:
            self._connection.close()
            raise
        if failure is not None:
            answer.will_close = True
        return answer

    def _send(self) -> httpx.WriteError | None:
        """Send the request; a lost connection is returned: the server may have refused the body and said why."""
        timeout_s = _timeout(self._request, "write")
        with contextlib.closing(_gathered(self._head, self._request)) as pieces:
            for piece in pieces:
                try:
                    self._connection.send(piece, timeout_s)
                except TimeoutError as error:
                    raise httpx.WriteTimeout(str(error), request=self._request) from error
                except OSError as error:
                    failure = httpx.WriteError(str(error), request=self._request)
                    failure.__cause__ = error
                    return failure
                self._anything_sent = True
        return None

    def _receive(self, failure: httpx.WriteError | None) -> Answer:
        timeout_s = _timeout(self._request, "read")
        try:
            return self._connection.receive(self._request.method, timeout_s)
        except NoHttpError as error:
            raise NoHttpAnswerError(str(error), request=self._request) from error
        except MalformedHeadError as error:
            raise MalformedAnswerError(str(error), request=self._request) from error
        except CutHeadError as error:
            raise httpx.RemoteProtocolError(str(error), request=self._request) from error
        except TimeoutError as error:
            raise failure or httpx.ReadTimeout(str(error), request=self._request) from error
        except OSError as error:
            self._note_loss()
            raise failure or httpx.ReadError(str(error), request=self._request) from error
        except NoAnswerError as error:
            self._note_loss()
            text = "the server closed it without an answer"
            raise failure or httpx.RemoteProtocolError(text, request=self._request) from error

    def _note_loss(self) -> None:
        """Decide whether the request may go out again (RFC 9110, 9.2.2): the server may not have seen it."""
        replayable = isinstance(self._request.stream, (ReplayableStream, httpx.ByteStream))
        harmless = self._request.method in _IDEMPOTENT or not self._anything_sent
        allowed = self._request.extensions.get(REPEAT, True)
        self.may_be_repeated = bool(replayable and harmless and allowed)


def _nothing() -> None:
    """Do nothing."""


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _timeout(request: httpx.Request, kind: str) -> float | None:
    timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
    return timeouts.get(kind)


def _head(request: httpx.Request, route: Route) -> bytes:
    """Return the request line and the fields; nothing in them can begin another line."""
    target = request.url.raw_path
    fields = list(request.headers.raw)
    if route.proxy is not None and route.context is None:
        target = b"http://%b%b" % (request.url.netloc, target)
        if route.proxy.authorization is not None:
            login = route.proxy.authorization.reveal().encode("ascii")
            fields.append((b"Proxy-Authorization", login))
    method = request.method.encode("ascii")
    if not _TARGET.fullmatch(target) or not _METHOD.fullmatch(method):
        raise httpx.LocalProtocolError("the request line holds a character that is not allowed")
    if any(_FORBIDDEN.search(value) for pair in fields for value in pair):
        raise httpx.LocalProtocolError("a header field holds a character that is not allowed")
    lines = [b"%b %b HTTP/1.1" % (method, target), *(b"%b: %b" % pair for pair in fields)]
    return b"\r\n".join([*lines, b"", b""])


def _gathered(head: bytes, request: httpx.Request) -> Generator[bytes, None, None]:
    """Yield the head and the body; the head and small pieces go out together.

    Raises:
        httpx.LocalProtocolError: the body is not as long as announced.
    """
    stream = request.stream
    assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - only such requests come here
    announced = int(request.headers.get("Content-Length", "0"))
    size_bytes, waiting = 0, head
    for piece in stream:
        size_bytes += len(piece)
        if size_bytes > announced:
            break
        if len(waiting) + len(piece) <= _GATHERED_BYTES:
            waiting += piece
            continue
        if waiting:
            yield waiting
            waiting = b""
        yield piece
    if size_bytes != announced:
        raise httpx.LocalProtocolError(f"the body has not the announced {announced} bytes")
    if waiting:
        yield waiting

"""One HTTP/1.1 connection: dialled directly or through a proxy, with or without TLS, and cut off from outside."""

import base64
import contextlib
import http.client
import select
import socket
import ssl
import threading
import time
import urllib.parse
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from ci_registry.network.head import Head, framing, read_head
from ci_registry.network.message import Origin
from ci_registry.secret import Secret

PIECE_BYTES = 256 * 1024
"""How much of a body is read or sent at once."""
_FILL_S = 0.05
"""How long a slow server may take to fill a piece that has begun."""


class CutError(OSError):
    """The run was cancelled, or the client closed."""


class ProxyRefusedError(OSError):
    """The proxy does not let us through."""


class ShortBodyError(Exception):
    """The connection ended within the body of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy that is spoken to in plain text."""

    host: str
    port: int
    authorization: Secret | None = None
    """Value of `Proxy-Authorization`."""


def proxy_of(url: str) -> Proxy:
    """Return the proxy of a URL as `proxies.proxy_for` gives it; user name and password are decoded."""
    parts = urllib.parse.urlsplit(url)
    login = None
    if parts.username is not None:
        pair = (urllib.parse.unquote(text or "") for text in (parts.username, parts.password))
        login = Secret(f"Basic {base64.b64encode(':'.join(pair).encode()).decode()}")
    return Proxy(host=parts.hostname or "", port=parts.port or 80, authorization=login)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How an origin is reached."""

    origin: Origin
    context: ssl.SSLContext | None
    """For https only."""
    proxy: Proxy | None = None


class LiveSockets:
    """The open sockets of a client, so that another thread can cut them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._cut = False

    def add(self, sock: socket.socket) -> None:
        """Remember a socket; raises `CutError` when everything was cut before."""
        with self._lock:
            if self._cut:
                raise CutError("cut off")
            self._sockets.add(sock)

    def cut(self) -> None:
        """Wake every thread that waits for a socket, now and from now on."""
        with self._lock:
            self._cut = True
            for sock in tuple(self._sockets):
                with contextlib.suppress(OSError):
                    # not SSLSocket.shutdown: it takes the TLS state away under the reader's feet
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Answer(http.client.HTTPResponse):
    """An answer whose head is parsed by `head`, and whose body the standard library takes apart."""

    def __init__(self, sock: socket.socket, method: str) -> None:
        super().__init__(sock, method=method)
        self._asked = method
        self._buffer = memoryview(b"")
        self.head = Head(minor_version=1, status=0)
        self.is_whole = False
        """Whether the whole body came."""

    def begin(self) -> None:
        """Read the head of the answer."""
        self.head = read_head(self.fp.readline)
        frame = framing(self._asked, self.head)
        self.code = self.status = self.head.status
        self.reason = self.head.reason
        self.chunked = frame.chunked
        self.chunk_left = None
        self.length = frame.length_bytes
        self.will_close = frame.closes
        if self.length == 0:
            self._end()

    def _end(self) -> None:
        self.is_whole = not self.length
        self.close()

    def pieces(self) -> Iterator[bytes]:
        """Yield the body, raw.

        Raises:
            ShortBodyError: the connection ended within it.
        """
        if self.chunked:
            yield from self._chunks()
            return
        most = PIECE_BYTES if self.length is None else min(PIECE_BYTES, self.length)
        self._buffer = memoryview(bytearray(most))
        while not self.isclosed():
            size_bytes, error = self._fill()
            if size_bytes:
                yield bytes(self._buffer[:size_bytes])
            if error is not None:
                raise error

    def _chunks(self) -> Iterator[bytes]:
        try:
            while piece := self.read1(PIECE_BYTES):
                yield piece
            self._end()
        except (http.client.HTTPException, ValueError) as error:
            raise ShortBodyError("a chunk is cut short or malformed") from error

    def _fill(self) -> tuple[int, Exception | None]:
        """Fill the buffer, or what comes of it in a short time; an error waits until its bytes are out."""
        size_bytes, started = 0, time.monotonic()
        while size_bytes < len(self._buffer) and not self.isclosed():
            room = self._buffer[size_bytes:]
            try:
                new = self.fp.readinto1(room if self.length is None else room[: self.length])
            except OSError as error:
                return size_bytes, error
            size_bytes += new
            if self.length is not None:
                self.length -= new
            if not new or self.length == 0:
                self._end()
                if self.length:
                    missing = f"{self.length} bytes of the body are missing"
                    return size_bytes, ShortBodyError(missing)
            if time.monotonic() - started > _FILL_S:
                break
        return size_bytes, None


class Connection:
    """A connection to an origin; used by one thread at a time."""

    def __init__(self, route: Route, live: LiveSockets) -> None:
        self.route = route
        self._live = live
        self._sock: socket.socket | None = None
        self.idle_since_s = 0.0
        """`time.monotonic()` of its last use."""

    @property
    def sock(self) -> socket.socket:
        """The open socket."""
        assert self._sock is not None, "opened before use"  # noqa: S101 - a promise to the type checker
        return self._sock

    def open(self, timeout_s: float | None) -> None:
        """Connect, through the proxy where there is one, and shake hands.

        Raises:
            OSError: also `TimeoutError`, `ssl.SSLError`, `ProxyRefusedError`, `CutError`.
        """
        origin, proxy, context = self.route.origin, self.route.proxy, self.route.context
        try:
            if proxy is None:
                self._dial(origin.host, origin.port, timeout_s)
            else:
                self._dial(proxy.host, proxy.port, timeout_s)
                if context is not None:
                    self._ask_through(origin, proxy)
            if context is not None:
                self._shake_hands(context, origin.host)
        except BaseException:
            self.close()
            raise

    def _dial(self, host: str, port: int, timeout_s: float | None) -> None:
        """Try every address of a host in turn."""
        failure = OSError("no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            try:
                self._adopt(socket.socket(family, kind, protocol))
                self.sock.settimeout(timeout_s)
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.sock.connect(address)
                return
            except CutError:
                raise
            except OSError as error:
                self.close()
                failure = error
        raise failure

    def _adopt(self, sock: socket.socket) -> None:
        self._sock = sock
        self._live.add(sock)

    def _ask_through(self, origin: Origin, proxy: Proxy) -> None:
        """Have the proxy open a tunnel (RFC 9110, 9.3.6)."""
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        lines = [f"CONNECT {host}:{origin.port} HTTP/1.1", f"Host: {host}:{origin.port}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization.reveal()}")
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        # unbuffered: the bytes behind the head are the server's
        with self.sock.makefile("rb", buffering=0) as file:
            head = read_head(file.readline)
        if not 200 <= head.status <= 299:
            raise ProxyRefusedError(f"HTTP {head.status} {head.reason}"[:200].strip())

    def _shake_hands(self, context: ssl.SSLContext, host: str) -> None:
        plain = self.sock
        tls = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        self._adopt(tls)
        tls.do_handshake()

    def send(self, data: bytes | bytearray | memoryview, timeout_s: float | None) -> None:
        """Send bytes; the time-out holds for each `PIECE_BYTES` of them."""
        self._wait_at_most(timeout_s)
        if len(data) <= PIECE_BYTES:
            self.sock.sendall(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            self.sock.sendall(view[start : start + PIECE_BYTES])

    def receive(self, method: str, timeout_s: float | None) -> Answer:
        """Return the answer as soon as its head is there.

        Raises:
            NoAnswerError: the connection ended first.
            CutHeadError: it ended within the head.
            MalformedHeadError: it is no answer.
        """
        self._wait_at_most(timeout_s)
        answer = Answer(self.sock, method)
        try:
            answer.begin()
        except BaseException:
            answer.close()
            raise
        return answer

    def _wait_at_most(self, timeout_s: float | None) -> None:
        if self.sock.gettimeout() != timeout_s:
            self.sock.settimeout(timeout_s)

    @property
    def is_quiet(self) -> bool:
        """Whether an idle connection can be used: neither closed by the server nor spoken over."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the socket."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

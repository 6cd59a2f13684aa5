"""Sends one request over a pooled connection: the only module that knows which HTTP library does it."""

import contextlib
import socket
import ssl
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import httpx

from ci_registry.cancel import Cancel
from ci_registry.errors import NetworkError, SetupError
from ci_registry.network.message import (
    Body,
    Headers,
    Origin,
    Request,
    StreamedResponse,
    may_be_plain,
    origin_of,
)
from ci_registry.network.proxies import proxy_for
from ci_registry.network.settings import HttpSettings

_KEEPALIVE_S = 20.0


class ConnectionLostError(NetworkError):
    """No whole answer came, and another attempt may well get one."""


class Exchange:
    """Keeps one pool of connections for each host; may be used from several threads.

    Cancelling the run shuts every connection down, so no thread waits for a silent server.
    """

    def __init__(
        self, settings: HttpSettings, cancel: Cancel, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._cancel = cancel
        self._fixed = transport
        self._lock = threading.Lock()
        self._pools: dict[Origin, httpx.BaseTransport] = {}
        self._context: ssl.SSLContext | None = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._forget = cancel.on_cancel(self._shut_down)

    def close(self) -> None:
        """Close every connection."""
        self._forget()
        with self._lock:
            pools, self._pools = tuple(self._pools.values()), {}
        for pool in pools:
            pool.close()

    def send(self, request: Request) -> StreamedResponse:
        """Send `request` and return when the head of the answer is there; redirects are not followed.

        Raises:
            ConnectionLostError: refused, reset, silent for too long, or cut short.
            NetworkError: TLS failed, the name is unknown, plain HTTP is not allowed to this host.
            CancelledError: the run was cancelled.
        """
        self._cancel.check()
        origin = origin_of(request.url)
        if origin.scheme == "http" and not may_be_plain(origin, self._settings.plain_http):
            raise NetworkError(
                f"{origin.netloc} is reached by https only",
                hint=f"if it really has no TLS, add {origin.netloc} to network.plain_http",
            )
        with self._translated(origin):
            response = self._pool(origin).handle_request(self._prepared(request))
        return StreamedResponse(
            status=response.status_code,
            url=request.url,
            headers=Headers(response.headers.multi_items()),
            chunks=self._chunks(response, origin),
            close=response.close,
        )

    def _prepared(self, request: Request) -> httpx.Request:
        headers = {
            "User-Agent": self._settings.user_agent,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **request.headers,
        }
        if request.authorization is not None:
            headers["Authorization"] = request.authorization.reveal()
        content: Iterable[bytes] | None = None
        if request.body is not None:
            headers["Content-Length"] = str(request.size_bytes)
            content = _opened(request.body, self._cancel)
        elif request.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = "0"
        timeout = httpx.Timeout(
            self._settings.read_timeout_s, connect=self._settings.connect_timeout_s, pool=None
        )
        extensions = {"timeout": timeout.as_dict(), "trace": self._watch}
        try:
            return httpx.Request(
                request.method, request.url, headers=headers, content=content, extensions=extensions
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise NetworkError(f"cannot ask for {request.shown}: {type(error).__name__}") from None

    def _chunks(self, response: httpx.Response, origin: Origin) -> Iterator[bytes]:
        stream = response.stream
        assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - the transport is a sync one
        with self._translated(origin):
            for chunk in stream:
                self._cancel.check()
                yield chunk

    def _pool(self, origin: Origin) -> httpx.BaseTransport:
        if self._fixed is not None:
            return self._fixed
        with self._lock:
            if origin not in self._pools:
                self._pools[origin] = self._new_pool(origin)
            return self._pools[origin]

    def _new_pool(self, origin: Origin) -> httpx.BaseTransport:
        proxy_url = proxy_for(origin, self._settings.proxy_env)
        proxy = None
        if proxy_url:
            secure = proxy_url.startswith("https:")
            proxy = httpx.Proxy(proxy_url, ssl_context=self._trusted() if secure else None)
        plain = origin.scheme == "http"
        return httpx.HTTPTransport(
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else self._trusted(),
            trust_env=False,
            proxy=proxy,
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=64, keepalive_expiry=_KEEPALIVE_S
            ),
        )

    def _trusted(self) -> ssl.SSLContext:
        """Return the system's CA store and our further CA file; loading it takes 20 ms, so only for TLS."""
        if self._context is None:
            context = ssl.create_default_context()
            if self._settings.ca_file is not None:
                _add_authorities(context, self._settings.ca_file.as_posix())
            self._context = context
        return self._context

    # --- cancellation

    def _watch(self, name: str, info: dict[str, Any]) -> None:
        """Remember each new socket; called by the HTTP library for every small step it takes."""
        if name.endswith(("connect_tcp.complete", "start_tls.complete")):
            found = info["return_value"].get_extra_info("socket")
            if isinstance(found, socket.socket):
                self._sockets.add(found)

    def _shut_down(self) -> None:
        for one in tuple(self._sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    # --- errors

    @contextlib.contextmanager
    def _translated(self, origin: Origin) -> Iterator[None]:
        """Turn the HTTP library's exceptions into ours; none of their text can hold a request header."""
        host = origin.netloc
        try:
            yield
        except httpx.TimeoutException as error:
            self._cancel.check()
            raise ConnectionLostError(f"{host}: {self._silence(error)}") from None
        except httpx.ConnectError as error:
            self._cancel.check()
            raise _connect_error(host, error) from None
        except httpx.LocalProtocolError:
            self._cancel.check()
            raise NetworkError(f"{host}: the request could not be formed") from None
        except httpx.ProxyError as error:
            raise NetworkError(f"{host}: the proxy refused: {_first_line(error)}") from None
        except httpx.TransportError as error:
            self._cancel.check()
            raise ConnectionLostError(f"{host}: connection lost: {_first_line(error)}") from None

    def _silence(self, error: httpx.TimeoutException) -> str:
        if isinstance(error, httpx.ConnectTimeout):
            return f"no connection within {self._settings.connect_timeout_s:g} s"
        return f"nothing heard for {self._settings.read_timeout_s:g} s"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _connect_error(host: str, error: httpx.ConnectError) -> NetworkError:
    """Tell what a retry can cure (refused, unreachable) from what it can't (certificates, unknown names)."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NetworkError(
                f"{host}: its TLS certificate is not trusted: {cause.verify_message}",
                hint="name the CA that signed it as network.ca_file",
            )
        if isinstance(cause, ssl.SSLError):
            return NetworkError(
                f"{host}: no TLS connection: {cause.reason or 'handshake failed'}",
                hint=f"if it has no TLS, add {host} to network.plain_http",
            )
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            return NetworkError(f"{host}: no such host", hint="check the spelling, DNS and proxy")
    return ConnectionLostError(f"{host}: no connection: {_first_line(error)}")


def _add_authorities(context: ssl.SSLContext, ca_file: str) -> None:
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(
            f"cannot use the CA file {ca_file}: {error.strerror or error}",
            hint="network.ca_file must name a PEM file with certificates",
        ) from error


def _opened(body: Body, cancel: Cancel) -> Iterator[bytes]:
    """Yield a body; the source is opened with the first piece and closed however the sending ends."""
    chunks = body()
    try:
        for chunk in chunks:
            cancel.check()
            yield chunk
    finally:
        close = getattr(chunks, "close", None)
        if callable(close):
            close()

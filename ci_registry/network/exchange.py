"""Sends one request over a pooled connection: the only module that knows which HTTP library does it."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

from ci_registry.cancel import Cancel
from ci_registry.errors import NetworkError
from ci_registry.network.connection import Connection, LiveSockets, Route, proxy_of
from ci_registry.network.httpx_api import httpx
from ci_registry.network.message import (
    Body,
    Headers,
    Origin,
    Request,
    StreamedResponse,
    TlsExpectedError,
    may_be_plain,
    origin_of,
)
from ci_registry.network.proxies import proxy_for
from ci_registry.network.settings import HttpSettings
from ci_registry.network.tls_probe import speaks_tls
from ci_registry.network.transport import (
    KEEPALIVE_S,
    MAX_IDLE,
    REPEAT,
    MalformedAnswerError,
    NoHttpAnswerError,
    ReplayableStream,
    SocketTransport,
)
from ci_registry.network.trust import Trust


class ConnectionLostError(NetworkError):
    """No whole answer came, and another attempt may well get one."""


class Exchange:
    """Keeps the connections of a client; may be used from several threads.

    Cancelling the run cuts every connection, so no thread waits for a silent server.
    """

    def __init__(
        self, settings: HttpSettings, cancel: Cancel, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._cancel = cancel
        self._fixed = transport
        self._trust = Trust(settings.ca_file, settings.certs_dirs)
        self._live = LiveSockets()
        self._own = SocketTransport(self._route, self._live)
        self._lock = threading.Lock()
        self._through_tls: dict[Origin, httpx.BaseTransport] = {}
        self._forget = cancel.on_cancel(self._live.cut)

    def close(self) -> None:
        """Close every connection."""
        self._forget()
        self._own.close()
        with self._lock:
            others, self._through_tls = tuple(self._through_tls.values()), {}
        for transport in others:
            transport.close()

    def send(self, request: Request, *, repeat: bool = True) -> StreamedResponse:
        """Send `request` and return when the head of the answer is there; redirects are not followed.

        Args:
            request: what to send.
            repeat: whether it may go out again, on a new connection, when a kept one proves dead.

        Raises:
            ConnectionLostError: refused, reset, silent for too long, or cut short.
            TlsExpectedError: see `Request.perhaps_tls`.
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
            prepared = self._prepared(request)
            prepared.extensions[REPEAT] = repeat
            response = self._answered(prepared, origin, request.perhaps_tls)
        return StreamedResponse(
            status=response.status_code,
            url=request.url,
            headers=Headers(response.headers.multi_items()),
            chunks=self._chunks(response, origin),
            close=response.close,
        )

    def expects_tls(self, origin: Origin) -> bool:
        """Whether a `certs.d` folder says how to speak TLS with an https origin."""
        return self._trust.knows(origin)

    def _answered(
        self, prepared: httpx.Request, origin: Origin, perhaps_tls: Origin | None
    ) -> httpx.Response:
        transport = self._transport(origin)
        if perhaps_tls is None or transport is not self._own:
            return transport.handle_request(prepared)
        try:
            response = transport.handle_request(prepared)
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            if _is_http(error) or not self._speaks_tls(perhaps_tls):
                raise
        else:
            # Go's servers and nginx say it in plain text, with this status
            if response.status_code != 400 or not self._speaks_tls(perhaps_tls):
                return response
            response.close()
        raise TlsExpectedError(f"{perhaps_tls.netloc} is reached by https only")

    def _speaks_tls(self, origin: Origin) -> bool:
        self._cancel.check()
        connection = Connection(Route(origin=origin, context=None), self._live)
        return speaks_tls(connection, self._settings.connect_timeout_s)

    def _prepared(self, request: Request) -> httpx.Request:
        headers = {
            "Host": origin_of(request.url).netloc,
            "User-Agent": self._settings.user_agent,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **request.headers,
        }
        if request.authorization is not None:
            headers["Authorization"] = request.authorization.reveal()
        stream: httpx.SyncByteStream | None = None
        if (body := request.body) is not None:
            headers["Content-Length"] = str(request.size_bytes)
            stream = ReplayableStream(lambda: _opened(body, self._cancel))
        elif request.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = "0"
        timeout = httpx.Timeout(
            self._settings.read_timeout_s, connect=self._settings.connect_timeout_s, pool=None
        )
        extensions = {"timeout": timeout.as_dict(), "trace": self._watch}
        try:
            return httpx.Request(
                request.method, request.url, headers=headers, stream=stream, extensions=extensions
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

    def _transport(self, origin: Origin) -> httpx.BaseTransport:
        if self._fixed is not None:
            return self._fixed
        proxy_url = self._proxy_url(origin)
        if not proxy_url.startswith("https:"):
            return self._own
        with self._lock:
            if origin not in self._through_tls:
                self._through_tls[origin] = self._through(proxy_url, origin)
            return self._through_tls[origin]

    def _proxy_url(self, origin: Origin) -> str:
        return proxy_for(origin, self._settings.proxy_env) if self._settings.proxy_env else ""

    def _route(self, origin: Origin) -> Route:
        proxy_url = self._proxy_url(origin)
        return Route(
            origin=origin,
            context=self._trust.context_for(origin) if origin.scheme == "https" else None,
            proxy=proxy_of(proxy_url) if proxy_url else None,
        )

    # --- proxies that are spoken to by TLS: httpx can do TLS within TLS, the standard library can't

    def _through(self, proxy_url: str, origin: Origin) -> httpx.BaseTransport:
        context = self._trust.context_for(origin_of(_without_login(proxy_url)))
        return httpx.HTTPTransport(
            verify=self._trust.context_for(origin) if origin.scheme == "https" else context,
            trust_env=False,
            proxy=httpx.Proxy(proxy_url, ssl_context=context),
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=MAX_IDLE,
                keepalive_expiry=KEEPALIVE_S,
            ),
        )

    def _watch(self, name: str, info: dict[str, Any]) -> None:
        """Remember each new socket; called by httpx's own transport for every small step it takes."""
        if name.endswith(("connect_tcp.complete", "start_tls.complete")):
            found = info["return_value"].get_extra_info("socket")
            if isinstance(found, socket.socket):
                self._live.add(found)

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
        except MalformedAnswerError as error:
            raise NetworkError(f"{host}: the answer is refused: {error}") from None
        except httpx.ProxyError as error:
            raise NetworkError(f"{host}: the proxy refused: {_first_line(error)}") from None
        except httpx.TransportError as error:
            self._cancel.check()
            raise ConnectionLostError(f"{host}: connection lost: {_first_line(error)}") from None

    def _silence(self, error: httpx.TimeoutException) -> str:
        if isinstance(error, httpx.ConnectTimeout):
            return f"no connection within {self._settings.connect_timeout_s:g} s"
        return f"nothing heard for {self._settings.read_timeout_s:g} s"


def _is_http(error: Exception) -> bool:
    """Whether an answer came that is HTTP, though not as it should be."""
    return isinstance(error, MalformedAnswerError) and not isinstance(error, NoHttpAnswerError)


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


def _without_login(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


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

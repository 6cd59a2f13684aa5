"""Serves the embedded registry over sockets: uvicorn in a thread, on loopback unless more is asked for."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from ci_registry.cancel import Cancel
from ci_registry.errors import (
    CiRegistryError,
    NetworkError,
    SetupError,
    UsageError,
)
from ci_registry.events import EventSink, Level, Log, ignore_events
from ci_registry.oci.reference import is_loopback
from ci_registry.registry_server.asgi import Application, Observer
from ci_registry.registry_server.options import Options
from ci_registry.registry_server.store import GRACE_S, Store

DRAIN_S = 2.0
"""How long a stop waits for running answers, unless more is asked for."""
_HEAD_TIMEOUT_S = 60.0
"""How long a new connection may take to send the head of its first request."""
_LONGEST_INTERVAL_S = 3600.0
"""Longest time between two collections."""


class Exposure(StrEnum):
    """Which addresses may be listened on."""

    LOOPBACK = "loopback"
    """This machine only."""
    PROTECTED = "protected"
    """Any, with TLS and users."""
    UNPROTECTED = "unprotected"
    """Any: whoever reaches it may overwrite images, and read what others send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """A certificate (with its chain) and its private key without a password, both PEM."""

    certificate: Path
    key: Path


def _protocol(application: Application) -> type:
    """Return uvicorn's h11 protocol, which also remembers its transport so that faults can reset it."""
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415 - late: 60 ms

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._head_timer = self.loop.call_later(_HEAD_TIMEOUT_S, self._close_when_silent)
            if self.client is not None:
                application.transports[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_timer.cancel()
            if self.client is not None:
                application.transports.pop(self.client, None)
            super().connection_lost(exc)

        def _close_when_silent(self) -> None:
            if getattr(self, "cycle", None) is None:
                self.transport.close()

    return Protocol


def _check_tls(tls: TlsFiles) -> None:
    """Fail before anything listens: uvicorn would ask the terminal for a password."""

    def no_password() -> str:
        raise SetupError(f"{tls.key} has a password", hint="give a key without one, mode 0600")

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key, password=no_password)
    except (OSError, ValueError) as error:
        raise SetupError(
            f"cannot use {tls.certificate} with {tls.key}: {error}",
            hint="the certificate comes first in its file, then the chain; both files are PEM",
        ) from error


def _check_exposure(host: str, exposure: Exposure, tls: TlsFiles | None, options: Options) -> None:
    if exposure is Exposure.UNPROTECTED or is_loopback(
        f"[{host}]:1" if ":" in host else f"{host}:1"
    ):
        return
    if exposure is Exposure.LOOPBACK:
        raise UsageError(
            f"the registry is served on this machine only, not on {host}",
            hint="use 127.0.0.1, or --allow-public with --tls-cert, --tls-key and --users",
        )
    has_users = bool(options.users) or options.check_password is not None
    if tls is None or not has_users:
        missing = " and ".join(
            word for word, is_there in (("TLS", tls), ("users", has_users)) if not is_there
        )
        raise UsageError(
            f"{host} can be reached from other machines, and there are no {missing}",
            hint="give --tls-cert, --tls-key and --users; to let everybody in anyway,"
            " say --allow-public-unprotected",
        )


def _listen(host: str, port: int) -> socket.socket:
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
    """A registry running in threads of this process while its context is open.

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
        tls: TlsFiles | None = None,
        exposure: Exposure = Exposure.LOOPBACK,
        access_log: bool = False,
        drain_s: float = DRAIN_S,
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            store: what is served.
            host: an address that `exposure` allows; anything else is refused at the start.
            port: 0 = any free port.
            options: access and personality.
            observer: told of every request.
            events: told of bugs in the handler, and of every request with `access_log`.
            tls: serve https with these; None = plain http.
            exposure: whether other machines may reach it.
            access_log: whether each request becomes an event, one line of JSON.
            drain_s: how long a stop waits for running answers; then it cuts them off.
        """
        self._host, self._port = host, port
        self._tls, self._exposure, self._drain_s = tls, exposure, drain_s
        self.options = options or Options()
        self._application = Application(
            store, self.options, observer, events, access_log=access_log
        )
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
            UsageError: the host may not be listened on like this.
            SetupError: the certificate or its key can't be used.
            NetworkError: the port is taken.
        """
        import uvicorn  # noqa: PLC0415 - late: only a process that serves pays for it

        _check_exposure(self._host, self._exposure, self._tls, self.options)
        if self._tls is not None:
            _check_tls(self._tls)
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
            date_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=cast("Any", self._drain_s),  # it takes parts of a second too
            ssl_certfile=self._tls.certificate if self._tls else None,
            ssl_keyfile=self._tls.key if self._tls else None,
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
        """Finish running answers, as long as they may take, and stop."""
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
    tls: TlsFiles | None = None,
    exposure: Exposure = Exposure.LOOPBACK,
    access_log: bool = False,
    grace_s: float | None = GRACE_S,
    drain_s: float = DRAIN_S,
) -> None:
    """Serve until `cancel` is set, then stop cleanly and return; collect garbage meanwhile.

    Args:
        store: what is served; the caller closes it.
        cancel: set by the caller's signal handler.
        host: a loopback address, unless `exposure` allows more.
        port: 0 = any free port.
        options: access and personality; a read-only registry is not collected.
        on_started: gets `host:port` once it listens.
        events: told of bugs in the handler, of collections, and of requests with `access_log`.
        tls: serve https with these.
        exposure: whether other machines may reach it.
        access_log: whether each request becomes an event.
        grace_s: see `Store.collect`; None = never collect.
        drain_s: how long a stop waits for running answers.

    Raises:
        UsageError: the host may not be listened on like this.
        SetupError: the certificate or its key can't be used.
        NetworkError: the port is taken, or the server died.
    """
    stopped = threading.Event()
    remove = cancel.on_cancel(stopped.set)
    registry = EmbeddedRegistry(
        store,
        host=host,
        port=port,
        options=options,
        events=events,
        tls=tls,
        exposure=exposure,
        access_log=access_log,
        drain_s=drain_s,
    )
    if registry.options.read_only:
        grace_s = None
    try:
        with registry:
            on_started(registry.host)
            _watch(registry, store, grace_s, stopped, events)
    finally:
        remove()


def _watch(
    registry: EmbeddedRegistry,
    store: Store,
    grace_s: float | None,
    stopped: threading.Event,
    events: EventSink,
) -> None:
    """Wait for the end; collect garbage four times in each grace period, or more often."""
    interval_s = min(_LONGEST_INTERVAL_S, max(1.0, (grace_s or 0.0) / 4))
    due = store.clock() + interval_s
    while not stopped.wait(1.0):
        registry.check()
        if grace_s is not None and store.clock() >= due:
            _collect(store, grace_s, stopped.is_set, events)
            due = store.clock() + interval_s


def _collect(
    store: Store, grace_s: float, is_stopped: Callable[[], bool], events: EventSink
) -> None:
    """Collect once; a failure is told, and the next one may do better."""
    try:
        found = store.collect(store.clock(), grace_s, is_stopped=is_stopped)
    except CiRegistryError as error:
        store.metrics.count_failed_collection()
        events(Log(message=f"garbage collection failed: {error.headline}", level=Level.ERROR))
        return
    if found.manifests or found.blobs or found.uploads:
        text = (
            f"garbage collection: {found.manifests} manifests, {found.blobs} blobs and"
            f" {found.uploads} uploads removed, {found.size_bytes} bytes freed"
        )
        events(Log(message=text))

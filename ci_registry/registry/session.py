"""Requests to one registry with authorization: what the remote repository is made of."""

import contextlib
import dataclasses
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from ci_registry.errors import CiRegistryError, RegistryError
from ci_registry.events import EventSink, Level, Log
from ci_registry.network.client import HttpClient
from ci_registry.network.message import (
    Body,
    Headers,
    Origin,
    Request,
    Response,
    StreamedResponse,
    TlsExpectedError,
    is_named_plain,
    may_be_plain,
    origin_of,
)
from ci_registry.oci.reference import DEFAULT_REGISTRY
from ci_registry.registry.auth import Access, Authorizer
from ci_registry.registry.credentials import CredentialSource
from ci_registry.registry.failures import failure, is_page
from ci_registry.registry.quirks import better_known, quirks_of_host
from ci_registry.registry.rate_limits import rate_limit_of
from ci_registry.secret import Secret

DOCKER_HUB_HOST = "registry-1.docker.io"
_MOST_WARNINGS = 100
_Answer = TypeVar("_Answer", Response, StreamedResponse)


def origin_of_registry(host: str, plain_http: tuple[str, ...]) -> Origin:
    """Return who serves the registry that users call `host`; plain HTTP only for loopback and named hosts."""
    netloc = DOCKER_HUB_HOST if host == DEFAULT_REGISTRY else host
    plain = origin_of(f"http://{netloc}")
    return plain if may_be_plain(plain, plain_http) else origin_of(f"https://{netloc}")


class Session:
    """One registry: where it is, who we are there, and what it warned of.

    Loopback is asked by plain HTTP first, unless `certs.d` has a folder for it. Docker and crane ask by TLS
    first and fall back; the other way round a plain registry costs not one connection more, and
    nothing ever falls back from TLS. It is safe: the first request of a session has no credentials,
    they follow a challenge, and who can give a challenge without TLS is no TLS server. When plain HTTP
    is not understood and TLS is, the session moves to TLS, with the certificate checked, and stays.
    """

    def __init__(
        self,
        client: HttpClient,
        host: str,
        *,
        credentials: CredentialSource,
        on_event: EventSink,
        realm: str = "",
    ) -> None:
        """`realm` is the prefix of the only address where credentials may be sent; empty: as the quirks say."""
        self.client = client
        self.host = host
        self.origin = origin_of_registry(host, client.settings.plain_http)
        self.quirks = quirks_of_host(host)
        self._on_event = on_event
        self._credentials = credentials
        self._realm = realm or self.quirks.realm
        self._guessed: Origin | None = None
        """The plain origin that is only a guess, or was one."""
        self._perhaps_tls: Origin | None = None
        """Where the registry is if that guess is wrong; None as soon as we know."""
        if self.origin.scheme == "http" and not is_named_plain(
            self.origin, client.settings.plain_http
        ):
            self._guess(origin_of(f"https://{host}"))
        self._authorizer = self._new_authorizer()
        self._warned: set[str] = set()
        self._limit_shown = False
        self.honours_own_mounts: bool | None = None
        """Whether a mount from the same repository finds a blob there; None: not known yet."""
        self._lock = threading.Lock()

    def _guess(self, by_tls: Origin) -> None:
        self._guessed = self.origin
        if self.client.expects_tls(by_tls):
            self.origin = by_tls
        else:
            self._perhaps_tls = by_tls

    def _new_authorizer(self) -> Authorizer:
        return Authorizer(
            self.client,
            host=self.host,
            origin=self.origin,
            credentials=self._credentials,
            realm=self._realm,
        )

    def url(self, path: str) -> str:
        """Return the URL of a path of the API."""
        return f"{self.origin}/v2/{path}"

    def send(
        self,
        method: str,
        url: str,
        access: Access,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        size_bytes: int = 0,
        retry: bool = True,
        lasting_s: float = 0.0,
    ) -> Response:
        """Send a request; one 401 is answered with a new token, and what comes then is returned.

        A token that ends within `lasting_s` is not used if a new one would last longer.

        Raises:
            AccessError: the token service refused us.
            RegistryError: the token service failed, or somebody else's web page came as success.
            NetworkError: as `HttpClient.request`.
        """
        request, response = self._asked(
            Request(
                method=method, url=url, headers=headers or {}, body=body, size_bytes=size_bytes
            ),
            access,
            lambda request: self.client.request(request, retry=retry),
            lasting_s=lasting_s,
        )
        if again := self._answered(response.status, response, request, access):
            response = self.client.request(again, retry=retry)
        self._learn(response)
        self._show_warnings(response.headers)
        if response.ok and is_page(response.body):
            raise self.failure(response, f"use the answer to {request.shown}")
        return response

    @contextlib.contextmanager
    def stream(
        self, url: str, access: Access, *, headers: Mapping[str, str] | None = None
    ) -> Iterator[StreamedResponse]:
        """GET a body piece by piece; authorization as in `send`."""
        with contextlib.ExitStack() as first:
            request, response = self._asked(
                Request(method="GET", url=url, headers=headers or {}),
                access,
                lambda request: first.enter_context(self.client.stream(request)),
            )
            again = self._answered(response.status, response, request, access)
            if again is None:
                yield response
                return
        with self.client.stream(again) as response:
            yield response

    def page_after(self, response: Response) -> str:
        """Return the URL of the next page from `Link`, empty at the end.

        Raises:
            RegistryError: the link leads to another host.
        """
        for field in response.headers.all("Link"):
            target, _, parameters = field.partition(";")
            if 'rel="next"' not in parameters.replace(" ", "") and "rel=next" not in parameters:
                continue
            url = urllib.parse.urljoin(response.url, target.strip().strip("<>"))
            if origin_of(url) != self.origin:
                raise RegistryError(
                    f"{self.host} continues a list on another host, which is refused"
                )
            return url
        return ""

    def failure(self, response: Response, doing: str, *, writing: bool = False) -> CiRegistryError:
        """Return the error for an answer that is no success; as `failures.failure`."""
        is_anonymous = self._authorizer.is_anonymous
        return failure(
            response, doing=doing, host=self.host, writing=writing, is_anonymous=is_anonymous
        )

    def login_for(self, access: Access) -> Secret | None:
        """Return what a request would be sent with now, None when nothing is known yet."""
        return self._authorizer.current(access)

    def _asked(
        self,
        request: Request,
        access: Access,
        ask: Callable[[Request], _Answer],
        *,
        lasting_s: float = 0.0,
    ) -> tuple[Request, _Answer]:
        """Send a request with what is known of scheme and login; returns it as it was sent, and the answer."""
        sent = self._authorized(request, access, lasting_s)
        try:
            answer = ask(sent)
        except TlsExpectedError:
            self._move_to_tls(sent.perhaps_tls)
            sent = self._authorized(request, access, lasting_s)
            return sent, ask(sent)
        self._perhaps_tls = None
        return sent, answer

    def _move_to_tls(self, by_tls: Origin | None) -> None:
        with self._lock:
            if by_tls is None or self.origin == by_tls:
                return  # another thread was first
            self.origin, self._perhaps_tls = by_tls, None
            self._authorizer = self._new_authorizer()

    def _authorized(self, request: Request, access: Access, lasting_s: float = 0.0) -> Request:
        origin = origin_of(request.url)
        if origin == self._guessed != self.origin:
            path = request.url.partition("://")[2].partition("/")[2]
            request, origin = dataclasses.replace(request, url=f"{self.origin}/{path}"), self.origin
        if origin != self.origin:
            return request  # an upload location elsewhere: our token is none of its business
        value = self._authorizer.current(access, lasting_s=lasting_s)
        return dataclasses.replace(request, authorization=value, perhaps_tls=self._perhaps_tls)

    def _answered(
        self, status: int, response: Response | StreamedResponse, request: Request, access: Access
    ) -> Request | None:
        """Return the request to send after a challenge, None when there is nothing new to say."""
        asked_us = response.same_origin and origin_of(request.url) == self.origin
        if status != 401 or not asked_us:
            return None
        self._learn(response)
        value = self._authorizer.answer(
            response.headers,
            access,
            request.authorization,
            action_names=self.quirks.token_actions,
        )
        return dataclasses.replace(request, authorization=value) if value is not None else None

    def _learn(self, response: Response | StreamedResponse) -> None:
        if response.same_origin and origin_of(response.url) == self.origin:
            self.quirks = better_known(self.quirks, response.headers)
            self._show_limit(response.headers)

    def _show_limit(self, headers: Headers) -> None:
        """Warn once when few pulls are left (Docker Hub counts them per address or account)."""
        found = rate_limit_of(headers)
        if found is None or not found.is_low or self._limit_shown:
            return
        self._limit_shown = True
        advice = self.quirks.limits_advice
        self.warn(f"{self.host} limits pulls: {found}{f'; {advice}' if advice else ''}")

    def _show_warnings(self, headers: Headers) -> None:
        """Show each `Warning: 299` once (distribution-spec, Warnings)."""
        for field in headers.all("Warning"):
            if field.startswith("299 "):
                text = "".join(c for c in field[4:] if c.isprintable())[:300]
                self.warn(f"{self.host} says: {text}")

    def warn(self, message: str) -> None:
        """Send a warning, each text once, at most a hundred of them."""
        with self._lock:
            new = message not in self._warned and len(self._warned) < _MOST_WARNINGS
            if new:
                self._warned.add(message)
        if new:
            self._on_event(Log(message=message, level=Level.WARNING))

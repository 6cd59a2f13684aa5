"""What goes over the wire, as values: requests, responses, headers, and who may be spoken to in plain text."""

import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from ci_registry.errors import NetworkError
from ci_registry.oci.reference import is_loopback
from ci_registry.secret import Secret

Body = Callable[[], Iterator[bytes]]
"""Opens the body of a request from the start; called again for each retry."""

_PORTS = {"http": 80, "https": 443}
_NO_URL = re.compile(r"[\x00-\x20\x7f]")


class Headers:
    """Header fields in the order received; names are compared without case."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple((name.lower(), value.strip()) for name, value in pairs)

    def get(self, name: str, default: str = "") -> str:
        """Return the first field called `name`."""
        return next((value for key, value in self._pairs if key == name.lower()), default)

    def all(self, name: str) -> tuple[str, ...]:
        """Return every field called `name`."""
        return tuple(value for key, value in self._pairs if key == name.lower())

    def __contains__(self, name: str) -> bool:
        return any(key == name.lower() for key, _ in self._pairs)

    def __repr__(self) -> str:
        return f"Headers({', '.join(key for key, _ in self._pairs)})"


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: who answers a URL."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """`host`, with the port when it is not the scheme's own, as registries are written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def origin_of(url: str) -> Origin:
    """Return who answers `url`.

    Raises:
        NetworkError: it is no http or https URL, carries a user name, or holds characters that no URL has.
    """
    if _NO_URL.search(url):
        raise NetworkError("a URL holds a space or control character")
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise NetworkError(f"not a URL: {shown_url(url)}") from error
    if parts.scheme not in _PORTS or not host:
        raise NetworkError(f"not an http or https URL: {shown_url(url)}")
    if "@" in parts.netloc:
        raise NetworkError(f"a URL with a user name in it is refused: {parts.scheme}://…@{host}")
    return Origin(parts.scheme, host.lower(), port or _PORTS[parts.scheme])


def shown_url(url: str) -> str:
    """Return a URL for messages, without its query: signed URLs carry secrets there."""
    bare = url.partition("?")[0].partition("#")[0]
    scheme, slashes, rest = bare.partition("://")
    netloc, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{netloc.rpartition('@')[2]}{slash}{path}"[:300]


def may_be_plain(origin: Origin, plain_http: tuple[str, ...]) -> bool:
    """Whether `origin` may be spoken to without TLS: this machine, or a host named with or without port."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return is_loopback(host) or is_named_plain(origin, plain_http)


def is_named_plain(origin: Origin, plain_http: tuple[str, ...]) -> bool:
    """Whether `origin` is named, with or without port, as a host without TLS."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    named = {name.lower() for name in plain_http}
    return bool({host, origin.netloc, f"{host}:{origin.port}"} & named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: Secret | None = None
    """Value of the `Authorization` field; never sent to another host after a redirect."""
    body: Body | None = None
    size_bytes: int = 0
    """Length of `body`, sent as `Content-Length`."""
    body_is_secret: bool = False
    """The body holds a credential: it never goes to another host after a redirect."""
    perhaps_tls: Origin | None = None
    """Where the same server would be by TLS, when plain HTTP is only a guess: see `TlsExpectedError`."""

    @property
    def shown(self) -> str:
        """The request for messages: `GET https://host/path`."""
        return f"{self.method} {shown_url(self.url)}"


class TlsExpectedError(NetworkError):
    """Plain HTTP failed where it was a guess, and TLS is spoken there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One HTTP response with its body in memory."""

    status: int
    url: str
    """Where the answer came from; differs from the request's after redirects."""
    headers: Headers
    body: bytes = b""
    same_origin: bool = True
    """Whether the host that was asked answered itself; false after a redirect to another."""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class StreamedResponse:
    """One HTTP response whose body is still on its way; close it, however far it was read."""

    def __init__(
        self,
        *,
        status: int,
        url: str,
        headers: Headers,
        chunks: Iterator[bytes],
        close: Callable[[], None],
    ) -> None:
        self.status = status
        self.url = url
        self.headers = headers
        self.chunks = chunks
        """Raw bytes, nothing decoded."""
        self.same_origin = True
        self.close = close

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""The HTTP client: one request with its redirects and retries, body in memory or streamed."""

import contextlib
import dataclasses
import random
import urllib.parse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from ci_registry.cancel import Cancel
from ci_registry.errors import IntegrityError, NetworkError
from ci_registry.events import EventSink, ignore_events
from ci_registry.network.message import (
    Headers,
    Origin,
    Request,
    Response,
    StreamedResponse,
    origin_of,
)
from ci_registry.network.pace import Paces
from ci_registry.network.retry import TOO_MANY_REQUESTS, Chance, Retrier, is_retried
from ci_registry.network.settings import HttpSettings

if TYPE_CHECKING:
    import httpx

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
_ALWAYS_FOLLOWED = frozenset({307, 308})
_FOLLOWED_WHEN_READING = frozenset({301, 302, 303})


class _Answer(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Headers: ...


_T = TypeVar("_T", bound=_Answer)


class HttpClient:
    """Sends requests; safe to share between threads, closed with `close` or as a context manager.

    No cookies, no decoding, system CA store, own redirects: `Authorization` stays with the host that
    was asked, and https never becomes http.
    """

    def __init__(
        self,
        settings: HttpSettings,
        cancel: Cancel,
        *,
        on_event: EventSink = ignore_events,
        chance: Chance | None = None,
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        """`transport` replaces the real connections, for tests."""
        from ci_registry.network.exchange import (  # noqa: PLC0415 - httpx takes 90 ms to import
            ConnectionLostError,
            Exchange,
        )

        self.settings = settings
        self._cancel = cancel
        self._on_event = on_event
        self._chance = chance or Chance(random=random.random)
        self._exchange = Exchange(settings, cancel, transport)
        self._paces = Paces(cancel, self._chance.monotonic)
        self._lost = ConnectionLostError

    def close(self) -> None:
        """Close every connection."""
        self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(
        self, request: Request, *, retry: bool = True, max_body_bytes: int = MAX_BODY_BYTES
    ) -> Response:
        """Send a request and read the whole answer, whatever its status.

        Raises:
            NetworkError: no whole answer came, also after the retries.
            TlsExpectedError: it was sent without TLS by guess, and the guess was wrong.
            IntegrityError: the body is larger than `max_body_bytes`; an error's body is cut instead.
        """
        deadline = self._chance.monotonic() + self.settings.budget_s

        def check_time() -> None:
            if self._chance.monotonic() > deadline:
                raise NetworkError(
                    f"{request.shown}: still no whole answer after {self.settings.budget_s:g} s"
                )

        def attempt() -> Response:
            with self._follow(request, repeat=retry) as answer:
                return _read(answer, max_body_bytes, check_time)

        return self._repeat(request, attempt, retry=retry)

    @contextlib.contextmanager
    def stream(self, request: Request, *, retry: bool = True) -> Iterator[StreamedResponse]:
        """Send a request and hand out the body as it comes; retried only up to the head of the answer."""
        answer = self._repeat(request, lambda: self._open(request, repeat=retry), retry=retry)
        try:
            yield answer
        finally:
            answer.close()

    def retrier(self, what: str, *, host: str = "") -> Retrier:
        """Return the counter for a sequence of requests that is repeated as a whole (with `retry=False`).

        `host` (`Origin.netloc`) is who is asked: its 429 makes all threads wait.
        """
        return Retrier(
            what,
            self.settings,
            cancel=self._cancel,
            on_event=self._on_event,
            chance=self._chance,
            pace=self._paces.of(host) if host else None,
        )

    def expects_tls(self, origin: Origin) -> bool:
        """Whether a `certs.d` folder says how to speak TLS with an https origin."""
        return self._exchange.expects_tls(origin)

    def monotonic(self) -> float:
        """Return the clock that durations are measured with, in seconds."""
        return self._chance.monotonic()

    def pause(self, longest_s: float) -> None:
        """Wait for half to the whole of `longest_s`, by chance, so that writers elsewhere do not keep step."""
        self._cancel.sleep(longest_s * (0.5 + self._chance.random() / 2))

    def settle(self, since_s: float, longest_s: float) -> None:
        """Wait as long as others may need for what we did since `since_s`: a few times as long as we did."""
        self.pause(min(longest_s, 3 * (self.monotonic() - since_s)))

    def is_transient(self, error: NetworkError) -> bool:
        """Whether another attempt may succeed where this one failed."""
        return isinstance(error, self._lost)

    def _repeat(self, request: Request, attempt: Callable[[], _T], *, retry: bool) -> _T:
        host = origin_of(request.url).netloc
        retrier = self.retrier(request.shown, host=host)
        while True:
            try:
                answer = self._paced(host, attempt)
            except self._lost as error:
                if not retry or not retrier.wait(error.message):
                    raise
                continue
            status, trouble = answer.status, f"HTTP {answer.status}"
            if not (retry and is_retried(status)):
                return answer
            if not retrier.wait(trouble, answer.headers, status=status):
                return answer

    def _paced(self, host: str, attempt: Callable[[], _T]) -> _T:
        """Make one attempt when the host's pace allows it; a 429 slows down all that follow."""
        pace = self._paces.of(host)
        with pace.place() as generation:
            answer = attempt()
        if answer.status == TOO_MANY_REQUESTS:
            pace.refused(generation)
        else:
            pace.succeeded()
        return answer

    def _open(self, request: Request, *, repeat: bool) -> StreamedResponse:
        answer = self._follow(request, repeat=repeat)
        if answer.status < 400:
            return answer
        with answer:
            error = _read(answer, MAX_ERROR_BYTES, lambda: None)
        answer.chunks = iter((error.body,))
        return answer

    def _follow(self, request: Request, *, repeat: bool) -> StreamedResponse:
        """Send, and follow redirects by the rules in the class's docstring."""
        asked = origin_of(request.url)
        for _ in range(self.settings.max_redirects + 1):
            answer = self._exchange.send(request, repeat=repeat)
            answer.same_origin = origin_of(request.url) == asked
            location = answer.headers.get("Location")
            if not location or not _is_followed(answer.status, request.method):
                return answer
            _drain(answer)
            request = _redirected(request, location)
        raise NetworkError(f"{asked.netloc}: more than {self.settings.max_redirects} redirects")


def _is_followed(status: int, method: str) -> bool:
    reading = method in ("GET", "HEAD")
    return status in _ALWAYS_FOLLOWED or (status in _FOLLOWED_WHEN_READING and reading)


def _redirected(request: Request, location: str) -> Request:
    url = urllib.parse.urljoin(request.url, location).partition("#")[0]
    before, after = origin_of(request.url), origin_of(url)
    if before.scheme == "https" and after.scheme == "http":
        raise NetworkError(
            f"{before.netloc} redirects from https to plain http ({after.netloc}), which is refused"
        )
    if before == after:
        return dataclasses.replace(request, url=url)
    if request.body_is_secret:
        raise NetworkError(
            f"{before.netloc} redirects a login to {after.netloc}, which is refused",
            hint="check the address of the token service",
        )
    return dataclasses.replace(request, url=url, authorization=None, perhaps_tls=None)


def _drain(answer: StreamedResponse) -> None:
    """Read the short body of a redirect, so that its connection can be used again."""
    with answer:
        size_bytes = 0
        for chunk in answer.chunks:
            size_bytes += len(chunk)
            if size_bytes > MAX_ERROR_BYTES:
                break


def _read(
    answer: StreamedResponse, max_body_bytes: int, check_time: Callable[[], None]
) -> Response:
    body = bytearray()
    failed = answer.status >= 400
    limit = min(max_body_bytes, MAX_ERROR_BYTES) if failed else max_body_bytes
    for chunk in answer.chunks:
        check_time()
        body += chunk
        if len(body) > limit:
            if failed:
                break
            raise IntegrityError(f"{answer.url.partition('?')[0]}: more than {limit} bytes")
    return Response(
        status=answer.status,
        url=answer.url,
        headers=answer.headers,
        body=bytes(body[:limit]),
        same_origin=answer.same_origin,
    )

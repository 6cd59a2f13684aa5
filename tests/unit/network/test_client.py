"""The HTTP client, over a transport in memory."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from ci_registry.errors import IntegrityError, NetworkError
from ci_registry.network.client import HttpClient
from ci_registry.network.message import Headers, Request, origin_of, shown_url
from ci_registry.secret import Secret
from tests.support.remote import QuickCancel, Recorder, quick_client

TOKEN = "Bearer very-secret-token"


def client_of(
    handler: Callable[[httpx.Request], httpx.Response],
    *,
    cancel: QuickCancel | None = None,
    recorder: Recorder | None = None,
    **settings: object,
) -> HttpClient:
    return quick_client(
        cancel=cancel, recorder=recorder, transport=httpx.MockTransport(handler), **settings
    )


def get(url: str, *, method: str = "GET") -> Request:
    return Request(method=method, url=url, authorization=Secret(TOKEN))


def test_nothing_is_added_that_a_registry_should_not_see() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, headers=[("Set-Cookie", "a=b"), ("X", "1"), ("X", "2")])

    with client_of(answer) as client:
        first = client.request(get("https://r.example/v2/"))
        client.request(get("https://r.example/v2/"))
    assert first.headers.all("x") == ("1", "2")
    assert dict(seen[1].headers) == {
        "host": "r.example",
        "user-agent": "ci-registry",
        "accept": "*/*",
        "accept-encoding": "identity",
        "authorization": TOKEN,
    }


@pytest.mark.parametrize(
    "query",
    ["_state=a%2Fb%20c+d/%7E==&X-Sig=a%2Bb", "digest=sha256:abc&u=%c3%A4|x", "a=&&b"],
)
def test_a_query_goes_out_byte_for_byte(query: str) -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200)

    with client_of(answer) as client:
        client.request(get(f"https://r.example/v2/a%2Fb/uploads/1?{query}"))
    assert seen == [f"/v2/a%2Fb/uploads/1?{query}".encode()]


def redirecting(to: str, status: int = 307) -> tuple[HttpClient, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.path == "/start":
            return httpx.Response(status, headers={"Location": to})
        return httpx.Response(200, content=request.read())

    return client_of(answer), seen


@pytest.mark.parametrize(
    ("to", "kept"),
    [
        ("/other", True),
        ("https://r.example/other", True),
        ("https://r.example:443/other", True),
        ("https://r.example:8443/other", False),
        ("https://cdn.example/other?sig=1", False),
        ("//cdn.example/other", False),
    ],
)
def test_authorization_stays_with_the_host_that_was_asked(to: str, kept: bool) -> None:
    client, seen = redirecting(to)
    with client:
        response = client.request(get("https://r.example/start"))
    assert ("authorization" in seen[1].headers) is kept
    assert response.same_origin is kept


def test_authorization_does_not_come_back_after_a_detour() -> None:
    seen: list[httpx.Request] = []
    steps = {"/start": "https://cdn.example/a", "/a": "https://r.example/end"}

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        to = steps.get(request.url.path)
        return httpx.Response(302, headers={"Location": to}) if to else httpx.Response(200)

    with client_of(answer) as client:
        client.request(get("https://r.example/start"))
    assert ["authorization" in request.headers for request in seen] == [True, False, False]


def test_https_never_becomes_http() -> None:
    client, seen = redirecting("http://r.example/other")
    with client, pytest.raises(NetworkError, match="from https to plain http"):
        client.request(get("https://r.example/start"))
    assert len(seen) == 1


@pytest.mark.parametrize("url", ["http://r.example/", "http://r.example:5000/"])
def test_plain_http_is_refused_unless_the_host_is_named(url: str) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200)

    with client_of(answer) as client, pytest.raises(NetworkError, match="https only") as caught:
        client.request(get(url))
    assert "network.plain_http" in caught.value.hint
    with client_of(answer, plain_http=("r.example",)) as client:
        assert client.request(get(url)).ok
    with client_of(answer) as client:
        assert client.request(get("http://127.0.0.1:5000/")).ok


def body_of(*chunks: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(chunks)


def test_a_body_is_sent_again_after_a_redirect_and_a_retry() -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.read())
        assert request.headers["content-length"] == "4"
        assert "transfer-encoding" not in request.headers
        if len(seen) == 1:
            return httpx.Response(308, headers={"Location": "/b"})
        return httpx.Response(503 if len(seen) == 2 else 201)

    request = Request(
        method="PUT", url="https://r.example/a", body=body_of(b"ab", b"cd"), size_bytes=4
    )
    with client_of(answer) as client:
        assert client.request(request).status == 201
    assert seen == [b"abcd"] * 3


def test_a_redirect_that_would_change_the_method_is_not_followed() -> None:
    client, seen = redirecting("/other", status=303)
    with client:
        assert client.request(get("https://r.example/start", method="POST")).status == 303
    assert len(seen) == 1


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectTimeout]
)
def test_lost_connections_are_retried_and_then_reported(error: type[httpx.TransportError]) -> None:
    cancel, recorder = QuickCancel(), Recorder()

    def answer(_request: httpx.Request) -> httpx.Response:
        raise error("broken")

    with (
        client_of(answer, cancel=cancel, recorder=recorder, retries=3) as client,
        pytest.raises(NetworkError, match=r"r\.example") as caught,
    ):
        client.request(get("https://r.example/v2/?sig=hidden"))
    assert len(cancel.slept) == 3
    text = "".join([caught.value.message, caught.value.hint, *recorder.lines])
    assert TOKEN not in text
    assert "hidden" not in text


def test_an_unknown_host_and_a_bad_certificate_are_not_retried() -> None:
    import socket
    import ssl

    certificate = ssl.SSLCertVerificationError(1, "self-signed certificate")
    certificate.verify_message = "self-signed certificate"
    for cause, match in (
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no such host"),
        (certificate, "not trusted: self-signed"),
    ):

        def answer(_request: httpx.Request, cause: Exception = cause) -> httpx.Response:
            raise httpx.ConnectError("x") from cause

        cancel = QuickCancel()
        with client_of(answer, cancel=cancel) as client, pytest.raises(NetworkError, match=match):
            client.request(get("https://r.example/"))
        assert cancel.slept == []


def test_large_answers_are_refused_and_large_errors_cut() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.url.path == "/ok" else 400, content=b"x" * 200_000)

    with client_of(answer) as client:
        with pytest.raises(IntegrityError, match="more than 1000 bytes"):
            client.request(get("https://r.example/ok"), max_body_bytes=1000)
        assert len(client.request(get("https://r.example/bad")).body) == 65536


def test_a_whole_answer_must_come_within_the_budget() -> None:
    from ci_registry.network.retry import Chance
    from ci_registry.network.settings import HttpSettings

    class Slow(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                clock[0] += 60
                yield b"x"

    clock = [0.0]
    client = HttpClient(
        HttpSettings(budget_s=300),
        QuickCancel(),
        chance=Chance(random=lambda: 0.0, monotonic=lambda: clock[0]),
        transport=httpx.MockTransport(lambda _request: httpx.Response(200, stream=Slow())),
    )
    with client, pytest.raises(NetworkError, match="after 300 s"):
        client.request(get("https://r.example/"))


def test_streamed_bytes_are_not_decoded() -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"not gzip")
        )

    with client_of(answer) as client, client.stream(get("https://r.example/")) as response:
        assert b"".join(response.chunks) == b"not gzip"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://r.example/",
        "r.example/v2/",
        "https://user:pass@r.example/",
        "https://r.example/a b",
        "https://r.example/\r\nX: y",
        "https://r.example:99999/",
        "https:///v2/",
    ],
)
def test_strange_urls_are_refused_without_their_secrets(url: str) -> None:
    with pytest.raises(NetworkError) as caught:
        origin_of(url)
    assert "pass@" not in caught.value.message


def test_shown_urls_have_neither_query_nor_user() -> None:
    assert shown_url("https://u:p@r.example/a?sig=1#x") == "https://r.example/a"


def test_a_header_with_a_line_break_is_not_sent_and_not_shown() -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise httpx.LocalProtocolError(f"Illegal header value {TOKEN!r}")

    with client_of(answer) as client, pytest.raises(NetworkError) as caught:
        client.request(get("https://r.example/"))
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None


def test_headers_do_not_print_their_values() -> None:
    assert "secret" not in repr(Headers([("Authorization", "secret")]))

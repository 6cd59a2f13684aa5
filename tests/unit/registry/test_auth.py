"""Answers to challenges."""

import json
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from ci_registry.errors import AccessError, NetworkError, RegistryError
from ci_registry.network.message import Headers, origin_of
from ci_registry.registry.auth import Authorizer, access_to, is_below, scopes_of
from ci_registry.registry.challenge import Challenge, parse_challenges
from ci_registry.registry.credentials import Credentials, CredentialSource, GivenCredentials
from ci_registry.registry.remote import RemoteRegistry
from ci_registry.secret import Secret
from tests.support.remote import quick_client

HOST = "r.example"
BEARER = (
    'Bearer realm="https://auth.example/token?x=1",service="r.example",scope="repository:a/b:pull"'
)
PULL = access_to("a/b", "pull")
PUSH = access_to("a/b", "pull", "push")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Bearer realm="https://a/t",service="s"', [("bearer", {"realm": "https://a/t", "service": "s"})]),
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        ("Basic", [("basic", {})]),
        ('bEaReR realm = "a,b=\\"c\\"" , scope=x', [("bearer", {"realm": 'a,b="c"', "scope": "x"})]),
        ('Basic realm="x", Bearer realm="y",service="z"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "service": "z"})]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Bearer realm="unterminated', [("bearer", {})]),
        ("", []),
        ("=,=", []),
    ],
)  # fmt: skip
def test_challenges_are_read(text: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges((text,)) == tuple(
        Challenge(scheme=scheme, parameters=parameters) for scheme, parameters in expected
    )


def test_scopes_name_each_repository_once() -> None:
    access = access_to("b", "push", "pull") | access_to("a", "pull")
    assert scopes_of(access) == ("repository:a:pull", "repository:b:pull,push")


class TokenService:
    """A token service in memory."""

    def __init__(
        self,
        answer: object = None,
        status: int = 200,
        body: bytes | None = None,
        *,
        delay_s: float = 0.0,
    ) -> None:
        self.requests: list[httpx.Request] = []
        self._delay_s = delay_s
        self.clock = 1000.0
        self._status = status
        self._body = body
        self._answer = answer

    def authorizer(
        self, login: Credentials | None, *, registry: str = f"https://{HOST}", realm: str = ""
    ) -> Authorizer:
        client = quick_client(transport=httpx.MockTransport(self._handle), retries=1)
        return Authorizer(
            client,
            host=HOST,
            origin=origin_of(registry),
            credentials=GivenCredentials(
                hosts=frozenset({HOST}), credentials=login or Credentials()
            ),
            realm=realm,
            monotonic=lambda: self.clock,
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        time.sleep(self._delay_s)
        number = len(self.requests)
        body = self._body or json.dumps(self._answer or {"token": f"t{number}"}).encode()
        return httpx.Response(self._status, content=body)


LOGIN = Credentials(username="u", password=Secret("p"))


def headers(*fields: str) -> Headers:
    return Headers([("WWW-Authenticate", field) for field in fields])


def reveal(value: Secret | None) -> str:
    assert value is not None
    return value.reveal()


def test_token_is_asked_with_service_and_the_scopes_of_both_sides() -> None:
    service = TokenService()
    value = service.authorizer(LOGIN).answer(headers(BEARER), PUSH, None)
    assert reveal(value) == "Bearer t1"
    (request,) = service.requests
    assert request.headers["authorization"] == "Basic dTpw"
    assert request.url.host == "auth.example"
    query = urllib.parse.parse_qs(request.url.query.decode())
    assert query == {"x": ["1"], "service": ["r.example"], "scope": ["repository:a/b:pull,push"]}


def test_anonymous_tokens_are_asked_without_authorization() -> None:
    service = TokenService()
    assert reveal(service.authorizer(None).answer(headers(BEARER), PULL, None)) == "Bearer t1"
    assert "authorization" not in service.requests[0].headers


def test_token_is_kept_until_shortly_before_its_end_and_covers_smaller_rights() -> None:
    service = TokenService({"access_token": "t", "expires_in": 300})
    authorizer = service.authorizer(LOGIN)
    assert authorizer.current(PUSH) is None
    authorizer.answer(headers(BEARER), PUSH, None)
    service.clock += 289
    assert reveal(authorizer.current(PUSH)) == "Bearer t"
    assert reveal(authorizer.current(PULL)) == "Bearer t"
    assert authorizer.current(access_to("other", "pull")) is None
    service.clock += 2
    assert authorizer.current(PUSH) is None


def test_token_without_a_lifetime_is_kept_for_less_than_a_minute() -> None:
    service = TokenService()
    authorizer = service.authorizer(LOGIN)
    authorizer.answer(headers(BEARER), PULL, None)
    service.clock += 49
    assert authorizer.current(PULL) is not None
    service.clock += 2
    assert authorizer.current(PULL) is None


def test_a_token_that_another_thread_fetched_meanwhile_is_used() -> None:
    service = TokenService()
    authorizer = service.authorizer(LOGIN)
    first = authorizer.answer(headers(BEARER), PULL, None)
    assert authorizer.answer(headers(BEARER), PULL, None) == first
    assert len(service.requests) == 1
    second = authorizer.answer(headers(BEARER), PULL, first)
    assert reveal(second) == "Bearer t2"


@pytest.mark.parametrize("refused", [False, True], ids=["good", "wrong password"])
def test_many_threads_whose_token_ended_ask_once(*, refused: bool) -> None:
    service = TokenService(status=401 if refused else 200, delay_s=0.05)
    authorizer = service.authorizer(LOGIN)
    ended = Secret("Bearer ended")

    def ask(_number: int) -> str:
        try:
            return reveal(authorizer.answer(headers(BEARER), PUSH, ended))
        except AccessError as error:
            return error.message

    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(ask, range(64)))
    assert len(service.requests) == 1
    assert len(answers) == 1
    assert ("refuses the login of 'u'" in answers.pop()) == refused


def test_refresh_token_is_posted_and_not_in_the_url() -> None:
    service = TokenService({"access_token": "t"})
    login = Credentials(identity_token=Secret("re fresh"))
    assert reveal(service.authorizer(login).answer(headers(BEARER), PULL, None)) == "Bearer t"
    (request,) = service.requests
    assert request.method == "POST"
    assert urllib.parse.parse_qs(request.read().decode()) == {
        "grant_type": ["refresh_token"],
        "service": ["r.example"],
        "client_id": ["ci-registry"],
        "scope": ["repository:a/b:pull"],
        "refresh_token": ["re fresh"],
    }
    assert b"fresh" not in request.url.query


def test_ready_token_is_sent_as_it_is() -> None:
    service = TokenService()
    login = Credentials(registry_token=Secret("ready"))
    assert reveal(service.authorizer(login).answer(headers(BEARER), PULL, None)) == "Bearer ready"
    assert service.requests == []


def test_basic_is_used_when_nothing_better_is_offered_and_then_kept() -> None:
    service = TokenService()
    authorizer = service.authorizer(LOGIN)
    assert reveal(authorizer.answer(headers('Basic realm="x"'), PULL, None)) == "Basic dTpw"
    assert reveal(authorizer.current(PUSH)) == "Basic dTpw"
    both = service.authorizer(LOGIN).answer(headers('Basic realm="x"', BEARER), PULL, None)
    assert reveal(both) == "Bearer t1"


def test_refused_basic_is_not_tried_twice_and_nobody_has_no_answer() -> None:
    authorizer = TokenService().authorizer(LOGIN)
    basic = authorizer.answer(headers('Basic realm="x"'), PULL, None)
    assert authorizer.answer(headers('Basic realm="x"'), PULL, basic) is None
    assert TokenService().authorizer(None).answer(headers('Basic realm="x"'), PULL, None) is None
    assert TokenService().authorizer(LOGIN).answer(headers("Negotiate"), PULL, None) is None


def test_realm_without_tls_is_refused_and_gets_no_password() -> None:
    service = TokenService()
    challenge = headers('Bearer realm="http://127.0.0.1:1/token"')
    with pytest.raises(RegistryError, match="without TLS"):
        service.authorizer(LOGIN).answer(challenge, PULL, None)
    assert service.requests == []
    loopback = service.authorizer(LOGIN, registry="http://127.0.0.1:5000")
    assert loopback.answer(challenge, PULL, None) is not None


@pytest.mark.parametrize("status", [400, 401, 403])
def test_refused_login_says_whose_it_is(status: int) -> None:
    service = TokenService(status=status, body=b'{"details":"incorrect username or password"}')
    with pytest.raises(AccessError, match="refuses the login of 'u'") as caught:
        service.authorizer(LOGIN).answer(headers(BEARER), PULL, None)
    assert "incorrect username" in caught.value.message
    assert "docker login r.example" in caught.value.hint


@pytest.mark.parametrize(
    "body", [b"<html></html>", b"[]", b"{}", b'{"token":""}', b'{"token":"a b"}', b'{"token":1}']
)
def test_answer_without_a_usable_token_is_an_error(body: bytes) -> None:
    with pytest.raises(RegistryError, match="token service"):
        TokenService(body=body).authorizer(LOGIN).answer(headers(BEARER), PULL, None)


def test_token_service_that_fails_is_an_infrastructure_error() -> None:
    service = TokenService(status=503, body=b"<html><title>down</title></html>")
    with pytest.raises(
        RegistryError, match=r"auth\.example of r\.example failed: HTTP 503"
    ) as caught:
        service.authorizer(LOGIN).answer(headers(BEARER), PULL, None)
    assert caught.value.status == 503
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("url", "prefix", "below"),
    [
        ("https://auth.example/token", "https://auth.example", True),
        ("https://auth.example/token?x=1", "https://auth.example/token", True),
        ("https://auth.example:443/token", "https://AUTH.example/", True),
        ("https://auth.example/tokens", "https://auth.example/token", False),
        ("https://auth.example/token/../evil", "https://auth.example/token", False),
        ("https://auth.example/token/%2e%2e/evil", "https://auth.example/token", False),
        ("http://auth.example/token", "https://auth.example/", False),
        ("https://auth.example.evil/token", "https://auth.example/", False),
        ("https://auth.example:8443/token", "https://auth.example/", False),
    ],
)
def test_a_pinned_address_covers_whole_segments_of_one_origin(
    url: str, prefix: str, below: bool
) -> None:
    assert is_below(url, prefix) is below


@pytest.mark.parametrize(
    "login", [None, LOGIN, Credentials(identity_token=Secret("refresh"))], ids=["none", "basic", "token"]
)  # fmt: skip
def test_a_login_goes_nowhere_but_where_it_is_pinned(login: Credentials | None) -> None:
    service = TokenService()
    authorizer = service.authorizer(login, realm="https://login.example/")
    with pytest.raises(AccessError) as caught:
        authorizer.answer(headers(BEARER), PULL, None)
    assert "https://auth.example/token" in caught.value.message
    assert "https://login.example/" in caught.value.message
    assert "auth.realms" in caught.value.hint
    assert service.requests == []


def test_a_pinned_login_is_not_sent_to_the_registry_itself_either() -> None:
    authorizer = TokenService().authorizer(LOGIN, realm="https://login.example/")
    with pytest.raises(AccessError, match=r"https://r\.example"):
        authorizer.answer(headers('Basic realm="x"'), PULL, None)


def test_a_login_goes_where_it_is_pinned() -> None:
    service = TokenService()
    authorizer = service.authorizer(LOGIN, realm="https://auth.example/token")
    assert reveal(authorizer.answer(headers(BEARER), PULL, None)) == "Bearer t1"


class Renewing:
    """A credential helper: each time it is asked it gives the next login, the last one for ever."""

    def __init__(self, *passwords: str) -> None:
        self.asked = 0
        self._passwords = passwords

    def find(self, host: str, repository: str) -> Credentials | None:
        del host, repository
        password = self._passwords[min(self.asked, len(self._passwords) - 1)]
        self.asked += 1
        return Credentials(username="u", password=Secret(password))


def authorizer_of(source: CredentialSource, refused: tuple[str, ...] = ()) -> Authorizer:
    """Return one whose token service refuses these passwords and takes all others."""
    basics = [Credentials(username="u", password=Secret(p)).basic.reveal() for p in refused]

    def handle(request: httpx.Request) -> httpx.Response:
        wrong = request.headers.get("authorization") in basics
        return httpx.Response(401 if wrong else 200, content=b'{"token":"t"}')

    return Authorizer(
        quick_client(transport=httpx.MockTransport(handle)),
        host=HOST,
        origin=origin_of(f"https://{HOST}"),
        credentials=source,
    )


def test_a_login_that_ended_is_asked_for_once_more() -> None:
    """A helper's password lasts an hour or twelve; a long copy lasts longer."""
    source = Renewing("old", "new")
    authorizer = authorizer_of(source, refused=("old",))
    assert reveal(authorizer.answer(headers(BEARER), PULL, None)) == "Bearer t"
    assert source.asked == 2

    source = Renewing("old", "new")
    authorizer = authorizer_of(source)
    first = authorizer.answer(headers('Basic realm="x"'), PULL, None)
    second = authorizer.answer(headers('Basic realm="x"'), PULL, first)
    assert (reveal(first), reveal(second)) == ("Basic dTpvbGQ=", "Basic dTpuZXc=")
    assert authorizer.answer(headers('Basic realm="x"'), PULL, second) is None


def test_a_refused_login_is_not_tried_again_and_again() -> None:
    """So many threads with a wrong password would lock the account."""
    service = TokenService(status=401, body=b"{}")
    authorizer = service.authorizer(LOGIN)
    for _ in range(3):
        with pytest.raises(AccessError, match="refuses the login of 'u'"):
            authorizer.answer(headers(BEARER), PULL, None)
    assert len(service.requests) == 1
    service.clock += 31
    with pytest.raises(AccessError):
        authorizer.answer(headers(BEARER), PULL, None)
    assert len(service.requests) == 2


def test_actions_of_one_resource_are_merged_and_others_stay_apart() -> None:
    service = TokenService()
    challenge = (
        'Bearer realm="https://auth.example/token",'
        'scope="repository:a/b:pull repository:base/c:pull registry:catalog:*"'
    )
    service.authorizer(LOGIN).answer(headers(challenge), PUSH, None)
    query = urllib.parse.parse_qs(service.requests[0].url.query.decode())
    assert query["scope"] == [
        "repository:a/b:pull,push",
        "repository:base/c:pull",
        "registry:catalog:*",
    ]


@pytest.mark.parametrize(
    ("registry", "realm", "plain_http", "allowed"),
    [
        ("https://r.example", "https://any.example/t", (), True),
        ("https://r.example", "http://r.example/t", ("r.example",), False),
        ("https://r.example", "http://127.0.0.1:1/t", (), False),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/t", (), True),
        ("http://localhost:5000", "http://[::1]:5001/t", (), True),
        ("http://127.0.0.1:5000", "http://r.example/t", (), False),
        ("http://r.example", "http://r.example/t", ("r.example",), True),
        ("http://r.example", "http://other.example/t", ("r.example",), False),
        ("http://r.example", "http://127.0.0.1:1/t", ("r.example",), False),
        ("http://r.example", "https://other.example/t", ("r.example",), True),
        ("https://r.example", "https://u:p@any.example/t", (), False),
        ("https://r.example", "file:///etc/passwd", (), False),
        ("https://r.example", "/token", (), False),
        ("https://r.example", "", (), False),
    ],
)
def test_a_token_service_without_tls_is_for_loopback_or_by_name(
    registry: str, realm: str, plain_http: tuple[str, ...], *, allowed: bool
) -> None:
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, content=b'{"token":"t"}')

    authorizer = Authorizer(
        quick_client(transport=httpx.MockTransport(handle), plain_http=plain_http),
        host=HOST,
        origin=origin_of(registry),
        credentials=GivenCredentials(hosts=frozenset({HOST}), credentials=LOGIN),
    )
    challenge = headers(f'Bearer realm="{realm}"')
    if allowed:
        assert reveal(authorizer.answer(challenge, PULL, None)) == "Bearer t"
    else:
        with pytest.raises((RegistryError, NetworkError)):
            authorizer.answer(challenge, PULL, None)
    assert bool(asked) == allowed


def test_docker_hubs_login_is_pinned_without_any_setting() -> None:
    sent: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        challenge = 'Bearer realm="https://evil.example/token",service="registry.docker.io"'
        return httpx.Response(401, headers={"WWW-Authenticate": challenge})

    client = quick_client(transport=httpx.MockTransport(handle))
    given = GivenCredentials(hosts=frozenset({"docker.io"}), credentials=LOGIN)
    repository = RemoteRegistry(client, credentials=given).repository("docker.io/a/b")
    with pytest.raises(AccessError) as caught:
        repository.fetch("v1")
    assert "https://evil.example/token" in caught.value.message
    assert "https://auth.docker.io/" in caught.value.message
    assert {request.url.host for request in sent} == {"registry-1.docker.io"}


def test_a_refresh_token_does_not_follow_a_redirect_to_another_host() -> None:
    hosts: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        request.read()
        hosts.append(request.url.host)
        if request.url.host == "auth.example":
            return httpx.Response(307, headers={"Location": "https://evil.example/token"})
        return httpx.Response(200, content=b'{"token":"t"}')

    authorizer = Authorizer(
        quick_client(transport=httpx.MockTransport(handle)),
        host=HOST,
        origin=origin_of(f"https://{HOST}"),
        credentials=GivenCredentials(
            hosts=frozenset({HOST}), credentials=Credentials(identity_token=Secret("refresh"))
        ),
    )
    with pytest.raises(NetworkError, match=r"evil\.example"):
        authorizer.answer(headers(BEARER), PULL, None)
    assert hosts == ["auth.example"]

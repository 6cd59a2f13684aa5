"""Credentials and tokens, limits, and scripted faults."""

import base64
import json
from datetime import UTC, datetime
from email.utils import formatdate

import pytest

from ci_registry.oci.digest import digest_of
from ci_registry.registry_server.message import BodyInterruptedError
from ci_registry.registry_server.options import (
    EXPIRED_TOKEN,
    Answer,
    Corrupt,
    Fault,
    FaultScript,
    Redirect,
    Relabel,
    Reset,
    Skew,
    Stall,
    TokenAuth,
    Truncate,
)
from tests.support.asking import Asked, code_of, content_of

DATA = b"0123456789"
DIGEST = digest_of(DATA)
UPLOADS = "/v2/a/blobs/uploads/"


def _basic(user: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {text}"}


def test_basic_credentials(ask: Asked) -> None:
    ask.set(users={"ann": "pass:word"})
    answer = ask("GET", "/v2/")
    assert (answer.status, code_of(answer)) == (401, "UNAUTHORIZED")
    assert answer.header("www-authenticate") == 'Basic realm="ci-registry"'
    assert ask("GET", "/v2/", headers=_basic("ann", "pass:word")).status == 200
    for headers in (_basic("ann", "wrong"), _basic("bob", ""), {"authorization": "Basic ?"}):
        assert ask("GET", "/v2/", headers=headers).status == 401
    assert ask("HEAD", "/v2/").body == b""


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def guarded(ask: Asked, clock: _Clock) -> Asked:
    ask.set(users={"ann": "secret"}, token_auth=TokenAuth(key=b"k", lifetime_s=60), clock=clock)
    return ask


def _token(ask: Asked, *scopes: str, headers: dict[str, str] | None = None) -> dict[str, str]:
    query = "&".join(f"scope={scope}" for scope in scopes)
    answer = ask("GET", f"/token?service=ci-registry&{query}", headers=headers or {})
    assert answer.status == 200, answer
    return {"authorization": f"Bearer {json.loads(content_of(answer))['token']}"}


def test_the_challenge_names_realm_service_and_scope(guarded: Asked) -> None:
    answer = guarded("POST", UPLOADS)
    assert answer.status == 401
    assert answer.header("www-authenticate") == (
        'Bearer realm="http://127.0.0.1:5000/token",service="ci-registry",'
        'scope="repository:a:pull,push"'
    )


def test_a_token_allows_what_it_was_asked_for_and_nothing_else(guarded: Asked) -> None:
    headers = _token(guarded, "repository:a:pull", headers=_basic("ann", "secret"))
    assert guarded("GET", f"/v2/a/blobs/{DIGEST}", headers=headers).status == 404
    answer = guarded("POST", UPLOADS, headers=headers)
    assert answer.status == 401
    assert 'error="insufficient_scope"' in answer.header("www-authenticate")
    assert guarded("GET", f"/v2/b/blobs/{DIGEST}", headers=headers).status == 401
    headers = _token(guarded, "repository:a:pull,push", headers=_basic("ann", "secret"))
    assert guarded("POST", UPLOADS, headers=headers).status == 202


def test_a_token_expires(guarded: Asked, clock: _Clock) -> None:
    headers = _token(guarded, "repository:a:pull,push", headers=_basic("ann", "secret"))
    clock.now += 61
    answer = guarded("POST", UPLOADS, headers=headers)
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.header("www-authenticate")


@pytest.mark.parametrize("token", ["", "x", "AAAA", "é", "a.b.c"])
def test_a_token_of_somebody_else_is_worth_nothing(guarded: Asked, token: str) -> None:
    answer = guarded("GET", "/v2/", headers={"authorization": f"Bearer {token}"})
    assert answer.status == 401


def test_no_token_for_wrong_credentials(guarded: Asked) -> None:
    assert guarded("GET", "/token", headers=_basic("ann", "wrong")).status == 401
    assert guarded("GET", "/token").status == 401


def test_anonymous_clients_may_get_tokens_to_read(guarded: Asked, clock: _Clock) -> None:
    guarded.set(token_auth=TokenAuth(key=b"k", anonymous_pull=True))
    headers = _token(guarded, "repository:a:pull,push")
    assert guarded("GET", f"/v2/a/blobs/{DIGEST}", headers=headers).status == 404
    assert guarded("POST", UPLOADS, headers=headers).status == 401


def test_a_mount_needs_the_right_to_read_the_source(guarded: Asked) -> None:
    everything = "repository:a:pull,push", "repository:b:pull,push"
    both = _token(guarded, *everything, headers=_basic("ann", "secret"))
    one = _token(guarded, "repository:b:pull,push", headers=_basic("ann", "secret"))
    guarded("POST", f"{UPLOADS}?digest={DIGEST}", DATA, both)
    mount = f"/v2/b/blobs/uploads/?mount={DIGEST}&from=a"
    assert guarded("POST", mount, headers=one).status == 202
    assert guarded("POST", mount, headers=both).status == 201


def test_the_challenge_of_a_mount_asks_for_the_right_to_read_its_source(guarded: Asked) -> None:
    answer = guarded("POST", f"{UPLOADS}?mount={DIGEST}&from=team/base")
    assert answer.status == 401
    assert 'scope="repository:a:pull,push repository:team/base:pull"' in answer.header(
        "www-authenticate"
    )
    forged = guarded("POST", f'{UPLOADS}?mount={DIGEST}&from=x",realm="evil')
    assert (forged.status, forged.header("www-authenticate")) == (400, "")


def test_without_token_service_there_is_no_token_endpoint(ask: Asked) -> None:
    assert ask("GET", "/token").status == 404


def test_a_full_registry_answers_507_and_stores_nothing(ask: Asked) -> None:
    ask.set(storage_limit_bytes=15)
    ask.blob("a", DATA)
    answer = ask("POST", f"{UPLOADS}?digest={digest_of(b'x' * 6)}", b"x" * 6)
    assert answer.status == 507
    assert ask.store.pending_bytes() == 0
    ask.blob("a", b"12345")


def test_an_upload_of_unknown_length_is_stopped_at_the_limit(ask: Asked) -> None:
    ask.set(storage_limit_bytes=5)
    location = ask("POST", UPLOADS).header("location")
    headers = {"content-length": "", "transfer-encoding": "chunked"}
    assert ask("PATCH", location, DATA, headers).status == 507
    assert ask("GET", location).header("range") == "0-0"
    ask.set(storage_limit_bytes=None, max_upload_bytes=4)
    assert ask("PATCH", location, DATA, headers).status == 413
    assert ask("PATCH", location, DATA).status == 413


def test_the_state_in_an_upload_location_must_come_back(ask: Asked) -> None:
    ask.set(upload_state="_state=a%2Fb%20c")
    location = ask("POST", UPLOADS).header("location")
    assert location.endswith("?_state=a%2Fb%20c")
    assert ask("PUT", f"{location.partition('?')[0]}?digest={DIGEST}", DATA).status == 400
    assert ask("PUT", f"{location}&digest={DIGEST}", DATA).status == 201


def test_a_registry_that_answers_patch_as_ecr_does(ask: Asked) -> None:
    ask.set(patch_status=201)
    location = ask("POST", UPLOADS).header("location")
    assert ask("PATCH", location, DATA).status == 201


def _faulty(ask: Asked, *faults: Fault) -> Asked:
    ask.blob("a", DATA)
    ask.set(faults=FaultScript(faults))
    return ask


def test_a_fault_strikes_where_and_as_often_as_it_should(ask: Asked) -> None:
    busy = Answer(status=429, headers=(("Retry-After", "1"),), body=b"<html>slow down</html>")
    _faulty(ask, Fault(action=busy, method="GET", path="/blobs/", times=2, after=1))
    path = f"/v2/a/blobs/{DIGEST}"
    assert [ask("GET", path).status for _ in range(5)] == [200, 429, 429, 200, 200]
    assert ask("HEAD", path).status == 200


def test_a_fault_without_end_strikes_until_it_is_cleared(ask: Asked) -> None:
    _faulty(ask, Fault(action=Answer(status=503), times=0))
    assert [ask("GET", "/v2/").status for _ in range(3)] == [503, 503, 503]
    ask.options.faults.clear()
    assert ask("GET", "/v2/").status == 200


def test_a_scripted_answer_to_head_has_no_body(ask: Asked) -> None:
    _faulty(ask, Fault(action=Answer(status=500, body=b"<html>")))
    answer = ask("HEAD", f"/v2/a/blobs/{DIGEST}")
    assert (answer.status, answer.body) == (500, b"")


def test_a_body_is_corrupted_under_unchanged_headers(ask: Asked) -> None:
    _faulty(ask, Fault(action=Corrupt()))
    answer = ask("GET", f"/v2/a/blobs/{DIGEST}")
    assert answer.header("docker-content-digest") == DIGEST
    assert content_of(answer) == b"0123456788"


def test_a_body_is_cut_short(ask: Asked) -> None:
    _faulty(ask, Fault(action=Truncate(size_bytes=4)), Fault(action=Reset(response_bytes=3)))
    assert content_of(ask("GET", f"/v2/a/blobs/{DIGEST}")) == b"0123"
    answer = ask("GET", f"/v2/a/blobs/{DIGEST}")
    assert (content_of(answer), answer.reset_after_bytes) == (DATA, 3)


def test_an_answer_gets_lost_after_the_work_is_done(ask: Asked) -> None:
    other = digest_of(b"other")
    _faulty(ask, Fault(action=Reset(), method="POST"))
    assert ask("POST", f"{UPLOADS}?digest={other}", b"other").status == 0
    assert ask("HEAD", f"/v2/a/blobs/{other}").status == 200


def test_a_connection_breaks_in_the_middle_of_an_upload(ask: Asked) -> None:
    _faulty(ask, Fault(action=Reset(request_bytes=4), method="PATCH"))
    location = ask("POST", UPLOADS).header("location")
    assert ask("PATCH", location, DATA).status == 0
    assert ask("GET", location).header("range") == "0-3"


def test_a_real_interruption_is_not_mistaken_for_a_scripted_one(ask: Asked) -> None:
    class Gone:
        def read(self, size: int, /) -> bytes:
            raise BodyInterruptedError

    with pytest.raises(BodyInterruptedError):
        ask("POST", f"{UPLOADS}?digest={DIGEST}", Gone())


def test_a_redirect_keeps_path_and_query(ask: Asked) -> None:
    _faulty(ask, Fault(action=Redirect(to="http://127.0.0.1:9")), Fault(action=Stall(duration_s=7)))
    answer = ask("GET", f"/v2/a/blobs/{DIGEST}?a=b")
    assert (answer.status, answer.header("location")) == (
        307,
        f"http://127.0.0.1:9/v2/a/blobs/{DIGEST}?a=b",
    )
    assert ask("GET", "/v2/").delay_s == 7


def test_an_answer_has_the_header_that_a_fault_gives_it(ask: Asked) -> None:
    wrong = Relabel(headers=(("docker-content-digest", "sha256:" + "0" * 64),))
    _faulty(ask, Fault(action=wrong))
    answer = ask("HEAD", f"/v2/a/blobs/{DIGEST}")
    found = [value for name, value in answer.headers if name.lower() == "docker-content-digest"]
    assert found == ["sha256:" + "0" * 64]
    assert ask("HEAD", f"/v2/a/blobs/{DIGEST}").header("docker-content-digest") == DIGEST


def test_a_body_pauses_where_a_fault_says(ask: Asked) -> None:
    _faulty(ask, Fault(action=Stall(duration_s=7.0, after_bytes=4)))
    assert ask("GET", f"/v2/a/blobs/{DIGEST}").pause == (4, 7.0)


def test_a_token_expires_in_the_middle_and_a_new_one_is_good(guarded: Asked) -> None:
    def token() -> dict[str, str]:
        return _token(guarded, "repository:a:pull,push", headers=_basic("ann", "secret"))

    headers = token()
    guarded.set(faults=FaultScript([Fault(action=EXPIRED_TOKEN, method="POST")]))
    answer = guarded("POST", UPLOADS, headers=headers)
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.header("www-authenticate")
    assert guarded("POST", UPLOADS, headers=token()).status == 202


def test_a_clock_that_is_wrong_shows_in_tokens_and_dates(guarded: Asked, clock: _Clock) -> None:
    guarded.set(faults=FaultScript([Fault(action=Skew(by_s=-7200), path="/token")]))
    answer = guarded("GET", "/token?scope=repository:a:pull", headers=_basic("ann", "secret"))
    told = json.loads(content_of(answer))
    assert told["issued_at"] == datetime.fromtimestamp(clock.now - 7200, UTC).isoformat()
    assert answer.header("date") == formatdate(clock.now - 7200, usegmt=True)
    late = {"authorization": f"Bearer {told['token']}"}
    assert guarded("GET", "/v2/", headers=late).status == 401

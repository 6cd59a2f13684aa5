"""A remote repository over real sockets when things go wrong."""

import threading
from collections.abc import Iterator

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import (
    AccessError,
    CancelledError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    RegistryError,
)
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.interface import BlobOutcome
from ci_registry.registry.remote import check_push_right
from ci_registry.registry_server.options import (
    Answer,
    Corrupt,
    Fault,
    Redirect,
    Reset,
    Stall,
    TokenAuth,
    Truncate,
)
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import QuickCancel, Recorder, login, remote_repository

DATA = bytes(range(256)) * 12_000
BLOB = Descriptor(media_type="application/x", digest=digest_of(DATA), size=len(DATA))
HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def pieces() -> Iterator[bytes]:
    for start in range(0, len(DATA), 100_000):
        yield DATA[start : start + 100_000]


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


def test_429_is_waited_out_as_long_as_the_registry_asks(registry: RunningRegistry) -> None:
    registry.faults.add(
        Fault(action=Answer(status=429, headers=(("Retry-After", "7"),)), method="HEAD", times=2)
    )
    cancel, recorder = QuickCancel(), Recorder()
    with remote_repository(registry.host, "a/b", cancel=cancel, recorder=recorder) as repository:
        assert repository.size_of(BLOB.digest) is None
    assert cancel.slept == [7.0, 7.0]
    assert len(recorder.lines) == 2
    assert "HTTP 429; trying again in 7.0 s (1 of 4)" in recorder.lines[0]


def test_a_wait_longer_than_the_budget_is_not_begun(registry: RunningRegistry) -> None:
    registry.faults.add(
        Fault(action=Answer(status=429, headers=(("Retry-After", "3600"),)), times=0)
    )
    cancel, recorder = QuickCancel(), Recorder()
    with (
        remote_repository(registry.host, "a/b", cancel=cancel, recorder=recorder) as repository,
        pytest.raises(RegistryError, match="HTTP 429") as caught,
    ):
        repository.fetch("v1")
    assert caught.value.status == 429
    assert cancel.slept == []
    assert "giving up" in recorder.lines[0]


def test_server_errors_are_retried_with_growing_pauses(registry: RunningRegistry) -> None:
    registry.faults.add(Fault(action=Answer(status=503, body=HTML), method="POST", times=3))
    cancel = QuickCancel()
    with remote_repository(registry.host, "a/b", cancel=cancel) as repository:
        assert repository.push_blob(BLOB, pieces).outcome is BlobOutcome.UPLOADED
        assert b"".join(repository.open(BLOB.digest)) == DATA
    assert cancel.slept == [0.25, 0.5, 1.0]


@pytest.mark.parametrize("cut_at", [1, 1_500_000])
def test_an_upload_that_is_reset_midway_is_begun_again(
    registry: RunningRegistry, cut_at: int
) -> None:
    registry.faults.add(Fault(action=Reset(request_bytes=cut_at), method="PUT", times=2))
    with remote_repository(registry.host, "a/b") as repository:
        assert repository.push_blob(BLOB, pieces).outcome is BlobOutcome.UPLOADED
        assert b"".join(repository.open(BLOB.digest)) == DATA
    assert registry.count("POST") == 3


def test_an_upload_whose_answer_is_lost_is_found_and_not_repeated(
    registry: RunningRegistry,
) -> None:
    registry.faults.add(Fault(action=Reset(), method="PUT"))
    with remote_repository(registry.host, "a/b") as repository:
        assert repository.push_blob(BLOB, pieces).outcome is BlobOutcome.UPLOADED
    assert registry.count("PUT") == 1


def test_a_full_registry_ends_as_an_error_with_its_status(registry: RunningRegistry) -> None:
    registry.faults.add(Fault(action=Answer(status=507), method="PUT", times=0))
    recorder = Recorder()
    with (
        remote_repository(registry.host, "a/b", recorder=recorder, retries=2) as repository,
        pytest.raises(RegistryError, match="HTTP 507") as caught,
    ):
        repository.push_blob(BLOB, pieces)
    assert (caught.value.status, caught.value.hint) == (507, "free some space")
    assert registry.count("PUT") == 3
    assert len(recorder.lines) == 2


def test_a_registry_that_forgot_the_upload_gets_a_new_one(registry: RunningRegistry) -> None:
    body = b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}'
    registry.faults.add(Fault(action=Answer(status=404, body=body), method="PUT"))
    with remote_repository(registry.host, "a/b") as repository:
        assert repository.push_blob(BLOB, pieces).outcome is BlobOutcome.UPLOADED


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_another_host_does_not_get_the_authorization(status: int) -> None:
    with running_registry() as storage, running_registry(users={"u": "p"}) as front:
        with remote_repository(storage.host, "a/b") as direct:
            direct.push_blob(BLOB, pieces)
        with remote_repository(
            front.host, "a/b", credentials=login(front.host, "u", "p")
        ) as repository:
            assert repository.size_of(BLOB.digest) is None
            front.faults.add(
                Fault(action=Redirect(to=storage.url, status=status), method="GET", times=0)
            )
            assert b"".join(repository.open(BLOB.digest)) == DATA
        assert any(seen.authorization for seen in front.seen if seen.method == "GET")
        assert not any(seen.authorization for seen in storage.seen)


def test_a_challenge_from_behind_a_redirect_is_not_answered() -> None:
    with running_registry(users={"u": "p"}) as thief, running_registry(users={"u": "p"}) as front:
        front.faults.add(Fault(action=Redirect(to=thief.url), method="GET", times=0))
        with (
            remote_repository(
                front.host, "a/b", credentials=login(front.host, "u", "p")
            ) as repository,
            pytest.raises(AccessError),
        ):
            repository.fetch("v1")
        assert [seen.status for seen in thief.seen] == [401]
        assert not thief.seen[0].authorization


def test_endless_redirects_end(registry: RunningRegistry) -> None:
    registry.faults.add(Fault(action=Redirect(to=registry.url), times=0))
    with (
        remote_repository(registry.host, "a/b") as repository,
        pytest.raises(NetworkError, match="redirects"),
    ):
        repository.fetch("v1")


def test_a_token_that_expires_midway_is_renewed_once() -> None:
    now = [1000.0]
    auth = TokenAuth(key=b"k" * 32, lifetime_s=300)
    with (
        running_registry(users={"u": "p"}, token_auth=auth, clock=lambda: now[0]) as registry,
        remote_repository(
            registry.host, "a/b", credentials=login(registry.host, "u", "p")
        ) as repository,
    ):
        assert repository.size_of(BLOB.digest) is None
        now[0] += 1000  # by the registry's clock the token is too old; ours does not know
        assert repository.push_blob(BLOB, pieces).outcome is BlobOutcome.UPLOADED
        tokens = registry.count("GET", "/token")
        refused = [s for s in registry.seen if s.status == 401]
        assert len(refused) == tokens


def test_a_token_that_expires_during_the_upload_costs_one_more_put() -> None:
    auth = TokenAuth(key=b"k" * 32)
    challenge = (("WWW-Authenticate", 'Bearer realm="{}/token",service="ci-registry"'),)
    with (
        running_registry(users={"u": "p"}, token_auth=auth) as registry,
        remote_repository(
            registry.host, "a/b", credentials=login(registry.host, "u", "p")
        ) as repository,
    ):
        headers = ((challenge[0][0], challenge[0][1].format(registry.url)),)
        registry.faults.add(Fault(action=Answer(status=401, headers=headers), method="PUT"))
        assert repository.push_blob(BLOB, pieces).outcome is BlobOutcome.UPLOADED
        assert b"".join(repository.open(BLOB.digest)) == DATA
        assert registry.count("PUT") == 2


def test_many_threads_share_one_token() -> None:
    auth = TokenAuth(key=b"k" * 32)
    with (
        running_registry(users={"u": "p"}, token_auth=auth) as registry,
        remote_repository(
            registry.host, "a/b", credentials=login(registry.host, "u", "p")
        ) as repository,
    ):
        threads = [
            threading.Thread(target=repository.size_of, args=(BLOB.digest,)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert registry.count("GET", "/token") == 1
        assert registry.count("HEAD") <= 16


@pytest.mark.parametrize("token", [False, True], ids=["basic", "token"])
def test_a_wrong_password_is_an_access_error_without_the_password(token: bool) -> None:
    auth = TokenAuth(key=b"k" * 32) if token else None
    with running_registry(users={"u": "right"}, token_auth=auth) as registry:
        credentials = login(registry.host, "u", "wrong-secret")
        with (
            remote_repository(registry.host, "a/b", credentials=credentials) as repository,
            pytest.raises(AccessError) as caught,
        ):
            repository.push_blob(BLOB, pieces)
        assert registry.host in caught.value.message
        assert "docker login" in caught.value.hint
        assert "wrong-secret" not in f"{caught.value.message}{caught.value.hint}"
        assert registry.count("PUT") == 0


def test_without_a_login_the_hint_says_how_to_log_in() -> None:
    with (
        running_registry(users={"u": "p"}) as registry,
        remote_repository(registry.host, "a/b") as repository,
        pytest.raises(AccessError, match="HTTP 401") as caught,
    ):
        repository.resolve("v1")
    assert f"docker login {registry.host}" in caught.value.hint


@pytest.mark.parametrize(
    ("user", "hint"), [("", "log in first: docker login"), ("u", "no right to read")]
)
def test_a_refusal_tells_no_login_from_no_right(
    registry: RunningRegistry, user: str, hint: str
) -> None:
    credentials = login(registry.host, user, "p") if user else None
    challenge = (("WWW-Authenticate", 'Basic realm="x"'),)
    with remote_repository(registry.host, "a/b", credentials=credentials) as repository:
        if user:
            registry.faults.add(Fault(action=Answer(status=401, headers=challenge)))
        registry.faults.add(Fault(action=Answer(status=403), times=0))
        with pytest.raises(AccessError) as caught:
            repository.fetch("v1")
    assert hint in caught.value.hint


def test_push_right_is_checked_without_leaving_an_upload() -> None:
    auth = TokenAuth(key=b"k" * 32, anonymous_pull=True)
    with running_registry(users={"u": "p"}, token_auth=auth) as registry:
        with (
            remote_repository(registry.host, "a/b") as anonymous,
            pytest.raises(AccessError, match="upload to"),
        ):
            check_push_right(anonymous)
        with remote_repository(
            registry.host, "a/b", credentials=login(registry.host, "u", "p")
        ) as repository:
            check_push_right(repository)
        ended = [s.status for s in registry.seen if s.method == "DELETE"]
        assert ended[-1] == 204


def test_an_html_error_page_becomes_one_readable_line(registry: RunningRegistry) -> None:
    registry.faults.add(Fault(action=Answer(status=502, body=HTML), times=0))
    with (
        remote_repository(registry.host, "a/b", retries=1) as repository,
        pytest.raises(RegistryError) as caught,
    ):
        repository.fetch("v1")
    assert caught.value.message.endswith("HTTP 502: an HTML page, '502 Bad Gateway'")


def test_an_html_page_with_status_200_is_no_list_of_referrers(registry: RunningRegistry) -> None:
    registry.faults.add(Fault(action=Answer(status=200, body=HTML), path="/referrers/"))
    with (
        remote_repository(registry.host, "a/b") as repository,
        pytest.raises(RegistryError, match="an HTML page") as caught,
    ):
        repository.referrers(BLOB.digest)
    assert "answers in its place" in caught.value.hint


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_failed_list_of_referrers_is_never_none(registry: RunningRegistry, status: int) -> None:
    registry.faults.add(Fault(action=Answer(status=status), path="/referrers/", times=0))
    with (
        remote_repository(registry.host, "a/b", retries=1) as repository,
        pytest.raises((RegistryError, AccessError), match=f"HTTP {status}"),
    ):
        repository.referrers(BLOB.digest)


def test_a_referrers_api_that_is_not_allowed_is_reported(registry: RunningRegistry) -> None:
    registry.faults.add(Fault(action=Answer(status=405), path="/referrers/", times=0))
    recorder = Recorder()
    with remote_repository(registry.host, "a/b", recorder=recorder) as repository:
        assert repository.referrers(BLOB.digest) == ()
        assert repository.referrers(BLOB.digest) == ()
    assert len(recorder.lines) == 1
    assert "no referrers API" in recorder.lines[0]


def test_damaged_bytes_are_refused_at_their_end(registry: RunningRegistry) -> None:
    with remote_repository(registry.host, "a/b") as repository:
        repository.push_blob(BLOB, pieces)
        registry.faults.add(Fault(action=Corrupt(), method="GET", path="/blobs/sha256"))
        with pytest.raises(IntegrityError, match="expected sha256"):
            list(repository.open(BLOB.digest))
        registry.faults.add(
            Fault(action=Truncate(size_bytes=1000), method="GET", path="/blobs/sha256")
        )
        with pytest.raises(IntegrityError):
            list(repository.open(BLOB.digest))


def test_a_download_goes_on_where_it_was_cut(registry: RunningRegistry) -> None:
    with remote_repository(registry.host, "a/b") as repository:
        repository.push_blob(BLOB, pieces)
        registry.faults.add(
            Fault(
                action=Reset(response_bytes=1_000_000), method="GET", path="/blobs/sha256", times=2
            )
        )
        assert b"".join(repository.open(BLOB.digest)) == DATA
    statuses = [s.status for s in registry.seen if s.method == "GET"]
    assert statuses == [200, 206, 206]


def test_a_manifest_with_another_digest_is_refused(registry: RunningRegistry) -> None:
    body = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % media_types.OCI_INDEX.encode()
    with remote_repository(registry.host, "a/b") as repository:
        repository.push("v1", body, media_types.OCI_INDEX)
        registry.faults.add(Fault(action=Corrupt(), method="GET", path="/manifests/", times=2))
        with pytest.raises(IntegrityError):
            repository.fetch(digest_of(body))
        with pytest.raises(IntegrityError):
            repository.fetch("v1")
        wrong = (("Docker-Content-Digest", digest_of(b"other")),)
        registry.faults.add(Fault(action=Answer(status=201, headers=wrong), method="PUT"))
        with pytest.raises(IntegrityError, match="another manifest"):
            repository.push("v2", body, media_types.OCI_INDEX)


def test_an_immutable_tag_is_an_access_error_that_names_it() -> None:
    bodies = [
        b'{"schemaVersion":2,"mediaType":"%s","manifests":[],"annotations":{"n":"%d"}}'
        % (media_types.OCI_INDEX.encode(), number)
        for number in range(2)
    ]
    with (
        running_registry(immutable_tags=True) as registry,
        remote_repository(registry.host, "a/b") as repository,
    ):
        repository.push("v1", bodies[0], media_types.OCI_INDEX)
        with pytest.raises(AccessError, match=r"tag v1 of .*/a/b exists"):
            repository.push("v1", bodies[1], media_types.OCI_INDEX)
        assert repository.fetch("v1").body == bodies[0]


def test_a_refused_mount_becomes_an_upload(registry: RunningRegistry) -> None:
    registry.faults.add(Fault(action=Answer(status=401), method="POST", path="mount="))
    with remote_repository(registry.host, "a/b") as repository:
        pushed = repository.push_blob(
            BLOB, pieces, mount_from=(f"{registry.host}/x/y", "other.example/x/y")
        )
    assert pushed.outcome is BlobOutcome.UPLOADED
    assert registry.count("POST", "mount=") == 1


def test_a_blob_of_a_sibling_is_mounted_without_sending_it(registry: RunningRegistry) -> None:
    with remote_repository(registry.host, "a/b") as sibling:
        sibling.push_blob(BLOB, pieces)
    with remote_repository(registry.host, "c/d") as repository:
        pushed = repository.push_blob(BLOB, pieces, mount_from=(sibling.name,))
    assert (pushed.outcome, pushed.bytes_sent) == (BlobOutcome.MOUNTED, 0)


def test_page_links_must_stay_on_their_host(registry: RunningRegistry) -> None:
    headers = (("Link", '<http://127.0.0.2:9/v2/a/b/tags/list?n=1&last=x>; rel="next"'),)
    body = b'{"name":"a/b","tags":["x"]}'
    registry.faults.add(Fault(action=Answer(status=200, headers=headers, body=body), times=0))
    with (
        remote_repository(registry.host, "a/b") as repository,
        pytest.raises(RegistryError, match="another host"),
    ):
        repository.tags()


def test_warnings_of_a_registry_are_shown_once(registry: RunningRegistry) -> None:
    headers = (("Warning", '299 - "this repository moves on Monday"'),)
    registry.faults.add(
        Fault(action=Answer(status=200, headers=headers, body=b'{"tags":[]}'), times=0)
    )
    recorder = Recorder()
    with remote_repository(registry.host, "a/b", recorder=recorder) as repository:
        repository.tags()
        repository.tags()
    assert [line for line in recorder.lines if "moves on Monday" in line] == recorder.lines
    assert len(recorder.lines) == 1


def test_a_silent_registry_ends_as_a_time_out(registry: RunningRegistry) -> None:
    registry.faults.add(Fault(action=Stall(duration_s=5), times=0))
    with (
        remote_repository(registry.host, "a/b", retries=0, read_timeout_s=0.2) as repository,
        pytest.raises(NetworkError, match=r"nothing heard for 0\.2 s"),
    ):
        repository.resolve("v1")


def test_cancelling_wakes_a_thread_that_waits_for_a_silent_registry(
    registry: RunningRegistry,
) -> None:
    registry.faults.add(Fault(action=Stall(duration_s=30), times=0))
    cancel = Cancel()
    caught: list[BaseException] = []
    with remote_repository(registry.host, "a/b", cancel=cancel) as repository:

        def ask() -> None:
            try:
                repository.resolve("v1")
            except CancelledError as error:
                caught.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while registry.count("HEAD") == 0 and thread.is_alive():
            thread.join(0.02)
        cancel.set("test")
        thread.join(10)
        assert not thread.is_alive()
    assert len(caught) == 1


def test_nobody_listening_is_a_network_error() -> None:
    with running_registry() as registry:
        host = registry.host
    cancel = QuickCancel()
    with (
        remote_repository(host, "a/b", cancel=cancel, retries=2) as repository,
        pytest.raises(NetworkError, match="no connection"),
    ):
        repository.resolve("v1")
    assert len(cancel.slept) == 2


def test_a_repository_that_must_be_created_first_is_named(registry: RunningRegistry) -> None:
    body = b'{"errors":[{"code":"NAME_UNKNOWN","message":"The repository does not exist"}]}'
    registry.faults.add(Fault(action=Answer(status=404, body=body), method="POST", times=0))
    with (
        remote_repository(registry.host, "a/b") as repository,
        pytest.raises(NotFoundError, match="NAME_UNKNOWN") as caught,
    ):
        repository.push_blob(BLOB, pieces)
    assert "create the repository" in caught.value.hint

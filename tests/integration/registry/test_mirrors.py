"""Mirrors are read first and never trusted, and upstream has the last word."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from ci_registry.errors import IntegrityError, NotFoundError
from ci_registry.network.client import HttpClient
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.reference import Reference
from ci_registry.registry.credentials import CredentialSource
from ci_registry.registry.interface import Repository
from ci_registry.registry.mirrors import Mirrors
from ci_registry.registry.remote import RemoteRegistry
from ci_registry.registry_server.options import Answer, Corrupt, Fault, Reset
from tests.integration.registry.test_quirks import SUBJECT_BODY
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import Recorder, login, quick_client, remote_repository

DATA = bytes(range(256)) * 8000
BLOB = Descriptor(media_type="application/x", digest=digest_of(DATA), size=len(DATA))
NAME = "team/app"


def fill(registry: RunningRegistry, repository: str) -> None:
    with remote_repository(registry.host, repository) as target:
        target.push_blob(BLOB, lambda: iter((DATA,)))
        config = Descriptor(media_type="application/x", digest=digest_of(b"{}"), size=2)
        target.push_blob(config, lambda: iter((b"{}",)))
        target.push("v1", SUBJECT_BODY, media_types.OCI_MANIFEST)
    registry.seen.clear()


@dataclass
class Setting:
    """A registry, one mirror below `hub/`, and what the client said."""

    upstream: RunningRegistry
    mirror: RunningRegistry
    recorder: Recorder
    client: HttpClient

    def source(self, *mirrors: str, credentials: CredentialSource | None = None) -> Repository:
        remote = RemoteRegistry(self.client, credentials=credentials, on_event=self.recorder)
        named = mirrors or (f"{self.mirror.host}/hub",)
        return Mirrors(
            remote.repository, hosts={self.upstream.host: named}, on_event=self.recorder
        ).repository(Reference(registry=self.upstream.host, repository=NAME))


@pytest.fixture
def setting() -> Iterator[Setting]:
    recorder = Recorder()
    with (
        running_registry() as upstream,
        running_registry() as mirror,
        quick_client(recorder=recorder, retries=1) as client,
    ):
        fill(upstream, NAME)
        yield Setting(upstream, mirror, recorder, client)


def read(source: Repository) -> None:
    assert source.fetch("v1").body == SUBJECT_BODY
    assert source.resolve(digest_of(SUBJECT_BODY)) is not None
    assert source.size_of(BLOB.digest) == len(DATA)
    assert b"".join(source.open(BLOB.digest)) == DATA


def test_what_a_mirror_has_is_not_asked_of_the_registry(setting: Setting) -> None:
    fill(setting.mirror, f"hub/{NAME}")
    read(setting.source())
    assert setting.upstream.seen == []
    assert setting.source().name == f"{setting.upstream.host}/{NAME}"


def test_what_a_mirror_lacks_comes_from_the_registry(setting: Setting) -> None:
    read(setting.source())
    assert setting.mirror.count("GET") == 2
    assert setting.recorder.lines
    assert not any("not asked again" in line for line in setting.recorder.lines)
    with pytest.raises(NotFoundError):
        setting.source().fetch("never")
    assert setting.source().resolve("never") is None


@contextlib.contextmanager
def nobody_listening() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_a_mirror_that_is_down_is_tried_once_and_the_next_one_serves(setting: Setting) -> None:
    fill(setting.mirror, f"hub/{NAME}")
    with nobody_listening() as dead:
        read(setting.source(dead, f"{setting.mirror.host}/hub"))
    assert setting.upstream.seen == []
    given_up = [line for line in setting.recorder.lines if "not asked again" in line]
    assert len(given_up) == 1
    assert dead in given_up[0]


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_mirror_that_fails_is_passed_over(setting: Setting, status: int) -> None:
    setting.mirror.faults.add(Fault(action=Answer(status=status), times=0))
    read(setting.source())
    assert any(f"HTTP {status}" in line for line in setting.recorder.lines)


def test_a_mirror_that_breaks_off_is_continued_by_the_registry(setting: Setting) -> None:
    fill(setting.mirror, f"hub/{NAME}")
    setting.mirror.faults.add(
        Fault(action=Reset(response_bytes=1_000_000), method="GET", path="/blobs/"),
        Fault(action=Answer(status=503), method="GET", path="/blobs/", times=0),
    )
    assert b"".join(setting.source().open(BLOB.digest)) == DATA
    assert setting.upstream.count("GET", "/blobs/") == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda source: source.fetch(digest_of(SUBJECT_BODY)),
        lambda source: list(source.open(BLOB.digest)),
    ],
    ids=["manifest", "blob"],
)
def test_a_mirror_that_sends_other_bytes_is_an_error(
    setting: Setting, ask: Callable[[Repository], object]
) -> None:
    fill(setting.mirror, f"hub/{NAME}")
    setting.mirror.faults.add(Fault(action=Corrupt(), method="GET", times=0))
    with pytest.raises(IntegrityError, match=setting.mirror.host):
        ask(setting.source())


def test_the_login_of_the_registry_is_not_sent_to_a_mirror(setting: Setting) -> None:
    challenge = (("WWW-Authenticate", 'Basic realm="x"'),)
    setting.mirror.faults.add(Fault(action=Answer(status=401, headers=challenge), times=0))
    with running_registry(users={"u": "p"}) as upstream:
        with remote_repository(
            upstream.host, NAME, credentials=login(upstream.host, "u", "p")
        ) as target:
            target.push_blob(BLOB, lambda: iter((DATA,)))
        setting.upstream = upstream
        source = setting.source(credentials=login(upstream.host, "u", "p"))
        assert b"".join(source.open(BLOB.digest)) == DATA
    assert setting.mirror.seen
    assert {seen.authorization for seen in setting.mirror.seen} == {""}


def test_lists_and_writes_are_the_registrys_own(setting: Setting) -> None:
    fill(setting.mirror, f"hub/{NAME}")
    source = setting.source()
    source.push("v2", SUBJECT_BODY, media_types.OCI_MANIFEST)
    assert source.tags() == ("v1", "v2")
    assert source.referrers(digest_of(SUBJECT_BODY)) == ()
    assert setting.mirror.seen == []


def test_a_registry_without_mirrors_is_opened_as_it_is(setting: Setting) -> None:
    remote = RemoteRegistry(setting.client)
    mirrors = Mirrors(remote.repository, on_event=setting.recorder)
    reference = Reference(registry=setting.upstream.host, repository=NAME)
    assert mirrors.repository(reference) is remote.repository(reference)

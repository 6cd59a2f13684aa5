"""The embedded registry behaves like each of the others, and the client copes."""

import json
import secrets
from collections.abc import Iterator

import pytest

from ci_registry.errors import AccessError, RegistryError
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.interface import BlobOutcome
from ci_registry.registry.quirks import RegistryKind, quirks_of
from ci_registry.registry.remote import RemoteRepository
from ci_registry.registry_server.options import Answer, Fault, TokenAuth
from ci_registry.registry_server.personalities import PERSONALITIES
from tests.support.registry import (
    Personified,
    RunningRegistry,
    running_personality,
    running_registry,
)
from tests.support.remote import Recorder, login, remote_repository

CONFIG = b"{}"
SUBJECT_BODY = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": digest_of(CONFIG),
            "size": len(CONFIG),
        },
        "layers": [],
    }
).encode()
SUBJECT = Descriptor(
    media_type=media_types.OCI_MANIFEST, digest=digest_of(SUBJECT_BODY), size=len(SUBJECT_BODY)
)
REFERRER_BODY = json.dumps(
    json.loads(SUBJECT_BODY) | {"artifactType": "application/x", "subject": SUBJECT.to_json()}
).encode()
BLOB = Descriptor(media_type="application/x", digest=digest_of(CONFIG), size=len(CONFIG))


def behave_as(repository: RemoteRepository, kind: RegistryKind) -> None:
    """Treat the loopback registry as one of these: its name would tell otherwise."""
    repository._session.quirks = quirks_of(kind)


@pytest.fixture(scope="module", params=list(PERSONALITIES))
def place(request: pytest.FixtureRequest) -> Iterator[Personified]:
    """A registry for all tests with this personality."""
    with running_personality(request.param) as personified:
        yield personified


@pytest.fixture
def pair(place: Personified) -> Iterator[tuple[RunningRegistry, RemoteRepository]]:
    """The registry, with nothing seen yet, and a client of a new repository."""
    with place.client(f"a/{secrets.token_hex(4)}") as repository:
        place.registry.seen.clear()
        yield place.registry, repository


def push_image(repository: RemoteRepository, *tags: str) -> None:
    repository.push_blob(BLOB, lambda: iter((CONFIG,)))
    for tag in tags:
        repository.push(tag, SUBJECT_BODY, media_types.OCI_MANIFEST)


_FOUND_BY_ANSWERS = {
    "gitlab": RegistryKind.GITLAB,
    "harbor": RegistryKind.HARBOR,
    "quay": RegistryKind.QUAY,
    "distribution-2.8": RegistryKind.DISTRIBUTION,
    "distribution-3.1": RegistryKind.DISTRIBUTION,
    "zot": RegistryKind.ZOT,
    "ci-registry": RegistryKind.CI_REGISTRY,
}


@pytest.mark.parametrize("name", list(_FOUND_BY_ANSWERS))
def test_whose_registry_it_is_shows_in_its_first_answers(name: str) -> None:
    with running_personality(name) as place, place.client("a/b") as repository:
        assert repository.resolve("none") is None
        assert repository._session.quirks.kind is _FOUND_BY_ANSWERS[name]


def test_an_image_goes_out_and_comes_back_on_every_kind(
    pair: tuple[RunningRegistry, RemoteRepository],
) -> None:
    registry, repository = pair
    push_image(repository, "v1")
    repository.attach(SUBJECT, REFERRER_BODY, media_types.OCI_MANIFEST)

    assert repository.fetch("v1").body == SUBJECT_BODY
    assert [d.digest for d in repository.referrers(SUBJECT.digest)] == [digest_of(REFERRER_BODY)]
    assert registry.count("PATCH") == 0, "several PATCHes are broken on ECR"


def test_removing_a_tag_never_takes_its_sibling_along(
    pair: tuple[RunningRegistry, RemoteRepository],
) -> None:
    registry, repository = pair
    push_image(repository, "one", "two")
    refusal: RegistryError | AccessError | None = None
    try:
        repository.untag("one")
    except (RegistryError, AccessError) as error:
        refusal = error
    if isinstance(refusal, RegistryError):
        assert refusal.code == "UNSUPPORTED"
        assert refusal.hint == repository._session.quirks.untag_advice
    elif refusal is not None:
        assert registry.server.options.immutable_tags
    assert (repository.resolve("one") is None) == (refusal is None)
    assert repository.resolve("two") is not None
    assert registry.count("DELETE", "sha256:") == 0


@pytest.mark.parametrize("kind", [RegistryKind.GHCR, RegistryKind.ECR, RegistryKind.DOCKER_HUB])
def test_where_removing_a_tag_is_impossible_nothing_is_sent(kind: RegistryKind) -> None:
    with running_registry() as registry, remote_repository(registry.host, "a/b") as repository:
        push_image(repository, "one")
        behave_as(repository, kind)
        with pytest.raises(RegistryError) as caught:
            repository.untag("one")
        assert caught.value.code == "UNSUPPORTED"
        assert registry.count("DELETE") == 0


def test_not_found_for_a_tag_that_is_there_means_that_deleting_is_not() -> None:
    fault = Fault(action=Answer(status=404), method="DELETE", path="/manifests/", times=0)
    with (
        running_registry(faults=[fault]) as registry,
        remote_repository(registry.host, "a/b") as repository,
    ):
        push_image(repository, "one")
        with pytest.raises(RegistryError) as caught:
            repository.untag("one")
        assert caught.value.code == "UNSUPPORTED"
        assert not repository.untag("never-there")


def test_harbor_is_known_by_its_token_service_before_anything_is_deleted() -> None:
    auth = TokenAuth(key=secrets.token_bytes(16), service="harbor-registry")
    with (
        running_registry(token_auth=auth, users={"u": "p"}, tag_delete=False) as registry,
        remote_repository(
            registry.host, "a/b", credentials=login(registry.host, "u", "p")
        ) as repository,
    ):
        push_image(repository, "one")
        with pytest.raises(RegistryError) as caught:
            repository.untag("one")
        assert "Harbor" in caught.value.hint
        assert registry.count("DELETE") == 0


def test_quay_is_known_by_its_realm_and_not_asked_for_delete() -> None:
    with running_registry(users={"u": "p"}) as tokens:
        realm = f"{tokens.url}/v2/auth"
        auth = TokenAuth(key=secrets.token_bytes(16), realm=realm)
        fault = Fault(action=Answer(status=200, body=b'{"token":"t"}'), path="/v2/auth", times=0)
        tokens.faults.add(fault)
        with (
            running_registry(token_auth=auth, users={"u": "p"}) as registry,
            remote_repository(
                registry.host, "a/b", credentials=login(registry.host, "u", "p")
            ) as repository,
        ):
            with pytest.raises(AccessError):
                repository.untag("one")
            asked = [seen.path for seen in tokens.seen]
    assert len(asked) == 1
    assert "repository:a/b:pull,push" in asked[0]


def test_a_mount_always_names_its_source() -> None:
    with running_registry() as registry:
        with remote_repository(registry.host, "base/image") as base:
            push_image(base)
        with remote_repository(registry.host, "a/b") as repository:
            pushed = repository.push_blob(
                BLOB, lambda: iter((CONFIG,)), mount_from=(f"{registry.host}/base/image",)
            )
        mounts = [seen.path for seen in registry.seen if "mount=" in seen.path]
    assert pushed.outcome is BlobOutcome.MOUNTED
    assert mounts
    assert all("from=" in path for path in mounts)


def test_a_refused_referrers_listing_is_explained() -> None:
    recorder = Recorder()
    fault = Fault(action=Answer(status=405), method="GET", path="/referrers/", times=0)
    with (
        running_registry(faults=[fault]) as registry,
        remote_repository(registry.host, "a/b", recorder=recorder) as repository,
    ):
        behave_as(repository, RegistryKind.ECR)
        push_image(repository, "v1")
        assert repository.referrers(SUBJECT.digest) == ()
    assert any("using the fallback tag; ECR refuses" in line for line in recorder.lines)

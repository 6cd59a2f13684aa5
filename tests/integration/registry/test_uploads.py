"""How many requests a push takes, and that nothing is sent or hashed twice."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import Hasher, digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.content import CheckedSource
from ci_registry.registry.interface import BlobOutcome, Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.transfer import blobs_of, copy_image, manifests_of, upload_blobs
from ci_registry.registry_server.options import Answer, Fault, TokenAuth
from tests.support.images import ImageSpec, make_layout
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import login, remote_repository

SMALL = b"small" * 100
LARGE = bytes(range(256)) * (5 * 4096)


def blob(data: bytes) -> Descriptor:
    return Descriptor(media_type="application/x", digest=digest_of(data), size=len(data))


def push(repository: Repository, data: bytes) -> BlobOutcome:
    return repository.push_blob(blob(data), lambda: iter((data,))).outcome


def methods(registry: RunningRegistry) -> list[str]:
    found = [one.method for one in registry.seen]
    registry.seen.clear()
    return found


def upload(source: Repository, target: Repository, root: Descriptor) -> None:
    upload_blobs(
        source,
        target,
        blobs_of(manifests_of(source, root)),
        workers=4,
        cancel=Cancel(),
        on_event=lambda _: None,
        image="app",
    )


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An image with a config and two layers."""
    return Layout(make_layout(tmp_path / "l", ImageSpec(layers=[{"a": "1"}, {"b": "2"}])).layout)


def test_an_image_goes_to_a_tag_in_seven_requests(layout: Layout) -> None:
    root = layout.root()
    with running_registry() as registry, remote_repository(registry.host, "a/b") as target:
        upload(layout, target, root)
        target.push("v1", layout.fetch(root.digest).body, root.media_type)
        assert sorted(methods(registry)) == ["POST"] * 3 + ["PUT"] * 4
        upload(layout, target, root)
        assert methods(registry) == ["POST"] * 3


def test_a_copy_reads_each_manifest_and_blob_once(layout: Layout) -> None:
    root = layout.root()
    with (
        running_registry() as first,
        running_registry() as second,
        remote_repository(first.host, "a/b") as source,
        remote_repository(second.host, "a/b") as target,
    ):
        places: tuple[Repository, ...] = (layout, source, target)
        for one, other in itertools.pairwise(places):
            first.seen.clear()
            copy_image(
                one, other, root, workers=4, cancel=Cancel(), on_event=lambda _: None, image="app"
            )
        assert methods(first) == ["GET"] * 4
        assert len(second.seen) == 7


def test_a_large_blob_is_looked_for_until_mounts_are_known_to_find_it() -> None:
    with running_registry() as registry, remote_repository(registry.host, "a/b") as target:
        assert push(target, LARGE) is BlobOutcome.UPLOADED
        assert methods(registry) == ["POST", "HEAD", "PUT"]
        assert push(target, LARGE) is BlobOutcome.PRESENT
        assert methods(registry) == ["POST"]
        assert push(target, LARGE[1:]) is BlobOutcome.UPLOADED
        assert methods(registry) == ["POST", "PUT"]


def test_a_blob_that_was_just_sent_shows_whether_mounts_find_anything() -> None:
    with running_registry() as registry, remote_repository(registry.host, "a/b") as target:
        push(target, SMALL)
        methods(registry)
        for start in (1, 2):
            assert push(target, LARGE[start:]) is BlobOutcome.UPLOADED
        assert methods(registry) == ["POST", "POST", "PUT", "POST", "PUT"]
    with (
        running_registry(mount=False) as registry,
        remote_repository(registry.host, "a/b") as target,
    ):
        push(target, SMALL)
        methods(registry)
        for start in (1, 2):
            assert push(target, LARGE[start:]) is BlobOutcome.UPLOADED
        assert methods(registry) == [
            *("POST", "POST", "DELETE", "HEAD", "PUT"),
            *("HEAD", "POST", "PUT"),
        ]


def test_a_refused_mount_is_not_tried_again_with_the_same_login() -> None:
    with running_registry() as registry, remote_repository(registry.host, "a/b") as target:
        refusal = Fault(
            action=Answer(status=401), method="POST", path="mount=.*from=other%2Fapp", times=0
        )
        registry.faults.add(refusal)
        for start in (0, 1, 2):
            outcome = target.push_blob(
                blob(SMALL[start:]),
                lambda start=start: iter((SMALL[start:],)),  # type: ignore[misc]
                mount_from=(f"{registry.host}/other/app",),
            ).outcome
            assert outcome is BlobOutcome.UPLOADED
        asked = [one for one in registry.seen if "from=other" in one.path]
        assert len(asked) == 1


def test_after_a_new_login_a_refused_mount_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auth = TokenAuth(key=b"k" * 32, lifetime_s=40.0)
    clock = [1000.0]
    with (
        running_registry(users={"ci": "pw"}, token_auth=auth, clock=lambda: clock[0]) as registry,
        remote_repository(
            registry.host, "a/b", credentials=login(registry.host, "ci", "pw")
        ) as target,
    ):
        monkeypatch.setattr(target._session._authorizer, "_monotonic", lambda: clock[0])
        refusal = Fault(  # the first request is told to log in
            action=Answer(status=404), method="POST", path="from=other%2Fapp", times=0, after=1
        )
        registry.faults.add(refusal)

        def asked() -> int:
            return sum("from=other" in one.path for one in registry.seen)

        def push_next(start: int) -> None:
            target.push_blob(
                blob(SMALL[start:]),
                lambda: iter((SMALL[start:],)),
                mount_from=(f"{registry.host}/other/app",),
            )

        push_next(0)
        push_next(1)
        before = asked()
        clock[0] += 60.0  # the token has ended, the next one may allow more
        push_next(2)
        push_next(3)
        assert before == 2
        assert asked() == 3


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_where_mounts_mean_nothing_a_blob_is_not_sent_again(data: bytes) -> None:
    with running_registry(mount=False) as registry:
        with remote_repository(registry.host, "a/b") as target:
            assert push(target, data) is BlobOutcome.UPLOADED
            methods(registry)
            assert push(target, data) is BlobOutcome.PRESENT
            assert methods(registry) == ["POST", "HEAD", "DELETE"]
            assert push(target, data) is BlobOutcome.PRESENT
            assert push(target, data[1:]) is BlobOutcome.UPLOADED
            assert methods(registry) == ["HEAD", "HEAD", "POST", "PUT"]
        with remote_repository(registry.host, "a/b") as later:
            assert push(later, LARGE) is (
                BlobOutcome.PRESENT if data is LARGE else BlobOutcome.UPLOADED
            )


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
def test_where_mounts_are_refused_it_is_asked_as_usual(status: int) -> None:
    with running_registry() as registry, remote_repository(registry.host, "a/b") as target:
        registry.faults.add(
            Fault(action=Answer(status=status), method="POST", path="mount=", times=0)
        )
        for data in (SMALL, LARGE):
            assert push(target, data) is BlobOutcome.UPLOADED
            assert push(target, data) is BlobOutcome.PRESENT
        assert methods(registry) == [
            *("POST", "HEAD", "POST", "PUT", "HEAD"),
            *("HEAD", "POST", "PUT", "HEAD"),
        ]


def test_bytes_that_their_source_has_checked_are_not_hashed_again(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    update = Hasher.update

    def count(self: Hasher, data: bytes) -> None:
        hashed.append(len(data))
        update(self, data)

    blobs = blobs_of(manifests_of(layout, layout.root()))
    monkeypatch.setattr(Hasher, "update", count)
    target = Layout.create(tmp_path / "target")
    upload_blobs(
        layout,
        target,
        blobs,
        workers=1,
        cancel=Cancel(),
        on_event=lambda _: None,
        image="app",
    )
    assert sum(hashed) == sum(one.size for one in blobs)
    hashed.clear()
    push(target, SMALL)
    assert sum(hashed) == len(SMALL)


def test_damage_in_a_source_that_checks_itself_keeps_the_blob_out(
    layout: Layout, tmp_path: Path
) -> None:
    root = layout.root()
    manifest = layout.fetch(root.digest)
    damaged = blobs_of((manifest,))[1]
    path = layout.blob_path(damaged.digest)
    path.write_bytes(b"X" + path.read_bytes()[1:])
    target = Layout.create(tmp_path / "target")
    with running_registry() as registry, remote_repository(registry.host, "a/b") as remote:
        for place in (target, remote):
            with pytest.raises(IntegrityError, match="expected sha256"):
                upload(layout, place, root)
            assert place.size_of(damaged.digest) is None


def test_a_source_of_another_size_is_refused_though_it_is_checked(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield SMALL

    target = Layout.create(tmp_path / "target")
    wrong = Descriptor(media_type="application/x", digest=digest_of(SMALL), size=len(SMALL) + 1)
    with pytest.raises(IntegrityError, match="bytes instead of"):
        target.push_blob(wrong, CheckedSource(chunks))
    assert target.size_of(wrong.digest) is None


def test_a_mount_is_the_first_and_only_question() -> None:
    with running_registry() as registry, remote_repository(registry.host, "a/b") as target:
        with remote_repository(registry.host, "base/app") as base:
            push(base, LARGE)
        methods(registry)
        mount_from = (f"{registry.host}/base/app",)
        mounted = target.push_blob(blob(LARGE), lambda: iter((LARGE,)), mount_from=mount_from)
        assert mounted.outcome is BlobOutcome.MOUNTED
        assert methods(registry) == ["POST"]
        own = LARGE[1:]
        sent = target.push_blob(blob(own), lambda: iter((own,)), mount_from=mount_from)
        assert sent.outcome is BlobOutcome.UPLOADED
        assert methods(registry) == ["POST", "HEAD", "PUT"]
        again = target.push_blob(blob(own), lambda: iter((own,)), mount_from=mount_from)
        assert again.outcome is BlobOutcome.PRESENT
        assert methods(registry) == ["POST", "HEAD", "DELETE"]

"""Every place that holds images behaves alike: a layout, and a remote registry with each personality."""

import contextlib
import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import AccessError, IntegrityError, NotFoundError, RegistryError
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.registry.interface import BlobOutcome, Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.transfer import blobs_of, copy_image, manifests_of
from ci_registry.registry_server.options import Options
from ci_registry.registry_server.personalities import PERSONALITIES
from tests.support.images import ImageSpec, make_layout
from tests.support.registry import Personified, running_personality

Refused = Callable[[str], contextlib.AbstractContextManager[object]]


@pytest.fixture(scope="module", params=["layout", *PERSONALITIES])
def place(request: pytest.FixtureRequest) -> Iterator[Personified | None]:
    """A registry for all tests with this personality; None for a layout."""
    if request.param == "layout":
        yield None
        return
    with running_personality(request.param) as personified:
        yield personified


@pytest.fixture
def target(place: Personified | None, tmp_path: Path) -> Iterator[Repository]:
    """An empty repository."""
    if place is None:
        yield Layout.create(tmp_path / "target")
        return
    with place.client(f"team-{next(_numbers)}/app") as repository:
        yield repository


_numbers = count()


@pytest.fixture
def refused(place: Personified | None) -> Refused:
    """Gives a context in which something is refused by those whose options say so."""
    options = Options() if place is None else place.personality.options_with()

    def expected(what: str) -> contextlib.AbstractContextManager[object]:
        is_refused = {
            "delete-absent": not options.delete and options.delete_status != 404,
            "delete-tagged": not options.delete
            or options.tagged_delete_refusal is not None
            or options.immutable_tags,
            "delete-child": not options.delete
            or options.child_delete_refusal is not None
            or not options.untagged_delete,
            "move-tag": options.immutable_tags,
        }
        return (
            pytest.raises((RegistryError, AccessError))
            if is_refused[what]
            else contextlib.nullcontext()
        )

    return expected


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    """A layout with an image for two platforms."""
    specs = (
        ImageSpec(layers=[{"a": "1"}, {"b": "x" * 5000}], architecture="amd64"),
        ImageSpec(layers=[{"a": "1"}], architecture="arm64", compression="zstd"),
    )
    return Layout(make_layout(tmp_path / "source", *specs).layout)


@pytest.fixture
def copy(source: Layout, target: Repository) -> Callable[[], Descriptor]:
    """Copies the image into the target."""

    def run() -> Descriptor:
        root = source.root()
        copy_image(
            source,
            target,
            root,
            workers=3,
            cancel=Cancel(),
            on_event=lambda _event: None,
            image="app",
        )
        return root

    return run


def one_blob(data: bytes) -> Descriptor:
    return Descriptor(media_type="application/x", digest=digest_of(data), size=len(data))


def test_a_copied_image_is_the_same_bytes(
    source: Layout, target: Repository, copy: Callable[[], Descriptor]
) -> None:
    root = copy()
    assert [m.body for m in manifests_of(target, root)] == [
        m.body for m in manifests_of(source, root)
    ]
    for blob in blobs_of(manifests_of(source, root)):
        assert b"".join(target.open(blob.digest)) == b"".join(source.open(blob.digest))
    index = target.fetch(root.digest)
    assert isinstance(index, Index)
    assert all(isinstance(target.fetch(m.digest), Manifest) for m in index.manifests)


def test_a_tag_appears_only_when_it_is_pushed_and_moves(
    target: Repository, copy: Callable[[], Descriptor], refused: Refused
) -> None:
    root = copy()
    assert target.tags() == ()
    index = target.fetch(root.digest)
    assert isinstance(index, Index)
    target.push("v1", index.body, index.media_type)
    assert target.tags() == ("v1",)
    found = target.resolve("v1")
    assert found is not None
    assert (found.digest, found.size, found.media_type) == (
        root.digest,
        root.size,
        media_types.OCI_INDEX,
    )
    child = target.fetch(index.manifests[0].digest)
    with refused("move-tag") as refusal:
        assert target.push("v1", child.body, child.media_type).digest == child.digest
    assert target.fetch("v1").digest == (index.digest if refusal else child.digest)


def test_all_of_many_tags_are_listed_in_order(
    target: Repository, copy: Callable[[], Descriptor]
) -> None:
    manifest = target.fetch(copy().digest)
    wanted = tuple(f"t{number:03}" for number in range(120))
    for tag in reversed(wanted):
        target.push(tag, manifest.body, manifest.media_type)
    assert target.tags() == wanted


def test_what_is_absent_is_none_or_not_found(target: Repository, refused: Refused) -> None:
    absent = digest_of(b"absent")
    assert target.resolve("nope") is None
    assert target.resolve(absent) is None
    assert target.size_of(absent) is None
    assert target.tags() == ()
    assert target.referrers(absent) == ()
    with refused("delete-absent"):
        target.delete(absent)
    with pytest.raises(NotFoundError):
        target.fetch("nope")
    with pytest.raises(NotFoundError):
        target.fetch(absent)
    with pytest.raises(NotFoundError):
        list(target.open(absent))


@pytest.mark.parametrize("data", [b"", b"x", b"y" * 3_000_000], ids=["empty", "byte", "3MB"])
def test_a_blob_travels_once(target: Repository, data: bytes) -> None:
    blob = one_blob(data)
    first = target.push_blob(blob, lambda: iter((data,)) if data else iter(()))
    second = target.push_blob(blob, lambda: iter(()))
    assert (first.outcome, first.bytes_sent) == (BlobOutcome.UPLOADED, len(data))
    assert (second.outcome, second.bytes_sent) == (BlobOutcome.PRESENT, 0)
    assert target.size_of(blob.digest) == len(data)
    assert b"".join(target.open(blob.digest)) == data


@pytest.mark.parametrize("sent", [b"ten bytes?", b"short", b"much too long a body"])
def test_wrong_bytes_never_become_a_blob(target: Repository, sent: bytes) -> None:
    blob = one_blob(b"ten bytes!")
    with pytest.raises(IntegrityError):
        target.push_blob(blob, lambda: iter((sent,)))
    assert target.size_of(blob.digest) is None


def test_a_manifest_is_refused_under_another_digest(
    target: Repository, copy: Callable[[], Descriptor]
) -> None:
    manifest = target.fetch(copy().digest)
    with pytest.raises(IntegrityError):
        target.push(digest_of(b"other"), manifest.body, manifest.media_type)


def test_delete_takes_the_manifest_and_its_tags(
    target: Repository, copy: Callable[[], Descriptor], refused: Refused
) -> None:
    root = copy()
    manifest = target.fetch(root.digest)
    target.push("v1", manifest.body, manifest.media_type)
    with refused("delete-tagged") as refusal:
        target.delete(root.digest)
        target.delete(root.digest)
    assert (target.resolve(root.digest) is None) == (refusal is None)
    assert (target.resolve("v1") is None) == (refusal is None)


def test_a_child_that_an_index_lists_is_whole_or_gone(
    target: Repository, copy: Callable[[], Descriptor], refused: Refused
) -> None:
    index = target.fetch(copy().digest)
    assert isinstance(index, Index)
    child = index.manifests[0].digest
    with refused("delete-child") as refusal:
        target.delete(child)
    assert target.fetch(index.digest).body == index.body
    assert target.resolve(child) is not None or refusal is None


def referrer(subject: Descriptor, note: str) -> bytes:
    empty = one_blob(media_types.EMPTY_JSON).to_json() | {"mediaType": media_types.OCI_EMPTY}
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": "application/x-note",
        "config": empty,
        "layers": [empty],
        "subject": Descriptor(
            media_type=subject.media_type, digest=subject.digest, size=subject.size
        ).to_json(),
        "annotations": {"note": note},
    }
    return json.dumps(document).encode()


def test_every_attached_referrer_is_listed_with_type_and_annotations(
    target: Repository, copy: Callable[[], Descriptor]
) -> None:
    root = copy()
    target.push_blob(one_blob(media_types.EMPTY_JSON), lambda: iter((media_types.EMPTY_JSON,)))
    digests = {
        target.attach(root, referrer(root, note), media_types.OCI_MANIFEST): note
        for note in ("one", "two", "three")
    }
    target.attach(root, referrer(root, "one"), media_types.OCI_MANIFEST)
    found = target.referrers(root.digest)
    assert {entry.digest: entry.annotations["note"] for entry in found} == digests
    assert len(found) == 3
    assert {entry.artifact_type for entry in found} == {"application/x-note"}
    index = target.fetch(root.digest)
    assert isinstance(index, Index)
    assert target.referrers(index.manifests[0].digest) == ()


def test_attaching_to_another_subject_is_refused(
    target: Repository, copy: Callable[[], Descriptor]
) -> None:
    root = copy()
    other = one_blob(b"other")
    with pytest.raises(IntegrityError, match="does not refer"):
        target.attach(other, referrer(root, "x"), media_types.OCI_MANIFEST)

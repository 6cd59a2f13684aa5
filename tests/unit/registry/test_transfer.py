"""Blobs in threads, manifests in order."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import CancelledError, IntegrityError, RegistryError
from ci_registry.events import Event, Progress
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor, Manifest
from ci_registry.registry.interface import BlobOutcome, BlobSource, PushedBlob, PushedManifest
from ci_registry.registry.layout import Layout
from ci_registry.registry.transfer import (
    blobs_of,
    copy_image,
    manifests_of,
    publish_manifests,
    upload_blobs,
)
from tests.support.images import ImageSpec, make_layout


class Target(Layout):
    """A layout that records pushes and can fail for one blob."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.pushed: list[str] = []
        self.manifests: list[str] = []
        self.fails_for: Digest | None = None
        self.others_started = threading.Event()

    def push_blob(
        self, descriptor: Descriptor, source: BlobSource, *, mount_from: tuple[str, ...] = ()
    ) -> PushedBlob:
        self.pushed.append(descriptor.digest)
        if descriptor.digest == self.fails_for:
            self.others_started.wait(5)
            raise RegistryError("HTTP 507", status=507)
        return super().push_blob(descriptor, source, mount_from=mount_from)

    def push(self, reference: str, body: bytes, media_type: str) -> PushedManifest:
        self.manifests.append(reference)
        return super().push(reference, body, media_type)


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    specs = [
        ImageSpec(layers=[{"a": "1"}, {"b": name}], architecture=name)
        for name in ("amd64", "arm64")
    ]
    return Layout(make_layout(tmp_path / "source", *specs).layout)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target.create(tmp_path / "target")


def upload(
    source: Layout, target: Layout, blobs: tuple[Descriptor, ...], events: list[Event]
) -> tuple[PushedBlob, ...]:
    return upload_blobs(
        source,
        target,
        blobs,
        workers=3,
        cancel=Cancel(),
        on_event=events.append,
        image="app",
    )


def test_each_digest_travels_once_and_is_reported_in_order(source: Layout, target: Target) -> None:
    blobs = blobs_of(manifests_of(source, source.root()))
    events: list[Event] = []
    pushed = upload(source, target, (*blobs, *blobs), events)
    assert [blob.digest for blob in pushed] == [blob.digest for blob in blobs]
    assert sorted(target.pushed) == sorted(blob.digest for blob in blobs)
    assert len(blobs) == 5  # the layer that both platforms share counts once
    last = {e.what: e for e in events if isinstance(e, Progress)}
    for blob in blobs:
        assert (last[blob.digest].done, last[blob.digest].total) == (blob.size, blob.size)
        assert last[blob.digest].detail == {"outcome": BlobOutcome.UPLOADED}


def test_nothing_to_upload_is_fine(source: Layout, target: Target) -> None:
    assert upload(source, target, (), []) == ()


def test_foreign_layers_stay_where_they_are(source: Layout) -> None:
    manifest = source.fetch(source.root().digest)
    child = source.fetch(manifest.manifests[0].digest)  # type: ignore[union-attr]
    assert isinstance(child, Manifest)
    foreign = Descriptor(
        media_type=media_types.DOCKER_FOREIGN_LAYER, digest=digest_of(b"windows"), size=7
    )
    changed = Manifest(
        body=child.body,
        media_type=child.media_type,
        digest=child.digest,
        config=child.config,
        layers=(*child.layers, foreign),
    )
    assert foreign.digest not in {blob.digest for blob in blobs_of((changed,))}


def test_the_first_error_stops_the_others_and_is_raised(target: Target, tmp_path: Path) -> None:
    source = Layout.create(tmp_path / "big")
    bad = source.write_blob([b"bad" * 100], "application/x")

    class Endless(Layout):
        def open(self, digest: Digest) -> Iterator[bytes]:
            while True:
                target.others_started.set()
                yield b"x" * 1000

    endless = Descriptor(media_type="application/x", digest=digest_of(b"endless"), size=1 << 60)
    target.fails_for = bad.digest
    with pytest.raises(RegistryError, match="HTTP 507"):
        upload(Endless(source.path), target, (bad, endless), [])
    assert target.size_of(endless.digest) is None


def test_a_cancelled_run_uploads_nothing(source: Layout, target: Target) -> None:
    cancel = Cancel()
    cancel.set("test")
    with pytest.raises(CancelledError):
        upload_blobs(
            source,
            target,
            blobs_of(manifests_of(source, source.root())),
            workers=2,
            cancel=cancel,
            on_event=lambda _event: None,
            image="app",
        )
    assert target.pushed == []


def test_children_are_published_before_their_index(source: Layout, target: Target) -> None:
    root = source.root()
    manifests = manifests_of(source, root)
    assert publish_manifests(source, target, root) == root.digest
    assert target.manifests == [manifest.digest for manifest in manifests]
    assert target.manifests[-1] == root.digest
    assert target.tags() == ()


def test_a_descriptor_with_a_wrong_size_is_refused(source: Layout, target: Target) -> None:
    root = source.root()
    wrong = Descriptor(media_type=root.media_type, digest=root.digest, size=root.size + 1)
    with pytest.raises(IntegrityError, match="its descriptor says"):
        publish_manifests(source, target, wrong)
    assert target.manifests == []


def test_indexes_nested_without_end_are_refused(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "deep")
    body = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % media_types.OCI_INDEX.encode()
    root = layout.write_manifest(body, media_types.OCI_INDEX)
    for _ in range(5):
        entry = b'{"mediaType":"%s","digest":"%s","size":%d}' % (
            media_types.OCI_INDEX.encode(),
            root.digest.encode(),
            root.size,
        )
        root = layout.write_manifest(body.replace(b"[]", b"[%s]" % entry), media_types.OCI_INDEX)
    with pytest.raises(IntegrityError, match="nested too deep"):
        manifests_of(layout, root)


def test_a_copy_has_one_root(source: Layout, target: Target) -> None:
    root = source.root()
    copy_image(source, target, root, cancel=Cancel(), on_event=lambda _event: None, image="app")
    assert target.root().digest == root.digest

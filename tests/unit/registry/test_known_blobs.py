"""Blobs of the last build are offered to the next one, never unverified and never left behind."""

import json
import threading
from pathlib import Path

import pytest

from ci_registry.cache import DiskCache
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Manifest
from ci_registry.registry import known_blobs
from ci_registry.registry.known_blobs import (
    DamagedOfferError,
    KnownBlobs,
    blobs_of_last_build,
    remember_blobs,
)
from ci_registry.registry.layout import Layout
from tests.support.images import ImageSpec, make_layout

BIG = {"big": bytes(range(256)) * 64}


@pytest.fixture(autouse=True)
def small_blobs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_blobs, "_SMALLEST_BYTES", 300)


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(folder=tmp_path / "cache", max_bytes=1 << 20)


def built(path: Path, *layers: dict[str, bytes]) -> Layout:
    return Layout(make_layout(path, ImageSpec(layers=layers, compression="")).layout)


def layers_of(layout: Layout) -> tuple[Digest, ...]:
    manifest = layout.fetch(layout.root().digest)
    assert isinstance(manifest, Manifest)
    return tuple(layer.digest for layer in manifest.layers)


def remember(cache: DiskCache, layout: Layout) -> KnownBlobs:
    manifest = layout.fetch(layout.root().digest)
    assert isinstance(manifest, Manifest)
    remember_blobs(cache, "api", layout, manifest.layers)
    return blobs_of_last_build(cache, "api")


def build_beside(known: KnownBlobs, path: Path, *layers: dict[str, bytes]) -> Layout:
    """Build as BuildKit does: a blob that is in the layout already is not written."""
    with known.offered_to(path):
        made = built(path.with_name("aside"), *layers)
        for blob in (made.path / "blobs" / "sha256").iterdir():
            target = path / "blobs" / "sha256" / blob.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.write_bytes(blob.read_bytes())
        for name in ("index.json", "oci-layout"):
            (path / name).write_bytes((made.path / name).read_bytes())
    return Layout(path)


def test_large_blobs_of_the_last_build_are_known(cache: DiskCache, tmp_path: Path) -> None:
    layout = built(tmp_path / "one", BIG, {"second": b"y" * 1000})
    assert remember(cache, layout).digests == layers_of(layout)
    assert blobs_of_last_build(cache, "other").digests == ()


def test_small_and_overlarge_blobs_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_blobs, "_SMALLEST_BYTES", 15_000)
    layout = built(tmp_path / "one", BIG, {"small": b"x"})
    big, _small = layers_of(layout)
    assert remember(DiskCache(folder=tmp_path / "c", max_bytes=1 << 20), layout).digests == (big,)
    assert remember(DiskCache(folder=tmp_path / "d", max_bytes=1 << 14), layout).digests == ()


def test_a_known_blob_is_there_before_the_builder_starts(cache: DiskCache, tmp_path: Path) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    blob = Layout(tmp_path / "two").blob_path(known.digests[0])
    with known.offered_to(tmp_path / "two"):
        assert blob.samefile(cache.path("blobs", known.digests[0]))
        built(tmp_path / "two", BIG)


def test_a_blob_that_was_taken_is_proven_and_one_that_the_builder_wrote_is_not(
    cache: DiskCache, tmp_path: Path
) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    two = build_beside(known, tmp_path / "two", BIG, {"more": b"y" * 1000})
    manifest = two.fetch(two.root().digest)
    assert isinstance(manifest, Manifest)
    taken, written = manifest.layers
    assert known.proven.holds(taken, two.blob_path(taken.digest))
    assert not known.proven.holds(written, two.blob_path(written.digest))


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 20_000])
def test_a_damaged_blob_is_told_forgotten_and_good_the_next_time(
    cache: DiskCache, tmp_path: Path, damage: bytes
) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    path = cache.path("blobs", known.digests[0])
    path.unlink()
    path.write_bytes(damage)
    with pytest.raises(DamagedOfferError, match="was damaged"):
        build_beside(known, tmp_path / "two", BIG)
    assert not path.exists()
    assert blobs_of_last_build(cache, "api").digests == ()
    assert remember(cache, built(tmp_path / "three", BIG)).digests == known.digests
    assert digest_of(path.read_bytes()) == known.digests[0]


def test_a_damaged_blob_that_the_image_does_not_have_is_only_forgotten(
    cache: DiskCache, tmp_path: Path
) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    path = cache.path("blobs", known.digests[0])
    path.unlink()
    path.write_bytes(b"damaged")
    two = build_beside(known, tmp_path / "two", {"other": b"x" * 1000})
    assert not path.exists()
    assert not two.blob_path(known.digests[0]).exists()


def test_a_damaged_blob_that_the_builder_replaced_does_no_harm(
    cache: DiskCache, tmp_path: Path
) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    path = cache.path("blobs", known.digests[0])
    path.unlink()
    path.write_bytes(b"damaged")
    with known.offered_to(tmp_path / "two"):
        blob = Layout(tmp_path / "two").blob_path(known.digests[0])
        for thread in threading.enumerate():
            if thread.name == "known blobs":
                thread.join(10)
        blob.unlink()
        built(tmp_path / "two", BIG)
    assert digest_of(blob.read_bytes()) == known.digests[0]


def test_what_the_image_does_not_use_is_taken_out_again(cache: DiskCache, tmp_path: Path) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    two = build_beside(known, tmp_path / "two", {"other": b"x" * 1000})
    assert not two.blob_path(known.digests[0]).exists()
    assert cache.path("blobs", known.digests[0]).exists()


def test_a_failed_build_keeps_its_error(cache: DiskCache, tmp_path: Path) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    with pytest.raises(ValueError, match="the build"), known.offered_to(tmp_path / "two"):
        raise ValueError("the build")


@pytest.mark.parametrize("body", [b"", b"no json", b"{}", b"[1]", b'["../../etc"]', b'"text"'])
def test_a_damaged_list_names_nothing(cache: DiskCache, body: bytes) -> None:
    cache.put("blobs-of-image", "api", body)
    assert blobs_of_last_build(cache, "api").digests == ()


def test_a_blob_that_was_evicted_is_not_offered(cache: DiskCache, tmp_path: Path) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    cache.drop("blobs", known.digests[0])
    assert blobs_of_last_build(cache, "api").digests == ()
    two = build_beside(known, tmp_path / "two", BIG)  # it vanished after it was looked for
    assert two.blob_path(known.digests[0]).exists()


def test_a_list_is_written_only_when_it_changes(cache: DiskCache, tmp_path: Path) -> None:
    layout = built(tmp_path / "one", BIG)
    known = remember(cache, layout)
    path = cache.path("blobs-of-image", "api")
    before = path.stat().st_ino
    remember(cache, layout)
    assert path.stat().st_ino == before
    assert json.loads(path.read_bytes().partition(b"\n")[2]) == list(known.digests)

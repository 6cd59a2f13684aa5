"""Blobs of the last build are offered to the next one, never unverified and never left behind."""

import json
from pathlib import Path

import pytest

from ci_registry.cache import DiskCache
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Manifest
from ci_registry.registry import known_blobs
from ci_registry.registry.known_blobs import KnownBlobs, blobs_of_last_build, remember_blobs
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


def offered(known: KnownBlobs, layout: Path, *layers: dict[str, bytes]) -> dict[Digest, bool]:
    """Build beside the offer; returns whether each layer is the very file of the cache."""
    with known.offered_to(layout):
        make_layout(layout, ImageSpec(layers=layers, compression=""))
    found = {}
    for digest in layers_of(Layout(layout)):
        kept = known.cache.path("blobs", digest)
        found[digest] = kept.exists() and Layout(layout).blob_path(digest).samefile(kept)
    return found


def wait_for_offer(known: KnownBlobs, layout: Path) -> None:
    """Put everything in place, as the thread does when the build takes long enough."""
    import threading

    known._place(layout, threading.Event())


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


def test_a_known_blob_is_linked_into_the_next_layout(cache: DiskCache, tmp_path: Path) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    wait_for_offer(known, tmp_path / "two")
    blob = Layout(tmp_path / "two").blob_path(known.digests[0])
    assert blob.samefile(cache.path("blobs", known.digests[0]))


def test_a_blob_in_place_is_proven_and_one_that_the_builder_wrote_is_not(
    cache: DiskCache, tmp_path: Path
) -> None:
    layout = built(tmp_path / "one", BIG)
    manifest = layout.fetch(layout.root().digest)
    assert isinstance(manifest, Manifest)
    known = remember(cache, layout)
    wait_for_offer(known, tmp_path / "two")
    (blob,) = manifest.layers
    assert known.proven.holds(blob, Layout(tmp_path / "two").blob_path(blob.digest))
    other = remember(cache, layout)
    built(tmp_path / "three", BIG)
    wait_for_offer(other, tmp_path / "three")
    assert not other.proven.holds(blob, Layout(tmp_path / "three").blob_path(blob.digest))


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 20_000])
def test_a_damaged_blob_is_forgotten_and_the_builder_writes_it(
    cache: DiskCache, tmp_path: Path, damage: bytes
) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    path = cache.path("blobs", known.digests[0])
    path.unlink()
    path.write_bytes(damage)
    wait_for_offer(known, tmp_path / "two")
    assert not Layout(tmp_path / "two").blob_path(known.digests[0]).exists()
    assert not path.exists()
    again = built(tmp_path / "two", BIG)
    assert remember(cache, again).digests == known.digests
    assert digest_of(path.read_bytes()) == known.digests[0]


def test_what_the_image_does_not_use_is_taken_out_again(cache: DiskCache, tmp_path: Path) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    wait_for_offer(known, tmp_path / "two")
    offered(known, tmp_path / "two", {"other": b"x" * 1000})
    names = {path.name for path in (tmp_path / "two" / "blobs" / "sha256").iterdir()}
    assert known.digests[0].hex not in names
    assert cache.path("blobs", known.digests[0]).exists()


def test_a_blob_that_the_builder_wrote_first_stays_the_builders(
    cache: DiskCache, tmp_path: Path
) -> None:
    known = remember(cache, built(tmp_path / "one", BIG))
    built(tmp_path / "two", BIG)
    before = Layout(tmp_path / "two").blob_path(known.digests[0]).stat().st_ino
    wait_for_offer(known, tmp_path / "two")
    assert Layout(tmp_path / "two").blob_path(known.digests[0]).stat().st_ino == before


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
    wait_for_offer(known, tmp_path / "two")
    assert not (tmp_path / "two" / "blobs").exists()


def test_a_list_is_written_only_when_it_changes(cache: DiskCache, tmp_path: Path) -> None:
    layout = built(tmp_path / "one", BIG)
    known = remember(cache, layout)
    path = cache.path("blobs-of-image", "api")
    before = path.stat().st_ino
    remember(cache, layout)
    assert path.stat().st_ino == before
    assert json.loads(path.read_bytes().partition(b"\n")[2]) == list(known.digests)

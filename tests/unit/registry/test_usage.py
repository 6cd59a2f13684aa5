"""Bytes of repositories, from manifests alone."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import RegistryError
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.layout import Layout
from ci_registry.registry.transfer import copy_image
from ci_registry.registry.usage import Contents, Usage, compare_usage, read_contents
from tests.support.artifacts import attach, put_blob, put_cosign
from tests.support.images import ImageSpec, make_layout
from tests.support.memory_repository import MemoryRepository


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def repository(tmp_path: Path, name: str, *layers: str) -> Layout:
    """Return a layout with a tag for each layer, on images that share the layer `base`."""
    layout = Layout.create(tmp_path / name)
    for layer in layers:
        made = make_layout(
            tmp_path / f"{name}-{layer}", ImageSpec(layers=[{"base": "x" * 900}, {layer: layer}])
        )
        source = Layout(made.layout)
        root = source.root()
        copy_image(source, layout, root, cancel=Cancel(), on_event=lambda _: None, image="")
        manifest = source.fetch(root.digest)
        layout.push(layer, manifest.body, manifest.media_type)
    return layout


def measure(pool: ThreadPoolExecutor, *layouts: Layout, place: str = "") -> tuple[Usage, ...]:
    contents = tuple(
        read_contents(layout, place=place or layout.name, with_referrers=True, pool=pool)
        for layout in layouts
    )
    return compare_usage(contents)


def files_bytes(layout: Layout) -> int:
    return sum(path.stat().st_size for path in (layout.path / "blobs").rglob("*") if path.is_file())


def test_stored_bytes_are_those_on_disk_and_logical_ones_count_shared_layers_again(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    layout = repository(tmp_path, "a", "one", "two", "three")
    (usage,) = measure(pool, layout)
    assert usage.stored_bytes == usage.unique_bytes == usage.charged_bytes == files_bytes(layout)
    manifest = layout.fetch("one")
    base = manifest.layers[0].size  # type: ignore[union-attr]
    assert usage.contents.logical_bytes == files_bytes(layout) + 2 * base
    assert (usage.contents.tags, usage.contents.manifests) == (3, 3)


def test_shared_bytes_are_split_evenly_and_the_parts_add_up(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    layouts = [
        repository(tmp_path, "a", "one", "two"),
        repository(tmp_path, "b", "two", "three"),
        repository(tmp_path, "c", "four"),
    ]
    usages = measure(pool, *layouts, place="registry.example")
    everything = {
        path.name: path.stat().st_size
        for la in layouts
        for path in la.path.rglob("*")
        if path.is_file() and len(path.name) == 64
    }
    assert abs(sum(u.charged_bytes for u in usages) - sum(everything.values())) <= len(usages)
    assert [u.stored_bytes for u in usages] == [files_bytes(layout) for layout in layouts]
    assert all(0 < u.shared_bytes < u.stored_bytes for u in usages)
    apart = measure(pool, *layouts)
    assert [u.shared_bytes for u in apart] == [0, 0, 0]


def test_signatures_and_platforms_count_and_foreign_layers_do_not(
    pool: ThreadPoolExecutor,
) -> None:
    memory = MemoryRepository()
    config = put_blob(memory, b"{}", media_types.OCI_CONFIG)
    foreign = Descriptor(
        media_type=media_types.DOCKER_FOREIGN_LAYER, digest=digest_of(b"f"), size=10**9
    )
    image = json.dumps(
        {"schemaVersion": 2, "config": config.to_json(), "layers": [foreign.to_json()]}
    ).encode()
    child = memory.push(digest_of(image), image, media_types.OCI_MANIFEST).digest
    listed = [
        Descriptor(media_type=media_types.OCI_MANIFEST, digest=child, size=len(image)).to_json(),
        Descriptor(
            media_type=media_types.OCI_MANIFEST, digest=digest_of(b"gone"), size=4
        ).to_json(),
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": listed}).encode()
    digest = memory.push("v1", index, media_types.OCI_INDEX).digest
    root = Descriptor(media_type=media_types.OCI_INDEX, digest=digest, size=len(index))
    note = attach(memory, root, "note")
    signature = put_cosign(memory, digest, "signature")
    contents = read_contents(memory, place="", with_referrers=True, pool=pool)
    blobs = sum(len(data) for data in memory.blobs.values())
    manifests = len(index) + len(image) + note.size + signature.size
    assert sum(contents.sizes.values()) == blobs + manifests
    assert (contents.tags, contents.manifests, contents.missing) == (1, 4, 1)
    without = read_contents(memory, place="", with_referrers=False, pool=pool)
    assert note.digest not in without.sizes


def test_a_listing_that_fails_is_no_smaller_sum(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    layout = repository(tmp_path, "a", "one")
    memory = MemoryRepository(referrers_error=RegistryError("HTTP 500"))
    manifest = layout.fetch("one")
    memory.push("one", manifest.body, manifest.media_type)
    with pytest.raises(RegistryError):
        read_contents(memory, place="", with_referrers=True, pool=pool)


def test_nothing_is_nothing() -> None:
    empty = Contents(name="a", place="a", tags=0, manifests=0, logical_bytes=0, sizes={})
    (usage,) = compare_usage((empty,))
    assert (usage.stored_bytes, usage.charged_bytes) == (0, 0)

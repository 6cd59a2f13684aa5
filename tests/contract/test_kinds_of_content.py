"""Every kind of content keeps its bytes and its name on every way: sha512, Docker's types, any compression."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor, parse_manifest
from ci_registry.registry.copy import CopyItem, CopyStatus
from ci_registry.registry.interface import Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.transfer import blobs_of, manifests_of
from tests.contract.test_copying import copy, place

TAR = b"a tar, or what says so" * 100
LAYERS = {
    "gzip": (media_types.OCI_LAYER_GZIP, gzip.compress(TAR, mtime=0)),
    "zstd": (media_types.OCI_LAYER_ZSTD, zstandard.ZstdCompressor().compress(TAR)),
    "plain": (media_types.OCI_LAYER, TAR),
    "mislabelled": (media_types.OCI_LAYER_ZSTD, TAR),
    "docker": (media_types.DOCKER_LAYER, gzip.compress(TAR, mtime=0)),
    "unknown": ("application/vnd.example.layer.v9+x", b"\x00\xff" * 50),
    "empty": ("application/vnd.example.nothing", b""),
}


def put(target: Repository, data: bytes, media_type: str, algorithm: str) -> dict[str, Any]:
    digest = digest_of(data, algorithm)
    descriptor = Descriptor(media_type=media_type, digest=digest, size=len(data))
    target.push_blob(descriptor, lambda: iter((data,)))
    return descriptor.to_json()


def fill(source: Repository, *, docker: bool, algorithm: str) -> Digest:
    """Put an index of one image with every kind of layer; returns its digest."""
    kinds = (
        (media_types.DOCKER_INDEX, media_types.DOCKER_MANIFEST, media_types.DOCKER_CONFIG)
        if docker
        else (media_types.OCI_INDEX, media_types.OCI_MANIFEST, media_types.OCI_CONFIG)
    )
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {}}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": kinds[1],
        "config": put(source, config, kinds[2], algorithm),
        "layers": [put(source, data, kind, algorithm) for kind, data in LAYERS.values()],
    }
    body = json.dumps(manifest, indent=3).encode()
    child = digest_of(body, algorithm)
    source.push(child, body, kinds[1])
    entry = {
        "mediaType": kinds[1],
        "digest": child,
        "size": len(body),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    index = {"schemaVersion": 2, "mediaType": kinds[0], "manifests": [entry]}
    whole = json.dumps(index, indent=3).encode()
    digest = digest_of(whole, algorithm)
    source.push(digest, whole, kinds[0])
    return digest


@pytest.fixture(params=["layout", "friendly", "no-referrers-api", "needs-accept"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Repository, Repository]]:
    """A source, and a target of the other sort."""
    other = "friendly" if request.param == "layout" else "layout"
    with (
        place(request.param, tmp_path, "source") as source,
        place(other, tmp_path, "target") as target,
    ):
        yield source, target


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_every_kind_of_content_arrives_as_it_is(
    both: tuple[Repository, Repository], algorithm: str, *, docker: bool
) -> None:
    source, target = both
    root = fill(source, docker=docker, algorithm=algorithm)
    outcome = copy(source, target, CopyItem(source=root, tag="v1"))
    assert outcome.digest == root
    for manifest in manifests_of(source, source.fetch(root).descriptor):
        arrived = target.fetch(manifest.digest)
        assert (arrived.body, arrived.media_type) == (manifest.body, manifest.media_type)
        assert arrived.digest == manifest.digest
    for blob in blobs_of(manifests_of(target, target.fetch(root).descriptor)):
        assert blob.digest.startswith(algorithm)
        assert b"".join(target.open(blob.digest)) in {data for _, data in LAYERS.values()} | {
            b"".join(source.open(blob.digest))
        }
    assert target.fetch("v1").body == source.fetch(root).body
    again = copy(source, target, CopyItem(source=root, tag="v1"))
    assert again.status is CopyStatus.PRESENT


def test_referrers_of_a_sha512_subject_follow(both: tuple[Repository, Repository]) -> None:
    source, target = both
    root = fill(source, docker=False, algorithm="sha512")
    subject = Descriptor(
        media_type=media_types.OCI_INDEX, digest=root, size=len(source.fetch(root).body)
    )
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "artifactType": "application/x-note",
            "manifests": [],
            "subject": subject.to_json(),
        }
    ).encode()
    attached = source.attach(subject, body, media_types.OCI_INDEX)
    assert [d.digest for d in source.referrers(root)] == [attached]
    copy(source, target, CopyItem(source=root, tag="v1"))
    assert [d.digest for d in target.referrers(root)] == [attached]


def test_a_layout_tag_of_a_sha512_image_resolves_to_it(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "layout")
    root = fill(layout, docker=False, algorithm="sha512")
    manifest = layout.fetch(root)
    layout.set_root(
        Descriptor(media_type=manifest.media_type, digest=root, size=len(manifest.body)), tag="v1"
    )
    found = layout.resolve("v1")
    assert found is not None
    assert found.digest == root
    assert parse_manifest(manifest.body, manifest.media_type).body == layout.fetch("v1").body

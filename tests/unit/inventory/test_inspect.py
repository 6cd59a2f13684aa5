"""An image passes inspection only when every byte in it is what it claims to be."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import CancelledError, ExitCode, IntegrityError
from ci_registry.events import Event, Progress
from ci_registry.inventory.inspect import inspect_image
from ci_registry.inventory.limits import Limits
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.platform import Platform
from tests.support.images import ImageSpec, MadeImage, debian_layer, make_layout, put_blob, tar_of
from tests.support.inspection import LayoutReader, inspect_layout

BASE = debian_layer(("openssl", "3.0.11-1~deb12u2", ""))
APP = {"app/x-1.0.dist-info/METADATA": "Name: x\nVersion: 1.0\n\n"}
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


@pytest.fixture
def made(tmp_path: Path) -> MadeImage:
    return make_layout(tmp_path / "layout", ImageSpec(layers=[BASE, APP]))


def blob(made: MadeImage, digest: Digest) -> Path:
    return LayoutReader(made.layout).path(digest)


def manifest_of(made: MadeImage, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(blob(made, made.manifests[number]).read_bytes())
    return found


def config_of(made: MadeImage, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(blob(made, made.configs[number]).read_bytes())
    return found


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


def set_root(made: MadeImage, value: object, media_type: str = media_types.OCI_MANIFEST) -> None:
    """Make `value` the image of the layout, with right digests on the way to it."""
    body = dump(value)
    entry = {"mediaType": media_type, "digest": put_blob(made.layout, body), "size": len(body)}
    (made.layout / "index.json").write_bytes(dump({"schemaVersion": 2, "manifests": [entry]}))


def set_config(made: MadeImage, config: object) -> None:
    manifest, body = manifest_of(made), dump(config)
    manifest["config"] |= {"digest": put_blob(made.layout, body), "size": len(body)}
    set_root(made, manifest)


def set_index(made: MadeImage, *entries: object) -> None:
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    set_root(made, index, media_types.OCI_INDEX)


def entry(made: MadeImage, number: int = 0, architecture: str = "amd64") -> dict[str, Any]:
    body = blob(made, made.manifests[number]).read_bytes()
    return {
        "mediaType": media_types.OCI_MANIFEST,
        "digest": digest_of(body),
        "size": len(body),
        "platform": {"os": "linux", "architecture": architecture},
    }


def refused(made: MadeImage, match: str, **options: Any) -> IntegrityError:
    with pytest.raises(IntegrityError, match=match) as caught:
        inspect_layout(made.layout, **options)
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE
    return caught.value


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
def test_an_honest_image_passes_with_all_its_packages(tmp_path: Path, compression: str) -> None:
    made = make_layout(tmp_path, ImageSpec(layers=[BASE, APP], compression=compression))
    (image,) = inspect_layout(made.layout).platforms
    assert image.platform == AMD64
    assert image.manifest.digest == made.manifests[0]
    assert image.config_digest == made.configs[0]
    assert image.diff_ids == made.diff_ids[0]
    assert [(p.name, p.layer) for p in image.inventory.packages] == [
        ("openssl", made.diff_ids[0][0]),
        ("x", made.diff_ids[0][1]),
    ]
    assert image.inventory.files_count == 4


def test_a_swapped_layer_is_refused_by_name_and_digest(made: MadeImage) -> None:
    first, second = (Digest(layer["digest"]) for layer in manifest_of(made)["layers"])
    other = blob(made, second).read_bytes()
    size = blob(made, first).stat().st_size
    blob(made, first).write_bytes(other.ljust(size, b"\0")[:size])
    error = refused(made, "the bytes have the digest")
    assert "layer 1 of linux/amd64" in error.headline
    assert first in error.headline


def test_a_truncated_layer_is_refused(made: MadeImage) -> None:
    path = blob(made, Digest(manifest_of(made)["layers"][1]["digest"]))
    path.write_bytes(path.read_bytes()[:-9])
    refused(made, r"layer 2 of linux/amd64 .*bytes, its manifest says")


def test_a_layer_that_goes_on_is_refused_at_once(made: MadeImage) -> None:
    path = blob(made, Digest(manifest_of(made)["layers"][1]["digest"]))
    path.write_bytes(path.read_bytes() + b"more")
    refused(made, "layer 2 of linux/amd64 .*has more than")


def test_a_wrong_size_in_the_manifest_is_refused(made: MadeImage) -> None:
    manifest = manifest_of(made)
    manifest["layers"][0]["size"] += 1
    set_root(made, manifest)
    refused(made, "layer 1 of .*its manifest says")


def test_a_wrong_diff_id_is_refused(made: MadeImage) -> None:
    config = config_of(made)
    config["rootfs"]["diff_ids"].reverse()
    set_config(made, config)
    refused(made, "layer 1 of linux/amd64 .*has the diff id .*config says")


def test_an_extra_layer_is_refused(made: MadeImage) -> None:
    manifest = manifest_of(made)
    manifest["layers"].append(manifest["layers"][0])
    set_root(made, manifest)
    refused(made, "3 layers, but its config lists 2 diff ids")


def test_a_replaced_config_is_refused(made: MadeImage) -> None:
    path = blob(made, made.configs[0])
    path.write_bytes(path.read_bytes().replace(b"amd64", b"arm64"))
    refused(made, "config .*the bytes have the digest")


def test_a_replaced_manifest_is_refused(made: MadeImage) -> None:
    path = blob(made, made.manifests[0])
    path.write_bytes(path.read_bytes() + b" ")
    refused(made, "manifest .*its descriptor says")


def test_members_that_differ_in_case_only_are_refused(made: MadeImage) -> None:
    set_config(made, config_of(made) | {"Architecture": "arm64"})
    refused(made, "same name in other case")


def test_a_gzip_layer_called_plain_is_refused(made: MadeImage) -> None:
    manifest = manifest_of(made)
    manifest["layers"][0]["mediaType"] = media_types.OCI_LAYER
    set_root(made, manifest)
    refused(made, "layer 1 .*media type says plain tar")


@pytest.mark.parametrize(
    "media_type",
    [
        media_types.DOCKER_FOREIGN_LAYER,
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ],
)
def test_a_foreign_layer_cannot_be_verified(made: MadeImage, media_type: str) -> None:
    manifest = manifest_of(made)
    manifest["layers"][1]["mediaType"] = media_type
    set_root(made, manifest)
    refused(made, "layer 2 .*foreign layer can't be verified")


def test_an_artifact_is_no_image(made: MadeImage) -> None:
    manifest = manifest_of(made)
    manifest["config"]["mediaType"] = media_types.OCI_EMPTY
    set_root(made, manifest)
    refused(made, "not an image")


def with_layer(made: MadeImage, plain: bytes, packed: bytes) -> None:
    """Make a one-layer image of these bytes."""
    manifest, config = manifest_of(made), config_of(made)
    layer = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": put_blob(made.layout, packed)}
    manifest["layers"] = [layer | {"size": len(packed)}]
    config["rootfs"]["diff_ids"] = [digest_of(plain)]
    body = dump(config)
    manifest["config"] |= {"digest": put_blob(made.layout, body), "size": len(body)}
    set_root(made, manifest)


def test_a_second_archive_behind_the_first_is_refused(made: MadeImage) -> None:
    plain = tar_of(BASE) + tar_of({"hidden": "x"})
    with_layer(made, plain, gzip.compress(plain))
    refused(made, "layer 1 of linux/amd64 .*data behind the end of the archive")


def test_bytes_behind_the_compressed_stream_are_refused(made: MadeImage) -> None:
    plain = tar_of(BASE)
    with_layer(made, plain, gzip.compress(plain) + b"appended")
    refused(made, "layer 1 of linux/amd64 .*damaged data behind gzip member 1")


def test_a_layer_of_several_gzip_members_passes(made: MadeImage) -> None:
    plain = tar_of(BASE)
    with_layer(made, plain, gzip.compress(plain[:700]) + gzip.compress(plain[700:]))
    (image,) = inspect_layout(made.layout).platforms
    assert [p.name for p in image.inventory.packages] == ["openssl"]


def test_a_path_that_leads_out_of_the_image_is_refused(made: MadeImage) -> None:
    plain = tar_of({"../../etc/cron.d/x": "boom"})
    with_layer(made, plain, gzip.compress(plain))
    refused(made, "layer 1 .*leads out of the image")


def test_a_bomb_is_refused(made: MadeImage) -> None:
    plain = tar_of({"zeros": bytes(3 << 20)})
    with_layer(made, plain, gzip.compress(plain))
    limits = Limits(ratio_free_bytes=1 << 20, ratio=20)
    refused(made, "layer 1 .*inflates to more than 20 times", limits=limits)


# --- indexes and platforms


@pytest.fixture
def two(tmp_path: Path) -> MadeImage:
    specs = [ImageSpec(layers=[BASE, APP], architecture=a) for a in ("amd64", "arm64")]
    return make_layout(tmp_path / "two", *specs)


def attestation(made: MadeImage, subject: str, **changes: Any) -> dict[str, Any]:
    """Store an attestation manifest like BuildKit's and return its entry in the index."""
    statement, config = b'{"_type":"x"}', b'{"architecture":"unknown","os":"unknown"}'
    layer = {"mediaType": "application/vnd.in-toto+json", "size": len(statement)}
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": {
            "mediaType": media_types.OCI_CONFIG,
            "digest": put_blob(made.layout, config),
            "size": len(config),
        },
        "layers": [layer | {"digest": put_blob(made.layout, statement)} | changes],
    }
    body = dump(manifest)
    return {
        "mediaType": media_types.OCI_MANIFEST,
        "digest": put_blob(made.layout, body),
        "size": len(body),
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": subject,
        },
    }


def test_every_platform_is_read_and_a_shared_layer_only_once(two: MadeImage) -> None:
    reader = LayoutReader(two.layout)
    image = inspect_layout(two.layout, requested=(ARM64, AMD64), reader=reader)
    assert [p.platform for p in image.platforms] == [AMD64, ARM64]
    assert [len(p.inventory.packages) for p in image.platforms] == [2, 2]
    assert len(reader.opened) == len(set(reader.opened)) == 2


def test_an_attestation_in_front_changes_nothing(made: MadeImage) -> None:
    first = attestation(made, made.manifests[0])
    set_index(made, first, entry(made))
    image = inspect_layout(made.layout)
    assert [p.platform for p in image.platforms] == [AMD64]
    assert [other.digest for other in image.others] == [first["digest"]]


def test_blobs_of_attestations_are_verified_too(made: MadeImage) -> None:
    first = attestation(made, made.manifests[0])
    set_index(made, first, entry(made))
    blob(made, digest_of(b'{"_type":"x"}')).write_bytes(b'{"_type":"y"}')
    refused(made, "blob of attestation .*the bytes have the digest")


def test_an_image_disguised_as_attestation_is_refused(made: MadeImage) -> None:
    hidden = attestation(made, made.manifests[0], mediaType=media_types.OCI_LAYER_GZIP)
    set_index(made, entry(made), hidden)
    refused(made, "marked as attestation but holds layers")


def test_an_index_of_attestations_only_is_no_image(made: MadeImage) -> None:
    set_index(made, attestation(made, made.manifests[0]))
    refused(made, "no platform image")


def test_a_nested_index_is_walked(made: MadeImage) -> None:
    inner = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry(made)]}
    body = dump(inner)
    nested = {
        "mediaType": media_types.OCI_INDEX,
        "digest": put_blob(made.layout, body),
        "size": len(body),
    }
    set_index(made, nested)
    assert [p.platform for p in inspect_layout(made.layout).platforms] == [AMD64]


def test_too_deep_a_nesting_is_refused(made: MadeImage) -> None:
    current = entry(made)
    for _ in range(8):
        body = dump(
            {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [current]}
        )
        digest = put_blob(made.layout, body)
        current = {"mediaType": media_types.OCI_INDEX, "digest": digest, "size": len(body)}
    set_index(made, current)
    refused(made, "too deep")


def test_an_arm64_entry_with_an_amd64_config_is_refused(made: MadeImage) -> None:
    set_index(made, entry(made, architecture="arm64"))
    refused(made, "listed as linux/arm64 but its config says linux/amd64")


def test_a_variant_that_the_config_contradicts_is_refused(made: MadeImage) -> None:
    set_config(made, config_of(made) | {"architecture": "arm", "variant": "v6"})
    root = LayoutReader(made.layout).root
    claimed = {"os": "linux", "architecture": "arm", "variant": "v7"}
    set_index(made, root.to_json() | {"platform": claimed})
    refused(made, "listed as linux/arm/v7 but its config says linux/arm/v6")


def test_the_same_platform_twice_is_refused(two: MadeImage) -> None:
    set_index(two, entry(two), entry(two, 1, "arm64"), entry(two))
    refused(two, "linux/amd64 is in it twice")


def test_a_requested_platform_must_be_there(made: MadeImage) -> None:
    refused(made, "linux/arm64 was asked for but is not in it", requested=(AMD64, ARM64))


def test_a_layer_with_two_descriptions_is_refused(two: MadeImage) -> None:
    manifest = manifest_of(two, 1)
    manifest["layers"][0]["size"] += 1
    body = dump(manifest)
    changed = entry(two, 1, "arm64") | {"digest": put_blob(two.layout, body), "size": len(body)}
    set_index(two, entry(two), changed)
    refused(two, "described in two ways")


# --- how it runs


def inspect_with(
    made: MadeImage,
    open_blob: Callable[[Digest], Iterator[bytes]],
    cancel: Cancel,
    on_event: Callable[[Event], None] = lambda _event: None,
) -> None:
    reader = LayoutReader(made.layout)
    inspect_image(
        reader.root,
        read=reader.read,
        open_blob=open_blob,
        cancel=cancel,
        on_event=on_event,
        image="api",
        workers=2,
    )


def test_cancelling_stops_between_two_pieces(made: MadeImage) -> None:
    cancel, reader = Cancel(), LayoutReader(made.layout, piece_bytes=10)

    def open_blob(digest: Digest) -> Iterator[bytes]:
        for number, piece in enumerate(reader.open_blob(digest)):
            if number == 3:
                cancel.set("SIGTERM")
            yield piece

    with pytest.raises(CancelledError, match="SIGTERM"):
        inspect_with(made, open_blob, cancel)


def test_one_broken_layer_stops_the_others_and_is_the_error(made: MadeImage) -> None:
    reader = LayoutReader(made.layout, piece_bytes=10)
    bad = Digest(manifest_of(made)["layers"][0]["digest"])
    started, failed, closed = (threading.Event() for _ in range(3))

    def open_blob(digest: Digest) -> Iterator[bytes]:
        if digest == bad:
            started.wait(10)
            yield b"x"
            failed.set()
            return
        started.set()
        try:
            for piece in reader.open_blob(digest):
                yield piece
                failed.wait(10)
        finally:
            closed.set()

    with pytest.raises(IntegrityError, match="layer 1 of linux/amd64"):
        inspect_with(made, open_blob, Cancel())
    assert closed.is_set()


def test_progress_ends_at_the_size_of_each_layer(made: MadeImage) -> None:
    events: list[Event] = []
    inspect_with(made, LayoutReader(made.layout).open_blob, Cancel(), events.append)
    layers = {layer["digest"]: layer["size"] for layer in manifest_of(made)["layers"]}
    seen = {e.what: e.done for e in events if isinstance(e, Progress)}
    assert seen == layers
    assert all(isinstance(e, Progress) and e.image == "api" and e.total >= e.done for e in events)

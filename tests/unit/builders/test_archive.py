"""Archives of `docker image save` in every shape, made by hand."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.builders.archive import compressed, convert_archive
from ci_registry.errors import IntegrityError
from ci_registry.oci import media_types
from ci_registry.oci.manifest import Manifest
from ci_registry.oci.platform import Platform
from ci_registry.registry.layout import Layout
from tests.support.images import tar_of

LAYER = tar_of({"etc/os-release": "ID=debian\n", "big": "x" * 70_000})
OTHER = tar_of({"app": "code"})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_of(*layers: bytes, architecture: str = "amd64") -> bytes:
    diff_ids = [f"sha256:{sha(layer)}" for layer in layers]
    data = {
        "architecture": architecture,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    return json.dumps(data, indent=1).encode()


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def old_shape(*layers: bytes, architecture: str = "amd64") -> dict[str, bytes]:
    """Return the members of an archive from Docker before 25."""
    config = config_of(*layers, architecture=architecture)
    names = [f"{sha(layer)}/layer.tar" for layer in layers]
    manifest = [{"Config": f"{sha(config)}.json", "RepoTags": ["x:1"], "Layers": names}]
    members = dict(zip(names, layers, strict=True))
    return members | {f"{sha(config)}.json": config, "manifest.json": json.dumps(manifest).encode()}


def oci_shape(layers: tuple[bytes, ...], blobs: tuple[bytes, ...], kind: str) -> dict[str, bytes]:
    """Return the members of an archive from Docker 25 or newer."""
    config = config_of(*layers)
    entries = [
        {"mediaType": kind, "digest": f"sha256:{sha(blob)}", "size": len(blob)} for blob in blobs
    ]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": {
                "mediaType": media_types.OCI_CONFIG,
                "digest": f"sha256:{sha(config)}",
                "size": len(config),
            },
            "layers": entries,
        }
    ).encode()
    entry = {
        "mediaType": media_types.OCI_MANIFEST,
        "digest": f"sha256:{sha(manifest)}",
        "size": len(manifest),
    }
    listing = [
        {
            "Config": f"blobs/sha256/{sha(config)}",
            "RepoTags": ["x:1"],
            "Layers": [f"blobs/sha256/{sha(blob)}" for blob in blobs],
        }
    ]
    return {f"blobs/sha256/{sha(data)}": data for data in (*blobs, config, manifest)} | {
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
        "manifest.json": json.dumps(listing).encode(),
    }


def convert(
    tmp_path: Path, members: Mapping[str, bytes], platform: Platform | None = None
) -> Layout:
    layout = Layout.create(tmp_path / "layout")
    convert_archive(archive(tmp_path / "image.tar", members), layout, platform=platform)
    return layout


def image_of(layout: Layout) -> Manifest:
    manifest = layout.fetch(layout.root().digest)
    assert isinstance(manifest, Manifest)
    return manifest


def test_old_archive_keeps_its_config_and_compresses_its_layers(tmp_path: Path) -> None:
    layout = convert(tmp_path, old_shape(LAYER, OTHER))
    image = image_of(layout)
    assert b"".join(layout.open(image.config.digest)) == config_of(LAYER, OTHER)
    unpacked = [gzip.decompress(b"".join(layout.open(d.digest))) for d in image.layers]
    assert unpacked == [LAYER, OTHER]
    assert {d.media_type for d in image.layers} == {media_types.OCI_LAYER_GZIP}
    assert layout.root().platform == Platform("linux", "amd64")


def test_equal_archives_give_equal_digests(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        digests.append(convert(tmp_path / name, old_shape(LAYER)).root().digest)
    assert digests[0] == digests[1]


def test_plain_layers_of_a_new_archive_are_compressed(tmp_path: Path) -> None:
    layout = convert(tmp_path, oci_shape((LAYER,), (LAYER,), media_types.OCI_LAYER))
    assert image_of(layout).layers[0].media_type == media_types.OCI_LAYER_GZIP


def test_compressed_layers_keep_bytes_and_manifest(tmp_path: Path) -> None:
    blob = gzip.compress(LAYER, 1, mtime=5)
    members = oci_shape((LAYER,), (blob,), media_types.OCI_LAYER_GZIP)
    entry = json.loads(members["index.json"])["manifests"][0]
    assert str(convert(tmp_path, members).root().digest) == entry["digest"]


def test_zstd_layers_are_read(tmp_path: Path) -> None:
    blob = zstandard.ZstdCompressor().compress(LAYER)
    layout = convert(tmp_path, oci_shape((LAYER,), (blob,), media_types.OCI_LAYER_ZSTD))
    assert image_of(layout).layers[0].media_type == media_types.OCI_LAYER_ZSTD


def test_layer_that_is_a_link_inside_the_archive_is_found(tmp_path: Path) -> None:
    members = old_shape(LAYER)
    path = tmp_path / "image.tar"
    name = f"{sha(LAYER)}/layer.tar"
    archive(path, {k: v for k, v in members.items() if k != name} | {"real/layer.tar": LAYER})
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, "../real/layer.tar"
        tar.addfile(info)
    layout = Layout.create(tmp_path / "layout")
    convert_archive(path, layout)
    assert len(image_of(layout).layers) == 1


def test_platform_chooses_among_several_images(tmp_path: Path) -> None:
    one, two = old_shape(LAYER), old_shape(OTHER, architecture="arm64")
    both = json.loads(one["manifest.json"]) + json.loads(two["manifest.json"])
    members = one | two | {"manifest.json": json.dumps(both).encode()}
    layout = convert(tmp_path, members, Platform("linux", "arm64"))
    assert layout.root().platform == Platform("linux", "arm64")
    with pytest.raises(IntegrityError, match="2 images"):
        convert(tmp_path, members)


def _other_layer(members: dict[str, bytes]) -> None:
    members[f"{sha(LAYER)}/layer.tar"] = OTHER


def _other_config(members: dict[str, bytes]) -> None:
    name = next(n for n in members if n.endswith(".json") and n != "manifest.json")
    members[name] = members[name].replace(b"amd64", b"arm64")


def _no_manifest(members: dict[str, bytes]) -> None:
    del members["manifest.json"]


def _escaping(members: dict[str, bytes]) -> None:
    members["a/../../evil"] = b""


def _too_few_layers(members: dict[str, bytes]) -> None:
    listing = json.loads(members["manifest.json"])
    listing[0]["Layers"] = []
    members["manifest.json"] = json.dumps(listing).encode()


def _outside(members: dict[str, bytes]) -> None:
    listing = json.loads(members["manifest.json"])
    listing[0]["Layers"] = ["../../etc/passwd"]
    members["manifest.json"] = json.dumps(listing).encode()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_other_layer, "its config says"),
        (_other_config, "has not the digest"),
        (_no_manifest, "no file 'manifest.json'"),
        (_escaping, "outside of itself"),
        (_too_few_layers, "0 layers, its config 1"),
        (_outside, "no file"),
    ],
)
def test_archive_that_does_not_add_up_is_refused(spoil: object, words: str, tmp_path: Path) -> None:
    members = old_shape(LAYER)
    assert callable(spoil)
    spoil(members)
    with pytest.raises(IntegrityError, match=words):
        convert(tmp_path, members)


def test_device_in_the_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "image.tar", old_shape(LAYER))
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("null")
        info.type = tarfile.CHRTYPE
        tar.addfile(info)
    with pytest.raises(IntegrityError, match="special file"):
        convert_archive(path, Layout.create(tmp_path / "layout"))


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_what_is_no_tar_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        convert_archive(path, Layout.create(tmp_path / "layout"))


def test_truncated_compressed_layer_is_refused(tmp_path: Path) -> None:
    blob = gzip.compress(LAYER, mtime=0)[:-20]
    with pytest.raises(IntegrityError, match="its config says"):
        convert(tmp_path, oci_shape((LAYER,), (blob,), media_types.OCI_LAYER_GZIP))


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=3000), max_size=8), st.integers(1, 4))
def test_compression_is_reversible_and_knows_no_time(pieces: list[bytes], times: int) -> None:
    data = pieces * times
    packed = b"".join(compressed(data))
    assert gzip.decompress(packed) == b"".join(data)
    assert packed[4:8] == b"\0\0\0\0"

"""Docker archives with several images: chosen by name, or all of them."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from ci_registry.errors import IntegrityError, NotFoundError
from ci_registry.oci.manifest import Manifest
from ci_registry.registry.docker_archive import convert_all, convert_archive
from ci_registry.registry.layout import Layout
from tests.support.images import tar_of

BASE = tar_of({"base": "x" * 5000})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def save(path: Path, *images: tuple[str, tuple[str, ...]], prefix: str = "") -> Path:
    """Write an archive of (marker, names) images that share a layer; `prefix` as crane names configs."""
    files: dict[str, bytes] = {}
    entries = []
    for marker, names in images:
        layers = (BASE, tar_of({"marker": marker}))
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": {"marker": marker}},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha(la)}" for la in layers]},
            }
        ).encode()
        config_name = f"{prefix}{sha(config)}" + ("" if prefix else ".json")
        files[config_name] = config
        files |= {f"{sha(layer)}.tar.gz": gzip.compress(layer, mtime=0) for layer in layers}
        listed = [f"{sha(layer)}.tar.gz" for layer in layers]
        entries.append({"Config": config_name, "RepoTags": list(names) or None, "Layers": listed})
    files["manifest.json"] = json.dumps(entries).encode()
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def marker_of(layout: Layout, reference: str) -> object:
    manifest = layout.fetch(reference)
    assert isinstance(manifest, Manifest)
    config = json.loads(b"".join(layout.open(manifest.config.digest)))
    return config["config"]["Labels"]["marker"]


@pytest.mark.parametrize("name", ["v2", "acme/app:v2"])
@pytest.mark.parametrize("prefix", ["", "sha256:"], ids=["docker", "crane"])
def test_one_image_is_chosen_by_tag_or_name(tmp_path: Path, name: str, prefix: str) -> None:
    path = save(
        tmp_path / "x.tar",
        ("one", ("acme/app:v1",)),
        ("two", ("acme/app:v2", "acme/app:latest")),
        prefix=prefix,
    )
    layout = Layout.create(tmp_path / "layout")
    descriptor = convert_archive(path, layout, name=name)
    assert marker_of(layout, descriptor.digest) == "two"


def test_without_a_name_several_images_are_an_error_that_names_them(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tar", ("one", ("acme/app:v1",)), ("two", ("acme/app:v2",)))
    layout = Layout.create(tmp_path / "layout")
    with pytest.raises(IntegrityError, match="holds 2 images") as caught:
        convert_archive(path, layout)
    assert "acme/app:v1, acme/app:v2" in caught.value.hint
    with pytest.raises(NotFoundError, match="has no image v3") as missing:
        convert_archive(path, layout, name="v3")
    assert "acme/app:v1" in missing.value.hint


def test_all_images_get_the_tags_that_they_had(tmp_path: Path) -> None:
    path = save(
        tmp_path / "x.tar",
        ("one", ("host:5000/acme/app:v1", "other:stable")),
        ("two", ("acme/app:v2",)),
        ("unnamed", ()),
    )
    layout = Layout.create(tmp_path / "layout")
    convert_all(path, layout)
    assert layout.tags() == ("stable", "v1", "v2")
    assert [marker_of(layout, tag) for tag in layout.tags()] == ["one", "one", "two"]
    assert len(layout.entries()) == 4


def test_one_tag_on_two_images_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tar", ("one", ("a:latest",)), ("two", ("b:latest",)))
    with pytest.raises(IntegrityError, match="tag latest on two images"):
        convert_all(path, Layout.create(tmp_path / "layout"))


def test_a_compressed_archive_says_what_to_do(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tar", ("one", ("a:v1",)))
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(IntegrityError) as caught:
        convert_archive(packed, Layout.create(tmp_path / "layout"))
    assert "gunzip" in caught.value.hint

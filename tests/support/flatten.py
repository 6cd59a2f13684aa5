"""Flattens the layers of an image the plain way, for comparing what builders made."""

import hashlib
import io
import json
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

TYPES = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "device",
    tarfile.FIFOTYPE: "fifo",
}


@dataclass(frozen=True, kw_only=True)
class Flat:
    """One path of a flattened image; hard links count as files with equal content."""

    type: str
    mode: int
    uid: int
    gid: int
    content: str = ""
    """Text, or the sha256 of what is none."""
    link: str = ""


@dataclass(frozen=True, kw_only=True)
class FlatImage:
    """One platform image."""

    config: dict[str, Any]
    files: dict[str, Flat]
    layers: list[list[tarfile.TarInfo]]
    manifest: dict[str, Any]


def blob(layout: Path, digest: str) -> bytes:
    """Return a blob of a layout, compared with its digest."""
    algorithm, _, code = digest.partition(":")
    data = (layout / "blobs" / algorithm / code).read_bytes()
    assert hashlib.new(algorithm, data).hexdigest() == code
    return data


def plain_tar(data: bytes) -> bytes:
    """Inflate a layer."""
    if data[:2] == b"\x1f\x8b":
        return zlib.decompress(data, 31)
    return zstandard.decompress(data) if data[:4] == b"\x28\xb5\x2f\xfd" else data


def images_of(layout: Path) -> dict[str, FlatImage]:
    """Return the platform images of a layout, by `os/architecture[/variant]` of their config."""
    todo = json.loads((layout / "index.json").read_text())["manifests"]
    images: dict[str, FlatImage] = {}
    while todo:
        document = json.loads(blob(layout, todo.pop()["digest"]))
        if "manifests" in document:
            todo += document["manifests"]
            continue
        image = _image(layout, document)
        platform = [image.config.get(key) for key in ("os", "architecture", "variant")]
        images["/".join(part for part in platform if part)] = image
    return images


def _image(layout: Path, manifest: dict[str, Any]) -> FlatImage:
    config = json.loads(blob(layout, manifest["config"]["digest"]))
    files: dict[str, Flat] = {}
    layers = []
    ids = config["rootfs"]["diff_ids"] or []
    assert len(manifest["layers"]) == len(ids)
    for layer, diff_id in zip(manifest["layers"], ids, strict=True):
        data = plain_tar(blob(layout, layer["digest"]))
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == diff_id
        layers.append(_apply(files, data))
    return FlatImage(config=config, files=files, layers=layers, manifest=manifest)


def _apply(files: dict[str, Flat], data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        for member in members:
            name = member.name.strip("/")
            folder, _, base = name.rpartition("/")
            if base == ".wh..wh..opq":
                _remove_below(files, folder)
            elif base.startswith(".wh."):
                path = f"{folder}/{base[4:]}".strip("/")
                _remove_below(files, path)
                files.pop(path, None)
        for member in members:
            name = member.name.strip("/").removeprefix("./")
            if name in ("", ".") or ".wh." in name:
                continue
            parents = name.split("/")[:-1]
            for length in range(1, len(parents) + 1):
                parent = files.get("/".join(parents[:length]))
                assert parent is None or parent.type == "directory", f"{name} goes through a link"
            flat = _flat(tar, member, files)
            if flat.type != "directory":
                _remove_below(files, name)
            files[name] = flat
    return members


def _remove_below(files: dict[str, Flat], folder: str) -> None:
    for path in [p for p in files if p.startswith(f"{folder}/")]:
        del files[path]


def _flat(tar: tarfile.TarFile, member: tarfile.TarInfo, files: dict[str, Flat]) -> Flat:
    if member.islnk():
        return files[member.linkname.strip("/").removeprefix("./")]
    content = ""
    if member.isreg():
        file = tar.extractfile(member)
        assert file is not None
        raw = file.read()
        try:
            content = raw.decode()
        except UnicodeDecodeError:
            content = hashlib.sha256(raw).hexdigest()
    mode = 0o777 if member.issym() else member.mode & 0o7777
    return Flat(
        type=TYPES[member.type],
        mode=mode,
        uid=member.uid,
        gid=member.gid,
        content=content,
        link=member.linkname if member.issym() else "",
    )

"""Turns the archive of `docker image save` into an OCI layout, without ever unpacking it.

Both shapes are read: `<id>/layer.tar` of Docker before 25, and the OCI-shaped one since. The config
bytes are kept, so the image id stays. Layers that the archive holds compressed are kept as they are,
with their manifest, so that the digest is the one the engine knows; plain ones are compressed the same
way every time (gzip level 6, no time, no name).
"""

import contextlib
import dataclasses
import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ci_registry.errors import IntegrityError, NotFoundError
from ci_registry.files import storage_error
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, Hasher, digest_of
from ci_registry.oci.image_config import parse_config_platform
from ci_registry.oci.manifest import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    parse_manifest,
)
from ci_registry.oci.platform import Platform
from ci_registry.oci.reference import is_tag
from ci_registry.registry.layout import Layout
from ci_registry.registry.tar_trouble import tar_trouble
from ci_registry.strict import as_list, as_object, as_text, parse_json

MAX_MEMBERS = 50_000
MAX_LAYER_BYTES = 64 * 1024**3
"""Largest layer, unpacked."""
MAX_LAYERS = 1000
GZIP_LEVEL = 6
_CHUNK_BYTES = 1024 * 1024
_GZIP_FORMAT = 31
"""zlib's window bits for a gzip stream; its header then has no time and no name."""


def convert_archive(
    path: Path, layout: Layout, *, platform: Platform | None = None, name: str = ""
) -> Descriptor:
    """Write the one image of an archive into `layout` and make it the root.

    Args:
        path: the tar file.
        layout: where the image goes.
        platform: chooses among several images; with one image it is not compared.
        name: chooses by a name in the archive (`app:v1`) or by its tag alone (`v1`).

    Raises:
        IntegrityError: the archive is not what `docker image save` writes, or a layer has other
            bytes than its config says.
        NotFoundError: it has no image of that name.
        StorageError: the archive can't be read or the layout can't be written.
    """
    with _opened(path) as archive:
        found = _images(archive)
        chosen = [i for i in found if not name or name in i.names or name in i.tags]
        if not chosen and found:
            raise NotFoundError(f"{path} has no image {name}", hint=f"it has {_names(found)}")
        image = _choose(chosen, platform)
        descriptor = _write(archive, image, layout)
    layout.set_root(descriptor)
    return descriptor


def convert_all(path: Path, layout: Layout) -> None:
    """Write every image of an archive into `layout`, under the tags that the archive has for it.

    Raises:
        IntegrityError: as `convert_archive`; also when one tag is on images of two names.
        StorageError: as `convert_archive`.
    """
    with _opened(path) as archive:
        for image in _images(archive):
            descriptor = _write(archive, image, layout)
            body = layout.fetch(descriptor.digest).body
            for tag in image.tags or ("",):
                there = layout.resolve(tag) if tag else None
                if there is not None and there.digest != descriptor.digest:
                    raise IntegrityError(
                        f"{path} has tag {tag} on two images",
                        hint=f"name one of them: docker-archive:{path}:TAG",
                    )
                layout.push(tag or descriptor.digest, body, descriptor.media_type)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator["_Archive"]:
    try:
        with path.open("rb") as file, _open_tar(file) as tar:
            yield _Archive(tar=tar, members=_index(tar))
    except tarfile.TarError as error:
        raise tar_trouble(path, error) from error
    except OSError as error:
        raise storage_error(error, path, "read") from error


@contextlib.contextmanager
def _open_tar(file: IO[bytes]) -> Iterator[tarfile.TarFile]:
    with tarfile.open(fileobj=file, mode="r:") as tar:
        yield tar


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """One image of the archive as `manifest.json` describes it."""

    config: bytes
    platform: Platform
    diff_ids: tuple[Digest, ...]
    layers: tuple[str, ...]
    """Member names, base first."""
    names: tuple[str, ...]
    """`repository:tag`, as the engine knew it."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of its names, each once."""
        tags = (name.rpartition(":")[2] for name in self.names)
        return tuple(dict.fromkeys(tag for tag in tags if is_tag(tag)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Archive:
    """The members of an archive by name."""

    tar: tarfile.TarFile
    members: dict[str, tarfile.TarInfo]

    def find(self, name: str) -> tarfile.TarInfo:
        """Return the regular file behind a name; links inside the archive are followed once."""
        member = self.members.get(posixpath.normpath(name))
        if member is not None and (member.issym() or member.islnk()):
            folder = posixpath.dirname(member.name) if member.issym() else ""
            member = self.members.get(posixpath.normpath(posixpath.join(folder, member.linkname)))
        if member is None or not member.isreg():
            raise IntegrityError(
                f"the image archive has no file {name!r}",
                hint="an OCI layout in a tar file is named with oci-archive:"
                if "oci-layout" in self.members
                else "",
            )
        return member

    def read(self, name: str, *, max_bytes: int = MAX_MANIFEST_BYTES) -> bytes:
        """Return a whole small file."""
        member = self.find(name)
        if member.size > max_bytes:
            raise IntegrityError(f"the image archive's {name} has more than {max_bytes} bytes")
        return b"".join(self.stream(member))

    def stream(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        """Yield the bytes of a file."""
        file = self.tar.extractfile(member)
        if file is None:
            raise IntegrityError(f"the image archive's {member.name} is no file")
        with file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


def _index(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        name = posixpath.normpath(member.name)
        if name.startswith(("/", "../")) or name == "..":
            raise IntegrityError(f"the image archive has a path outside of itself: {member.name!r}")
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise IntegrityError(f"the image archive has a special file: {member.name!r}")
        if name in members and not member.isdir():
            raise IntegrityError(f"the image archive has {member.name!r} twice")
        members[name] = member
        if len(members) > MAX_MEMBERS:
            raise IntegrityError(f"the image archive has more than {MAX_MEMBERS} files")
    return members


# --- which image


def _images(archive: _Archive) -> list[_Image]:
    what = "manifest.json of the image archive"
    entries = as_list(parse_json(archive.read("manifest.json"), what=what), what=what)
    return [_image(archive, as_object(entry, what=what)) for entry in entries]


def _names(images: list[_Image]) -> str:
    return ", ".join(name for image in images for name in image.names) or "none with a name"


def _choose(images: list[_Image], platform: Platform | None) -> _Image:
    if len(images) > 1:
        images = [image for image in images if platform in (None, image.platform)]
    if len(images) != 1:
        raise IntegrityError(
            f"the image archive holds {len(images)} images"
            + (f" for {platform}" if platform else "")
            + ", expected one",
            hint=f"name one by its tag: {_names(images)}" if images else "",
        )
    return images[0]


def _image(archive: _Archive, entry: dict[str, object]) -> _Image:
    what = "manifest.json of the image archive"
    config_name = as_text(entry.get("Config"), what=f"{what}: Config")
    names = as_list(entry.get("Layers") or [], what=f"{what}: Layers")
    repo_tags = as_list(entry.get("RepoTags") or [], what=f"{what}: RepoTags")
    config = archive.read(config_name)
    expected = posixpath.basename(config_name).removesuffix(".json").removeprefix("sha256:")
    if digest_of(config).hex != expected:
        raise IntegrityError(f"the config in the image archive has not the digest {expected}")
    data = as_object(parse_json(config, what="image config"), what="image config")
    rootfs = as_object(data.get("rootfs") or {}, what="image config: rootfs")
    diff_ids = as_list(rootfs.get("diff_ids") or [], what="image config: diff_ids")
    if len(diff_ids) != len(names) or len(names) > MAX_LAYERS:
        raise IntegrityError(
            f"the image archive has {len(names)} layers, its config {len(diff_ids)}"
        )
    return _Image(
        config=config,
        platform=parse_config_platform(config, what="image config"),
        diff_ids=tuple(Digest(as_text(d, what="diff id")) for d in diff_ids),
        layers=tuple(as_text(name, what=f"{what}: Layers") for name in names),
        names=tuple(as_text(name, what=f"{what}: RepoTags") for name in repo_tags),
    )


# --- writing


def _write(archive: _Archive, image: _Image, layout: Layout) -> Descriptor:
    stored = _stored_manifest(archive, image)
    config = layout.write_blob((image.config,), media_types.OCI_CONFIG)
    layers = [
        _layer(archive, archive.find(name), diff_id, layout)
        for name, diff_id in zip(image.layers, image.diff_ids, strict=True)
    ]
    if stored is not None and [d.digest for d in stored.layers] == [d.digest for d in layers]:
        written = layout.write_manifest(stored.body, stored.media_type)
    else:
        written = layout.write_manifest(_manifest(config, layers), media_types.OCI_MANIFEST)
    return dataclasses.replace(written, platform=image.platform)


def _layer(
    archive: _Archive, member: tarfile.TarInfo, diff_id: Digest, layout: Layout
) -> Descriptor:
    """Store one layer and compare its unpacked bytes with its diff id."""
    chunks = archive.stream(member)
    first = next(chunks, b"")
    everything = _chain(first, chunks)
    hasher = Hasher(diff_id.algorithm)
    if first.startswith(b"\x1f\x8b"):
        kept = _watched(everything, hasher, _Gunzip())
        descriptor = layout.write_blob(kept, media_types.OCI_LAYER_GZIP)
    elif first.startswith(b"\x28\xb5\x2f\xfd"):
        kept = _watched(everything, hasher, _Unzstd())
        descriptor = layout.write_blob(kept, media_types.OCI_LAYER_ZSTD)
    else:
        packed = compressed(_watched(everything, hasher, None))
        descriptor = layout.write_blob(packed, media_types.OCI_LAYER_GZIP)
    if hasher.digest != diff_id:
        raise IntegrityError(
            f"layer {member.name} of the image archive has diff id {hasher.digest}, "
            f"its config says {diff_id}"
        )
    return descriptor


def compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield `chunks` as gzip; equal input gives equal output with the same zlib."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()


class _Gunzip:
    """Unpacks gzip in pieces of bounded size, several members in a row included."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(_GZIP_FORMAT)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` unpacks to."""
        try:
            while data:
                if self._unpacker.eof:
                    self._unpacker = zlib.decompressobj(_GZIP_FORMAT)
                piece = self._unpacker.decompress(data, _CHUNK_BYTES)
                while len(piece) == _CHUNK_BYTES:  # there may be more, with or without input
                    yield piece
                    piece = self._unpacker.decompress(self._unpacker.unconsumed_tail, _CHUNK_BYTES)
                yield piece
                data = self._unpacker.unused_data
        except zlib.error as error:
            raise IntegrityError(f"a layer of the image archive is damaged: {error}") from error


class _Unzstd:
    """Unpacks zstd."""

    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415 - only for the rare archive with such layers

        self._error = zstandard.ZstdError
        self._unpacker = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` unpacks to, for each 4 KiB of input."""
        try:
            for start in range(0, len(data), 4096):
                yield self._unpacker.decompress(data[start : start + 4096])
        except self._error as error:
            raise IntegrityError(f"a layer of the image archive is damaged: {error}") from error


def _watched(
    chunks: Iterable[bytes], hasher: Hasher, unpacker: _Gunzip | _Unzstd | None
) -> Iterator[bytes]:
    """Yield `chunks` as they are while their unpacked form is hashed and its size bounded."""
    for chunk in chunks:
        for piece in unpacker.feed(chunk) if unpacker is not None else (chunk,):
            hasher.update(piece)
            if hasher.size_bytes > MAX_LAYER_BYTES:
                raise IntegrityError(f"a layer has more than {MAX_LAYER_BYTES} bytes unpacked")
        yield chunk


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _manifest(config: Descriptor, layers: list[Descriptor]) -> bytes:
    data = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    return json.dumps(data, separators=(",", ":")).encode()


def _stored_manifest(archive: _Archive, image: _Image) -> Manifest | None:
    """Return the image's own manifest when the archive has one (Docker since 25)."""
    if "index.json" not in archive.members:
        return None
    config = digest_of(image.config)
    waiting = [parse_manifest(archive.read("index.json"), media_types.OCI_INDEX)]
    for _ in range(MAX_LAYERS):
        if not waiting:
            return None
        found = waiting.pop()
        if isinstance(found, Manifest):
            if found.config.digest == config:
                return found
            continue
        waiting += _children(archive, found)
    raise IntegrityError("the index of the image archive is nested without end")


def _children(archive: _Archive, index: Index) -> list[Manifest | Index]:
    """Return the children of an index that are in the archive; other platforms may be left out."""
    children = []
    for entry in index.images:
        name = f"blobs/{entry.digest.algorithm}/{entry.digest.hex}"
        if name not in archive.members:
            continue
        body = archive.read(name)
        if digest_of(body, entry.digest.algorithm) != entry.digest:
            raise IntegrityError(f"{name} of the image archive has other bytes than its name says")
        children.append(parse_manifest(body, entry.media_type))
    return children

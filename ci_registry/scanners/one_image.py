"""Proves that a layout holds one image, the right one, and nothing but the bytes it claims.

Scanners check no digest in a local layout, take the first of several images, and trip over indexes:
what they get is checked here, before they get it.
"""

from dataclasses import dataclass
from pathlib import Path

from ci_registry.errors import IntegrityError
from ci_registry.files import read_file, storage_error
from ci_registry.oci.digest import Digest, Hasher
from ci_registry.oci.manifest import Descriptor, Index, Manifest, parse_descriptor, parse_manifest
from ci_registry.registry.proven import ProvenBlobs
from ci_registry.strict import as_list, as_object, as_text, parse_json

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OneImage:
    """What the image of a layout says about itself."""

    config_digest: str
    diff_ids: tuple[str, ...]
    """In the order of the layers."""
    layer_sizes: tuple[int, ...] = ()
    """Compressed, in bytes, in the same order."""


def check_one_image(
    layout: Path, *, config_digest: str, proven: ProvenBlobs | None = None
) -> OneImage:
    """Read a layout and hash every blob of its only image.

    Args:
        layout: the folder that a scanner is about to get.
        config_digest: which image it must be.
        proven: layers that were hashed in this run and are the very same files, unchanged.

    Raises:
        IntegrityError: there is not exactly one image, it is another one, or a blob has other bytes.
        StorageError: a file can't be read.
    """
    entry = _only_entry(layout)
    manifest = parse_manifest(_read(layout, entry), entry.media_type)
    if isinstance(manifest, Index):
        raise IntegrityError(f"{layout}: an index, where one image was expected")
    if str(manifest.config.digest) != config_digest:
        raise IntegrityError(
            f"{layout}: the image in it has config {manifest.config.digest}, not {config_digest}"
        )
    diff_ids = _diff_ids(_read(layout, manifest.config), manifest)
    for layer in manifest.layers:
        if proven is None or not proven.holds(layer, _path(layout, layer.digest)):
            _hash_blob(layout, layer)
    return OneImage(
        config_digest=config_digest,
        diff_ids=diff_ids,
        layer_sizes=tuple(layer.size for layer in manifest.layers),
    )


def _only_entry(layout: Path) -> Descriptor:
    path = layout / "index.json"
    what = str(path)
    document = as_object(
        parse_json(read_file(path, max_bytes=MAX_DOCUMENT_BYTES), what=what), what=what
    )
    entries = as_list(document.get("manifests"), what=f"{what}: manifests")
    if len(entries) != 1:
        raise IntegrityError(f"{layout}: {len(entries)} entries, where one image was expected")
    return parse_descriptor(entries[0], what=f"{what}: manifests[0]")


def _path(layout: Path, digest: Digest) -> Path:
    return layout / "blobs" / digest.algorithm / digest.hex


def _read(layout: Path, descriptor: Descriptor) -> bytes:
    path = _path(layout, descriptor.digest)
    body = read_file(path, max_bytes=MAX_DOCUMENT_BYTES)
    hasher = Hasher(descriptor.digest.algorithm)
    hasher.update(body)
    _compare(path, descriptor, hasher)
    return body


def _hash_blob(layout: Path, descriptor: Descriptor) -> None:
    path = _path(layout, descriptor.digest)
    hasher = Hasher(descriptor.digest.algorithm)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    _compare(path, descriptor, hasher)


def _compare(path: Path, descriptor: Descriptor, hasher: Hasher) -> None:
    if hasher.digest != descriptor.digest or hasher.size_bytes != descriptor.size:
        raise IntegrityError(
            f"{path}: {hasher.size_bytes} bytes with digest {hasher.digest}, "
            f"but the manifest says {descriptor.size} bytes with {descriptor.digest}"
        )


def _diff_ids(config: bytes, manifest: Manifest) -> tuple[str, ...]:
    what = f"config {manifest.config.digest}"
    document = as_object(parse_json(config, what=what), what=what)
    root = as_object(document.get("rootfs"), what=f"{what}: rootfs")
    ids = tuple(
        as_text(item, what=f"{what}: diff_ids")
        for item in as_list(root.get("diff_ids"), what=f"{what}: diff_ids")
    )
    if len(ids) != len(manifest.layers):
        raise IntegrityError(f"{what}: {len(ids)} diff ids for {len(manifest.layers)} layers")
    return ids

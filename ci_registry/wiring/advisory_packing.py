"""Packs advisory databases into layers, and unpacks them bounded; the same file gives the same layer."""

import gzip
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ci_registry.advisories.trivy_db import DATABASE_FILE, METADATA_FILE
from ci_registry.errors import IntegrityError
from ci_registry.files import storage_error
from ci_registry.oci.digest import Digest, Hasher
from ci_registry.oci.manifest import Descriptor

CHUNK_BYTES = 1024 * 1024
_LEVEL = 9
_WINDOW_BYTES = 128 * 1024 * 1024


def pack_database(source: Path, target: Path, media_type: str) -> Descriptor:
    """Compress a compiled database (zstd) into a file; returns its descriptor.

    Raises:
        StorageError: something can't be read or written.
    """
    import zstandard

    try:
        with source.open("rb") as reading, target.open("wb") as writing:
            size_bytes = os.fstat(reading.fileno()).st_size
            packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
            packer.copy_stream(reading, writing, size=size_bytes)
    except OSError as error:
        raise storage_error(error, target, "pack a database into") from error
    return describe_file(target, media_type)


def pack_trivy(folder: Path, target: Path, media_type: str) -> Descriptor:
    """Pack `trivy.db` and `metadata.json` as trivy publishes them, without times; returns the descriptor.

    Raises:
        StorageError: something can't be read or written.
    """
    try:
        with (
            target.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for name in (DATABASE_FILE, METADATA_FILE):
                entry = tarfile.TarInfo(Path(name).name)
                entry.size = (folder / name).stat().st_size
                entry.mode = 0o644
                with (folder / name).open("rb") as content:
                    archive.addfile(entry, content)
    except OSError as error:
        raise storage_error(error, target, "pack trivy's database into") from error
    return describe_file(target, media_type)


def describe_file(path: Path, media_type: str) -> Descriptor:
    """Return the descriptor of a file."""
    hasher, size_bytes = Hasher("sha256"), 0
    for chunk in file_chunks(path):
        hasher.update(chunk)
        size_bytes += len(chunk)
    return Descriptor(media_type=media_type, digest=Digest(hasher.digest), size=size_bytes)


def file_chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file.

    Raises:
        StorageError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise storage_error(error, path, "read") from error


def unpack_database(chunks: Iterable[bytes], target: Path, *, size_bytes: int) -> None:
    """Store a layer, then unpack it; not a byte is unpacked before the layer's digest was right.

    Args:
        chunks: the layer; whoever opens it compares its digest at the end.
        target: the file to write, durable at the end.
        size_bytes: what it must unpack to.

    Raises:
        IntegrityError: it is damaged, or unpacks to another size.
        StorageError: it can't be written.
    """
    import zstandard

    packed = target.with_name(f"{target.name}.zst")
    try:
        with packed.open("wb") as file:
            file.writelines(chunks)
        unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        with packed.open("rb") as file, target.open("wb") as result:
            _copy(unpacker.stream_reader(file).read, result, size_bytes)
            result.flush()
            os.fsync(result.fileno())
    except zstandard.ZstdError as error:
        raise IntegrityError(f"an advisory database that can't be unpacked: {error}") from error
    except OSError as error:
        raise storage_error(error, target, "unpack a database into") from error
    finally:
        packed.unlink(missing_ok=True)


def _copy(read: Callable[[int], bytes], target: BinaryIO, size_bytes: int) -> None:
    left = size_bytes
    while chunk := read(min(CHUNK_BYTES, left + 1)):
        left -= len(chunk)
        if left < 0:
            break
        target.write(chunk)
    if left:
        word = "more" if left < 0 else f"{left} bytes less"
        raise IntegrityError(f"an advisory database that unpacks to {word} than it says")

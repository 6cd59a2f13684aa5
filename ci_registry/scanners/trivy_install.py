"""Unpacks trivy's published database, the one layer of its artifact, so that nobody sees half of it."""

import gzip
import io
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ci_registry.advisories.trivy_db import (
    DATABASE_FILE,
    METADATA_FILE,
    TrivyDatabase,
    read_trivy_db,
)
from ci_registry.errors import IntegrityError
from ci_registry.files import locked, remove_tree, storage_error, sync_folder

LAYER_MEDIA_TYPE = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
MAX_DATABASE_BYTES = 4 * 1024 * 1024 * 1024
MAX_METADATA_BYTES = 64 * 1024
_LIMITS = {"trivy.db": MAX_DATABASE_BYTES, "metadata.json": MAX_METADATA_BYTES}
_MAX_TAIL_BYTES = 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


def install_trivy_db(chunks: Iterable[bytes], folder: Path) -> TrivyDatabase:
    """Unpack a layer into `db/` of a cache folder of trivy, replacing what is there.

    The stream is read to its end before anything is put in place, so that a digest check in it
    counts. The database goes in before its date: stopped between the two, it claims to be older
    than it is.

    Args:
        chunks: the layer, `tar+gzip`; whoever reads it from a registry verifies its digest.
        folder: the cache folder; made when missing.

    Raises:
        IntegrityError: the archive is damaged, too large, or holds anything but the two files.
        StorageError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".install.lock"):
            fresh = Path(tempfile.mkdtemp(prefix=".db-", dir=folder))
            try:
                (fresh / "db").mkdir()
                _unpack(iter(chunks), fresh / "db")
                read_trivy_db(fresh)
                (folder / "db").mkdir(exist_ok=True)
                for name in (DATABASE_FILE, METADATA_FILE):
                    (fresh / name).replace(folder / name)
                sync_folder(folder / "db")
            finally:
                remove_tree(fresh)
    except OSError as error:
        raise storage_error(error, folder, "unpack trivy's database into") from error
    return read_trivy_db(folder)


class _ChunkReader(io.RawIOBase):
    """A file over an iterator of byte chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io gives a memoryview
        """Fill `buffer`; 0 at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _unpack(chunks: Iterator[bytes], target: Path) -> None:
    raw = io.BufferedReader(_ChunkReader(chunks), _CHUNK_BYTES)
    try:
        with gzip.GzipFile(fileobj=raw) as stream:
            _extract(stream, target)
            if len(stream.read(_MAX_TAIL_BYTES + 1)) > _MAX_TAIL_BYTES:
                raise IntegrityError("trivy's database: too much after the end of the archive")
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise IntegrityError(f"trivy's database: not a whole tar+gzip archive: {error}") from error


def _extract(stream: gzip.GzipFile, target: Path) -> None:
    seen = set()
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name not in _LIMITS or not member.isreg() or name in seen:
                raise IntegrityError(f"trivy's database: unexpected entry {member.name[:100]!r}")
            if member.size > _LIMITS[name]:
                raise IntegrityError(f"trivy's database: {name} has {member.size} bytes, too many")
            seen.add(name)
            content = archive.extractfile(member)
            if content is None:
                raise IntegrityError(f"trivy's database: {name} has no content")
            with (target / name).open("xb") as file:
                shutil.copyfileobj(content, file, _CHUNK_BYTES)
    if missing := sorted(set(_LIMITS) - seen):
        raise IntegrityError(f"trivy's database: {missing[0]} is missing")

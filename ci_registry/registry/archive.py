"""An OCI layout inside one tar file as a repository: read in place, or written as the bytes come."""

import contextlib
import os
import posixpath
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from ci_registry.errors import IntegrityError, NotFoundError, StorageError
from ci_registry.files import storage_error, sync_folder
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.content import CHUNK_BYTES, opened, verified
from ci_registry.registry.interface import BlobOutcome, BlobSource, PushedBlob
from ci_registry.registry.layout import Layout
from ci_registry.registry.layout_index import (
    LAYOUT_FILE,
    MAX_INDEX_BYTES,
    LayoutIndex,
    check_marker,
)
from ci_registry.registry.tar_trouble import tar_trouble

MAX_MEMBERS = 200_000
_BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True)
class _Part:
    """Where the bytes of one file are inside the archive."""

    offset: int
    size: int


class ArchiveLayout(Layout):
    """A layout in a tar file, read without unpacking it; nothing can be written."""

    def __init__(self, path: Path, parts: dict[str, _Part]) -> None:
        """Use `open_archive`."""
        super().__init__(path)
        self._parts = parts

    def _index_bytes(self) -> bytes:
        check_marker(self._small("oci-layout", 4096), where=str(self.path))
        return self._small("index.json", MAX_INDEX_BYTES)

    def _small(self, name: str, max_bytes: int) -> bytes:
        part = self._parts.get(name)
        if part is None:
            raise IntegrityError(
                f"{self.path} is not an OCI archive: {name} is missing",
                hint="for what `docker save` wrote, use docker-archive:",
            )
        if part.size > max_bytes:
            raise IntegrityError(f"{self.path}: {name} is larger than {max_bytes} bytes")
        return b"".join(self._read(part))

    def _read(self, part: _Part) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                file.seek(part.offset)
                left = part.size
                while left and (piece := file.read(min(CHUNK_BYTES, left))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise storage_error(error, self.path, "read") from error

    def size_of(self, digest: Digest) -> int | None:
        """Return the size of a blob, None when it is absent."""
        part = self._parts.get(_member(digest))
        return part.size if part is not None else None

    def open(self, digest: Digest) -> Iterator[bytes]:
        """Yield the raw bytes of a blob; the file is opened with the first piece."""
        part = self._parts.get(_member(digest))
        if part is None:
            raise NotFoundError(f"{self.path} has no blob {digest}", code="BLOB_UNKNOWN")
        yield from verified(self._read(part), digest, what=f"{self.path}: {digest}")

    def push_blob(
        self, descriptor: Descriptor, source: BlobSource, *, mount_from: tuple[str, ...] = ()
    ) -> PushedBlob:
        """Refuse: an archive that exists is never changed."""
        del source, mount_from
        raise StorageError(
            f"{self.path} is an archive: {descriptor.digest} can't be added to it",
            hint="copy it to a folder first: ci-registry copy oci-archive:FILE oci:DIR",
        )


def _member(digest: Digest) -> str:
    checked = Digest(digest)
    return f"blobs/{checked.algorithm}/{checked.hex}"


def open_archive(path: Path) -> ArchiveLayout:
    """Read where everything is in an OCI archive; the blobs stay where they are.

    Raises:
        IntegrityError: it is no plain tar, or holds what an OCI layout does not.
        StorageError: it can't be read.
    """
    parts: dict[str, _Part] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for count, member in enumerate(tar):
                if count >= MAX_MEMBERS:
                    raise IntegrityError(f"{path} has more than {MAX_MEMBERS} files")
                name = posixpath.normpath(member.name)
                if member.isdir():
                    continue
                if not member.isreg():
                    continue  # links of Docker's older shape; no part of a layout
                if name in parts:
                    raise IntegrityError(f"{path} has {name!r} twice")
                parts[name] = _Part(member.offset_data, member.size)
    except tarfile.TarError as error:
        raise tar_trouble(path, error) from error
    except OSError as error:
        raise storage_error(error, path, "read") from error
    return ArchiveLayout(path, parts)


class ArchiveWriter(ArchiveLayout):
    """A new archive: blobs are appended as they come, `index.json` is written at the end.

    One blob is written at a time; another that fails half-way leaves no trace.
    """

    def __init__(self, path: Path, file: IO[bytes], written: Path) -> None:
        """Use `create_archive`."""
        super().__init__(written, {})
        self._final = path
        self._file = file
        self._write_lock = threading.Lock()
        self._index_lock = threading.Lock()

    @property
    def name(self) -> str:
        """The path that the archive will have."""
        return str(self._final)

    def _index(self) -> LayoutIndex:
        return self._kept

    def _write_index(self, entries: list[dict[str, object]]) -> None:
        self._kept = self._kept.changed(entries, where=str(self._final))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._index_lock:
            yield

    def push_blob(
        self, descriptor: Descriptor, source: BlobSource, *, mount_from: tuple[str, ...] = ()
    ) -> PushedBlob:
        """Append a blob unless it is there."""
        del mount_from
        digest = descriptor.digest
        with self._write_lock:
            if self.size_of(digest) == descriptor.size:
                return PushedBlob(digest=digest, outcome=BlobOutcome.PRESENT)
            what = f"blob {digest}"
            with opened(source) as chunks:
                checked = verified(chunks, digest, what=what, size_bytes=descriptor.size)
                self._append(_member(digest), descriptor.size, checked)
        return PushedBlob(digest=digest, outcome=BlobOutcome.UPLOADED, bytes_sent=descriptor.size)

    def _append(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        start = self._file.tell()
        try:
            info = tarfile.TarInfo(name)
            info.size, info.mode = size, 0o644
            self._file.write(info.tobuf(tarfile.PAX_FORMAT))
            offset = self._file.tell()
            for chunk in chunks:
                self._file.write(chunk)
            self._file.write(b"\0" * (-size % _BLOCK_BYTES))
            self._file.flush()
        except BaseException as error:
            self._file.seek(start)
            self._file.truncate()
            if isinstance(error, OSError):
                raise storage_error(error, self._final, "write") from error
            raise
        self._parts[name] = _Part(offset, size)

    def delete(self, digest: Digest) -> None:
        """Refuse: what is written stays."""
        raise StorageError(f"{self._final} is being written, {digest} can't be taken out")

    def finish(self) -> None:
        """Write what makes it a layout, and give it its name."""
        for name, data in (("oci-layout", LAYOUT_FILE), ("index.json", self._kept.raw)):
            self._append(name, len(data), iter((data,)))
        try:
            self._file.write(b"\0" * (2 * _BLOCK_BYTES))
            self._file.flush()
            os.fchmod(self._file.fileno(), 0o644)
            os.fsync(self._file.fileno())
            self.path.replace(self._final)
            sync_folder(self._final.parent)
        except OSError as error:
            raise storage_error(error, self._final, "write") from error

    @classmethod
    @contextlib.contextmanager
    def creating(cls, path: Path) -> Iterator[Self]:
        """Give a writer; call `finish` to keep what was written, otherwise nothing stays.

        Raises:
            StorageError: the folder can't be written.
        """
        try:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
        except OSError as error:
            raise storage_error(error, path, "write") from error
        try:
            with os.fdopen(handle, "w+b", buffering=CHUNK_BYTES) as file:
                yield cls(path, file, Path(name))
        finally:
            Path(name).unlink(missing_ok=True)

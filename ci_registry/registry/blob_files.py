"""Blob files on disk: written under a temporary name, read in pieces, linked into views."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ci_registry.files import storage_error
from ci_registry.oci.digest import Digest
from ci_registry.registry.content import CHUNK_BYTES


def blob_path(folder: Path, digest: Digest) -> Path:
    """Return where content stands in an OCI image layout, which a served folder is as well."""
    return folder / "blobs" / digest.algorithm / digest.hex


class Incoming:
    """A blob that is being written; it becomes visible with `adopt` and never half."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file

    def write(self, data: bytes) -> None:
        """Add bytes."""
        try:
            self._file.write(data)
        except OSError as error:
            raise storage_error(error, self._path, "write") from error

    def adopt(self, target: Path) -> None:
        """Rename the finished file into its place."""
        try:
            self._file.flush()
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.chmod(0o644)
            self._path.replace(target)
        except OSError as error:
            raise storage_error(error, target, "write") from error


@contextlib.contextmanager
def incoming(folder: Path) -> Iterator[Incoming]:
    """Give a temporary file in `folder`; it is gone afterwards unless it was adopted."""
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".incoming-")
    except OSError as error:
        raise storage_error(error, folder, "write") from error
    try:
        with os.fdopen(handle, "wb", buffering=CHUNK_BYTES) as file:
            yield Incoming(Path(name), file)
    finally:
        Path(name).unlink(missing_ok=True)


def pieces(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file; it is opened with the first piece."""
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece
    except OSError as error:
        raise storage_error(error, path, "read") from error


def link(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a symbolic one where hard links do not work."""
    source = source.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:  # another file system, or hard links are forbidden there
            target.symlink_to(source)
    except OSError as error:
        raise storage_error(error, target, "link") from error

"""Content in a folder: every change is durable before it is answered, and nothing half-written is ever found."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from ci_registry.errors import StorageError
from ci_registry.files import remove_tree, storage_error
from ci_registry.oci.digest import Digest, Hasher, is_digest
from ci_registry.registry.blob_files import blob_path
from ci_registry.registry_server.contents import PIECE_BYTES, Upload
from ci_registry.registry_server.file_operations import FileOperations
from ci_registry.registry_server.message import FilePart

DATABASE = "registry.sqlite"
_ALGORITHMS = ("sha256", "sha512")
_SWEPT_AT_ONCE = 500


class _FileUpload:
    """An upload in a file, hashed with sha256 as it comes; the file is made with the first byte."""

    def __init__(
        self, path: Path, operations: FileOperations, upload_id: str, repository: str
    ) -> None:
        self.id = upload_id
        self.repository = repository
        self.lock = threading.Lock()
        self.active_at = 0.0
        self.path = path
        self._operations = operations
        self._file: BinaryIO | None = None
        self._made = False
        self._torn = False
        self._hasher: Hasher | None = Hasher()
        self._size = 0

    @property
    def size_bytes(self) -> int:
        return self._size

    @property
    def file(self) -> BinaryIO:
        """The file, open for writing at its end, without what a failed write left there."""
        if self._file is None:
            self._file = self._operations.open(self.path, new=not self._made)
            self._made = True
        if self._torn:
            self._operations.truncate(self._file, self._size)
            self._torn = False
        return self._file

    def append(self, piece: bytes) -> None:
        try:
            file = self.file
            self._torn = True
            self._operations.write(file, piece)
            self._torn = False
        except OSError as error:
            raise storage_error(error, self.path, "write") from error
        if self._hasher is not None:
            self._hasher.update(piece)
        self._size += len(piece)

    def truncate(self, size_bytes: int) -> None:
        if size_bytes != self._size:
            self._size = size_bytes
            self._torn = True
            self._hasher = Hasher() if size_bytes == 0 else None

    def digest(self, algorithm: str) -> Digest:
        if algorithm == "sha256" and self._hasher is not None:
            return self._hasher.digest
        hasher, left = Hasher(algorithm), self._size
        if left:
            with self.path.open("rb") as file:
                while left and (piece := file.read(min(left, PIECE_BYTES))):
                    hasher.update(piece)
                    left -= len(piece)
        return hasher.digest

    def rest(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class FolderContents:
    """Content in `blobs/<algorithm>/<hex>`: temporary file, fsync, rename, fsync of the folder."""

    def __init__(self, folder: Path, operations: FileOperations) -> None:
        """Make what is missing; uploads that a dead server left are removed."""
        self._folder = folder
        self._operations = operations
        self._incoming = folder / "uploads"
        remove_tree(self._incoming)
        operations.make_folder(self._incoming)
        for algorithm in _ALGORITHMS:
            operations.make_folder(folder / "blobs" / algorithm)
        for made in (folder / "blobs", folder):
            operations.sync_folder(made)
        with contextlib.suppress(PermissionError):  # then somebody else made the folder
            operations.sync_folder(folder.parent)

    def _path(self, digest: Digest) -> Path:
        return blob_path(self._folder, digest)

    def new_upload(self, upload_id: str, repository: str) -> Upload:
        """Start an upload."""
        path = self._incoming / f"u-{upload_id}"
        return _FileUpload(path, self._operations, upload_id, repository)

    def keep(self, upload: Upload, digest: Digest) -> None:
        """Make a finished upload durable under its digest."""
        if not isinstance(upload, _FileUpload):
            raise TypeError("an upload of another store")
        path = self._path(digest)
        try:
            self._operations.sync(upload.file)
            upload.rest()
            self._operations.rename(upload.path, path)
            self._operations.sync_folder(path.parent)
        except OSError as error:
            raise storage_error(error, path, "write") from error

    def drop(self, upload: Upload) -> None:
        """Throw an upload away."""
        if isinstance(upload, _FileUpload):
            upload.rest()
            self._operations.remove(upload.path)

    def put(self, digest: Digest, body: bytes) -> None:
        """Make small content durable under its digest."""
        upload = self.new_upload(digest.hex, "")
        try:
            upload.append(body)
            self.keep(upload, digest)
        except StorageError:
            self.drop(upload)
            raise

    def part(self, digest: Digest, offset: int, size: int) -> bytes | FilePart:
        """Return a part of stored content."""
        return FilePart(path=self._path(digest), offset=offset, size=size)

    def remove(self, digest: Digest) -> None:
        """Delete content; where that fails, the file goes at the next start."""
        with contextlib.suppress(OSError):
            self._operations.remove(self._path(digest))

    def sweep(self, known: Callable[[list[Digest]], set[Digest]]) -> None:
        """Remove the files that no catalog knows: they were on their way in, or out, at a crash."""
        for algorithm in _ALGORITHMS:
            with os.scandir(self._folder / "blobs" / algorithm) as entries:
                names = (f"{algorithm}:{entry.name}" for entry in entries)
                found = [Digest(name) for name in names if is_digest(name)]
            rest = iter(found)
            while some := list(islice(rest, _SWEPT_AT_ONCE)):
                for digest in set(some) - known(some):
                    self.remove(digest)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which somebody else keeps images: opening would remove what we don't know.

    Raises:
        StorageError: it is an image layout, or has blobs, and no database of ours.
    """
    if (folder / DATABASE).exists():
        return
    has_blobs = any(any((folder / "blobs" / a).glob("*")) for a in _ALGORITHMS)
    if has_blobs or (folder / "index.json").exists():
        raise StorageError(
            f"{folder} holds images, but was not written by this registry",
            hint="serve an empty folder and push the images to it",
        )


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file, which names the holder's pid.

    Raises:
        StorageError: another process has it.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise storage_error(error, folder, "make") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            raise StorageError(
                f"{folder} is served by another process (pid {holder})",
                hint="stop it, or serve another folder",
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield

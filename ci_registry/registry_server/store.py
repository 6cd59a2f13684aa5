"""Where the embedded registry keeps blobs and manifests: in memory, or in a folder that survives."""

import contextlib
import fcntl
import io
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from ci_registry.errors import StorageError
from ci_registry.files import remove_tree, storage_error, sync_folder
from ci_registry.oci.digest import Digest, Hasher
from ci_registry.registry_server.catalog import Catalog, StoredManifest
from ci_registry.registry_server.message import FilePart

PIECE_BYTES = 1024 * 1024


class Upload(Protocol):
    """Bytes on their way in; one request at a time may hold `lock`."""

    id: str
    repository: str
    lock: threading.Lock

    @property
    def size_bytes(self) -> int:
        """How much has arrived."""

    def append(self, piece: bytes) -> None:
        """Add bytes."""

    def truncate(self, size_bytes: int) -> None:
        """Forget everything after the first `size_bytes`."""

    def digest(self, algorithm: str) -> Digest:
        """Return the digest of everything that arrived."""


class Contents(Protocol):
    """Keeps bytes under their digest; knows nothing of repositories."""

    def new_upload(self, upload_id: str, repository: str) -> Upload:
        """Start an upload."""

    def keep(self, upload: Upload, digest: Digest) -> None:
        """Make a finished upload durable under its digest; the upload is gone afterwards."""

    def drop(self, upload: Upload) -> None:
        """Throw an upload away."""

    def put(self, digest: Digest, body: bytes) -> None:
        """Make small content durable under its digest."""

    def part(self, digest: Digest, offset: int, size: int) -> bytes | FilePart:
        """Return a part of stored content."""

    def remove(self, digest: Digest) -> None:
        """Delete content; missing content is fine."""


class Store:
    """Repositories over any `Contents`; every method may be called from any thread."""

    def __init__(self, contents: Contents, catalog: Catalog, new_id: Callable[[], str]) -> None:
        self._contents = contents
        self._new_id = new_id
        self._uploads: dict[str, Upload] = {}
        self.catalog = catalog

    def exclusive(self) -> contextlib.AbstractContextManager[object]:
        """Keep every other writer out, for a check and the write that depends on it."""
        return self.catalog.lock

    def begin_upload(self, repository: str) -> Upload:
        """Start an upload in a repository."""
        upload = self._contents.new_upload(self._new_id(), repository)
        self._uploads[upload.id] = upload
        return upload

    def find_upload(self, repository: str, upload_id: str) -> Upload | None:
        """Return a running upload of this repository."""
        upload = self._uploads.get(upload_id)
        return upload if upload is not None and upload.repository == repository else None

    def cancel_upload(self, upload: Upload) -> None:
        """Throw an upload away."""
        if self._uploads.pop(upload.id, None) is not None:
            self._contents.drop(upload)

    def finish_upload(self, upload: Upload, digest: Digest) -> None:
        """Store an upload, whose digest the caller has checked, as a blob of its repository."""
        size = upload.size_bytes
        try:
            with self.catalog.lock:
                if self.catalog.content_size(digest) is None:
                    self._contents.keep(upload, digest)
                self.catalog.add_blob(upload.repository, digest, size)
        finally:
            self.cancel_upload(upload)

    def pending_bytes(self) -> int:
        """Return how much the running uploads hold."""
        return sum(upload.size_bytes for upload in tuple(self._uploads.values()))

    def mount_blob(self, repository: str, digest: Digest, source: str) -> bool:
        """Give a repository a blob of another one; False when `source` doesn't have it."""
        with self.catalog.lock:
            size = self.catalog.blob_size(source, digest)
            if size is None:
                return False
            self.catalog.add_blob(repository, digest, size)
        return True

    def delete_blob(self, repository: str, digest: Digest) -> bool:
        """Take a blob from a repository; its bytes go when nobody else has them."""
        with self.catalog.lock:
            found = self.catalog.remove_blob(repository, digest)
            self._collect(digest)
        return found

    def put_manifest(
        self, repository: str, manifest: StoredManifest, body: bytes, tags: tuple[str, ...]
    ) -> None:
        """Store a manifest and point tags at it, all at once."""
        with self.catalog.lock:
            if self.catalog.content_size(manifest.digest) is None:
                self._contents.put(manifest.digest, body)
            self.catalog.add_manifest(repository, manifest, tags)

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Delete a manifest and every tag of the repository that points at it."""
        with self.catalog.lock:
            found = self.catalog.remove_manifest(repository, digest)
            self._collect(digest)
        return found

    def part(self, digest: Digest, offset: int, size: int) -> bytes | FilePart:
        """Return a part of content that the caller found in the catalog."""
        return self._contents.part(digest, offset, size)

    def close(self) -> None:
        """Drop running uploads and free files and locks."""
        for upload in tuple(self._uploads.values()):
            self.cancel_upload(upload)
        self.catalog.close()

    def _collect(self, digest: Digest) -> None:
        if self.catalog.forget_unused(digest):
            self._contents.remove(digest)


class _MemoryUpload:
    """An upload in memory."""

    def __init__(self, upload_id: str, repository: str) -> None:
        self.id = upload_id
        self.repository = repository
        self.lock = threading.Lock()
        self.buffer = io.BytesIO()

    @property
    def size_bytes(self) -> int:
        return self.buffer.tell()

    def append(self, piece: bytes) -> None:
        self.buffer.write(piece)

    def truncate(self, size_bytes: int) -> None:
        self.buffer.seek(size_bytes)
        self.buffer.truncate()

    def digest(self, algorithm: str) -> Digest:
        hasher = Hasher(algorithm)
        hasher.update(self.buffer.getbuffer())
        return hasher.digest


class _MemoryContents:
    """Content in a dict."""

    def __init__(self) -> None:
        self._bytes: dict[Digest, bytes] = {}

    def new_upload(self, upload_id: str, repository: str) -> Upload:
        return _MemoryUpload(upload_id, repository)

    def keep(self, upload: Upload, digest: Digest) -> None:
        if isinstance(upload, _MemoryUpload):
            self._bytes[digest] = upload.buffer.getvalue()

    def drop(self, upload: Upload) -> None:
        if isinstance(upload, _MemoryUpload):
            upload.truncate(0)

    def put(self, digest: Digest, body: bytes) -> None:
        self._bytes[digest] = body

    def part(self, digest: Digest, offset: int, size: int) -> bytes | FilePart:
        return self._bytes[digest][offset : offset + size]

    def remove(self, digest: Digest) -> None:
        self._bytes.pop(digest, None)


class MemoryStore(Store):
    """A registry in memory: for tests and small dry runs."""

    def __init__(self, *, new_id: Callable[[], str] = secrets.token_urlsafe) -> None:
        """`new_id` names uploads and must be unguessable."""
        super().__init__(_MemoryContents(), Catalog(":memory:"), new_id)


class _FileUpload:
    """An upload in a file, hashed with sha256 as it comes."""

    def __init__(self, path: Path, upload_id: str, repository: str) -> None:
        self.id = upload_id
        self.repository = repository
        self.lock = threading.Lock()
        self.path = path
        self.file = path.open("wb", buffering=0)
        self._hasher: Hasher | None = Hasher()
        self._size = 0

    @property
    def size_bytes(self) -> int:
        return self._size

    def append(self, piece: bytes) -> None:
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            raise storage_error(error, self.path, "write") from error
        if self._hasher is not None:
            self._hasher.update(piece)
        self._size += len(piece)

    def truncate(self, size_bytes: int) -> None:
        if size_bytes != self._size:
            self.file.seek(size_bytes)
            self.file.truncate()
            self._size = size_bytes
            self._hasher = Hasher() if size_bytes == 0 else None

    def digest(self, algorithm: str) -> Digest:
        if algorithm == "sha256" and self._hasher is not None:
            return self._hasher.digest
        hasher = Hasher(algorithm)
        with self.path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                hasher.update(piece)
        return hasher.digest


class _FolderContents:
    """Content in `blobs/<algorithm>/<hex>`: temporary file, fsync, rename."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        self._incoming = folder / "uploads"
        remove_tree(self._incoming)
        self._incoming.mkdir(parents=True)
        for algorithm in ("sha256", "sha512"):
            (folder / "blobs" / algorithm).mkdir(parents=True, exist_ok=True)

    def _path(self, digest: Digest) -> Path:
        return self._folder / "blobs" / digest.algorithm / digest.hex

    def new_upload(self, upload_id: str, repository: str) -> Upload:
        try:
            return _FileUpload(self._incoming / f"u-{upload_id}", upload_id, repository)
        except OSError as error:
            raise storage_error(error, self._incoming, "write to") from error

    def keep(self, upload: Upload, digest: Digest) -> None:
        if not isinstance(upload, _FileUpload):
            raise TypeError("an upload of another store")
        path = self._path(digest)
        try:
            with upload.file as file:
                if self._durable:
                    os.fsync(file.fileno())
            upload.path.replace(path)
            if self._durable:
                sync_folder(path.parent)
        except OSError as error:
            raise storage_error(error, path, "write") from error

    def drop(self, upload: Upload) -> None:
        if isinstance(upload, _FileUpload):
            upload.file.close()
            upload.path.unlink(missing_ok=True)

    def put(self, digest: Digest, body: bytes) -> None:
        upload = self.new_upload(digest.hex, "")
        upload.append(body)
        self.keep(upload, digest)

    def part(self, digest: Digest, offset: int, size: int) -> bytes | FilePart:
        return FilePart(path=self._path(digest), offset=offset, size=size)

    def remove(self, digest: Digest) -> None:
        self._path(digest).unlink(missing_ok=True)


class FolderStore(Store):
    """A registry in a folder, which one process at a time may serve."""

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        new_id: Callable[[], str] = secrets.token_urlsafe,
    ) -> None:
        """Open or make the registry in `folder`.

        Args:
            folder: made when missing.
            durable: whether an answered write survives a power cut; a dry run needs no such promise.
            new_id: names uploads and must be unguessable.

        Raises:
            StorageError: another process serves it (its pid is named), or it can't be written.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(_claimed(folder))
            contents = _FolderContents(folder, durable=durable)
            catalog = Catalog(str(folder / "registry.sqlite"), durable=durable)
            self._held = stack.pop_all()
        super().__init__(contents, catalog, new_id)
        self.folder = folder

    def close(self) -> None:
        """Drop running uploads, close the database, give the folder free."""
        super().close()
        self._held.close()


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file, which names the holder's pid."""
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

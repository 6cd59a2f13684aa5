"""Bytes under their digest, and bytes on their way in: the interface, and the one that keeps them in memory."""

import io
import threading
from typing import Protocol

from ci_registry.oci.digest import Digest, Hasher
from ci_registry.registry_server.message import FilePart

PIECE_BYTES = 1024 * 1024


class Upload(Protocol):
    """Bytes on their way in; one request at a time may hold `lock`."""

    id: str
    repository: str
    lock: threading.Lock
    active_at: float
    """When a request last used it, in seconds since 1970."""

    @property
    def size_bytes(self) -> int:
        """How much has arrived."""

    def append(self, piece: bytes) -> None:
        """Add bytes."""

    def truncate(self, size_bytes: int) -> None:
        """Forget everything after the first `size_bytes`."""

    def digest(self, algorithm: str) -> Digest:
        """Return the digest of everything that arrived."""

    def rest(self) -> None:
        """Hold no open file until the next request comes."""


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


class _MemoryUpload:
    """An upload in memory."""

    def __init__(self, upload_id: str, repository: str) -> None:
        self.id = upload_id
        self.repository = repository
        self.lock = threading.Lock()
        self.active_at = 0.0
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

    def rest(self) -> None:
        pass  # there is no file


class MemoryContents:
    """Content in a dict."""

    def __init__(self) -> None:
        self._bytes: dict[Digest, bytes] = {}

    def new_upload(self, upload_id: str, repository: str) -> Upload:
        """Start an upload."""
        return _MemoryUpload(upload_id, repository)

    def keep(self, upload: Upload, digest: Digest) -> None:
        """Keep a finished upload."""
        if isinstance(upload, _MemoryUpload):
            self._bytes[digest] = upload.buffer.getvalue()

    def drop(self, upload: Upload) -> None:
        """Throw an upload away."""
        if isinstance(upload, _MemoryUpload):
            upload.truncate(0)

    def put(self, digest: Digest, body: bytes) -> None:
        """Keep small content."""
        self._bytes[digest] = body

    def part(self, digest: Digest, offset: int, size: int) -> bytes | FilePart:
        """Return a part of stored content."""
        return self._bytes[digest][offset : offset + size]

    def remove(self, digest: Digest) -> None:
        """Delete content."""
        self._bytes.pop(digest, None)

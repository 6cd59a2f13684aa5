"""Hashes a stream in a thread of its own, so that receiving, hashing and writing go on at the same time."""

import queue
import threading

from ci_registry.oci.digest import Digest, Hasher

_HERE_BYTES = 4 * 1024 * 1024
"""Up to so much is hashed in the caller's thread: a thread would take longer to start."""
_PIECES_AHEAD = 8


class AsideHasher:
    """A `Hasher` whose work is done aside; hashing lets other threads run meanwhile."""

    def __init__(self, algorithm: str) -> None:
        self._hasher = Hasher(algorithm)
        self._size_bytes = 0
        self._waiting: queue.Queue[bytes | None] | None = None
        self._thread: threading.Thread | None = None

    def update(self, piece: bytes) -> None:
        """Add bytes, which nobody may change afterwards; waits when hashing is behind."""
        self._size_bytes += len(piece)
        if self._waiting is None and self._size_bytes <= _HERE_BYTES:
            self._hasher.update(piece)
            return
        if self._waiting is None:
            self._waiting = queue.Queue(_PIECES_AHEAD)
            self._thread = threading.Thread(
                target=self._work, args=(self._waiting,), name="hash", daemon=True
            )
            self._thread.start()
        self._waiting.put(piece)

    def _work(self, waiting: "queue.Queue[bytes | None]") -> None:
        while (piece := waiting.get()) is not None:
            self._hasher.update(piece)

    def close(self) -> None:
        """Wait until everything is hashed, and end the thread; may be called again."""
        if self._waiting is not None and self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
            self._waiting = None

    @property
    def digest(self) -> Digest:
        """The digest of everything added; only after `close`."""
        return self._hasher.digest

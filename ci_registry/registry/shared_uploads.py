"""Carries the blobs of many images to one repository, each blob once however many images share it."""

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from ci_registry.cancel import Cancel
from ci_registry.errors import AccessError, CiRegistryError, NotFoundError
from ci_registry.events import EventSink
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.content import CheckedSource, opened
from ci_registry.registry.interface import BlobOutcome, BlobSource, PushedBlob, Repository
from ci_registry.registry.remote import RemoteRepository
from ci_registry.registry.transfer import BlobProgress

BLOBS_AT_ONCE = 16
_ASKED_FOR_BYTES = 4 * 1024 * 1024
"""From this size on a blob is looked for even in a new repository: an interrupted copy may have left it."""


class SharedUploads:
    """Uploads of one pair of repositories; bytes stream from one to the other and touch no disk."""

    def __init__(
        self,
        source: Repository,
        target: Repository,
        *,
        pool: ThreadPoolExecutor,
        cancel: Cancel,
        on_event: EventSink,
        step: str,
        is_new: bool = False,
    ) -> None:
        """`pool` runs nothing that waits for an upload; `is_new`: the target has nothing yet."""
        self._is_new = is_new
        self._source = source
        self._target = target
        self._pool = pool
        self._cancel = cancel
        self._on_event = on_event
        self._step = step
        self._lock = threading.Lock()
        self._begun: dict[Digest, Future[PushedBlob]] = {}
        self._accepted = False
        self.refusal: AccessError | NotFoundError | None = None
        """Why the target takes nothing from us at all: no right to push, or no such repository."""

    def ensure(self, blobs: tuple[Descriptor, ...], *, image: str) -> tuple[PushedBlob, ...]:
        """Wait until all blobs are in the target; those that another image brought count as present.

        Raises:
            CiRegistryError: the first error, also when another image met it.
        """
        unique = {blob.digest: blob for blob in blobs}
        waiting = []
        for blob in sorted(unique.values(), key=lambda blob: -blob.size):
            with self._lock:
                own = blob.digest not in self._begun
                if own:
                    self._begun[blob.digest] = self._pool.submit(self._upload, blob, image)
                waiting.append((own, self._begun[blob.digest]))
        done = []
        for own, future in waiting:
            pushed = future.result()
            if not own:
                pushed = dataclasses.replace(pushed, outcome=BlobOutcome.PRESENT, bytes_sent=0)
            done.append(pushed)
        return tuple(done)

    def _upload(self, blob: Descriptor, image: str) -> PushedBlob:
        progress = BlobProgress(self._on_event, image=image, step=self._step, blob=blob)
        self._cancel.check()
        if self.refusal is not None:
            raise self.refusal
        reading = _Reading()
        try:
            pushed = self._push(blob, lambda: self._pieces(blob, progress, reading))
        except (AccessError, NotFoundError) as error:
            if not (reading.failed or self._accepted):
                self.refusal = error
            raise
        self._accepted = self._accepted or pushed.outcome is not BlobOutcome.PRESENT
        progress.end(pushed.outcome)
        return pushed

    def _push(self, blob: Descriptor, open_blob: BlobSource) -> PushedBlob:
        mount_from = (self._source.name,)
        if isinstance(self._target, RemoteRepository):
            return self._target.push_blob(
                blob,
                CheckedSource(open_blob),
                mount_from=mount_from,
                is_new=self._is_new and blob.size < _ASKED_FOR_BYTES,
            )
        return self._target.push_blob(blob, CheckedSource(open_blob), mount_from=mount_from)

    def _pieces(
        self, blob: Descriptor, progress: BlobProgress, reading: "_Reading"
    ) -> Iterator[bytes]:
        progress.begin()
        try:
            with opened(lambda: self._source.open(blob.digest)) as chunks:
                for piece in chunks:
                    self._cancel.check()
                    yield piece
                    progress.add(len(piece))
        except CiRegistryError:
            reading.failed = True
            raise


@dataclasses.dataclass(slots=True)
class _Reading:
    """Tells the source's failures from the target's."""

    failed: bool = False

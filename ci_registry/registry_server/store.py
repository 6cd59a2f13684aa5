"""Where the embedded registry keeps blobs and manifests: in memory, or in a folder that survives."""

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from ci_registry.files import storage_error
from ci_registry.oci.digest import Digest
from ci_registry.registry_server.catalog import TOUCH_STEP_S, Catalog
from ci_registry.registry_server.contents import Contents, MemoryContents, Upload
from ci_registry.registry_server.file_operations import FileOperations, RealFileOperations
from ci_registry.registry_server.folder import DATABASE, FolderContents, check_folder, claimed
from ci_registry.registry_server.layout_index import INDEX, write_layout_index
from ci_registry.registry_server.message import FilePart
from ci_registry.registry_server.metrics import Metrics
from ci_registry.registry_server.reachability import Collected
from ci_registry.registry_server.schema import StoredManifest

GRACE_S = 24 * 3600.0
"""How long everything that somebody was told of stays, whether a tag leads to it or not."""


class Store:
    """Repositories over any `Contents`; every method may be called from any thread."""

    def __init__(
        self,
        contents: Contents,
        catalog: Catalog,
        new_id: Callable[[], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._contents = contents
        self._new_id = new_id
        self._uploads: dict[str, Upload] = {}
        self._opened_at = clock()
        self.clock = clock
        self.catalog = catalog
        self.metrics = Metrics()

    def exclusive(self) -> contextlib.AbstractContextManager[object]:
        """Keep every other writer out, for a check and the write that depends on it."""
        return self.catalog.lock

    # --- uploads

    def begin_upload(self, repository: str) -> Upload:
        """Start an upload in a repository."""
        upload = self._contents.new_upload(self._new_id(), repository)
        upload.active_at = self.clock()
        self._uploads[upload.id] = upload
        self.metrics.count_upload("started")
        return upload

    def find_upload(self, repository: str, upload_id: str) -> Upload | None:
        """Return a running upload of this repository."""
        upload = self._uploads.get(upload_id)
        return upload if upload is not None and upload.repository == repository else None

    def cancel_upload(self, upload: Upload, *, outcome: str = "cancelled") -> None:
        """Throw an upload away; one that has ended is left alone."""
        if self._uploads.pop(upload.id, None) is not None:
            self._contents.drop(upload)
            self.metrics.count_upload(outcome)

    def finish_upload(self, upload: Upload, digest: Digest) -> None:
        """Store an upload, whose digest the caller has checked, as a blob of its repository."""
        size, outcome = upload.size_bytes, "failed"
        try:
            with self.catalog.lock:
                if self.catalog.content_size(digest) is None:
                    self._contents.keep(upload, digest)
                self.catalog.add_blob(upload.repository, digest, size, now=self.clock())
            outcome = "finished"
        finally:
            self.cancel_upload(upload, outcome=outcome)

    def pending_bytes(self) -> int:
        """Return how much the running uploads hold."""
        return sum(upload.size_bytes for upload in tuple(self._uploads.values()))

    @property
    def upload_count(self) -> int:
        """How many uploads are running."""
        return len(self._uploads)

    # --- blobs and manifests

    def tell_blob(self, repository: str, digest: Digest) -> int | None:
        """Return the size of a blob that somebody is told exists; it stays for the grace period."""
        with self.catalog.lock:
            size = self.catalog.blob_size(repository, digest)
            if size is not None:
                self.catalog.touch("blobs", repository, digest, self.clock())
        return size

    def tell_manifest(self, repository: str, reference: Digest | str) -> StoredManifest | None:
        """Return a manifest, by digest or tag, that somebody is told exists; it stays as well."""
        with self.catalog.lock:
            is_digest = isinstance(reference, Digest)
            digest = reference if is_digest else self.catalog.tag(repository, reference)
            found = self.catalog.manifest(repository, Digest(digest)) if digest else None
            if found is not None:
                self.catalog.touch("manifests", repository, found.digest, self.clock())
        return found

    def mount_blob(self, repository: str, digest: Digest, source: str) -> bool:
        """Give a repository a blob of another one; False when `source` doesn't have it."""
        with self.catalog.lock:
            size = self.catalog.blob_size(source, digest)
            if size is None:
                return False
            self.catalog.add_blob(repository, digest, size, now=self.clock())
        self.metrics.count_upload("mounted")
        return True

    def delete_blob(self, repository: str, digest: Digest, *, bury: bool = False) -> bool:
        """Take a blob from a repository; its bytes go when nobody else has them.

        `bury`: also hide the one that is upstream.
        """
        with self.catalog.lock:
            found = self.catalog.remove_blob(repository, digest, bury=bury)
            self._remove_if_unused(digest)
        return found

    def put_manifest(
        self, repository: str, manifest: StoredManifest, body: bytes, tags: tuple[str, ...]
    ) -> None:
        """Store a manifest and point tags at it, all at once."""
        with self.catalog.lock:
            if self.catalog.content_size(manifest.digest) is None:
                self._contents.put(manifest.digest, body)
            self.catalog.add_manifest(repository, manifest, tags, now=self.clock())

    def delete_manifest(self, repository: str, digest: Digest, *, bury: bool = False) -> bool:
        """Delete a manifest and every tag of the repository that points at it; `bury` as for blobs."""
        with self.catalog.lock:
            found = self.catalog.remove_manifest(repository, digest, bury=bury)
            self._remove_if_unused(digest)
        return found

    def delete_tag(self, repository: str, tag: str, *, bury: bool = False) -> bool:
        """Delete one tag; its manifest stays for the grace period at least; `bury` as for blobs."""
        return self.catalog.remove_tag(repository, tag, now=self.clock(), bury=bury)

    def part(self, digest: Digest, offset: int, size: int) -> bytes | FilePart:
        """Return a part of content that the caller found in the catalog."""
        return self._contents.part(digest, offset, size)

    def _remove_if_unused(self, digest: Digest) -> None:
        if self.catalog.forget_unused(digest):
            self._contents.remove(digest)

    # --- collection

    def collect(
        self,
        now: float,
        grace_s: float = GRACE_S,
        *,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Collected:
        """Remove what no tag leads to and nobody was told of within `grace_s` before `now`.

        Told of is what was uploaded, mounted, pushed, read or answered 200 to HEAD. Untagging
        counts too. Uploads that nobody went on with for as long are thrown away. Requests are
        answered meanwhile: only the marking keeps them waiting, not the removal of files.

        Args:
            now: in seconds since 1970.
            grace_s: in seconds.
            is_stopped: asked between files; what is left then goes at the next start.
        """
        cutoff = now - grace_s
        expired = self._expire_uploads(cutoff)
        if self._opened_at > cutoff:  # times from before a crash may be older than they should be
            cutoff -= TOUCH_STEP_S
        found = self.catalog.collect(cutoff)
        for digest in found.content:
            if is_stopped():
                break
            with self.catalog.lock:
                if self.catalog.content_size(digest) is None:  # nobody brought it back meanwhile
                    self._contents.remove(digest)
        found = dataclasses.replace(found, uploads=expired)
        self.metrics.count_collection(found, at=now)
        return found

    def _expire_uploads(self, cutoff: float) -> int:
        expired = 0
        for upload in tuple(self._uploads.values()):
            if upload.active_at >= cutoff or not upload.lock.acquire(blocking=False):
                continue  # in use, or somebody is just writing
            try:
                if upload.active_at < cutoff:
                    self.cancel_upload(upload, outcome="expired")
                    expired += 1
            finally:
                upload.lock.release()
        return expired

    def close(self) -> None:
        """Drop running uploads and free files and locks."""
        for upload in tuple(self._uploads.values()):
            self.cancel_upload(upload)
        self.catalog.close()


class MemoryStore(Store):
    """A registry in memory: for tests and small dry runs."""

    def __init__(
        self,
        *,
        new_id: Callable[[], str] = secrets.token_urlsafe,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`new_id` names uploads and must be unguessable; `clock` gives seconds since 1970."""
        super().__init__(MemoryContents(), Catalog(":memory:"), new_id, clock)


class FolderStore(Store):
    """A registry in a folder, which one process at a time may serve."""

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        new_id: Callable[[], str] = secrets.token_urlsafe,
        clock: Callable[[], float] = time.time,
        operations: FileOperations | None = None,
    ) -> None:
        """Open or make the registry in `folder`.

        Args:
            folder: made when missing.
            durable: whether an answered write survives a power cut; a dry run needs no such promise.
            new_id: names uploads and must be unguessable.
            clock: gives seconds since 1970.
            operations: changes files; tests record them.

        Raises:
            StorageError: another process serves it (its pid is named), it can't be written, or it
                holds images of somebody else.
        """
        operations = operations or RealFileOperations(durable=durable)
        with contextlib.ExitStack() as stack:
            stack.enter_context(claimed(folder))
            check_folder(folder)
            try:
                operations.remove(folder / INDEX)  # it would be wrong with the first write
                contents = FolderContents(folder, operations)
                catalog = Catalog(str(folder / DATABASE), durable=durable)
                stack.callback(catalog.close)
                operations.sync_folder(folder)
                contents.sweep(catalog.known)
            except OSError as error:
                raise storage_error(error, folder, "open") from error
            self._held = stack.pop_all()
        super().__init__(contents, catalog, new_id, clock)
        self.folder = folder
        self._writes_index = durable

    def write_layout_index(self) -> None:
        """Write `index.json`: until the next write the folder is an OCI image layout too."""
        write_layout_index(self.folder, self.catalog)

    def close(self) -> None:
        """Drop running uploads, write `index.json` unless nothing need last, give the folder free.

        Raises:
            StorageError: the index can't be written; everything is closed all the same.
        """
        with self._held:
            for upload in tuple(self._uploads.values()):
                self.cancel_upload(upload)
            if self._writes_index:
                self._writes_index = False
                self.write_layout_index()

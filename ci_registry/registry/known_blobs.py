"""Keeps the large blobs of an image's last build, so that a builder need not hand them over again.

BuildKit skips a blob that lies in the layout folder already. What is put there is hashed first; a
damaged blob is forgotten, and the builder writes it as if it had never been kept.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ci_registry.cache import DiskCache, link_or_copy
from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index
from ci_registry.registry.layout import Layout
from ci_registry.registry.proven import Identity, ProvenBlobs, identity_of

_BLOBS, _LISTS = "blobs", "blobs-of-image"
_SMALLEST_BYTES = 1 << 20
"""Smaller blobs are not worth a file of their own in the cache."""
_LARGEST_SHARE = 4
"""A blob larger than this part of the cache would push everything else out."""
_MOST_BLOBS = 500
_MAX_LIST_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBlobs:
    """The blobs of the last build of one image, as far as they are still in the cache."""

    cache: DiskCache
    digests: tuple[Digest, ...]
    proven: ProvenBlobs = field(default_factory=ProvenBlobs)
    """Is told of every blob that was hashed and put in place."""

    @contextlib.contextmanager
    def offered_to(self, layout: Path) -> Iterator[None]:
        """Put the blobs into a layout folder while a builder writes it; take out what it did not use.

        A blob that the builder writes at the same moment is simply not put there.
        """
        stop = threading.Event()
        thread = threading.Thread(target=self._place, args=(layout, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if self.digests:
            _remove_unused(Layout(layout), self.digests)

    def _place(self, layout: Path, stop: threading.Event) -> None:
        for digest in self.digests:
            if stop.is_set():
                return
            source = self.cache.path(_BLOBS, digest)
            target = Layout(layout).blob_path(digest)
            with contextlib.suppress(OSError):
                found, identity = _hash_file(source, digest, stop)
                if found == digest:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    link_or_copy(source, target)
                    self.proven.add(digest, identity, target)
                elif not stop.is_set():
                    self.cache.drop(_BLOBS, digest)


def blobs_of_last_build(
    cache: DiskCache, image: str, proven: ProvenBlobs | None = None
) -> KnownBlobs:
    """Return what is known of an image; nothing when its list is damaged."""
    raw = cache.get(_LISTS, image, max_bytes=_MAX_LIST_BYTES)
    try:
        listed = json.loads(raw) if raw is not None else []
        digests = tuple(Digest(item) for item in listed)[:_MOST_BLOBS]
    except (ValueError, TypeError, IntegrityError):
        digests = ()
    return KnownBlobs(
        cache=cache,
        digests=tuple(d for d in digests if cache.path(_BLOBS, d).is_file()),
        proven=proven or ProvenBlobs(),
    )


def remember_blobs(
    cache: DiskCache, image: str, layout: Layout, blobs: Iterable[Descriptor]
) -> None:
    """Keep the large blobs of a layout that was verified; a cache that can't be written is no matter."""
    kept = [
        blob.digest
        for blob in {blob.digest: blob for blob in blobs}.values()
        if _SMALLEST_BYTES <= blob.size <= cache.max_bytes // _LARGEST_SHARE
        and cache.keep_file(_BLOBS, blob.digest, layout.blob_path(blob.digest))
    ]
    body = json.dumps(kept[:_MOST_BLOBS]).encode()
    if cache.get(_LISTS, image, max_bytes=_MAX_LIST_BYTES) != body:
        cache.put(_LISTS, image, body)


def _hash_file(path: Path, digest: Digest, stop: threading.Event) -> tuple[str, Identity]:
    """Return the digest of a file, and which file it was when that began."""
    hasher = hashlib.new(digest.algorithm)
    with path.open("rb") as file:
        identity = identity_of(os.fstat(file.fileno()))
        while not stop.is_set() and (piece := file.read(1 << 20)):
            hasher.update(piece)
    return f"{digest.algorithm}:{hasher.hexdigest()}", identity


def _remove_unused(layout: Layout, offered: tuple[Digest, ...]) -> None:
    """Remove the offered blobs that are no part of the image that was built."""
    used: set[Digest] = set()
    waiting = [layout.root()]
    while waiting:
        manifest = layout.fetch(waiting.pop().digest)
        if isinstance(manifest, Index):
            waiting += manifest.manifests
        else:
            used |= {blob.digest for blob in manifest.blobs}
    for digest in offered:
        if digest not in used:
            layout.blob_path(digest).unlink(missing_ok=True)

"""Keeps the large blobs of an image's last build, so that a builder need not hand them over again.

BuildKit skips a blob that lies in the layout folder already. What is put there is hashed while the builder
works; a damaged blob is forgotten, and the build is repeated without the offer.
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


class DamagedOfferError(IntegrityError):
    """A blob that was offered to a builder, and that the image has, is not what its digest says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBlobs:
    """The blobs of the last build of one image, as far as they are still in the cache."""

    cache: DiskCache
    digests: tuple[Digest, ...]
    proven: ProvenBlobs = field(default_factory=ProvenBlobs)
    """Is told of every offered blob that was hashed."""

    @contextlib.contextmanager
    def offered_to(self, layout: Path) -> Iterator[None]:
        """Put the blobs into a layout folder while a builder writes it; take out what it did not use.

        Raises:
            DamagedOfferError: at the end, when the image got a damaged blob, which is forgotten now.
        """
        offer = _Offer(self, Layout(layout))
        thread = threading.Thread(target=offer.check, name="known blobs", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            offer.stop.set()
            raise
        finally:
            thread.join()
        offer.settle()


class _Offer:
    """The known blobs in one layout."""

    def __init__(self, known: KnownBlobs, layout: Layout) -> None:
        """Put them in place: links, which take no time; the builder must find them from the start."""
        self.stop = threading.Event()
        self._known = known
        self._layout = layout
        self._placed: list[Digest] = []
        self._damaged: dict[Digest, Identity] = {}
        for digest in known.digests:
            target = layout.blob_path(digest)
            with contextlib.suppress(OSError):
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(known.cache.path(_BLOBS, digest), target)
                self._placed.append(digest)

    def check(self) -> None:
        """Hash every blob in place."""
        for digest in self._placed:
            path = self._layout.blob_path(digest)
            with contextlib.suppress(OSError):  # gone: then inspect misses it too
                found, identity = _hash_file(path, digest, self.stop)
                if self.stop.is_set():
                    return
                if found == digest:
                    self._known.proven.add(digest, identity, path)
                else:
                    self._damaged[digest] = identity

    def settle(self) -> None:
        """Take out what the image does not use and look whether it uses what is damaged."""
        used = _blobs_in(self._layout) if self._placed else frozenset()
        for digest in self._placed:
            if digest not in used:
                self._layout.blob_path(digest).unlink(missing_ok=True)
        for digest in self._damaged:
            self._known.cache.drop(_BLOBS, digest)
        spoilt = [d for d, identity in self._damaged.items() if d in used and self._is(d, identity)]
        if spoilt:
            raise DamagedOfferError(f"blob {spoilt[0]} in the cache was damaged; it is removed now")

    def _is(self, digest: Digest, identity: Identity) -> bool:
        """Whether the layout holds this file still, and not one that the builder wrote."""
        return identity_of(self._layout.blob_path(digest).stat())[:2] == identity[:2]


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


def _blobs_in(layout: Layout) -> frozenset[Digest]:
    """Return the configs and layers of all images in a layout."""
    used: set[Digest] = set()
    waiting = [layout.root()]
    while waiting:
        manifest = layout.fetch(waiting.pop().digest)
        if isinstance(manifest, Index):
            waiting += manifest.manifests
        else:
            used |= {blob.digest for blob in manifest.blobs}
    return frozenset(used)

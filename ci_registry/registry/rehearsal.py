"""A repository that remembers what would be written to another one and writes nothing."""

import threading
from collections.abc import Iterator

from ci_registry.oci.digest import Digest, digest_of, is_digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest, parse_manifest
from ci_registry.registry.interface import (
    BlobOutcome,
    BlobSource,
    PushedBlob,
    PushedManifest,
    Repository,
)
from ci_registry.registry.referrers import merged, referrer_descriptor


class Rehearsal:
    """Implements `interface.Repository` over a real one: reads go there, writes stay here."""

    def __init__(self, real: Repository) -> None:
        self._real = real
        self._lock = threading.Lock()
        self._manifests: dict[str, Manifest | Index] = {}
        self._blobs: dict[Digest, int] = {}

    @property
    def name(self) -> str:
        """The name of the real one."""
        return self._real.name

    def resolve(self, reference: str) -> Descriptor | None:
        """Return what a tag or digest would point at."""
        kept = self._manifests.get(reference)
        return kept.descriptor if kept is not None else self._real.resolve(reference)

    def fetch(self, reference: str) -> Manifest | Index:
        """Return the manifest that would be at a tag or digest."""
        kept = self._manifests.get(reference)
        return kept if kept is not None else self._real.fetch(reference)

    def push(self, reference: str, body: bytes, media_type: str) -> PushedManifest:
        """Remember a manifest."""
        manifest = parse_manifest(body, media_type)
        algorithm = Digest(reference).algorithm if is_digest(reference) else "sha256"
        with self._lock:
            self._manifests[reference] = self._manifests[manifest.digest] = manifest
        subject = manifest.subject.digest if manifest.subject is not None else None
        return PushedManifest(digest=digest_of(body, algorithm), subject=subject)

    def delete(self, digest: Digest) -> None:
        """Forget a manifest that was only remembered."""
        with self._lock:
            self._manifests.pop(digest, None)

    def size_of(self, digest: Digest) -> int | None:
        """Return the size that a blob has or would have."""
        kept = self._blobs.get(digest)
        return kept if kept is not None else self._real.size_of(digest)

    def open(self, digest: Digest) -> Iterator[bytes]:
        """Yield a blob that is really there."""
        return self._real.open(digest)

    def push_blob(
        self, descriptor: Descriptor, source: BlobSource, *, mount_from: tuple[str, ...] = ()
    ) -> PushedBlob:
        """Remember a blob that is not there; its bytes are not read."""
        del source, mount_from
        digest = descriptor.digest
        if self.size_of(digest) == descriptor.size:
            return PushedBlob(digest=digest, outcome=BlobOutcome.PRESENT)
        with self._lock:
            self._blobs[digest] = descriptor.size
        return PushedBlob(digest=digest, outcome=BlobOutcome.UPLOADED, bytes_sent=descriptor.size)

    def referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, or would."""
        with self._lock:
            kept = {m.digest: m for m in self._manifests.values()}.values()
        ours = (m for m in kept if m.subject is not None and m.subject.digest == subject)
        new = tuple(referrer_descriptor(manifest) for manifest in ours)
        return merged(self._real.referrers(subject), new, subject=subject)

    def attach(self, subject: Descriptor, body: bytes, media_type: str) -> Digest:
        """Remember a referrer."""
        del subject
        return self.push(digest_of(body), body, media_type).digest

    def tags(self) -> tuple[str, ...]:
        """Return the tags that there would be."""
        ours = {reference for reference in self._manifests if not is_digest(reference)}
        return tuple(sorted({*self._real.tags(), *ours}))

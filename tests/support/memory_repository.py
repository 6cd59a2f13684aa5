"""A repository in memory that tests can make lie: wrong bytes, failing listings, other writers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ci_registry.errors import NotFoundError
from ci_registry.oci.digest import Digest, digest_of, is_digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest, parse_manifest
from ci_registry.registry.interface import BlobOutcome, BlobSource, PushedBlob, PushedManifest
from ci_registry.registry.referrers import referrer_descriptor


@dataclass
class MemoryRepository:
    """Implements `registry.interface.Repository`; `calls` records every write and read of a manifest."""

    name: str = "registry.example/team/app"
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """By digest and by tag: bytes and media type."""
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    extra_referrers: list[Descriptor] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    before_push: Callable[[str], None] = lambda _reference: None
    after_push: Callable[[str], None] = lambda _reference: None
    referrers_error: Exception | None = None

    def resolve(self, reference: str) -> Descriptor | None:
        if reference not in self.manifests:
            return None
        return parse_manifest(*self.manifests[reference]).descriptor

    def fetch(self, reference: str) -> Manifest | Index:
        self.calls.append(("fetch", reference))
        if reference not in self.manifests:
            raise NotFoundError(f"{self.name} has no {reference}")
        return parse_manifest(*self.manifests[reference])

    def push(self, reference: str, body: bytes, media_type: str) -> PushedManifest:
        self.before_push(reference)
        self.calls.append(("push", reference))
        manifest = parse_manifest(body, media_type)
        self.manifests[manifest.digest] = self.manifests[reference] = (body, media_type)
        self.after_push(reference)
        return PushedManifest(digest=manifest.digest)

    def delete(self, digest: Digest) -> None:
        body = self.manifests.pop(digest, None)
        self.manifests = {k: v for k, v in self.manifests.items() if v != body}

    def size_of(self, digest: Digest) -> int | None:
        return len(self.blobs[digest]) if digest in self.blobs else None

    def open(self, digest: Digest) -> Iterator[bytes]:
        self.calls.append(("open", digest))
        if digest not in self.blobs:
            raise NotFoundError(f"{self.name} has no blob {digest}")
        return iter((self.blobs[digest],))

    def push_blob(
        self, descriptor: Descriptor, source: BlobSource, *, mount_from: tuple[str, ...] = ()
    ) -> PushedBlob:
        if descriptor.digest in self.blobs:
            return PushedBlob(digest=descriptor.digest, outcome=BlobOutcome.PRESENT)
        self.calls.append(("push_blob", descriptor.digest))
        data = b"".join(source())
        assert digest_of(data) == descriptor.digest
        assert len(data) == descriptor.size
        self.blobs[descriptor.digest] = data
        return PushedBlob(digest=descriptor.digest, outcome=BlobOutcome.UPLOADED)

    def referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        if self.referrers_error is not None:
            raise self.referrers_error
        found = list(self.extra_referrers)
        for reference, content in list(self.manifests.items()):
            manifest = parse_manifest(*content)
            if is_digest(reference) and manifest.subject and manifest.subject.digest == subject:
                found.append(referrer_descriptor(manifest))
        return tuple(found)

    def attach(self, subject: Descriptor, body: bytes, media_type: str) -> Digest:
        digest = digest_of(body)
        self.push(digest, body, media_type)
        return digest

    def tags(self) -> tuple[str, ...]:
        return tuple(sorted(reference for reference in self.manifests if not is_digest(reference)))

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [call for call in self.calls if call[0].startswith("push")]


def add_blob(repository: MemoryRepository, data: bytes) -> Digest:
    """Store a blob and return its digest."""
    digest = digest_of(data)
    repository.blobs[digest] = data
    return digest

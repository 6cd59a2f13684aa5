"""What ci-registry asks of any place that holds images: a remote registry, the embedded one, a layout.

All methods are bound to one repository, may be called from several threads, and raise only
`RegistryError`, `NotFoundError`, `AccessError`, `NetworkError`, `IntegrityError`, `StorageError`
or `CancelledError`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest

OpenBlob = Callable[[Digest], Iterator[bytes]]
"""Yields the raw bytes of a blob in pieces; closing the iterator frees its connection or file."""

BlobSource = Callable[[], Iterator[bytes]]
"""Opens the bytes of one blob from the start; called again for each retry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedManifest:
    """The answer to a manifest PUT."""

    digest: Digest
    subject: Digest | None = None
    """`OCI-Subject`: the registry maintains referrers itself. None means: write the fallback tag."""
    confirmed: bool = False
    """Whether the place itself named the digest that it stored, and it was the right one."""


class BlobOutcome(StrEnum):
    """How a blob got where it should be."""

    PRESENT = "present"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedBlob:
    """What pushing one blob took."""

    digest: Digest
    outcome: BlobOutcome
    bytes_sent: int = 0


class Manifests(Protocol):
    """Reads and writes manifests of one repository."""

    def resolve(self, reference: str) -> Descriptor | None:
        """Return what a tag or digest points at, None when it is absent (404). One HEAD request."""

    def fetch(self, reference: str) -> Manifest | Index:
        """Return the manifest at a tag or digest; a digest is compared with the bytes received.

        Raises:
            NotFoundError: there is none.
        """

    def push(self, reference: str, body: bytes, media_type: str) -> PushedManifest:
        """Put manifest bytes under a tag or digest; the digest in the answer is checked."""

    def delete(self, digest: Digest) -> None:
        """Delete a manifest by digest, never by tag; a missing one is fine."""


class Blobs(Protocol):
    """Reads and writes blobs of one repository."""

    def size_of(self, digest: Digest) -> int | None:
        """Return the size of a blob, None when it is absent."""

    def open(self, digest: Digest) -> Iterator[bytes]:
        """Yield the raw bytes; raises `IntegrityError` at the end when they have another digest."""

    def push_blob(
        self, descriptor: Descriptor, source: BlobSource, *, mount_from: tuple[str, ...] = ()
    ) -> PushedBlob:
        """Make sure the blob is there: skip when present, else mount, else one monolithic PUT."""


class Referrers(Protocol):
    """Lists what refers to a manifest, and what tags there are."""

    def referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Return every referrer, from the API and the fallback tag, merged by digest, all pages.

        Raises:
            RegistryError: the listing failed; a failed listing is never "none".
        """

    def attach(self, subject: Descriptor, body: bytes, media_type: str) -> Digest:
        """Put a manifest that has `subject`, by digest; maintain the fallback index where needed."""

    def tags(self) -> tuple[str, ...]:
        """Return all tags, sorted; empty when the repository does not exist."""


class Repository(Manifests, Blobs, Referrers, Protocol):
    """One repository somewhere."""

    @property
    def name(self) -> str:
        """`registry/repository`, or the path of a layout."""


class EditableRepository(Repository, Protocol):
    """A repository whose tags can be taken away; archives and stand-ins can't."""

    def untag(self, tag: str) -> bool:
        """Delete a tag and nothing else, never its manifest; False when it was not there.

        Raises:
            RegistryError: with code `UNSUPPORTED` when this registry can't do that.
        """

"""Checks bytes against the digest and size that they claim while they stream by."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest, parse_manifest
from ci_registry.registry.hashing import AsideHasher
from ci_registry.registry.interface import BlobSource

CHUNK_BYTES = 256 * 1024


def verified(
    chunks: Iterable[bytes], digest: Digest, *, what: str, size_bytes: int | None = None
) -> Iterator[bytes]:
    """Yield `chunks` and compare their digest, and their size when it is known.

    The last piece is held back until the digest has matched: who stops there has sent nothing whole.

    Raises:
        IntegrityError: at the end when they differ, or as soon as there are more bytes than `size_bytes`.
    """
    sized = chunks if size_bytes is None else _sized(chunks, size_bytes, what=what)
    held = b""
    with contextlib.closing(AsideHasher(digest.algorithm)) as hasher:
        for chunk in sized:
            if not chunk:
                continue
            hasher.update(chunk)
            if held:
                yield held
            held = chunk
    if hasher.digest != digest:
        raise IntegrityError(
            f"{what}: the bytes have digest {hasher.digest}, expected {digest}",
            hint="the content was damaged or replaced: fetch or build the image again",
        )
    if held:
        yield held


def _sized(chunks: Iterable[bytes], size_bytes: int, *, what: str) -> Iterator[bytes]:
    found_bytes = 0
    for chunk in chunks:
        found_bytes += len(chunk)
        if found_bytes > size_bytes:
            raise IntegrityError(f"{what}: more than the {size_bytes} bytes that it should have")
        yield chunk
    if found_bytes != size_bytes:
        raise IntegrityError(
            f"{what}: {found_bytes} bytes instead of {size_bytes}",
            hint="the copy is truncated: fetch or build the image again",
        )


@dataclass(frozen=True, slots=True)
class CheckedSource:
    """A blob source that compares its bytes with the blob's digest itself, as `Blobs.open` does."""

    open: BlobSource

    def __call__(self) -> Iterator[bytes]:
        """Open the bytes of the blob from the start."""
        return self.open()


@contextlib.contextmanager
def opened_blob(source: BlobSource, blob: Descriptor, *, what: str) -> Iterator[Iterator[bytes]]:
    """Open a source whose bytes are compared with the digest and size of `blob` while they are read.

    Those of a `CheckedSource` are only counted, so nothing is hashed twice.

    Raises:
        IntegrityError: while reading, as `verified`.
    """
    with opened(source) as chunks:
        if isinstance(source, CheckedSource):
            yield _sized(chunks, blob.size, what=what)
        else:
            yield verified(chunks, blob.digest, what=what, size_bytes=blob.size)


def verified_manifest(
    body: bytes, *, media_type: str, expected: Digest | None, what: str
) -> Manifest | Index:
    """Parse manifest bytes after comparing them with the digest that was asked for.

    Raises:
        IntegrityError: another digest, or no manifest that we accept.
    """
    if expected is not None:
        for _ in verified((body,), expected, what=what):
            pass
    manifest = parse_manifest(body, media_type)
    if expected is None or expected == manifest.digest:
        return manifest
    return replace(manifest, digest=expected)  # asked for by sha512: keep the caller's name for it


def bounded(chunks: Iterable[bytes], max_bytes: int, *, what: str) -> Iterator[bytes]:
    """Yield `chunks`; raises `IntegrityError` as soon as they are more than `max_bytes`."""
    size_bytes = 0
    for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > max_bytes:
            raise IntegrityError(f"{what}: larger than the {max_bytes} bytes allowed")
        yield chunk


@contextlib.contextmanager
def opened(source: BlobSource) -> Iterator[Iterator[bytes]]:
    """Open a source and free its file or connection afterwards, however far it was read."""
    chunks = source()
    try:
        yield chunks
    finally:
        close = getattr(chunks, "close", None)
        if callable(close):
            close()

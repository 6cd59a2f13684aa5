"""Reads one layer in one pass: blob digest, inflating, diff id, tar entries and package files together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ci_registry.cancel import Cancel
from ci_registry.errors import IntegrityError
from ci_registry.inventory.inflate import inflate
from ci_registry.inventory.interest import (
    Interest,
    Reader,
    interest_in,
    link_may_lead_to,
)
from ci_registry.inventory.limits import KIB, Limits
from ci_registry.inventory.programs import look_into, may_be_of_the_system
from ci_registry.inventory.reading import UnreadableError
from ci_registry.inventory.sums import Sums
from ci_registry.inventory.tar_stream import Header, Kind, TarStream
from ci_registry.inventory.verified import OpenBlob, VerifiedBlob, opened
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, Hasher
from ci_registry.oci.manifest import Descriptor

_SMALLEST_PROGRAM_BYTES = 1024
_LINKED_BYTES = 64 * KIB
"""Largest file that is kept only because a link may make it important."""
_ALL_LINKED_BYTES = 8 * KIB * KIB
"""All of these in one layer; a layer with more is read a second time when a link leads there."""
_TOO_MANY = "too many package files in one layer"


@dataclass(frozen=True, slots=True)
class Entry:
    """What we remember of one tar entry."""

    path: str
    kind: Kind
    link: str = ""
    content: bytes | None = None
    """Of a file of interest, condensed; None when it was not kept."""
    sums: tuple[tuple[str, str], ...] = ()
    """(algorithm, hexadecimal digits) of the whole content, where it was kept."""
    problem: str = ""
    """Why the content of a file of interest was not kept."""
    program: Interest | None = None
    """Set for an executable that carries a list of packages in itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One verified layer."""

    digest: Digest
    diff_id: Digest
    size_bytes: int
    """Inflated."""
    entries: tuple[Entry, ...]


def compression_of(descriptor: Descriptor, what: str) -> str:
    """Return how a layer is compressed, by its media type.

    Raises:
        IntegrityError: a foreign layer, or no layer of a file system at all.
    """
    if descriptor.media_type in media_types.FOREIGN_LAYERS:
        raise IntegrityError(
            f"{what} ({descriptor.digest}): a foreign layer can't be verified or scanned",
            hint="rebuild on a base image whose layers may be distributed",
        )
    compression = media_types.LAYER_COMPRESSION.get(descriptor.media_type)
    if compression is None:
        raise IntegrityError(
            f"{what} ({descriptor.digest}): unsupported media type {descriptor.media_type!r}"
        )
    return compression


def read_layer(
    descriptor: Descriptor,
    open_blob: OpenBlob,
    *,
    what: str,
    limits: Limits,
    cancel: Cancel,
    extra_paths: frozenset[str] = frozenset(),
    on_bytes: Callable[[int], None] | None = None,
) -> Layer:
    """Read and verify a layer, memory constant but for the package files in it.

    Args:
        descriptor: the layer in the manifest.
        open_blob: opens the raw bytes of the blob.
        what: names the layer in errors.
        limits: bounds of what is read.
        cancel: reaches every piece.
        extra_paths: further files to keep, whatever they are called.
        on_bytes: told about progress in compressed bytes.

    Raises:
        IntegrityError: digest, size, compression or archive are not in order.
    """
    compression = compression_of(descriptor, what)
    with opened(open_blob, descriptor.digest) as pieces:
        blob = VerifiedBlob(descriptor, pieces, cancel=cancel, what=what, on_bytes=on_bytes)
        inflated = Hasher()
        try:
            stream = _hashed(inflate(blob, compression, limits=limits), inflated)
            entries = tuple(_entries(stream, limits, extra_paths))
            for _rest in stream:
                pass
        except IntegrityError as error:
            if str(descriptor.digest) in error.message:
                raise
            blob.drain()  # a wrong digest or size is the better explanation, and raises
            raise IntegrityError(f"{what} ({descriptor.digest}): {error.message}") from error
        blob.drain()
    return Layer(
        digest=descriptor.digest,
        diff_id=inflated.digest,
        size_bytes=inflated.size_bytes,
        entries=entries,
    )


def _hashed(pieces: Iterable[bytes], hasher: Hasher) -> Iterator[bytes]:
    for piece in pieces:
        hasher.update(piece)
        yield piece


def _entries(
    stream: Iterator[bytes], limits: Limits, extra_paths: frozenset[str]
) -> Iterator[Entry]:
    tar = TarStream(stream, limits)
    kept_bytes, linked_bytes = 0, 0
    while (header := tar.next_entry()) is not None:
        if header.kind is not Kind.FILE:
            yield Entry(header.path, header.kind, header.link)
            continue
        interest = interest_in(header.path)
        limit = interest.limit_bytes if interest is not None else 0
        if header.path in extra_paths:
            limit = 64 * KIB * KIB
        left_bytes = limits.kept_bytes - kept_bytes
        if limit:
            entry = _kept(tar, header, interest, limit, left_bytes)
        elif _is_kept_for_links(header, interest, linked_bytes):
            linked_bytes += header.size_bytes
            yield _kept(tar, header, None, _LINKED_BYTES, _LINKED_BYTES)
            continue
        else:
            entry = _program(tar, header, left_bytes)
        kept_bytes += len(entry.content or b"")
        yield entry


def _is_kept_for_links(header: Header, interest: Interest | None, linked_bytes: int) -> bool:
    if interest is not None or header.sparse or not link_may_lead_to(header.path):
        return False
    return header.size_bytes <= min(_LINKED_BYTES, _ALL_LINKED_BYTES - linked_bytes)


def _kept(
    tar: TarStream, header: Header, interest: Interest | None, limit: int, left_bytes: int
) -> Entry:
    problem = ""
    is_sifted = interest is not None and interest.sift is not None
    if header.sparse:
        problem = "stored as a sparse file"
    elif header.size_bytes > limit:
        problem = f"{header.size_bytes} bytes, more than {limit}"
    elif header.size_bytes > left_bytes and not is_sifted:
        problem = _TOO_MANY
    if problem:
        return Entry(header.path, header.kind, problem=problem)
    if interest is not None and interest.sift is not None:
        return _sifted(tar, header, interest.sift, left_bytes)
    content = tar.content()
    sums = Sums()
    sums.update(content)
    try:
        content = content if interest is None else condensed(content, interest)
    except IntegrityError as error:
        return Entry(header.path, header.kind, problem=error.message)
    return Entry(header.path, header.kind, content=content, sums=sums.taken())


def condensed(content: bytes, interest: Interest) -> bytes:
    """Return what the reader needs of a file.

    Raises:
        IntegrityError: the file is not what it should be.
    """
    if interest.sift is not None:
        return interest.sift(iter((content,)), len(content))
    return content if interest.reader is Reader.NOBODY else interest.condense(content)


def _sifted(
    tar: TarStream, header: Header, sift: Callable[[Iterator[bytes], int], bytes], left_bytes: int
) -> Entry:
    """Keep what `sift` takes out of a file, which itself is never in memory as a whole."""
    sums = Sums()

    def summed() -> Iterator[bytes]:
        for piece in tar.pieces():
            sums.update(piece)
            yield piece

    pieces = summed()
    try:
        content = sift(pieces, header.size_bytes)
    except UnreadableError as error:  # others are about the layer, not about this file
        return Entry(header.path, header.kind, problem=error.message)
    for _rest in pieces:
        pass
    if len(content) > left_bytes:
        return Entry(header.path, header.kind, problem=_TOO_MANY)
    return Entry(header.path, header.kind, content=content, sums=sums.taken())


def _program(tar: TarStream, header: Header, left_bytes: int) -> Entry:
    """Look into what may be an ELF file for a list of packages, piece by piece."""
    path, kind = header.path, header.kind
    if header.size_bytes < _SMALLEST_PROGRAM_BYTES or tar.peek(4) != b"\x7fELF":
        return Entry(path, kind)
    found = look_into(tar.pieces(), with_sums=may_be_of_the_system(path))
    if found is None:
        return Entry(path, kind)
    if len(found.content) > left_bytes:
        return Entry(path, kind, problem=_TOO_MANY, program=found.interest)
    content = None if found.problem else found.content
    return Entry(
        path,
        kind,
        content=content,
        sums=found.sums,
        problem=found.problem,
        program=found.interest,
    )

"""Unpacks the archives of `ADD` into a tree: tar, plain or packed with gzip, bzip2, xz or zstd."""

import bz2
import lzma
from collections.abc import Iterable, Iterator
from typing import Protocol

from ci_registry.builders.assemble_content import ContentStore
from ci_registry.builders.assemble_index import WHITEOUT, entry_parts, node_of, put_entry
from ci_registry.builders.assemble_tree import InlineBytes, Node, NodeKind, Parts, Tree, TreeError
from ci_registry.errors import IntegrityError
from ci_registry.inventory.inflate import inflate
from ci_registry.inventory.limits import DEFAULT_LIMITS, Limits
from ci_registry.inventory.tar_stream import Header, Kind, TarStream, parse_number

_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_BLOCK = 512
_INLINE_BYTES = 16 * 1024
_PIECE_BYTES = 1 << 18
_XZ_MEMORY_BYTES = 256 * 1024 * 1024


class Archives:
    """Recognises and unpacks archives whose contents come from one store."""

    def __init__(self, contents: ContentStore, limits: Limits = DEFAULT_LIMITS) -> None:
        self._contents = contents
        self._limits = limits

    def is_archive(self, node: Node) -> bool:
        """Whether a file, once decompressed, starts with the header of a tar archive."""
        self._contents.prepare((node,))
        block = b""
        try:
            for piece in self._plain(node):
                block += piece
                if len(block) >= _BLOCK:
                    return _is_header(block[:_BLOCK])
        except IntegrityError:
            return False  # no archive, so the file is copied as it is
        return False

    def unpack(self, node: Node, tree: Tree, owner: tuple[int, int] | None) -> None:
        """Unpack into `tree`, whose root nothing can leave; `owner` replaces the archive's owners.

        Raises:
            TreeError: the archive is damaged or ambiguous, leads out of the destination, holds a
                device, a sparse file or a whiteout name, or inflates to too much.
        """
        self._contents.prepare((node,))
        try:
            stream = TarStream(self._plain(node), self._limits)
            while (header := stream.next_entry()) is not None:
                parts = entry_parts(header)
                if parts:
                    put_entry(tree, parts, self._entry(stream, header, parts, owner))
        except IntegrityError as error:
            raise TreeError(f"the archive can't be unpacked: {error.message}") from error

    def _entry(
        self, stream: TarStream, header: Header, parts: Parts, owner: tuple[int, int] | None
    ) -> Node | Parts:
        if any(part.startswith(WHITEOUT) for part in parts):
            raise TreeError(
                f"the archive holds {header.path!r}: in a layer that name deletes another file"
            )
        if header.kind is Kind.HARD_LINK:
            return tuple(header.link.split("/"))
        if header.kind is Kind.DEVICE:
            raise TreeError(f"the archive holds a device or FIFO: {header.path!r}")
        node = node_of(stream, header)
        if owner is not None:
            node.uid, node.gid = owner
        if node.kind == NodeKind.FILE:
            small = header.size_bytes <= _INLINE_BYTES
            node.content = (
                InlineBytes(stream.content()) if small else self._contents.spool(stream.pieces())
            )
        return node

    def _plain(self, node: Node) -> Iterator[bytes]:
        pieces = self._contents.open(node)
        first = next(pieces, b"")
        kind = next((kind for magic, kind in _MAGIC.items() if first.startswith(magic)), "")
        raw = _chained(first, pieces)
        if kind in ("bzip2", "xz"):
            return _bounded(raw, kind, self._limits)
        if kind:
            return inflate(raw, kind, limits=self._limits)
        return raw


def _chained(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _is_header(block: bytes) -> bool:
    if not block.strip(b"\0"):
        return False
    try:
        claimed = parse_number(block[148:156], "checksum")
    except IntegrityError:
        return False
    return claimed == sum(block[:148]) + 8 * 32 + sum(block[156:])


class _Decoder(Protocol):
    """What bz2 and lzma decompressors have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _decoder(kind: str) -> _Decoder:
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


def _bounded(raw: Iterable[bytes], kind: str, limits: Limits) -> Iterator[bytes]:
    """Inflate bzip2 or xz, several streams behind one another too, within the limits."""
    packed = unpacked = 0
    decoder = _decoder(kind)
    try:
        for data in raw:
            packed += len(data)
            rest = data
            while rest or not (decoder.needs_input or decoder.eof):
                if decoder.eof:
                    decoder = _decoder(kind)
                piece = decoder.decompress(rest, _PIECE_BYTES)
                rest = decoder.unused_data if decoder.eof else b""
                unpacked += len(piece)
                _check_size(packed, unpacked, limits)
                yield piece
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise IntegrityError(f"damaged {kind} data: {error}") from error
    if not decoder.eof:
        raise IntegrityError(f"the {kind} stream is cut short")


def _check_size(packed: int, unpacked: int, limits: Limits) -> None:
    if unpacked > limits.layer_bytes:
        raise IntegrityError(f"inflates to more than {limits.layer_bytes} bytes")
    if unpacked > limits.ratio_free_bytes and unpacked > limits.ratio * packed:
        raise IntegrityError(f"inflates to more than {limits.ratio} times its size")

"""Inflates a layer piece by piece: gzip with several members, zstd with several frames, or plain."""

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, cast

from ci_registry.errors import IntegrityError
from ci_registry.inventory.limits import KIB, Limits

_PIECE_BYTES = 256 * KIB
_GZIP_SLICE_BYTES = 128 * KIB
_SMALL_SLICE_BYTES = 8 * KIB
"""For zstd, which has no bounded output (a block of 4 bytes may give 128 KiB), and for gzip
streams of very many members, where the rest of a slice is copied for each of them."""
_MANY_MEMBERS = 1000
_ZSTD_WINDOW_BYTES = 128 * 1024 * KIB
_MAGIC = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}


class _Counted:
    """Passes pieces on and counts their bytes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.size_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.size_bytes += len(piece)
            yield piece


def inflate(raw: Iterable[bytes], compression: str, *, limits: Limits) -> Iterator[bytes]:
    """Yield the inflated bytes of a layer, each piece at most a few MiB.

    Args:
        raw: the bytes of the blob.
        compression: `gzip`, `zstd` or empty.
        limits: bounds on size and ratio.

    Raises:
        IntegrityError: damaged or cut short, something else than the compression says, bytes behind
            the last member or frame, or larger than the limits.
    """
    counted = _Counted(raw)
    total = 0
    for piece in _READERS[compression](counted):
        total += len(piece)
        if total > limits.layer_bytes:
            raise IntegrityError(f"inflates to more than {limits.layer_bytes} bytes")
        if total > limits.ratio_free_bytes and total > limits.ratio * counted.size_bytes:
            raise IntegrityError(
                f"inflates to more than {limits.ratio} times its size, {total} bytes so far"
            )
        yield piece


def _plain(raw: Iterable[bytes]) -> Iterator[bytes]:
    first = True
    for piece in raw:
        if first and piece:
            first = False
            for name, magic in _MAGIC.items():
                if piece.startswith(magic):
                    raise IntegrityError(f"is {name} data but its media type says plain tar")
        yield piece


def _slices(raw: Iterable[bytes], size: Callable[[], int]) -> Iterator[bytes]:
    for piece in raw:
        at = 0
        while at < len(piece):
            step = size()
            yield piece[at : at + step]
            at += step


class _GzipDecoder(Protocol):
    """What we use of a decompression object of zlib."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@functools.cache
def gzip_library() -> tuple[Callable[[int], _GzipDecoder], tuple[type[Exception], ...]]:
    """Return what makes a decoder, and its errors: of isal where that is installed, else of zlib.

    Isal takes less than half of the time. What comes out is the same: its digest is compared.
    """
    try:
        from isal import isal_zlib  # noqa: PLC0415 - optional, and most runs inflate nothing
    except ImportError:
        return zlib.decompressobj, (zlib.error,)
    return isal_zlib.decompressobj, (cast("type[Exception]", isal_zlib.error), zlib.error)


def _gzip(raw: Iterable[bytes]) -> Iterator[bytes]:
    members = 1
    new_decoder, errors = gzip_library()
    decoder = new_decoder(31)

    def slice_bytes() -> int:
        return _SMALL_SLICE_BYTES if members > _MANY_MEMBERS else _GZIP_SLICE_BYTES

    try:
        for data in _slices(raw, slice_bytes):
            rest, full = data, False
            while rest or full:
                if decoder.eof:
                    decoder = new_decoder(31)
                    members += 1
                piece = decoder.decompress(rest, _PIECE_BYTES)
                rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
                full = len(piece) == _PIECE_BYTES and not decoder.eof
                if piece:
                    yield piece
    except errors as error:
        where = f"behind gzip member {members - 1}" if members > 1 else "in the gzip stream"
        raise IntegrityError(f"damaged data {where}: {error}") from error
    if not decoder.eof:
        where = f"damaged data behind gzip member {members - 1}: " if members > 1 else ""
        raise IntegrityError(f"{where}the gzip stream is cut short")


class _ZstdDecoder(Protocol):
    """What we use of zstandard's `decompressobj`."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _zstd(raw: Iterable[bytes]) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415 - most images have no zstd layer

    factory = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    decoder: _ZstdDecoder = factory.decompressobj()
    pending: list[bytes] = []
    pending_bytes = 0
    try:
        for data in _slices(raw, lambda: _SMALL_SLICE_BYTES):
            rest = data
            while rest:
                if decoder.eof:
                    decoder = factory.decompressobj()
                piece = decoder.decompress(rest)
                rest = decoder.unused_data if decoder.eof else b""
                pending.append(piece)
                pending_bytes += len(piece)
            if pending_bytes >= _PIECE_BYTES:
                yield b"".join(pending)
                pending, pending_bytes = [], 0
    except zstandard.ZstdError as error:
        raise IntegrityError(f"damaged zstd data: {error}") from error
    if not decoder.eof:
        raise IntegrityError("the zstd stream is cut short")
    yield b"".join(pending)


_READERS: dict[str, Callable[[Iterable[bytes]], Iterator[bytes]]] = {
    "": _plain,
    "gzip": _gzip,
    "zstd": _zstd,
}

"""Layers are inflated within bounds, and nothing may stand behind the compressed data."""

import gzip
import sys
import zlib
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.errors import IntegrityError
from ci_registry.inventory.inflate import gzip_library, inflate
from ci_registry.inventory.limits import KIB, MIB, Limits

LIMITS = Limits()


@pytest.fixture(autouse=True, scope="module", params=["zlib", "isal"])
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run everything with the standard library and with the faster one."""
    gzip_library.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "isal":
            pytest.importorskip("isal")
        else:
            patch.setitem(sys.modules, "isal", None)
        yield str(request.param)
    gzip_library.cache_clear()


def pieces(data: bytes, size: int = 1 << 16) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def inflated(
    data: bytes, compression: str, *, size: int = 1 << 16, limits: Limits = LIMITS
) -> bytes:
    return b"".join(inflate(pieces(data, size), compression, limits=limits))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(st.binary(max_size=3000), min_size=1, max_size=5),
    size=st.integers(1, 500),
    compression=st.sampled_from(("gzip", "zstd")),
)
def test_members_and_frames_are_joined_in_pieces_of_any_size(
    members: list[bytes], size: int, compression: str
) -> None:
    pack = gzip.compress if compression == "gzip" else zstd
    data = b"".join(pack(member) for member in members)
    assert inflated(data, compression, size=size) == b"".join(members)


@pytest.mark.parametrize("extra", [0, 1, 257, 258, 259])
def test_output_that_just_fills_a_piece_is_complete(extra: int) -> None:
    plain = bytes(256 * KIB + extra)
    assert inflated(gzip.compress(plain), "gzip") == plain


def test_a_skippable_zstd_frame_is_skipped() -> None:
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    assert inflated(zstd(b"a") + skippable + zstd(b"b"), "zstd") == b"ab"


def test_thousands_of_members_are_read() -> None:
    data = b"".join(gzip.compress(b"%d," % n) for n in range(3000))
    assert inflated(data, "gzip").count(b",") == 3000


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_stream_that_is_cut_short_is_refused(compression: str) -> None:
    pack = gzip.compress if compression == "gzip" else zstd
    data = pack(b"content" * 100)
    for cut in (len(data) - 1, len(data) // 2, 3):
        with pytest.raises(IntegrityError, match="cut short"):
            inflated(data[:cut], compression)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("junk", [b"junk behind the end", b"\0" * 512, b"\x1f\x8b\x08\xff" * 9])
def test_bytes_behind_the_stream_are_refused(compression: str, junk: bytes) -> None:
    pack = gzip.compress if compression == "gzip" else zstd
    with pytest.raises(IntegrityError, match=r"damaged|cut short"):
        inflated(pack(b"content") + junk, compression)


def test_a_wrong_checksum_is_refused() -> None:
    data = bytearray(gzip.compress(b"content"))
    data[-8] ^= 1
    with pytest.raises(IntegrityError, match="damaged"):
        inflated(bytes(data), "gzip")


def test_nothing_is_no_gzip_stream() -> None:
    with pytest.raises(IntegrityError, match="cut short"):
        inflated(b"", "gzip")


def test_plain_data_passes_and_disguised_data_does_not() -> None:
    assert inflated(b"tar", "") == b"tar"
    with pytest.raises(IntegrityError, match="media type says plain"):
        inflated(gzip.compress(b"x"), "")


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_bomb_is_stopped_early(compression: str) -> None:
    zeros = bytes(64 * MIB)
    if compression == "gzip":
        packer = zlib.compressobj(1, wbits=31)
        data = packer.compress(zeros) + packer.flush()
    else:
        data = zstd(zeros)
    limits = Limits(ratio_free_bytes=2 * MIB, ratio=50)
    with pytest.raises(IntegrityError, match=r"more than 50 times.* (?:\d{7}|\d{8}) bytes so far"):
        inflated(data, compression, size=4 * KIB, limits=limits)


def test_the_absolute_size_is_bounded_too() -> None:
    with pytest.raises(IntegrityError, match="more than 1000 bytes"):
        inflated(gzip.compress(bytes(5000)), "gzip", limits=Limits(layer_bytes=1000))


def test_the_library_is_the_one_that_is_meant(library: str) -> None:
    assert (gzip_library()[1] == (zlib.error,)) == (library == "zlib")


@given(plain=st.binary(max_size=2000), data=st.data(), size=st.integers(1, 300), cut=st.booleans())
@settings(max_examples=100, deadline=None)
def test_damage_gives_an_error_or_the_same_bytes(
    plain: bytes, data: st.DataObject, size: int, cut: bool
) -> None:
    packed = bytearray(gzip.compress(plain))
    at = data.draw(st.integers(0, len(packed) - 1))
    if cut:
        del packed[at:]
    else:
        packed[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = inflated(bytes(packed), "gzip", size=size)
    except IntegrityError:
        return
    assert found == plain  # the name or the time in the header, which nobody reads

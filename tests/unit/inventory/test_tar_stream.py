"""Tar archives are read as Go reads them, and what two programs could read differently is refused."""

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.errors import IntegrityError
from ci_registry.inventory.limits import Limits
from ci_registry.inventory.tar_stream import Header, Kind, TarStream, parse_pax

LIMITS = Limits()
NAMES = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/"),
    min_size=1,
    max_size=60,
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=6).map("/".join)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def read(data: bytes, *, size: int = 4096, limits: Limits = LIMITS) -> list[tuple[Header, bytes]]:
    tar = TarStream(pieces(data, size), limits)
    found = []
    while (header := tar.next_entry()) is not None:
        found.append((header, tar.content()))
    return found


def tar_with(*infos: tarfile.TarInfo, fmt: int = tarfile.PAX_FORMAT, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as tar:
        for info in infos:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def resummed(block: bytes) -> bytes:
    """Return a header with a right checksum."""
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


@settings(max_examples=80, deadline=None)
@given(
    files=st.dictionaries(PATHS, st.binary(max_size=2000), max_size=8),
    fmt=st.sampled_from((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)),
    size=st.integers(1, 3000),
)
def test_whatever_tarfile_writes_is_read_in_pieces_of_any_size(
    files: dict[str, bytes], fmt: int, size: int
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    expected = [("/".join(p for p in n.split("/") if p), c) for n, c in files.items()]
    assert [(h.path, c) for h, c in read(buffer.getvalue(), size=size)] == expected


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 4095), value=st.integers(0, 255), cut=st.integers(0, 4096))
def test_damage_is_an_integrity_error_and_nothing_else(at: int, value: int, cut: int) -> None:
    data = bytearray(tar_with(entry("a" * 150), entry("b"), content=b"x" * 600))
    data[at] = value
    with contextlib.suppress(IntegrityError):
        read(bytes(data[: max(cut, 512)]))


@pytest.mark.parametrize("fmt", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_links_are_read_in_both_formats(fmt: int) -> None:
    long = "/".join(["d" * 90] * 5)
    made = tar_with(entry(long), entry("l", tarfile.LNKTYPE, long), fmt=fmt)
    (first, _), (second, _) = read(made)
    assert (first.path, second.kind, second.link) == (long, Kind.HARD_LINK, long)


def test_the_ustar_prefix_is_part_of_the_name() -> None:
    name = "/".join(["p" * 60, "n" * 60])
    ((header, _),) = read(tar_with(entry(name), fmt=tarfile.USTAR_FORMAT))
    assert header.path == name


@pytest.mark.parametrize(
    ("written", "expected"), [("./a/b", "a/b"), ("/a/b", "a/b"), ("a//b/./c/", "a/b/c"), ("./", "")]
)
def test_paths_are_relative_to_the_root(written: str, expected: str) -> None:
    ((header, _),) = read(tar_with(entry(written, tarfile.DIRTYPE)))
    assert header.path == expected


@pytest.mark.parametrize("path", ["../etc/passwd", "a/../../b", "a/..", "/.."])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_a_path_that_leads_out_is_refused(path: str, kind: bytes) -> None:
    with pytest.raises(IntegrityError, match="leads out"):
        read(tar_with(entry(path, kind, "x")))


def test_a_hard_link_that_leads_out_is_refused() -> None:
    with pytest.raises(IntegrityError, match="leads out"):
        read(tar_with(entry("a", tarfile.LNKTYPE, "../../etc/shadow")))


def test_devices_are_recorded_and_not_made() -> None:
    found = read(tar_with(entry("dev/null", tarfile.CHRTYPE), entry("p", tarfile.FIFOTYPE)))
    assert [header.kind for header, _ in found] == [Kind.DEVICE, Kind.DEVICE]


def test_a_sparse_pax_file_has_its_own_name_and_the_next_entry_is_found() -> None:
    info = entry("GNUSparseFile.0/real")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "real",
        "GNU.sparse.realsize": "9000",
    }
    (first, _), (second, _) = read(
        tar_with(info, entry("next"), content=b"1\n0\n5\n".ljust(517, b"x"))
    )
    assert (first.path, first.sparse, second.path) == ("real", True, "next")


def test_an_old_gnu_sparse_file_with_extensions_is_skipped_right() -> None:
    block = bytearray(tar_with(entry("s"), content=b"12345")[:512])
    block[156:157] = b"S"
    block[482] = 1
    extension = bytes(504) + b"\1" + bytes(7)
    last = bytes(512)
    rest = b"12345".ljust(512, b"\0") + tar_with(entry("next"))
    (first, content), (second, _) = read(resummed(bytes(block)) + extension + last + rest)
    assert (first.sparse, content, second.path) == (True, b"12345", "next")


def refused(data: bytes, match: str) -> None:
    with pytest.raises(IntegrityError, match=match):
        read(data)


def test_data_behind_the_end_is_refused() -> None:
    refused(tar_with(entry("a")) + tar_with(entry("hidden")), "behind the end")


def test_a_lone_zero_block_is_refused() -> None:
    block = tar_with(entry("a"))[:512]
    refused(block + bytes(512) + block + bytes(1024), "behind the end")


def test_padding_behind_the_end_is_fine_and_so_is_no_end() -> None:
    block = tar_with(entry("a"))[:512]
    assert len(read(block)) == 1
    assert len(read(block + bytes(50_000))) == 1
    assert read(b"") == []


def test_content_that_is_cut_short_is_refused() -> None:
    refused(tar_with(entry("a"), content=b"x" * 600)[: 512 + 600], "cut short")


def test_half_a_header_is_refused() -> None:
    refused(tar_with(entry("a"))[:300], "cut short")


def test_two_extended_headers_that_both_name_an_entry_are_refused() -> None:
    pax = tar_with(entry("ä" * 10))
    gnu = tar_with(entry("g" * 120), fmt=tarfile.GNU_FORMAT)
    refused(pax[:1024] + gnu, "two different extended headers")


def test_a_global_header_may_hold_a_comment_but_no_path() -> None:
    def with_global(headers: dict[str, str]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(
            fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers
        ) as tar:
            tar.addfile(entry("a"))
        return buffer.getvalue()

    assert read(with_global({"comment": "x"}))[0][0].path == "a"
    refused(with_global({"path": "other"}), "global header")


@pytest.mark.parametrize("flag", [b"V", b"M", b"D", b"X", b"Z"])
def test_unknown_types_are_refused(flag: bytes) -> None:
    block = tar_with(entry("a"))[:512]
    refused(resummed(block[:156] + flag + block[157:]), "unsupported type")


@pytest.mark.parametrize(
    "size", [b"-0000000001\0", b"0o0000000007", b"1_000000000\0", b"\xff" * 12]
)
def test_numbers_that_programs_read_differently_are_refused(size: bytes) -> None:
    block = tar_with(entry("a"))[:512]
    refused(resummed(block[:124] + size + block[136:]), "size")


def test_a_link_has_no_content_whatever_its_size_says() -> None:
    block = tar_with(entry("l", tarfile.LNKTYPE, "a"))[:512]
    link = resummed(block[:124] + b"00000001000\0" + block[136:])
    assert [h.path for h, _ in read(link + tar_with(entry("b")))] == ["l", "b"]


@pytest.mark.parametrize(
    "data",
    [b"x", b"5 a=", b"6 a=b", b"0 a=b\n", b"99 a=b\n", b"5 ab\n", b"4 =\n", b"11 path=a\0b\n"],
)
def test_malformed_pax_records_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="malformed"):
        parse_pax(data)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_the_pax_parser_raises_nothing_else(data: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        parse_pax(data)


def test_too_many_entries_are_refused() -> None:
    infos = [entry(f"f{n}") for n in range(20)]
    with pytest.raises(IntegrityError, match="more than 10 entries"):
        read(tar_with(*infos), limits=Limits(entries_count=10))


@pytest.mark.parametrize("make", [lambda: "a" * 5000, lambda: "a\0b"], ids=["long", "nul"])
def test_impossible_paths_are_refused(make: Callable[[], str]) -> None:
    info = entry("x")
    info.pax_headers = {"path": make()}
    with pytest.raises(IntegrityError, match=r"bad path|malformed"):
        read(tar_with(info))

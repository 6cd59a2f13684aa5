"""Zip archives are read by their central directory, within bounds, and damage has a name."""

import io
import random
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.inventory.reading import UnreadableError
from ci_registry.inventory.zip_archive import ZipArchive
from tests.support.archives import zip_of

FILES: dict[str, bytes | str] = {"a.txt": "one", "folder/b.txt": b"two" * 5000, "empty": b""}


def archive(data: bytes, most_entries: int = 1000) -> ZipArchive:
    return ZipArchive(io.BytesIO(data), 0, len(data), most_entries=most_entries)


def contents(data: bytes) -> dict[str, bytes]:
    zipped = archive(data)
    return {m.name: zipped.read(m, most_bytes=1 << 20) for m in zipped.members()}


@pytest.mark.parametrize("stored", [True, False])
def test_members_have_their_content(stored: bool) -> None:
    data = zip_of(FILES, stored=stored)
    assert contents(data) == {k: v.encode() if isinstance(v, str) else v for k, v in FILES.items()}


def test_a_program_in_front_and_a_comment_behind_do_not_matter() -> None:
    buffer = io.BytesIO(b"#!/bin/sh\nexec java -jar $0\n")
    buffer.seek(0, 2)
    with zipfile.ZipFile(buffer, "a") as made:
        made.writestr("a", "x")
        made.comment = b"PK\5\6 is how the end begins" * 20
    assert contents(buffer.getvalue()) == {"a": b"x"}


def test_a_part_of_a_larger_file_is_read_in_place() -> None:
    inner = zip_of({"x": "y" * 100})
    zipped = ZipArchive(io.BytesIO(b"?" * 77 + inner + b"!" * 99), 77, len(inner), most_entries=5)
    (member,) = zipped.members()
    assert zipped.read(member, most_bytes=100) == b"y" * 100
    with pytest.raises(UnreadableError, match="100 bytes, more than 99"):
        zipped.read(member, most_bytes=99)
    assert zipped.head(member, 3) == b"yyy"


def test_more_entries_than_sixteen_bits_count_are_read() -> None:
    data = zip_of({f"{n}.class": b"" for n in range(70_000)}, stored=True)
    assert sum(1 for _ in archive(data, 70_000).members()) == 70_000
    with pytest.raises(UnreadableError, match="70000 entries, more than 69999"):
        archive(data, 69_999)


def test_names_twice_are_both_read() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("a", "2")
    zipped = archive(buffer.getvalue())
    assert [zipped.read(m, most_bytes=9) for m in zipped.members()] == [b"1", b"2"]


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip" * 100, b"PK\5\6" + bytes(17)])
def test_what_is_no_zip_archive_says_so(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="not a zip archive"):
        archive(data)


def _patched(offset_in_entry: int, value: bytes) -> bytes:
    """Change the only entry of the central directory."""
    data = bytearray(zip_of({"a": "x" * 1000}))
    at = data.rindex(b"PK\1\2") + offset_in_entry
    data[at : at + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_patched(0, b"XX"), "no entry where one should be"),
        (_patched(8, b"\x01\x00"), "a is encrypted"),
        (_patched(10, b"\x0c\x00"), "two headers of the zip archive differ"),
        (_patched(16, b"\0\0\0\0"), "wrong size or checksum"),
        (_patched(20, struct.pack("<L", 1 << 30)), "leads out of the zip archive"),
        (_patched(24, struct.pack("<L", 999)), "wrong size or checksum"),
        (_patched(24, struct.pack("<L", 0xFFFFFFFF)), "no 64-bit size"),
        (_patched(42, struct.pack("<L", 1 << 30)), "an offset leads out of it"),
    ],
)
def test_damage_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        contents(data)


def test_damaged_deflate_data_is_named() -> None:
    data = bytearray(zip_of({"a": random.Random(1).randbytes(1000)}))
    data[40:50] = b"\xff" * 10
    with pytest.raises(UnreadableError, match="a: "):
        contents(bytes(data))


def test_an_entry_that_inflates_to_more_than_it_says_is_cut_off() -> None:
    data = _patched(24, struct.pack("<L", 10))
    zipped = archive(data)
    (member,) = zipped.members()
    with pytest.raises(UnreadableError, match="wrong size"):
        zipped.read(member, most_bytes=10)


def test_a_name_that_cannot_be_shown_is_escaped_in_the_reason() -> None:
    data = zip_of({"a\x1b[2J\n": "x"}).replace(b"PK\3\4", b"XXXX")
    zipped = archive(data)
    (member,) = zipped.members()
    with pytest.raises(UnreadableError) as error:
        zipped.read(member, most_bytes=9)
    assert error.value.message.isprintable()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 400), st.binary(max_size=12), st.integers(0, 300))
def test_any_damage_gives_content_or_an_error(at: int, change: bytes, cut: int) -> None:
    data = bytearray(zip_of(FILES))
    data[at : at + len(change)] = change
    try:
        found = contents(bytes(data[: len(data) - cut]))
    except UnreadableError:
        return
    assert all(len(content) <= 20_000 for content in found.values())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_in_front_of_an_end_record_are_bounded(data: bytes) -> None:
    try:
        contents(data + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, len(data), 0, 0))
    except UnreadableError:
        return

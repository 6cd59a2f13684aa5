"""The bbolt writer and reader agree, and a damaged file is refused."""

import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.advisories.bbolt import PAGE_BYTES, BoltFile, Bucket, dump, fnv1a_64
from ci_registry.errors import IntegrityError

KEYS = st.binary(min_size=1, max_size=40)
VALUES = st.one_of(st.binary(max_size=60), st.integers(3000, 9000).map(lambda size: b"v" * size))
BUCKETS = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=20),
    lambda inner: st.dictionaries(KEYS, st.one_of(VALUES, inner), max_size=8),
    max_leaves=4,
)
FILE = dump({b"%04d" % n: {b"k": b"v" * 20} for n in range(300)})


def load(file: BoltFile, *path: bytes) -> Bucket:
    return {
        key: load(file, *path, key) if value is None else value for key, value in file.items(*path)
    }


def written(tmp_path: Path, bucket: Bucket) -> Path:
    path = tmp_path / "x.db"
    path.write_bytes(dump(bucket))
    return path


def test_fnv1a_has_the_published_values() -> None:
    assert fnv1a_64(b"") == 0xCBF29CE484222325
    assert fnv1a_64(b"foobar") == 0x85944171F73967E8


@settings(max_examples=40, deadline=None)
@given(BUCKETS)
def test_what_is_written_is_read_back(b: Bucket) -> None:
    with tempfile.TemporaryDirectory() as folder, BoltFile(written(Path(folder), b)) as file:
        assert load(file) == b
        assert [key for key, _ in file.items()] == sorted(b)


def test_equal_input_gives_equal_bytes_in_any_order() -> None:
    assert dump({b"a": b"1", b"b": {b"x": b"2"}}) == dump({b"b": {b"x": b"2"}, b"a": b"1"})


def test_many_keys_need_several_levels_of_branches(tmp_path: Path) -> None:
    bucket: Bucket = {b"%06d" % n: b"v" * 100 for n in range(20_000)}
    path = written(tmp_path, {b"big": bucket})
    with BoltFile(path) as file:
        assert dict(file.items(b"big")) == bucket
    data = path.read_bytes()
    starts = range(0, len(data), PAGE_BYTES)
    flags = [struct.unpack_from("<H", data, start + 8)[0] for start in starts]
    assert flags.count(0x01) > 4  # leaves, branches, and a branch over branches


def test_a_small_bucket_lies_inline_and_a_large_one_does_not(tmp_path: Path) -> None:
    small = dump({b"%04d" % n: {b"k": b"v"} for n in range(40)})
    large = dump({b"%04d" % n: {b"k": b"v" * PAGE_BYTES} for n in range(40)})
    assert len(small) <= 6 * PAGE_BYTES
    assert len(large) >= 80 * PAGE_BYTES


def test_an_absent_bucket_is_a_key_error(tmp_path: Path) -> None:
    with BoltFile(written(tmp_path, {b"a": {b"k": b"v"}, b"v": b"1"})) as file:
        with pytest.raises(KeyError):
            list(file.items(b"b"))
        with pytest.raises(KeyError):
            list(file.items(b"v"))


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, b"\0" * 20_000], ids=["empty", "short", "zeros"]
)
def test_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.db").write_bytes(content)
    with pytest.raises(IntegrityError, match="bbolt"):
        BoltFile(tmp_path / "x.db")


def test_the_second_meta_page_saves_a_file_whose_first_is_damaged(tmp_path: Path) -> None:
    path = written(tmp_path, {b"a": b"1"})
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with BoltFile(path) as file:
        assert dict(file.items()) == {b"a": b"1"}


def test_a_cut_file_is_refused_and_never_half_read(tmp_path: Path) -> None:
    path = written(tmp_path, {b"%06d" % n: b"v" * 100 for n in range(2000)})
    path.write_bytes(path.read_bytes()[: 6 * PAGE_BYTES])
    with BoltFile(path) as file, pytest.raises(IntegrityError, match="damaged"):
        list(file.items())


@settings(max_examples=80, deadline=None)
@given(
    at=st.integers(min_value=3 * PAGE_BYTES, max_value=9 * PAGE_BYTES - 1),
    value=st.integers(0, 255),
)
def test_a_flipped_byte_never_crashes_the_reader(at: int, value: int) -> None:
    data = bytearray(FILE)
    data[at % len(data)] = value
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(data)
        copy.flush()
        try:
            with BoltFile(Path(copy.name)) as file:
                load(file)
        except (IntegrityError, KeyError):
            pass


def test_a_page_that_points_at_itself_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {b"%06d" % n: b"v" * 100 for n in range(200)})
    data = bytearray(path.read_bytes())
    root = len(data) // PAGE_BYTES - 1
    struct.pack_into("<Q", data, root * PAGE_BYTES + 16 + 8, root)
    path.write_bytes(data)
    with BoltFile(path) as file, pytest.raises(IntegrityError, match="bites its tail"):
        list(file.items())

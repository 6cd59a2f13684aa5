"""The cache on disk: whole entries or none, bounded, shared by several runs."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ci_registry.cache import DiskCache, link_or_copy, remembered, remembered_sha256
from ci_registry.errors import StorageError

LIMIT = 1 << 20
NOW_S = 1_000_000_000.0  # before the real time, which reading an entry sets


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(folder=tmp_path / "cache", max_bytes=LIMIT)


def test_an_entry_comes_back_as_it_was_put(cache: DiskCache) -> None:
    assert cache.get("layers", "one", max_bytes=LIMIT) is None
    assert cache.put("layers", "one", b"\0body\n")
    assert cache.get("layers", "one", max_bytes=LIMIT) == b"\0body\n"
    assert cache.get("other", "one", max_bytes=LIMIT) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[:20],
        lambda _raw: b"",
        lambda raw: raw + b"x",
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        lambda raw: raw.replace(b"cache 1 ", b"cache 2 "),
        lambda _raw: b"\xff" * 4096,
    ],
    ids=["cut", "cut in header", "empty", "longer", "flipped bit", "other version", "rubbish"],
)
def test_a_damaged_entry_is_absent_and_can_be_written_again(
    cache: DiskCache, damage: Callable[[bytes], bytes]
) -> None:
    cache.put("layers", "one", b"body")
    path = cache.path("layers", "one")
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("layers", "one", max_bytes=LIMIT) is None
    assert cache.put("layers", "one", b"body")
    assert cache.get("layers", "one", max_bytes=LIMIT) == b"body"


def test_an_entry_larger_than_the_reader_allows_is_absent(cache: DiskCache) -> None:
    cache.put("layers", "one", b"12345")
    assert cache.get("layers", "one", max_bytes=4) is None
    assert cache.get("layers", "one", max_bytes=5) == b"12345"


def test_a_key_can_not_leave_the_folder(cache: DiskCache, tmp_path: Path) -> None:
    cache.put("layers", "../../escaped", b"body")
    assert [p.parent for p in tmp_path.rglob("*") if p.is_file()] == [cache.folder / "layers"]


def test_a_cache_that_can_not_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    broken = DiskCache(folder=tmp_path / "file", max_bytes=LIMIT)
    assert not broken.put("layers", "one", b"body")
    assert not broken.keep_file("blobs", "one", tmp_path / "file")
    assert broken.get("layers", "one", max_bytes=LIMIT) is None
    broken.drop("layers", "one")
    broken.trim(NOW_S)


def test_writers_at_once_leave_one_whole_entry(cache: DiskCache) -> None:
    bodies = [bytes([number]) * 100_000 for number in range(8)]
    seen: list[bytes | None] = []

    def work(body: bytes) -> None:
        for _ in range(10):
            cache.put("layers", "one", body)
            seen.append(cache.get("layers", "one", max_bytes=LIMIT))

    threads = [threading.Thread(target=work, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 80
    assert set(seen) <= set(bodies)
    assert [p.name for p in (cache.folder / "layers").iterdir()] == [
        cache.path("layers", "one").name
    ]


def test_trimming_removes_what_was_not_used_for_longest(tmp_path: Path) -> None:
    cache = DiskCache(folder=tmp_path, max_bytes=2500)
    for name, age_s in (("old", 200), ("used", 300), ("new", 100)):
        cache.put("layers", name, b"x" * 1000)
        os.utime(cache.path("layers", name), (NOW_S - age_s, NOW_S - age_s))
    assert cache.get("layers", "used", max_bytes=LIMIT)  # reading counts as use
    cache.trim(NOW_S)
    found = {n for n in ("old", "used", "new") if cache.get("layers", n, max_bytes=LIMIT)}
    assert found == {"used", "new"}


def test_trimming_removes_left_overs_of_dead_writers_and_spares_the_living(
    cache: DiskCache,
) -> None:
    cache.put("layers", "one", b"body")
    for name, age_s in ((".dead.abc", 7200), (".living.abc", 10)):
        path = cache.folder / "layers" / name
        path.write_bytes(b"half")
        os.utime(path, (NOW_S - age_s, NOW_S - age_s))
    cache.trim(NOW_S)
    names = {p.name for p in (cache.folder / "layers").iterdir()}
    assert names == {".living.abc", cache.path("layers", "one").name}


def test_trees_of_different_trust_share_nothing(tmp_path: Path) -> None:
    trusted = DiskCache(folder=tmp_path / "trusted", max_bytes=LIMIT)
    changes = DiskCache(folder=tmp_path / "changes", max_bytes=10)
    trusted.put("layers", "one", b"t" * 100)
    changes.put("layers", "two", b"c" * 100)
    assert trusted.get("layers", "two", max_bytes=LIMIT) is None
    assert changes.get("layers", "one", max_bytes=LIMIT) is None
    changes.trim(NOW_S)
    assert trusted.get("layers", "one", max_bytes=LIMIT) == b"t" * 100


def test_a_kept_file_is_the_same_file_and_survives_its_source(
    cache: DiskCache, tmp_path: Path
) -> None:
    source = tmp_path / "blob"
    source.write_bytes(b"blob")
    assert cache.keep_file("blobs", "sha256:1", source)
    assert cache.keep_file("blobs", "sha256:1", source)
    kept = cache.path("blobs", "sha256:1")
    assert kept.stat().st_ino == source.stat().st_ino
    source.unlink()
    assert kept.read_bytes() == b"blob"
    cache.drop("blobs", "sha256:1")
    assert not kept.exists()


def test_where_links_do_not_work_a_whole_copy_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: object, _target: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    source, target = tmp_path / "a", tmp_path / "folder" / "b"
    source.write_bytes(b"blob")
    target.parent.mkdir()
    link_or_copy(source, target)
    assert target.read_bytes() == b"blob"
    assert [p.name for p in target.parent.iterdir()] == ["b"]


def test_a_fact_is_found_out_once_per_file(cache: DiskCache, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    asked: list[str] = []

    def version() -> str:
        asked.append("again")
        return f"1.{len(asked)}"

    assert [remembered(cache, program, "version", version) for _ in range(3)] == ["1.1"] * 3
    program.write_bytes(b"two")  # same size
    assert remembered(cache, program, "version", version) == "1.2"
    (tmp_path / "fresh").write_bytes(b"two")
    (tmp_path / "fresh").replace(program)
    assert remembered(cache, program, "version", version) == "1.3"
    assert remembered(None, program, "version", version) == "1.4"


def test_a_hash_follows_the_file_behind_a_link(cache: DiskCache, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode())
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    first = remembered_sha256(cache, link)
    assert remembered_sha256(cache, tmp_path / "one") == first
    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert remembered_sha256(cache, link) != first


def test_a_changed_program_with_its_old_time_is_hashed_again(
    cache: DiskCache, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"good")
    before, first = program.stat(), remembered_sha256(cache, program)
    program.write_bytes(b"evil")
    os.utime(program, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert remembered_sha256(cache, program) != first


def test_a_missing_program_is_an_error(cache: DiskCache, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        remembered_sha256(cache, tmp_path / "absent")

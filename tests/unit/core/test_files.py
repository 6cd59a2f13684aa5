"""Files nobody ever sees half of, locks, and work folders that do not outlive their run."""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_registry.errors import StorageError
from ci_registry.files import (
    cache_folder,
    free_bytes,
    hash_file,
    locked,
    read_file,
    remove_left_overs,
    remove_tree,
    work_folder,
    work_root,
    write_atomic,
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- write_atomic


def test_a_file_is_written_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    write_atomic(path, "text ✓", mode=0o600)
    assert path.read_text() == "text ✓"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_the_old_file_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def no_space(*_args: object, **_kwargs: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "write":
        monkeypatch.setattr(os, "fdopen", no_space)
    elif failing == "fsync":
        monkeypatch.setattr(os, "fsync", no_space)
    else:
        monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(StorageError) as caught:
        write_atomic(path, "new")
    assert caught.value.message == f"no space left to write {path}"
    assert caught.value.hint == "free some space, then run again"
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["file"]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/below: "):
        write_atomic(tmp_path / "file" / "below", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(tmp_path / "folder", "x")
    assert _names(tmp_path) == ["file", "folder"]


def test_text_that_is_no_unicode_is_written_with_escapes(tmp_path: Path) -> None:
    write_atomic(tmp_path / "f", "name \udcff end")
    assert (tmp_path / "f").read_text() == "name \\udcff end"


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "precious"
    assert (tmp_path / "link").read_text() == "new"


# --- reading


def test_reading_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert read_file(tmp_path / "f", max_bytes=5) == b"12345"
    with pytest.raises(StorageError, match="larger than 4 bytes"):
        read_file(tmp_path / "f", max_bytes=4)
    with pytest.raises(StorageError, match=r"cannot read .*: No such file"):
        read_file(tmp_path / "none", max_bytes=4)


def test_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert hash_file(tmp_path / "f").startswith("ba7816bf8f01cfea")
    with pytest.raises(StorageError, match="cannot read"):
        hash_file(tmp_path / "none")


# --- locks


def test_a_held_lock_is_refused_when_nobody_wants_to_wait(tmp_path: Path) -> None:
    path = tmp_path / "deep" / ".lock"
    with (
        locked(path),
        pytest.raises(StorageError, match="in use by another process"),
        locked(path, wait=False),
    ):
        pytest.fail("two holders")
    with locked(path, wait=False):
        pass


def test_threads_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    inside: list[int] = []
    most = 0

    def work() -> None:
        nonlocal most
        with locked(path):
            inside.append(1)
            most = max(most, len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_lock_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot (lock|make)"), locked(tmp_path / "file" / "x"):
        pytest.fail("locked what cannot be")


# --- where things are


def test_cache_folder_follows_own_variable_then_xdg_then_home() -> None:
    env = {"CIREG_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}
    assert cache_folder(env) == Path("/a")
    env.pop("CIREG_CACHE_DIR")
    assert cache_folder(env) == Path("/b/ci-registry")
    env.pop("XDG_CACHE_HOME")
    assert cache_folder(env) == Path("/c/.cache/ci-registry")


def test_work_root_follows_own_variable_then_the_runner_s() -> None:
    assert work_root({"CIREG_WORK_DIR": "/a", "RUNNER_TEMP": "/b"}) == Path("/a")
    assert work_root({"RUNNER_TEMP": "/b"}) == Path("/b")
    assert work_root({}).is_dir()


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0


# --- work folders


def test_a_work_folder_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with work_folder(root) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.parent == root
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("x")
    assert _names(root) == []


def test_a_work_folder_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), work_folder(tmp_path):
        raise KeyboardInterrupt
    assert _names(tmp_path) == []


def test_left_overs_of_dead_runs_go_and_living_ones_stay(tmp_path: Path) -> None:
    dead = tmp_path / "ci-registry-run-dead"
    dead.mkdir()
    (dead / ".lock").write_text("")
    (dead / "secret").write_text("x")
    other = tmp_path / "ci-registry-run-file"
    other.write_text("no folder")
    (tmp_path / "foreign").mkdir()
    with work_folder(tmp_path) as first:
        assert not dead.exists()
        with work_folder(tmp_path) as second:
            assert first.is_dir()
            assert second.is_dir()
            assert remove_left_overs(tmp_path) == ()
        assert first.is_dir()
    assert _names(tmp_path) == ["ci-registry-run-file", "foreign"]


def test_a_folder_that_is_just_being_made_is_left_alone(tmp_path: Path) -> None:
    young = tmp_path / "ci-registry-run-young"
    young.mkdir()
    assert remove_left_overs(tmp_path) == ()
    assert young.is_dir()


def test_a_link_among_the_left_overs_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / ".lock").write_text("")
    (tmp_path / "ci-registry-run-link").symlink_to(precious)
    assert remove_left_overs(tmp_path) == ()
    assert precious.is_dir()


def test_folders_of_other_users_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ci-registry-run-theirs"
    folder.mkdir()
    (folder / ".lock").write_text("")
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    assert remove_left_overs(tmp_path) == ()
    assert folder.is_dir()


def test_a_left_over_that_vanishes_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "ci-registry-run-gone"
    real = Path.glob

    def glob(self: Path, pattern: str) -> Iterator[Path]:
        return iter([gone, *real(self, pattern)])

    monkeypatch.setattr(Path, "glob", glob)
    with work_folder(tmp_path) as folder:
        assert folder.is_dir()


def test_a_run_makes_another_folder_when_its_first_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock
    cleared: list[str] = []

    def flock(handle: int, operation: int) -> None:
        real(handle, operation)
        if not cleared:  # another run was between our open and our lock
            folder = next(tmp_path.glob("ci-registry-run-*"))
            cleared.append(folder.name)
            (folder / ".lock").unlink()
            folder.rmdir()

    monkeypatch.setattr(fcntl, "flock", flock)
    with work_folder(tmp_path) as folder:
        assert folder.is_dir()
        assert folder.name not in cleared
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_unusable_root_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="work folder"), work_folder(tmp_path / "file"):
        pytest.fail("made a folder in a file")


def test_removing_a_tree_that_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")


def test_removing_a_link_removes_nothing_behind_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "real")
    remove_tree(tmp_path / "tree")
    assert _names(tmp_path) == ["real"]
    assert (tmp_path / "real" / "file").read_text() == "x"


@pytest.fixture
def _as_ordinary_user(tmp_path: Path) -> Iterator[None]:
    """Root may do everything; become nobody for the time of a test."""
    if os.geteuid() != 0:
        yield
        return
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:-2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.usefixtures("_as_ordinary_user")
def test_nested_read_only_folders_are_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "b" / "c" / "file").write_text("x")
    for folder in (tree / "a" / "b" / "c", tree / "a" / "b", tree / "a"):
        folder.chmod(0o000 if folder.name == "b" else 0o500)
    remove_tree(tree)
    assert not tree.exists()


@pytest.mark.usefixtures("_as_ordinary_user")
def test_a_folder_without_permission_says_so(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(StorageError, match=r"cannot write .*: Permission denied"):
        write_atomic(closed / "f", "x")
    with pytest.raises(StorageError, match="Permission denied"), work_folder(closed):
        pytest.fail("made a folder in a closed one")

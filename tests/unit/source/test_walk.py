"""The files of a build context: all that the ignore file leaves, nothing skipped silently."""

import os
import socket
from pathlib import Path

import pytest

from ci_registry.errors import ExitCode, SetupError
from ci_registry.source.walk import EntryType, context_files


def listed(context: Path) -> list[str]:
    return [entry.name for entry in context_files(context)]


def test_entries_are_sorted_by_bytes_of_the_whole_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/b", "a-b", "a.b", "B", "é"):
        (tmp_path / name).write_text("")
    assert listed(tmp_path) == ["B", "a", "a-b", "a.b", "a/b", "é"]


def test_types_modes_sizes_and_link_texts_are_reported(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o2750)
    (tmp_path / "f").write_text("abc")
    (tmp_path / "f").chmod(0o4755)
    (tmp_path / "l").symlink_to("../outside")
    found = {e.name: (e.type, e.mode, e.size_bytes, e.link) for e in context_files(tmp_path)}
    assert found == {
        "d": (EntryType.DIRECTORY, 0o2750, 0, b""),
        "f": (EntryType.FILE, 0o4755, 3, b""),
        "l": (EntryType.LINK, 0o777, 0, b"../outside"),
    }


def test_links_to_directories_are_not_entered(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("")
    (tmp_path / "l").symlink_to("d")
    assert listed(tmp_path) == ["d", "d/f", "l"]


def test_excluded_parent_of_a_kept_file_is_listed_and_its_empty_sibling_is_not(
    tmp_path: Path,
) -> None:
    for name in ("x/keep/f", "x/keep/g", "x/drop/f", "y/f"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    kept = {"x/keep/f"}
    entries = context_files(tmp_path, lambda path: path not in kept, lambda _: True)
    assert [e.name for e in entries] == ["x", "x/keep", "x/keep/f"]


def test_excluded_directories_are_not_even_read(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    walked: list[str] = []

    def excluded(path: str) -> bool:
        walked.append(path)
        return True

    assert context_files(tmp_path, excluded) == ()
    assert walked == ["secret"]


def test_files_with_several_names_share_an_inode(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").write_text("x")
    a, b, c = context_files(tmp_path)
    assert a.inode == b.inode is not None
    assert c.inode is None


def test_names_that_are_no_utf8_are_said_before_building(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("")
    with pytest.raises(SetupError, match="not UTF-8"):
        context_files(tmp_path)


def test_fifos_are_refused_by_name_unless_excluded(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SetupError, match="FIFO: pipe") as caught:
        context_files(tmp_path)
    assert caught.value.exit_code == ExitCode.CONFIG
    assert context_files(tmp_path, lambda path: path == "pipe") == ()


def test_sockets_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # binding a socket file is no network
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(SetupError, match="socket: s"):
            context_files(tmp_path)


def test_bottomless_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "/".join("d" * 300)).mkdir(parents=True)
    with pytest.raises(SetupError, match="deeper than 256"):
        context_files(tmp_path)


def test_missing_context_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="not a folder") as caught:
        context_files(tmp_path / "nope")
    assert "`context`" in caught.value.hint


def test_context_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_text("")
    (tmp_path / "link").symlink_to("real")
    assert listed(tmp_path / "link") == ["f"]

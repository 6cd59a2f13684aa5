"""The hash of a context changes with everything that can reach an image, and with nothing else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ci_registry.builders.context import hash_context
from ci_registry.errors import BuildError, SetupError
from ci_registry.source.hash import hash_entries
from ci_registry.source.walk import context_files


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "d").mkdir(parents=True)
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (root / "f").write_text("abc")
    (root / "d" / "g").write_text("xyz")
    (root / "l").symlink_to("f")
    return root


def digest(context: Path) -> str:
    return hash_context(context, context / "Dockerfile")


def replace_link(context: Path) -> None:
    (context / "l").unlink()
    (context / "l").symlink_to("d/g")


def file_for_directory(context: Path) -> None:
    (context / "d" / "g").unlink()
    (context / "d").rmdir()
    (context / "d").write_text("")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content of equal size": lambda c: (c / "f").write_text("abd"),
    "mode": lambda c: (c / "f").chmod(0o600),
    "setuid bit": lambda c: (c / "f").chmod(0o4644),
    "mode of a directory": lambda c: (c / "d").chmod(0o700),
    "empty directory": lambda c: (c / "e").mkdir(),
    "link text": replace_link,
    "name": lambda c: (c / "f").rename(c / "F"),
    "type": file_for_directory,
    "Dockerfile": lambda c: (c / "Dockerfile").write_text("FROM scratch\nCOPY . /x\n"),
    "ignore file that leaves nothing out": lambda c: (c / "Dockerfile.dockerignore").write_text(
        "Dockerfile.dockerignore\n"
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_hash_changes_with(change: Callable[[Path], object], context: Path) -> None:
    before = digest(context)
    times = (context / "f").stat()
    change(context)
    if (context / "f").exists():
        os.utime(context / "f", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(context) != before


def test_hash_does_not_change_with_times_or_place(context: Path, tmp_path: Path) -> None:
    before = digest(context)
    os.utime(context / "f", (1, 1))
    moved = context.rename(tmp_path / "moved")
    assert digest(moved) == before


def test_ignored_files_do_not_count_but_their_pattern_does(context: Path) -> None:
    (context / ".dockerignore").write_text("*.log\n")
    before = digest(context)
    (context / "x.log").write_text("noise")
    assert digest(context) == before
    (context / ".dockerignore").write_text("*.logs\n")
    assert digest(context) != before


def test_mode_of_an_excluded_parent_counts_when_something_in_it_is_kept(context: Path) -> None:
    (context / ".dockerignore").write_text("d\n!d/g\n")
    before = digest(context)
    (context / "d").chmod(0o711)
    assert digest(context) != before


def test_dockerfile_outside_the_context_counts(context: Path, tmp_path: Path) -> None:
    outside = tmp_path / "Other"
    outside.write_text("FROM a\n")
    before = hash_context(context, outside)
    outside.write_text("FROM b\n")
    assert hash_context(context, outside) != before


def test_own_ignore_file_replaces_the_one_of_the_context(context: Path) -> None:
    (context / ".dockerignore").write_text("f\n")
    (context / "Dockerfile.dockerignore").write_text("d\n")
    before = digest(context)
    (context / "d" / "g").write_text("changed")
    assert digest(context) == before
    (context / "f").write_text("changed")
    assert digest(context) != before


def test_unreadable_things_are_named(context: Path) -> None:
    with pytest.raises(SetupError, match="Missing"):
        hash_context(context, context / "Missing")
    (context / ".dockerignore").write_text("[\n")
    with pytest.raises(BuildError, match="malformed pattern"):
        digest(context)


def test_file_that_changes_or_vanishes_meanwhile_is_an_error(context: Path) -> None:
    entries = context_files(context)
    (context / "f").write_text("longer than before")
    with pytest.raises(SetupError, match="f has another size"):
        hash_entries(context, entries)
    (context / "f").unlink()
    with pytest.raises(SetupError, match="f is gone"):
        hash_entries(context, entries)


def test_file_swapped_for_a_link_meanwhile_is_not_followed(context: Path) -> None:
    entries = context_files(context)
    (context / "f").unlink()
    (context / "f").symlink_to("/etc/passwd")
    with pytest.raises(SetupError, match="cannot read f"):
        hash_entries(context, entries)

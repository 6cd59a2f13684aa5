"""Only listed programs are started, and of those the very file whose sha256 is on the list."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from ci_registry import process
from ci_registry.cancel import Cancel
from ci_registry.errors import SetupError, ToolError
from ci_registry.process import Command, Completed, LockedPrograms, ProcessRunner


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(name="tool")
def _tool(tmp_path: Path) -> Path:
    """Return a program of its own name that prints its arguments."""
    echo = shutil.which("echo", path=os.defpath)
    assert echo is not None
    return Path(shutil.copy(echo, tmp_path / "tool"))


def _run(locked: LockedPrograms, *argv: str, path: Path | None = None) -> Completed:
    env = {"PATH": f"{path}:{os.defpath}" if path else os.defpath}
    runner = ProcessRunner(cancel=Cancel(), locked=locked)
    return runner(Command(argv=argv, env=env))


def test_listed_program_runs_by_path_and_by_name(tool: Path) -> None:
    locked = LockedPrograms(allowed={"tool": ("0" * 64, _sha256(tool))})
    assert _run(locked, str(tool), "a").stdout == b"a\n"
    assert _run(locked, "tool", "b", path=tool.parent).stdout == b"b\n"


def test_program_that_is_not_listed_is_refused_with_what_to_add(tool: Path) -> None:
    with pytest.raises(SetupError, match="tool is not on the list") as caught:
        _run(LockedPrograms(allowed={"other": (_sha256(tool),)}), str(tool))
    assert caught.value.exit_code == 2
    assert f"{{tool: [{_sha256(tool)}]}}" in caught.value.hint


def test_program_with_another_content_is_refused(tool: Path) -> None:
    locked = LockedPrograms(allowed={"tool": (_sha256(tool),)})
    _run(locked, str(tool))
    with tool.open("ab") as file:
        file.write(b"x")
    with pytest.raises(SetupError, match="another sha256"):
        _run(locked, str(tool))


def test_script_is_refused_even_when_it_is_listed(tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text("#!/bin/sh\necho mine\n")
    script.chmod(0o755)
    with pytest.raises(SetupError, match="is a script"):
        _run(LockedPrograms(allowed={"tool": (_sha256(script),)}), str(script))


def test_missing_program_is_a_tool_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot start none"):
        _run(LockedPrograms(allowed={}), str(tmp_path / "none"))


def test_file_that_took_its_place_after_the_check_is_not_started(
    tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = LockedPrograms(allowed={"tool": (_sha256(tool),)})
    evil = shutil.copy(shutil.which("false", path=os.defpath) or "", tool.parent / "evil")
    check = LockedPrograms._check

    def swap(self: LockedPrograms, *arguments: object) -> None:
        check(self, *arguments)  # type: ignore[arg-type]
        Path(evil).rename(tool)

    monkeypatch.setattr(LockedPrograms, "_check", swap)
    with pytest.raises(ToolError, match="was changed while it was started"):
        _run(locked, str(tool))


def test_file_that_is_written_between_check_and_start_is_stopped(
    tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = LockedPrograms(allowed={"tool": (_sha256(tool),)})
    check = LockedPrograms._check

    def write(self: LockedPrograms, *arguments: object) -> None:
        check(self, *arguments)  # type: ignore[arg-type]
        with tool.open("ab") as file:
            file.write(b"x")

    monkeypatch.setattr(LockedPrograms, "_check", write)
    with pytest.raises(ToolError, match="was changed while it was started"):
        _run(locked, str(tool))


def test_content_is_hashed_once_while_the_file_stays(
    tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = LockedPrograms(allowed={"tool": (_sha256(tool),)})
    _run(locked, str(tool))
    monkeypatch.setattr(process, "_sha256", lambda _file: pytest.fail("hashed again"))
    _run(locked, str(tool))

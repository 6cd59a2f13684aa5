"""Completion in real shells: what TAB offers for commands, options, values and files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci_registry.cli.main import _COMMANDS
from tests.support.peers import ROOT, find_peer

_BASH = """
source ./script
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
compopt() { echo files; }
_ci_registry_completion ci-registry
printf '%s\\n' "${COMPREPLY[@]}"
"""
_ZSH = """
compdef() { : }
compadd() { print -rl -- ${(P)@[-1]} }
_describe() { print -rl -- ${(P)3} }
_path_files() { echo files }
words=("$@"); CURRENT=$#
source ./script
_ci_registry_completion
"""
_FISH = """
source ./script
complete -C "$argv"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `ci-registry` on PATH and a file to complete."""
    program = tmp_path / "bin" / "ci-registry"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ci_registry "$@"\n')
    program.chmod(0o755)
    (tmp_path / "image.tar").touch()
    return tmp_path


def offered(folder: Path, shell: str, *words: str) -> list[str]:
    """Return what the shell offers for the last word, without descriptions."""
    env = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
    }
    script = subprocess.run(
        ["ci-registry"],
        env=env | {"_CI_REGISTRY_COMPLETE": f"{shell}_source"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    (folder / "script").write_bytes(script.stdout)
    program = str(find_peer(shell))
    argv = {
        "bash": [program, "--norc", "-c", _BASH, "bash", *words],
        "zsh": [program, "-f", "-c", _ZSH, "zsh", *words],
        "fish": [program, "--no-config", "-c", _FISH, " ".join(words)],
    }[shell]
    done = subprocess.run(
        argv, env=env, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert not done.stderr, done.stderr
    return [line.split("\t")[0].partition(":")[0] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    "shell", [pytest.param(s, marks=pytest.mark.peer(s)) for s in ("bash", "zsh", "fish")]
)
def test_tab_offers_commands_options_values_and_files(folder: Path, shell: str) -> None:
    assert set(offered(folder, shell, "ci-registry", "")) >= set(_COMMANDS)
    assert offered(folder, shell, "ci-registry", "cop") == ["copy"]
    assert "--all-tags" in offered(folder, shell, "ci-registry", "copy", "--a")
    assert sorted(offered(folder, shell, "ci-registry", "ls", "--format", "")) == ["json", "text"]
    found = offered(folder, shell, "ci-registry", "copy", "ima")
    assert found in (["files"], ["image.tar"])

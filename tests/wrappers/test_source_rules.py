"""Rules that the source itself must keep: no shell, no code from text, one door to programs and network."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.peers import ROOT

SOURCES = sorted((ROOT / "ci_registry").rglob("*.py"))
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("pickle.loads", "pickle.load", "marshal.loads", "yaml.load", "yaml.unsafe_load"),
    *("tarfile.TarFile.extractall", "shutil.unpack_archive", "tempfile.mktemp"),
}
FORBIDDEN_METHODS = {"extractall"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_shell_and_no_code_from_text(path: Path) -> None:
    for name, call in calls(path):
        assert name not in FORBIDDEN_CALLS, f"{path}:{call.lineno}: {name}"
        assert name.rpartition(".")[2] not in FORBIDDEN_METHODS, f"{path}:{call.lineno}: {name}"
        for keyword in call.keywords:
            is_false = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            assert keyword.arg != "shell" or is_false, f"{path}:{call.lineno}"
            assert keyword.arg != "verify" or not is_false, f"{path}:{call.lineno}: TLS is verified"


def test_programs_are_started_in_one_place_with_a_list_and_an_environment() -> None:
    starts = [
        (path, call)
        for path in SOURCES
        for name, call in calls(path)
        if name.startswith(("subprocess.", "os.exec", "os.spawn", "os.posix_spawn", "pty."))
    ]
    assert {path.name for path, _ in starts} == {"process.py"}
    for _, call in starts:
        if ast.unparse(call.func) == "subprocess.Popen":
            assert "env" in {keyword.arg for keyword in call.keywords}


def test_environment_of_this_process_is_read_in_the_command_line_only() -> None:
    readers = {
        path.relative_to(ROOT / "ci_registry").parts[0]
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert readers <= {"cli", "__main__.py"}


def test_only_secret_input_of_the_action_is_the_registry_password() -> None:
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    words = ("password", "token", "secret", "credential", "private")
    assert [n for n in inputs if any(w in n for w in words)] == [
        "registry-password",
        "secret-envs",
        "secret-files",
    ]
    for name in ("secret-envs", "sign-key"):
        assert "never" in inputs[name]["description"]


def test_python_of_the_action_is_isolated_and_its_wheels_are_locked_by_hash() -> None:
    start = (ROOT / "actions" / "start").read_text()
    assert start.rstrip().endswith('-I -m ci_registry "$@"')
    for line in start.splitlines():
        if "pip install" in line:
            position = start.index(line)
            assert "--require-hashes" in start[position : position + 300]
    lock = (ROOT / "actions" / "requirements.lock").read_text()
    packages = [line for line in lock.splitlines() if line and line[0].isalnum()]
    assert packages
    assert all("==" in line for line in packages)
    assert lock.count("--hash=sha256:") >= len(packages)

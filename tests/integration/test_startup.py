"""Starting: nothing heavy is imported, and the outcome survives odd streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci_registry.registry.layout import Layout
from tests.support.images import ImageSpec, make_layout

HEAVY = (
    "httpx",
    "docker",
    "rich",
    "uvicorn",
    "cryptography",
    "yaml",
    "junit_xml",
    "jinja2",
    "http.client",
    "concurrent.futures",
)
CLI = (sys.executable, "-m", "ci_registry")
ROOT = Path(__file__).parents[2]


def _env(tmp_path: Path, **more: str) -> dict[str, str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    return env | {"CIREG_WORK_DIR": str(tmp_path / "work"), "LANG": "C.UTF-8"} | more


def _loaded_after(code: str, tmp_path: Path) -> set[str]:
    done = subprocess.run(
        (sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"),
        env=_env(tmp_path),
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.splitlines())


def test_importing_the_command_line_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = _loaded_after("import ci_registry.cli.main", tmp_path)
    assert loaded.isdisjoint(HEAVY)
    assert not any(name.startswith("ci_registry.pipeline") for name in loaded)


def test_importing_the_package_does_no_work(tmp_path: Path) -> None:
    before = _loaded_after("", tmp_path)
    after = _loaded_after("import ci_registry", tmp_path)
    assert {name for name in after - before if not name.startswith("ci_registry")} == set()


@pytest.mark.parametrize("argv", [("--version",), ("--help",), ("plna",)])
def test_version_help_and_typos_load_nothing_heavy(tmp_path: Path, argv: tuple[str, ...]) -> None:
    code = (
        "import contextlib, io\n"
        "from ci_registry.cli.main import run_command_line\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        f"    run_command_line({list(argv)!r})"
    )
    assert _loaded_after(code, tmp_path).isdisjoint(HEAVY)


def test_an_error_while_importing_is_70(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise RuntimeError('broken install')\n")
    env = _env(tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    done = subprocess.run((*CLI, "--version"), env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 70
    assert done.stderr == "ci-registry: cannot start: RuntimeError: broken install\n"


def _project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    (tmp_path / "work").mkdir()
    return folder


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("policy", "explain"), 0),
        (("config", "schema"), 0),
        (("plan", "--image", "app", "--builder", "assemble"), 0),
        (("plan", "--image", "app", "--dockerfile", "none"), 2),
        (("build", "--image", "app", "--builder", "assemble"), 0),
        (("scan", "ci-registry-layout/app", "--scan-db", "offline", "--only", "x"), 5),
        (("plna",), 2),
        (("verify", "registry.example/x"), 2),
    ],
)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_goes_away_changes_no_exit_code(
    tmp_path: Path, argv: tuple[str, ...], code: int, stream: str
) -> None:
    folder = _project(tmp_path)
    if argv[0] == "scan":
        layout = ("build", "--image", "app", "--builder", "assemble")
        subprocess.run(
            (*CLI, *layout), cwd=folder, env=_env(tmp_path), check=True, capture_output=True
        )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            (*CLI, *argv),
            cwd=folder,
            env=_env(tmp_path),
            check=False,
            timeout=120,
            stdout=writer if stream == "stdout" else subprocess.DEVNULL,
            stderr=writer if stream == "stderr" else subprocess.DEVNULL,
        )
    finally:
        os.close(writer)
    assert done.returncode == code


@pytest.mark.parametrize("argv", [("plan", "--image", "app"), ("config", "show")])
def test_an_encoding_without_our_marks_changes_no_exit_code(
    tmp_path: Path, argv: tuple[str, ...]
) -> None:
    env = _env(tmp_path, PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    done = subprocess.run(
        (*CLI, *argv), cwd=_project(tmp_path), env=env, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u2192" in done.stdout or argv[0] == "config"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("./none", "./none does not exist"),
        ("/none/at/all", "/none/at/all does not exist"),
        ("folder", "folder is no OCI layout: it has no index.json"),
    ],
)
def test_a_target_that_is_no_layout_is_said(tmp_path: Path, target: str, words: str) -> None:
    folder = _project(tmp_path)
    (folder / "folder").mkdir()
    done = subprocess.run(
        (*CLI, "scan", target),
        cwd=folder,
        env=_env(tmp_path),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"ci-registry: {words}\n" in done.stderr
    assert "hint: name a layout folder" in done.stderr


def test_a_layout_may_have_any_name(tmp_path: Path) -> None:
    folder = _project(tmp_path)
    env = _env(tmp_path)
    build = (*CLI, "build", "--image", "app", "--builder", "assemble", "-q")
    subprocess.run(build, cwd=folder, env=env, check=True, capture_output=True)
    (folder / "ci-registry-layout" / "app").rename(folder / "My Layout.v1")
    done = subprocess.run(
        (*CLI, "scan", "./My Layout.v1/", "--scan-db", "offline"),
        cwd=folder,
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 5, done.stderr
    assert done.stdout.startswith("INCOMPLETE  my-layout-v1 ")


def test_commands_for_registries_do_not_wait_for_git(tmp_path: Path) -> None:
    folder = _project(tmp_path)
    subprocess.run(("git", "init", "-q"), cwd=folder, check=True)
    image = Layout(make_layout(tmp_path / "image", ImageSpec(layers=[{"a": "1"}])).layout)
    image.set_root(image.root(), tag="v1")
    programs = tmp_path / "programs"
    programs.mkdir()
    git = programs / "git"
    git.write_text(f"#!/bin/sh\ntouch {tmp_path}/git-was-run\nexit 1\n")
    git.chmod(0o755)
    env = _env(tmp_path, PATH=f"{programs}:{os.environ['PATH']}")
    target = f"oci:{tmp_path}/copy"
    for argv in (("copy", f"oci:{tmp_path}/image:v1", target), ("ls", target)):
        subprocess.run((*CLI, *argv), cwd=folder, env=env, check=True, capture_output=True)
    assert not (tmp_path / "git-was-run").exists()
    subprocess.run((*CLI, "plan"), cwd=folder, env=env, check=False, capture_output=True)
    assert (tmp_path / "git-was-run").exists()

"""Secrets turn up in no report, on no console and in no file that GitHub reads, whatever happens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci_registry.registry_server.options import Answer, Fault
from tests.support.canaries import (
    BUILD_SECRET,
    KEY_PASSWORD,
    REGISTRY_PASSWORD,
    TOKENS,
    Canaries,
)
from tests.support.changes import commit_base, github_event
from tests.support.cli import Project, make_project
from tests.support.registry import RunningRegistry

CRASH = """\
import base64, os, sys
sys.path.insert(0, os.getcwd())

def boom(*_args, **_more):
    values = [v for n, v in os.environ.items() if n in os.environ["BOOM"].split(",")]
    raise RuntimeError("; ".join([*values, *(base64.b64encode(f"canary-user:{v}".encode()).decode() for v in values)]))

import ci_registry.MODULE as module
module.NAME = boom
from ci_registry.__main__ import main
sys.argv = ["ci-registry", *sys.argv[1:]]
main()
"""


@pytest.fixture
def github(project: Project) -> dict[str, str]:
    """A push on GitHub, with all of its files."""
    commit_base(project)
    files = {
        name: str(project.base / name.lower()) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
    }
    return github_event(project, "push", {}) | files | {"BUILD_SECRET": BUILD_SECRET}


def github_files(project: Project) -> list[Path]:
    found = [project.base / "github_output", project.base / "github_step_summary"]
    assert all(path.is_file() for path in found)
    return found


def crash(
    project: Project, env: dict[str, str], where: tuple[str, str], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command line with a function in it that raises with every secret in its message."""
    names = ",".join(("BUILD_SECRET", *canary_names()))
    return subprocess.run(
        [
            sys.executable,
            "-c",
            CRASH.replace("MODULE", where[0]).replace("NAME", where[1]),
            *arguments,
        ],
        cwd=project.folder,
        env={**project.env, **env, "BOOM": names, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def canary_names() -> tuple[str, ...]:
    """Return the variables whose values are secret; an address alone is not."""
    tokens = [name for name in TOKENS if not name.endswith("_URL")]
    return ("CIREG_REGISTRY_PASSWORD", "COSIGN_PASSWORD", "COSIGN_PRIVATE_KEY", *tokens)


@pytest.mark.parametrize("arguments", [("-v",), ("--log-format", "json"), ("--format", "json")])
def test_passing_run_shows_no_secret(
    project: Project, canaries: Canaries, github: dict[str, str], arguments: tuple[str, ...]
) -> None:
    done = project.run("run", *arguments, env=canaries.env | github)

    assert done.exit_code == 0, done.stderr
    assert project.result()["signed"]
    assert canaries.found_in(done.stdout + done.stderr) == []
    assert canaries.found_below(project.reports, *github_files(project)) == []


def test_registry_that_echoes_the_login_in_its_error_shows_no_secret(
    project: Project, registry: RunningRegistry, canaries: Canaries, github: dict[str, str]
) -> None:
    echo = json.dumps(
        {"errors": [{"code": "DENIED", "message": f"no right for canary-user:{REGISTRY_PASSWORD}"}]}
    )
    registry.faults.add(
        Fault(action=Answer(status=403, body=echo.encode()), method="P.*|GET", times=0, after=1)
    )

    done = project.run("run", "-v", env=canaries.env | github)

    assert done.exit_code in (2, 4), done.stderr
    assert "***" in done.stderr
    assert canaries.found_in(done.stdout + done.stderr) == []
    assert canaries.found_below(project.reports, *github_files(project)) == []


@pytest.mark.parametrize(
    "where",
    [("pipeline.steps_scan", "judge"), ("wiring.command", "open_parts")],
    ids=["in a step", "before any image"],
)
def test_bug_shows_no_secret_in_traceback_reports_or_console(
    tmp_path: Path,
    registry: RunningRegistry,
    canaries: Canaries,
    where: tuple[str, str],
) -> None:
    image = {"secret_envs": ["BUILD_SECRET"]} if where[1] == "judge" else {}
    project = make_project(tmp_path, registry, images={"app": image})
    env = canaries.env | ({"BUILD_SECRET": BUILD_SECRET} if image else {})

    done = crash(project, env, where, "run", "-v")

    assert done.returncode == 70, done.stderr
    assert canaries.found_in(done.stdout + done.stderr) == []
    traceback = (project.reports / "traceback.txt").read_text()
    assert "RuntimeError: " in traceback
    assert "***" in traceback
    assert canaries.found_below(project.reports) == []


def test_bug_in_a_command_without_reports_shows_no_secret(
    project: Project, canaries: Canaries
) -> None:
    done = crash(project, canaries.env, ("wiring.basis", "read_basis"), "config", "check")

    assert done.returncode == 70
    assert "RuntimeError: " in done.stderr
    assert canaries.found_in(done.stdout + done.stderr) == []


def test_settings_are_shown_without_secrets(project: Project, canaries: Canaries) -> None:
    done = project.run("config", "show", env=canaries.env)

    assert done.exit_code == 0, done.stderr
    assert canaries.found_in(done.stdout + done.stderr) == []


def test_key_in_place_of_its_name_is_refused_unseen(project: Project, canaries: Canaries) -> None:
    done = project.run("run", "--sign-key", canaries.private_key, env=canaries.env)

    assert done.exit_code == 2
    assert canaries.found_in(done.stdout + done.stderr) == []
    assert canaries.found_below(project.reports) == []


def test_secret_that_is_an_ordinary_word_leaves_the_reports_whole(
    project: Project, canaries: Canaries
) -> None:
    """Masked in texts, never in what the reports are made of."""
    done = project.run("run", env={"CI_JOB_TOKEN": "true", "COSIGN_PASSWORD": "pass"})

    assert done.exit_code == 2, done.stderr  # no login
    assert project.result()["exit_code"] == 2
    assert project.junit()["error"]


def test_new_key_file_is_for_its_owner_alone_and_its_password_nowhere(
    project: Project, canaries: Canaries
) -> None:
    done = project.run("keys", "generate", env={"COSIGN_PASSWORD": KEY_PASSWORD})

    assert done.exit_code == 0
    assert oct((project.folder / "cosign.key").stat().st_mode & 0o777) == "0o600"
    assert canaries.found_in(done.stdout + done.stderr) == []
    assert canaries.found_below(project.folder / "cosign.key", project.folder / "cosign.pub") == []

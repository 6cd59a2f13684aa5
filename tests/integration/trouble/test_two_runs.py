"""Runs beside each other, and runs after one that was killed."""

import json
import signal
from pathlib import Path

import pytest

from ci_registry.registry_server.options import Fault, Stall
from tests.support.cli import (
    Project,
    make_project,
    signing_environment,
    tags_of,
    use_trivy,
    wait_until,
)
from tests.support.registry import RunningRegistry, running_registry


def test_two_runs_of_one_project_both_succeed(project: Project, registry: RunningRegistry) -> None:
    env = signing_environment()
    runs = [project.start("run", env=env), project.start("run", env=env)]
    outcomes = [running.wait() for running in runs]
    assert [done.exit_code for done in outcomes] == [0, 0], outcomes[0].stderr + outcomes[1].stderr
    assert set(tags_of(registry)) == {"v1", "latest"}
    assert len(set(tags_of(registry).values())) == 1
    assert project.left_overs == []
    public = {"COSIGN_PUBLIC_KEY": env["COSIGN_PUBLIC_KEY"]}
    assert project.run("verify", f"{registry.host}/team/app:v1", env=public).exit_code == 0


def test_two_runs_of_different_images_share_cache_and_work_folder(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    first = make_project(tmp_path / "one", registry)
    second = make_project(tmp_path / "two", registry, version="3.0")
    shared = {"CIREG_WORK_DIR": str(first.work), "CIREG_CACHE_DIR": str(tmp_path / "cache")}
    runs = [
        first.start("run", env=shared),
        second.start("run", "--image", f"{registry.host}/team/other", env=shared),
    ]
    outcomes = [running.wait() for running in runs]
    assert [done.exit_code for done in outcomes] == [0, 0], outcomes[0].stderr + outcomes[1].stderr
    assert set(tags_of(registry)) == {"v1", "latest"}
    assert list(first.work.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/blobs/uploads/"), ("PUT", "/manifests/sha256:"), ("PUT", "/manifests/v1")],
    ids=["upload", "publish", "tag"],
)
def test_the_run_after_a_killed_one_is_right(tmp_path: Path, method: str, path: str) -> None:
    stall = Fault(action=Stall(duration_s=300), method=method, path=path)
    with running_registry(faults=[stall]) as registry:
        project = make_project(tmp_path, registry)
        running = project.start("run", env=signing_environment())
        wait_until(lambda: registry.count(method, path), f"{method} {path}")
        running.process.kill()
        assert running.wait().exit_code == -signal.SIGKILL
        assert len(list(project.work.iterdir())) == 1
        done = project.run("run", env=signing_environment())
        assert done.exit_code == 0, done.stderr
        assert set(tags_of(registry)) == {"v1", "latest"}
        assert project.result()["images"][0]["signed"] is True
        assert project.left_overs == []


def test_a_run_leaves_the_work_folder_of_another_alone(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    first = make_project(tmp_path / "one", registry)
    second = make_project(tmp_path / "two", registry)
    env = use_trivy(first, f"touch {tmp_path}/up; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done")
    running = first.start("run", env=env)
    wait_until((tmp_path / "up").is_file, "the scanner starts")
    done = second.run("run", env={"CIREG_WORK_DIR": str(first.work)})
    assert done.exit_code == 0, done.stderr
    assert len(list(first.work.iterdir())) == 1
    (tmp_path / "go").touch()
    assert running.wait().exit_code == 4  # its scanner wrote no report
    assert list(first.work.iterdir()) == []


def test_half_written_files_of_the_cache_do_no_harm(project: Project) -> None:
    assert project.run("run").exit_code == 0
    for path in (project.base / "cache").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:1])
    done = project.run("run")
    assert done.exit_code == 0, done.stderr
    assert json.loads((project.reports / "result.json").read_text())["exit_code"] == 0

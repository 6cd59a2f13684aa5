"""Disks that are full and files that can't be written: exit code 4, one line, nothing half done."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import Project, assert_stopped, has_manifests, tags_of, use_trivy, wait_until
from tests.support.registry import RunningRegistry

MountTmpfs = Callable[[Path, str], None]


@pytest.fixture
def mount_tmpfs() -> Iterator[MountTmpfs]:
    """Mounts a small file system on a folder, until the test ends."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    mounted: list[Path] = []

    def mount(folder: Path, options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = ("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(("umount", "-l", str(folder)), check=folder.exists(), capture_output=True)


def fill(folder: Path) -> None:
    """Use every byte that is free."""
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_no_space_for_reports_is_found_before_anything_is_built(
    project: Project, registry: RunningRegistry, mount_tmpfs: MountTmpfs
) -> None:
    mount_tmpfs(project.reports, "size=16k")
    fill(project.reports)
    done = project.run("run")
    assert done.exit_code == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert done.troubles[0].startswith("no space left to write")
    assert sorted(path.name for path in project.reports.iterdir()) == ["ballast"]
    assert list(project.work.iterdir()) == []
    assert registry.seen == []


def test_space_that_runs_out_while_reports_are_written_is_said(
    project: Project, registry: RunningRegistry, mount_tmpfs: MountTmpfs
) -> None:
    mount_tmpfs(project.reports, "size=24k")
    done = project.run("run")
    assert done.exit_code == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert done.troubles[0].startswith("the reports are not complete: no space left to write")
    assert not [path for path in project.reports.iterdir() if path.name.startswith(".")]
    assert set(tags_of(registry)) == {"v1", "latest"}


def test_a_report_folder_that_is_a_file_stops_the_run(
    project: Project, registry: RunningRegistry
) -> None:
    project.write("out", "a file")
    done = project.run("run", "--report-dir", "out")
    assert done.exit_code == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert done.troubles[0].startswith("cannot write")
    assert registry.seen == []


def test_a_work_folder_with_little_space_stops_before_building(
    project: Project, registry: RunningRegistry, mount_tmpfs: MountTmpfs
) -> None:
    mount_tmpfs(project.work, "size=1m")
    done = project.run("run")
    assert_stopped(project, done, 4, r".* has \d MiB free", hint="CIREG_WORK_DIR")
    assert not has_manifests(registry)


@pytest.mark.parametrize("inodes", [2, 4, 6, 8, 10, 13])
def test_a_work_folder_that_runs_full_anywhere_is_infrastructure(
    project: Project, registry: RunningRegistry, mount_tmpfs: MountTmpfs, inodes: int
) -> None:
    mount_tmpfs(project.work, f"size=100m,nr_inodes={inodes}")
    done = project.run("run")
    assert_stopped(project, done, 4, r"no space left to ")
    assert tags_of(registry) == {}
    assert not has_manifests(registry)


def test_a_work_folder_that_cannot_be_made_is_infrastructure(project: Project) -> None:
    project.write("file", "")
    done = project.run("run", "--work-dir", "file/work")
    assert_stopped(project, done, 4, r"cannot make a work folder in file/work")


@pytest.mark.parametrize("name", ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"])
def test_a_file_of_github_that_cannot_be_written_is_said_and_the_reports_are_there(
    project: Project, name: str
) -> None:
    done = project.run("run", env={name: str(project.base / "missing" / "output")})
    assert done.exit_code == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert done.troubles[0].startswith("the reports are not complete: cannot append to")
    assert project.result()["images"][0]["verdict"] == "pass"
    assert project.junit()["error"] == []
    assert project.left_overs == []


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(
    project: Project, registry: RunningRegistry
) -> None:
    project.write("file", "")
    done = project.run("run", env={"CIREG_CACHE_DIR": str(project.folder / "file" / "cache")})
    assert done.exit_code == 0, done.stderr
    assert set(tags_of(registry)) == {"v1", "latest"}


def test_a_left_over_folder_is_removed_without_what_is_mounted_there(
    project: Project, mount_tmpfs: MountTmpfs
) -> None:
    left_over = project.work / "ci-registry-run-killed"
    left_over.mkdir()
    (left_over / ".lock").touch()
    mount_tmpfs(left_over / "a tmpfs" / "inner", "size=1m")
    outside = project.base / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (left_over / "bind").mkdir()
    subprocess.run(("mount", "--bind", str(outside), str(left_over / "bind")), check=True)
    assert project.run("run").exit_code == 0
    assert list(project.work.iterdir()) == []
    assert (outside / "precious").exists()


def test_reports_of_an_earlier_run_do_not_stay_when_the_run_is_killed(project: Project) -> None:
    assert project.run("run").exit_code == 0
    file = project.base / "pid"
    running = project.start("run", env=use_trivy(project, f"echo $$ >{file}; sleep 300"))
    wait_until(lambda: file.is_file() and file.read_text().strip(), "the scanner starts")
    running.process.kill()
    assert running.wait().exit_code == -9
    os.killpg(int(file.read_text()), signal.SIGKILL)  # nobody else ends it now
    assert "did not come to its end" in project.result()["error"]
    assert any("did not come to its end" in text for text in project.junit()["error"])
    assert not (project.reports / "summary.md").exists()

"""Ctrl-C and SIGTERM in every step: exit code 130, reports, no tag, nothing left behind, no program left running."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.registry_server.options import Fault, Stall
from tests.support.cli import (
    Outcome,
    Project,
    Running,
    make_project,
    signing_environment,
    tags_of,
    use_trivy,
    wait_until,
)
from tests.support.registry import RunningRegistry, running_registry

STALL = Stall(duration_s=300)
SOON_S = 20.0
"""Bounds a wait, so that a run that hangs fails its test; it is no measurement."""
STUBBORN = "trap '' TERM\n"
SLOW = "echo $$ >{pid}\nsleep 300 &\nwait\nwait\n"


def interrupt(running: Running, number: signal.Signals = signal.SIGTERM) -> Outcome:
    running.signal(number)
    return running.wait(SOON_S)


def assert_interrupted(project: Project, done: Outcome, name: str = "SIGTERM") -> None:
    assert "Traceback" not in done.stderr, done.stderr
    assert done.exit_code == 130, done.stderr
    assert any(f"interrupted: {name}" in line for line in done.troubles), done.stderr
    assert project.result()["exit_code"] == 130
    assert any(f"interrupted: {name}" in text for text in project.junit()["error"])
    assert project.left_overs == []


def wait_for_request(registry: RunningRegistry, method: str, part: str) -> None:
    wait_until(lambda: registry.count(method, part), f"{method} {part}")


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status


def slow_script(project: Project) -> str:
    return SLOW.format(pid=project.base / "pid")


def wait_for_script(project: Project) -> int:
    file = project.base / "pid"
    wait_until(lambda: file.is_file() and file.read_text().strip(), "the program starts")
    return int(file.read_text())


@pytest.mark.parametrize(
    ("method", "path", "number"),
    [
        ("HEAD", "/manifests/v1", signal.SIGTERM),
        ("POST", "/blobs/uploads/", signal.SIGINT),
        ("PUT", "/blobs/uploads/", signal.SIGTERM),
        ("PUT", "/manifests/sha256:", signal.SIGINT),
        ("PUT", "/manifests/sha256-", signal.SIGTERM),
    ],
    ids=["gather", "preflight", "upload", "publish", "sign"],
)
def test_a_request_without_answer_is_interrupted_and_no_tag_moves(
    tmp_path: Path, method: str, path: str, number: signal.Signals
) -> None:
    with running_registry(faults=[Fault(action=STALL, method=method, path=path)]) as registry:
        project = make_project(tmp_path, registry)
        running = project.start("run", env=signing_environment())
        wait_for_request(registry, method, path)
        assert_interrupted(project, interrupt(running, number), number.name)
        assert tags_of(registry) == {}


def test_after_an_interruption_no_further_tag_moves(tmp_path: Path) -> None:
    with running_registry(
        faults=[Fault(action=STALL, method="PUT", path="/manifests/v1$")]
    ) as registry:
        project = make_project(tmp_path, registry)
        running = project.start("run")
        wait_for_request(registry, "PUT", "/manifests/v1")
        assert_interrupted(project, interrupt(running))
        assert "latest" not in tags_of(registry)


def test_a_base_image_that_does_not_arrive_is_interrupted(
    project: Project, registry: RunningRegistry
) -> None:
    assert project.run("run").exit_code == 0
    registry.seen.clear()
    registry.faults.add(Fault(action=STALL, method="GET", path="/blobs/"))
    project.write("Dockerfile", f"FROM {registry.host}/team/app:v1\nCOPY Dockerfile /\n")
    before = tags_of(registry)
    running = project.start("run", "--tags", "v2")
    wait_for_request(registry, "GET", "/blobs/")
    assert_interrupted(project, interrupt(running))
    assert tags_of(registry) == before


def write_endless_layout(folder: Path) -> None:
    """Write an image whose layer takes long to read and short to write."""
    size, layer = 32 * 1024**3, "sha256:" + "a" * 64
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}}
    config["rootfs"]["diff_ids"] = [layer]  # type: ignore[index]

    def put(value: object, media_type: str) -> dict[str, object]:
        data = json.dumps(value).encode()
        digest: Digest = digest_of(data)
        (folder / "blobs" / "sha256" / digest.hex).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    (folder / "blobs" / "sha256").mkdir(parents=True)
    with (folder / "blobs" / "sha256" / ("a" * 64)).open("wb") as file:
        file.truncate(size)
    manifest = put(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": put(config, media_types.OCI_CONFIG),
            "layers": [{"mediaType": media_types.OCI_LAYER, "digest": layer, "size": size}],
        },
        media_types.OCI_MANIFEST,
    )
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))


def test_reading_a_large_layer_is_interrupted(project: Project, registry: RunningRegistry) -> None:
    write_endless_layout(project.folder / "layout")
    running = project.start("run", "--from-layout", "layout", "--log-format", "json")
    wait_until(lambda: '"inspect"' in running.stderr, "inspect starts")
    running.signal(signal.SIGINT)
    done = running.wait(SOON_S)
    assert done.exit_code == 130, done.stderr
    assert any("interrupted: SIGINT" in text for text in project.junit()["error"])
    assert project.left_overs == []
    assert tags_of(registry) == {}


def test_a_scanner_that_takes_long_is_interrupted_with_its_children(
    project: Project, registry: RunningRegistry
) -> None:
    env = use_trivy(project, slow_script(project))
    running = project.start("run", env=env)
    pid = wait_for_script(project)
    assert_interrupted(project, interrupt(running, signal.SIGINT), "SIGINT")
    assert not is_alive(pid)
    assert tags_of(registry) == {}


def test_a_scanner_that_ignores_sigterm_is_killed(
    project: Project, registry: RunningRegistry
) -> None:
    env = use_trivy(project, STUBBORN + slow_script(project))
    running = project.start("run", env=env)
    pid = wait_for_script(project)
    assert_interrupted(project, interrupt(running))
    assert not is_alive(pid)
    assert tags_of(registry) == {}


def test_a_second_signal_exits_at_once_and_leaves_no_program_running(
    project: Project, registry: RunningRegistry
) -> None:
    env = use_trivy(project, STUBBORN + slow_script(project))
    running = project.start("run", env=env)
    pid = wait_for_script(project)
    running.signal(signal.SIGINT)
    time.sleep(0.6)  # the same signal within a moment is the echo of the first
    done = interrupt(running, signal.SIGINT)
    assert done.exit_code == 130
    assert "did not come to its end" in project.result()["error"]  # it did not wait for anything
    wait_until(lambda: not is_alive(pid), "the program ends")
    assert tags_of(registry) == {}


def test_an_echo_of_the_first_signal_counts_once(project: Project) -> None:
    env = use_trivy(project, slow_script(project))
    running = project.start("run", env=env)
    wait_for_script(project)
    running.signal(signal.SIGINT)
    running.signal(signal.SIGTERM)
    done = running.wait(SOON_S)
    assert done.exit_code == 130
    assert project.result()["exit_code"] == 130
    assert project.left_overs == []


def test_a_run_is_interrupted_while_git_is_asked(
    project: Project, registry: RunningRegistry
) -> None:
    git = project.base / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\n" + slow_script(project))
    git.chmod(0o755)
    (project.folder / ".git").mkdir()
    running = project.start("run", env={"PATH": f"{git.parent}:/usr/bin:/bin"})
    pid = wait_for_script(project)
    assert_interrupted(project, interrupt(running, signal.SIGINT), "SIGINT")
    assert not is_alive(pid)
    assert registry.seen == []


def test_a_command_whose_output_nobody_reads_is_interrupted(project: Project) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        (sys.executable, "-m", "ci_registry", "config", "schema"),
        cwd=project.folder,
        env=project.env,
        stdout=writer,
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)

    def is_full() -> bool:
        waiting = fcntl.ioctl(reader, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder) == 4096

    wait_until(is_full, "the pipe is full")
    process.terminate()
    assert process.wait(SOON_S) == 130
    os.close(reader)

"""The command line beside real engines, builders and registries that fail, hang or go away."""

import base64
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import (
    SETTINGS,
    Outcome,
    Project,
    assert_stopped,
    has_manifests,
    make_project,
    tags_of,
    wait_until,
)
from tests.support.distribution import running_distribution
from tests.support.docker import BUSYBOX, SHELL, Dockerd, running_dockerd
from tests.support.peers import peer_environment
from tests.support.registry import RunningRegistry, running_registry

SOON_S = 30.0
SECRET = "canary-3f1d9c-build-secret"
SECONDS = "48151"
"""How long the build sleeps; nothing else on this machine does so for as long."""


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


def shell_project(base: Path, registry: RunningRegistry, builder: str, *lines: str) -> Project:
    """Make a project whose image has a shell and runs these lines of a Dockerfile."""
    project = make_project(base, registry, build={"builder": builder})
    shutil.copy(BUSYBOX, project.folder / "busybox")
    project.write("Dockerfile", "\n".join([SHELL.rstrip(), "COPY rootfs/ /", *lines, ""]))
    return project


def sleepers() -> list[int]:
    """Return the processes that sleep for the time of the tests' builds."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[-3:] == [b"sleep", SECONDS.encode(), b""]:
            found.append(int(path.parent.name))
    return found


def command_of(pid: int) -> list[str]:
    """Return the words of the command line of a process."""
    return (Path("/proc") / str(pid) / "cmdline").read_bytes().decode().split("\0")


def buildah_environment(project: Project) -> dict[str, str]:
    return peer_environment() | project.env | {"PATH": peer_environment()["PATH"]}


def clients(project: Project) -> list[int]:
    """Return the processes whose working directory or arguments name the project's work folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if str(project.work).encode() in words:
            found.append(int(path.name))
    return found


def assert_interrupted(project: Project, done: Outcome, registry: RunningRegistry) -> None:
    assert "Traceback" not in done.stderr, done.stderr
    assert done.exit_code == 130, done.stderr
    assert project.result()["exit_code"] == 130
    assert any("interrupted: SIGINT" in text for text in project.junit()["error"])
    wait_until(lambda: not sleepers(), "the build ends")
    assert clients(project) == []
    assert project.left_overs == []
    assert tags_of(registry) == {}
    assert not has_manifests(registry)


def interrupt_build(project: Project, registry: RunningRegistry, env: dict[str, str]) -> None:
    running = project.start("run", env=env)
    wait_until(sleepers, "the build sleeps", timeout_s=60)
    running.signal(signal.SIGINT)
    assert_interrupted(project, running.wait(SOON_S), registry)


@pytest.mark.peer("docker", "dockerd")
@pytest.mark.parametrize("builder", ["buildx", "docker_engine"])
def test_a_build_in_the_engine_is_interrupted(
    dockerd: Dockerd, tmp_path: Path, registry: RunningRegistry, builder: str
) -> None:
    line = f"RUN --network=none /bin/busybox sleep {SECONDS}"
    if builder == "docker_engine":
        line = f"RUN /bin/busybox sleep {SECONDS}"
    project = shell_project(tmp_path, registry, builder, line)
    if builder == "docker_engine":
        settings = (project.folder / SETTINGS).read_text()
        project.write(SETTINGS, settings.replace('"builder"', '"network": "none", "builder"'))
    interrupt_build(project, registry, dockerd.env)


@pytest.mark.peer("buildah")
def test_a_build_with_buildah_is_interrupted(tmp_path: Path, registry: RunningRegistry) -> None:
    if os.geteuid() != 0:
        pytest.skip("buildah is tested as root")
    project = shell_project(tmp_path, registry, "buildah", f"RUN /bin/busybox sleep {SECONDS}")
    settings = (project.folder / SETTINGS).read_text()
    project.write(SETTINGS, settings.replace('"builder"', '"network": "none", "builder"'))
    interrupt_build(project, registry, buildah_environment(project))


@pytest.mark.peer("buildah")
def test_a_buildah_that_is_killed_is_infrastructure_and_its_container_ends(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    if os.geteuid() != 0:
        pytest.skip("buildah is tested as root")
    project = shell_project(tmp_path, registry, "buildah", f"RUN /bin/busybox sleep {SECONDS}")
    settings = (project.folder / SETTINGS).read_text()
    project.write(SETTINGS, settings.replace('"builder"', '"network": "none", "builder"'))
    running = project.start("run", env=buildah_environment(project))
    wait_until(sleepers, "the build sleeps", timeout_s=60)
    (pid,) = [pid for pid in clients(project) if "buildah" in command_of(pid)[0]]
    os.killpg(pid, signal.SIGKILL)
    done = running.wait(SOON_S)
    assert_stopped(project, done, 4, r"buildah was killed by signal 9 while building app")
    assert sleepers() == []
    assert str(project.work) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.peer("docker", "dockerd")
def test_an_instruction_that_fails_is_named_with_its_line_and_output(
    dockerd: Dockerd, tmp_path: Path, registry: RunningRegistry
) -> None:
    line = "RUN --network=none echo the-last-words >&2 && exit 7"
    project = shell_project(tmp_path, registry, "buildx", line)
    number = len((project.folder / "Dockerfile").read_text().splitlines())
    done = project.run("run", env=dockerd.env)
    assert_stopped(project, done, 3, rf"Dockerfile:{number}: .*exit code:? 7")
    assert "the-last-words" in (project.reports / "junit-ci-registry.xml").read_text()
    assert tags_of(registry) == {}


@pytest.mark.peer("docker", "dockerd")
def test_a_build_secret_that_a_build_prints_is_masked_everywhere(
    dockerd: Dockerd, tmp_path: Path, registry: RunningRegistry
) -> None:
    encoded = base64.b64encode(SECRET.encode()).decode()
    project = shell_project(
        tmp_path,
        registry,
        "buildx",
        "RUN --network=none --mount=type=secret,id=TOKEN /bin/busybox cat /run/secrets/TOKEN >&2"
        f" && echo {encoded} >&2 && exit 9",
    )
    done = project.run("run", "-v", "--secret-envs", "TOKEN", env=dockerd.env | {"TOKEN": SECRET})
    assert_stopped(project, done, 3, r"Dockerfile:\d+: ")
    texts = [done.stdout, done.stderr, *(p.read_text() for p in project.reports.iterdir())]
    for text in texts:
        assert SECRET not in text
    assert "***" in "".join(texts)
    assert all(encoded not in text for text in texts)


@pytest.mark.peer("docker")
def test_buildx_without_an_engine_is_infrastructure(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    project = shell_project(tmp_path, registry, "buildx", "RUN true")
    env = {name: peer_environment()[name] for name in ("PATH", "DOCKER_CONFIG")}
    done = project.run("run", env=env)
    assert_stopped(project, done, 4, r"no builder here can build Dockerfile: buildx: ")
    assert not has_manifests(registry)


@pytest.mark.peer("docker", "dockerd")
def test_an_engine_that_dies_while_it_builds_is_infrastructure(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    if os.geteuid() != 0:
        pytest.skip("dockerd needs root")
    with running_dockerd(containerd_store=True) as daemon:
        line = f"RUN --network=none /bin/busybox sleep {SECONDS}"
        project = shell_project(tmp_path, registry, "buildx", line)
        running = project.start("run", env=daemon.env)
        wait_until(sleepers, "the build sleeps", timeout_s=60)
        for pid in sleepers():
            os.kill(pid, signal.SIGSTOP)
        os.kill(int((daemon.root / "pid").read_text()), signal.SIGKILL)
        done = running.wait(SOON_S)
        for pid in sleepers():
            os.kill(pid, signal.SIGKILL)
        assert_stopped(project, done, 4, r"buildx lost its engine while building app")
        assert not has_manifests(registry)


@pytest.mark.peer("docker-registry", "docker", "dockerd")
def test_a_registry_that_goes_away_while_the_image_is_built_is_infrastructure(
    dockerd: Dockerd, tmp_path: Path, registry: RunningRegistry
) -> None:
    project = shell_project(
        tmp_path, registry, "buildx", f"RUN --network=none /bin/busybox sleep {SECONDS} || true"
    )
    (tmp_path / "registry").mkdir()
    with running_distribution(tmp_path / "registry") as host:
        settings = (project.folder / SETTINGS).read_text()
        project.write(SETTINGS, settings.replace(registry.host, host))
        running = project.start("run", env=dockerd.env | {"CIREG_NETWORK_RETRIES": "1"})
        wait_until(sleepers, "the build sleeps", timeout_s=60)
    for pid in sleepers():
        os.kill(pid, signal.SIGKILL)
    done = running.wait(SOON_S)
    assert_stopped(project, done, 4, rf".*{host}.*refused")

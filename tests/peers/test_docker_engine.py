"""The Docker Engine API against real daemons."""

import dataclasses
import threading
from pathlib import Path

import pytest

from ci_registry.builders.docker_engine import DockerEngine
from ci_registry.builders.interface import BuildSecret
from ci_registry.errors import BuildError, CancelledError, SetupError, ToolError
from ci_registry.events import Event, Log
from ci_registry.registry.layout import Layout
from ci_registry.secret import Secret
from tests.support.building import AMD64, ARM64, Bench, built_images, pack_tree, request_for
from tests.support.distribution import running_distribution
from tests.support.docker import SHELL, Dockerd, answering, write_context

pytestmark = pytest.mark.peer("docker", "dockerd")

PLAIN = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY a.txt /a.txt\n"


def engine(daemon: Dockerd, bench: Bench) -> DockerEngine:
    return DockerEngine(
        env=daemon.env,
        on_event=bench.events.append,
        masker=bench.masker,
        cancel=bench.cancel,
        pack_context=pack_tree,
    )


@pytest.fixture(params=["containerd", "classic"])
def daemon(request: pytest.FixtureRequest, dockerd: Dockerd, dockerd_classic: Dockerd) -> Dockerd:
    return dockerd if request.param == "containerd" else dockerd_classic


def test_classic_build_becomes_a_layout(daemon: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", PLAIN, **{"a.txt": "A"})
    request = request_for(tmp_path / "work", context, labels={"team": "x"})
    builder = engine(daemon, Bench())
    assert builder.probe(request).usable
    outcome = builder.build(request)
    assert outcome.steps_total == 3 + 1  # the labels are a step of their own
    image = built_images(request.layout)["linux/amd64"]
    assert image.files["a.txt"] == b"A"
    assert image.config["config"]["Labels"] == {"team": "x"}
    assert daemon.docker("image", "ls", "-q", "--filter", "reference=ci-registry-*") == ""


def test_dockerfile_outside_the_context_stays_out_of_the_image(
    daemon: Dockerd, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", "FROM wrong\n", keep="K")
    (context / "Dockerfile").unlink()
    dockerfile = tmp_path / "Dockerfile.api"
    dockerfile.write_text("FROM scratch\nCOPY . /\n")
    request = request_for(tmp_path / "work", context, dockerfile=dockerfile)
    engine(daemon, Bench()).build(request)
    assert sorted(built_images(request.layout)["linux/amd64"].files) == ["busybox", "keep"]


def test_failing_run_names_its_line(daemon: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", f"{SHELL}RUN busybox echo going wrong; exit 7\n")
    request = request_for(tmp_path / "work", context, network="none")
    with pytest.raises(BuildError, match="non-zero code: 7") as caught:
        engine(daemon, Bench()).build(request)
    assert caught.value.line == 4
    assert "going wrong" in caught.value.log


def test_what_needs_buildkit_is_refused_by_name(daemon: Dockerd, tmp_path: Path) -> None:
    builder = engine(daemon, Bench())
    context = write_context(tmp_path / "context", f"{SHELL}RUN --mount=type=cache,target=/c true\n")
    with pytest.raises(SetupError, match="RUN --mount needs BuildKit") as caught:
        builder.build(request_for(tmp_path / "one", context))
    assert caught.value.line == 4
    plain = write_context(tmp_path / "plain", PLAIN, **{"a.txt": "A"})
    secrets = (BuildSecret(id="npm", value=Secret("s")),)
    with pytest.raises(SetupError, match="npm"):
        builder.build(request_for(tmp_path / "two", plain, secrets=secrets))


@pytest.mark.parametrize(("status", "kind"), [(401, SetupError), (503, ToolError)])
def test_answer_of_the_base_registry_decides_the_kind(
    status: int, kind: type[Exception], dockerd_classic: Dockerd, tmp_path: Path
) -> None:
    with answering(status) as registry:
        context = write_context(tmp_path / "context", f"FROM {registry}/team/base:1\n")
        with pytest.raises(kind, match="team/base"):
            engine(dockerd_classic, Bench()).build(request_for(tmp_path / "work", context))


def test_absent_base_is_told_by_name(daemon: Dockerd, tmp_path: Path) -> None:
    with running_distribution(tmp_path) as registry:
        context = write_context(tmp_path / "context", f"FROM {registry}/team/absent:1\n")
        with pytest.raises(SetupError, match=r"team/absent:1 .*does not exist") as caught:
            engine(daemon, Bench()).build(request_for(tmp_path / "work", context))
    assert caught.value.line == 1


def test_image_of_the_engine_is_exported_with_its_id(daemon: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", PLAIN, **{"a.txt": "A"})
    daemon.docker(
        "buildx",
        "build",
        "--quiet",
        "--provenance=false",
        "--load",
        "--tag",
        "mine:1",
        str(context),
    )
    outcome = engine(daemon, Bench()).export_image("mine:1", tmp_path / "layout", AMD64)
    layout = Layout(tmp_path / "layout")
    image_id = daemon.docker("image", "inspect", "--format", "{{.Id}}", "mine:1").strip()
    manifest = built_images(tmp_path / "layout")["linux/amd64"].manifest
    known = layout.root().digest if daemon.containerd_store else manifest.config.digest
    assert known == image_id
    assert outcome.notes == ("taken from the engine: mine:1",)
    daemon.docker("image", "rm", "mine:1")


def test_digest_of_a_pulled_image_survives_the_export(dockerd: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", PLAIN, **{"a.txt": "A"})
    with running_distribution(tmp_path) as registry:
        name = f"{registry}/team/two:1"
        dockerd.docker(
            "buildx",
            "build",
            "--quiet",
            "--provenance=false",
            "--platform",
            "linux/amd64,linux/arm64",
            "--output",
            f"type=registry,name={name}",
            str(context),
        )
        raw = dockerd.docker("buildx", "imagetools", "inspect", "--raw", name)
        dockerd.docker("pull", "--quiet", "--platform", "linux/arm64", name)
        engine(dockerd, Bench()).export_image(name, tmp_path / "layout", ARM64)
    entry = Layout(tmp_path / "layout").root()
    assert str(entry.digest) in raw
    assert entry.platform == ARM64


def test_absent_image_and_other_platform_are_told(daemon: Dockerd, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="absent:1"):
        engine(daemon, Bench()).export_image("absent:1", tmp_path / "one", AMD64)
    context = write_context(tmp_path / "context", PLAIN, **{"a.txt": "A"})
    daemon.docker(
        "buildx",
        "build",
        "--quiet",
        "--provenance=false",
        "--load",
        "--tag",
        "mine:2",
        str(context),
    )
    with pytest.raises((BuildError, SetupError), match="linux/arm64"):
        engine(daemon, Bench()).export_image("mine:2", tmp_path / "two", ARM64)
    daemon.docker("image", "rm", "mine:2")


def test_engine_that_is_not_running_is_a_tool_error(dockerd: Dockerd, tmp_path: Path) -> None:
    absent = dataclasses.replace(dockerd, host=f"unix://{tmp_path}/absent.sock")
    context = write_context(tmp_path / "context", PLAIN, **{"a.txt": "A"})
    request = request_for(tmp_path / "work", context)
    assert not engine(absent, Bench()).probe(request).usable
    with pytest.raises(ToolError, match="does not answer"):
        engine(absent, Bench()).build(request)


def test_cancellation_ends_the_build_in_the_engine(daemon: Dockerd, tmp_path: Path) -> None:
    context = write_context(
        tmp_path / "context", f"{SHELL}RUN busybox echo now; busybox sleep 86418\n"
    )
    bench = Bench()

    def cancel_at_once(event: Event, /) -> None:
        if isinstance(event, Log) and event.message == "now":
            threading.Thread(target=bench.cancel.set, args=("SIGTERM",)).start()

    builder = dataclasses.replace(engine(daemon, bench), on_event=cancel_at_once)
    with pytest.raises(CancelledError):
        builder.build(request_for(tmp_path / "work", context, network="none", no_cache=True))
    for _ in range(100):
        if not daemon.docker("ps", "-aq"):
            break
    assert daemon.docker("ps", "-aq") == ""
    assert daemon.docker("image", "ls", "-q", "--filter", "reference=ci-registry-*") == ""

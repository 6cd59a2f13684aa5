"""Real buildah, with its containers and in a chroot."""

import subprocess
import threading
import time
from pathlib import Path

import pytest

from ci_registry.builders.buildah import Buildah
from ci_registry.builders.interface import BuildSecret
from ci_registry.errors import BuildError, CancelledError, SetupError, ToolError
from ci_registry.files import remove_tree
from ci_registry.registry.layout import Layout
from ci_registry.secret import Secret
from tests.support.building import AMD64, ARM64, Bench, built_images, request_for
from tests.support.distribution import running_distribution
from tests.support.docker import SHELL, answering, write_context
from tests.support.peers import peer_environment

pytestmark = pytest.mark.peer("buildah")


def buildah(bench: Bench, isolation: str = "chroot", **more: str) -> Buildah:
    env = peer_environment() | more
    return Buildah(
        run=bench.run,
        env=env,
        on_event=bench.events.append,
        masker=bench.masker,
        isolation=isolation,
    )


@pytest.mark.parametrize("isolation", ["chroot", ""])
def test_run_works_and_the_platform_is_in_the_layout(isolation: str, tmp_path: Path) -> None:
    context = write_context(
        tmp_path / "context",
        f"{SHELL}COPY a.txt /a.txt\nRUN busybox echo made > /made\n",
        **{"a.txt": "A"},
    )
    request = request_for(tmp_path / "work", context)
    builder = buildah(Bench(), isolation)
    probe = builder.probe(request)
    assert probe.usable
    assert ("isolation chroot" in probe.reason) or not isolation
    outcome = builder.build(request)
    assert outcome.steps_total == 4
    image = built_images(request.layout)["linux/amd64"]
    assert (image.files["made"], image.files["a.txt"]) == (b"made\n", b"A")
    entry = Layout(request.layout).root()
    assert entry.platform == AMD64
    remove_tree(request.work)
    assert not request.work.exists()  # nothing is mounted in it


def test_two_builds_give_the_same_digest(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", f"{SHELL}RUN busybox echo made > /made\n")
    digests = set()
    for name in ("one", "two"):
        request = request_for(tmp_path / name, context, source_date_epoch=1_700_000_000)
        buildah(Bench()).build(request)
        digests.add(Layout(request.layout).root().digest)
    assert len(digests) == 1


def test_every_platform_is_built_and_labelled(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM scratch\nCOPY busybox /bin/busybox\n")
    request = request_for(tmp_path / "work", context, platforms=(AMD64, ARM64))
    buildah(Bench()).build(request)
    assert sorted(built_images(request.layout)) == ["linux/amd64", "linux/arm64"]


def test_changed_bind_mounted_file_is_not_stale(tmp_path: Path) -> None:
    context = write_context(
        tmp_path / "context",
        f"{SHELL}RUN --mount=type=bind,source=a.txt,target=/in busybox cp /in /out\n",
        **{"a.txt": "AAAA"},
    )
    found = []
    for content in ("AAAA", "BBBB"):
        (context / "a.txt").write_text(content)
        request = request_for(tmp_path / content, context)
        buildah(Bench()).build(request)
        found.append(built_images(request.layout)["linux/amd64"].files["out"])
    assert found == [b"AAAA", b"BBBB"]


def test_ignore_file_beside_the_dockerfile_counts(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM wrong\n", keep="K", drop="D")
    (context / ".dockerignore").write_text("keep\n")
    dockerfile = tmp_path / "Dockerfile.api"
    dockerfile.write_text("FROM scratch\nCOPY . /\n")
    dockerfile.with_name("Dockerfile.api.dockerignore").write_text("drop\n")
    request = request_for(tmp_path / "work", context, dockerfile=dockerfile)
    buildah(Bench()).build(request)
    files = built_images(request.layout)["linux/amd64"].files
    assert "keep" in files
    assert "drop" not in files


def test_secrets_reach_run_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "np,mrc").write_text("file-secret-value")
    context = write_context(
        tmp_path / "context",
        f"{SHELL}RUN --mount=type=secret,id=tok --mount=type=secret,id=npmrc "
        "busybox cat /run/secrets/tok; busybox wc -c < /run/secrets/tok > /one; "
        "busybox wc -c < /run/secrets/npmrc > /two; busybox env > /env\n",
    )
    value = "tok3n-and-more-of-it"
    bench = Bench()
    bench.masker.add(Secret(value))
    secrets = (
        BuildSecret(id="tok", value=Secret(value)),
        BuildSecret(id="npmrc", file=tmp_path / "np,mrc"),
    )
    request = request_for(tmp_path / "work", context, secrets=secrets)
    buildah(bench, CIREG_REGISTRY_PASSWORD="hunter22-hunter22").build(request)
    image = built_images(request.layout)["linux/amd64"]
    assert (image.files["one"].strip(), image.files["two"].strip()) == (b"20", b"17")
    everything = b"".join((*image.layers, repr(image.config).encode()))
    for word in (value.encode(), b"file-secret-value", b"hunter22"):
        assert word not in everything
    assert value not in bench.log
    assert "***" in bench.log
    assert not (request.work / "buildah" / "secrets").exists()


def test_base_from_a_plain_registry_on_loopback(tmp_path: Path) -> None:
    with running_distribution(tmp_path) as registry:
        base = write_context(tmp_path / "base", f"{SHELL}RUN busybox echo base > /base\n")
        request = request_for(tmp_path / "one", base)
        buildah(Bench()).build(request)
        name = f"{registry}/team/base:1"
        subprocess.run(
            [
                "skopeo",
                "copy",
                "--dest-tls-verify=false",
                f"oci:{request.layout}",
                f"docker://{name}",
            ],
            check=True,
            capture_output=True,
        )
        child = write_context(tmp_path / "child", f"FROM {name}\nRUN busybox cat /base > /copy\n")
        request = request_for(tmp_path / "two", child)
        buildah(Bench()).build(request)
    assert built_images(request.layout)["linux/amd64"].files["copy"] == b"base\n"


def test_failing_run_names_its_line_and_shows_its_last_words(tmp_path: Path) -> None:
    context = write_context(
        tmp_path / "context", f"{SHELL}COPY busybox /x\nRUN busybox echo going wrong; exit 7\n"
    )
    request = request_for(tmp_path / "work", context, dockerfile_name="svc/Dockerfile")
    with pytest.raises(BuildError) as caught:
        buildah(Bench()).build(request)
    assert (caught.value.file, caught.value.line) == ("svc/Dockerfile", 5)
    assert "going wrong" in caught.value.log


def test_what_this_buildah_lacks_is_said_before_it_starts(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", f"{SHELL}RUN <<EOF\necho\nEOF\n")
    builder = buildah(Bench())
    request = request_for(tmp_path / "work", context)
    probe = builder.probe(request)
    major, minor = (int(part) for part in probe.version.split(".")[:2])
    if (major, minor) >= (1, 33):
        pytest.skip("this buildah knows heredocs")
    assert "RUN <<EOF needs buildah >= 1.33" in probe.reason
    with pytest.raises(SetupError, match=r"needs buildah >= 1\.33") as caught:
        builder.build(request)
    assert caught.value.line == 4


@pytest.mark.parametrize(
    ("status", "kind"), [(401, SetupError), (404, SetupError), (503, ToolError)]
)
def test_answer_of_the_base_registry_decides_the_kind(
    status: int, kind: type[Exception], tmp_path: Path
) -> None:
    with answering(status) as registry:
        context = write_context(tmp_path / "context", f"FROM {registry}/team/base:1\n")
        with pytest.raises(kind, match="team/base:1") as caught:
            buildah(Bench()).build(request_for(tmp_path / "work", context))
    assert getattr(caught.value, "line", 0) == 1


def test_network_cannot_be_taken_away_in_a_chroot(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", f"{SHELL}RUN true\n")
    request = request_for(tmp_path / "work", context, network="none")
    with pytest.raises(SetupError, match="network"):
        buildah(Bench()).build(request)


def test_cancellation_ends_the_step_and_unmounts(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", f"{SHELL}RUN busybox sleep 86417\n")
    bench = Bench()

    def sleeping() -> bool:
        argv = ["pgrep", "-f", "^busybox sleep 86417$"]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def cancel_when_sleeping() -> None:
        deadline = time.monotonic() + 60
        while not sleeping() and time.monotonic() < deadline:
            time.sleep(0.1)
        bench.cancel.set("SIGTERM")

    thread = threading.Thread(target=cancel_when_sleeping)
    thread.start()
    request = request_for(tmp_path / "work", context)
    with pytest.raises(CancelledError):
        buildah(bench).build(request)
    thread.join()
    assert not sleeping()
    assert str(request.work) not in Path("/proc/mounts").read_text()
    remove_tree(request.work)
    assert not request.work.exists()

"""Docker's classic image store with a BuildKit container of our own beside it.

The image of BuildKit is made here from the programs `buildkitd` and `buildctl` (built with Go) and the
system's runc; the engine needs a `docker-init` to start it.
"""

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci_registry.builders.buildx import Buildx
from ci_registry.builders.interface import CacheReferences
from ci_registry.errors import CancelledError, ToolError
from tests.support.building import AMD64, ARM64, Bench, built_images, hash_tree, request_for
from tests.support.distribution import running_distribution
from tests.support.docker import BUSYBOX, SHELL, Dockerd, running_dockerd, write_context
from tests.support.peers import find_peer

pytestmark = [
    pytest.mark.peer("docker", "dockerd", "docker-registry", "docker-init"),
    pytest.mark.go_peer("buildkitd", "buildctl"),
]

_LOADER = Path("/lib64/ld-linux-x86-64.so.2")
_DOCKERFILE = """FROM scratch
COPY busybox /bin/busybox
COPY busybox /bin/sh
COPY buildkitd buildctl /usr/bin/
COPY runc /usr/bin/buildkit-runc
COPY lib/ /lib/x86_64-linux-gnu/
COPY ld /lib64/ld-linux-x86-64.so.2
WORKDIR /tmp
ENTRYPOINT ["/usr/bin/buildkitd"]
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A classic daemon, a registry, and BuildKit's image in it."""

    daemon: Dockerd
    registry: str
    buildkit: str

    def builder(self, bench: Bench) -> Buildx:
        return Buildx(
            run=bench.run,
            env=self.daemon.env,
            on_event=bench.events.append,
            masker=bench.masker,
            hash_context=hash_tree,
            buildkit_image=self.buildkit,
        )

    def left_overs(self) -> str:
        """Containers and volumes in the engine."""
        return self.daemon.docker("ps", "-aq") + self.daemon.docker("volume", "ls", "-q")


def _libraries(program: Path) -> list[Path]:
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [Path(word) for word in text.split() if word.startswith("/lib/")]


@pytest.fixture(scope="module")
def place(dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    programs = {name: find_peer(name) for name in ("buildkitd", "buildctl", "docker-init", "runc")}
    missing = [name for name, path in programs.items() if path is None]
    if missing or not _LOADER.exists():
        pytest.skip(f"peer not installed: {', '.join(missing) or 'an amd64 glibc'}")
    folder = tmp_path_factory.mktemp("buildkit")
    (folder / "lib").mkdir()
    for name in ("buildkitd", "buildctl", "runc"):
        shutil.copy(str(programs[name]), folder / name)
    for library in _libraries(folder / "runc"):
        shutil.copy(library, folder / "lib" / library.name)
    shutil.copy(_LOADER, folder / "ld")
    shutil.copy(BUSYBOX, folder / "busybox")
    (folder / "Dockerfile").write_text(_DOCKERFILE)
    init = programs["docker-init"]
    with (
        running_distribution(tmp_path_factory.mktemp("registry")) as registry,
        running_dockerd(containerd_store=False, init_program=init) as classic,
    ):
        name = f"{registry}/buildkit"
        dockerd.docker(
            *("buildx", "build", "--quiet", "--provenance=false"),
            *("--output", f"type=registry,name={name}:1"),
            str(folder),
        )
        text = dockerd.docker("buildx", "imagetools", "inspect", f"{name}:1")
        digest = re.search(r"sha256:[0-9a-f]{64}", text)
        assert digest is not None, text
        yield Place(daemon=classic, registry=registry, buildkit=f"{name}@{digest[0]}")


def test_both_platforms_and_the_cache_come_from_a_builder_that_is_gone_afterwards(
    place: Place, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", "FROM scratch\nCOPY busybox /bin/busybox\n")
    cache = CacheReferences(export=f"{place.registry}/cache:main")
    request = request_for(tmp_path / "work", context, platforms=(AMD64, ARM64), cache=cache)
    probe = place.builder(Bench()).probe(request)
    assert probe.usable
    assert "private builder" in probe.reason
    outcome = place.builder(Bench()).build(request)
    assert outcome.notes == ()
    assert sorted(built_images(request.layout)) == ["linux/amd64", "linux/arm64"]
    assert place.left_overs() == ""
    again = request_for(
        tmp_path / "again",
        context,
        cache=CacheReferences(imports=(f"{place.registry}/cache:main",)),
    )
    outcome = place.builder(Bench()).build(again)  # a new builder: it knows only the registry
    assert outcome.steps_cached == outcome.steps_total == 1


def test_cancellation_removes_the_private_builder(place: Place, tmp_path: Path) -> None:
    context = write_context(
        tmp_path / "context", f"{SHELL}RUN --network=none busybox sleep 86416\n"
    )
    bench = Bench()

    def cancel_when_sleeping() -> None:
        deadline = time.monotonic() + 60
        argv = ["pgrep", "-f", "busybox sleep 86416$"]
        while time.monotonic() < deadline:
            if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        bench.cancel.set("SIGTERM")

    thread = threading.Thread(target=cancel_when_sleeping)
    thread.start()
    with pytest.raises(CancelledError):
        place.builder(bench).build(request_for(tmp_path / "work", context))
    thread.join()
    assert place.left_overs() == ""


def test_builder_image_that_cannot_be_had_is_said_and_another_way_taken(
    place: Place, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", "FROM scratch\nCOPY busybox /bin/busybox\n")
    absent = f"{place.registry}/absent@sha256:{'0' * 64}"
    builder = Buildx(
        run=Bench().run,
        env=place.daemon.env,
        on_event=Bench().events.append,
        masker=Bench().masker,
        hash_context=hash_tree,
        buildkit_image=absent,
    )
    outcome = builder.build(request_for(tmp_path / "one", context))
    assert "did not start" in outcome.notes[0]
    with pytest.raises(ToolError, match="did not start"):
        builder.build(request_for(tmp_path / "two", context, platforms=(AMD64, ARM64)))

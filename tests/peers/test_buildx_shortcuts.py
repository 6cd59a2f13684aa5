"""The shortcuts of the builder `buildx` against real daemons: the same answers, the same image."""

import dataclasses
from pathlib import Path

import pytest

from ci_registry.builders.buildx import Buildx
from ci_registry.builders.buildx_shortcuts import Shortcuts
from ci_registry.builders.interface import Probe
from ci_registry.cache import DiskCache
from ci_registry.network.local_socket import get_over_socket
from ci_registry.registry.layout import Layout
from tests.support.building import Bench, hash_tree, request_for
from tests.support.docker import SHELL, Dockerd, write_context

pytestmark = pytest.mark.peer("docker", "dockerd")


def ask(socket: Path, target: str) -> bytes | None:
    return get_over_socket(socket, target, timeout_s=10)


def buildx(daemon: Dockerd, shortcuts: Shortcuts | None) -> Buildx:
    bench = Bench()
    return Buildx(
        run=bench.run,
        env=daemon.env,
        on_event=bench.events.append,
        masker=bench.masker,
        hash_context=hash_tree,
        shortcuts=shortcuts,
    )


def comparable(probe: Probe) -> Probe:
    """Drop what may differ: which program builds."""
    return dataclasses.replace(probe, program="", sha256="")


def test_with_and_without_shortcuts_the_answer_and_the_image_are_the_same(
    dockerd: Dockerd, dockerd_classic: Dockerd, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", f"{SHELL}RUN --network=none echo made > /made\n")
    cache = DiskCache(folder=tmp_path / "cache", max_bytes=1 << 20)
    for daemon in (dockerd, dockerd_classic):
        found = []
        for name, shortcuts in (("long", None), ("short", Shortcuts(ask_engine=ask, cache=cache))):
            builder = buildx(daemon, shortcuts)
            request = request_for(tmp_path / name / daemon.root.name, context)
            probe = builder.probe(request)
            assert probe.usable
            assert (probe.program.endswith("docker-buildx")) is (shortcuts is not None)
            outcome = builder.build(request)
            digest = Layout(request.layout).root().digest
            found.append((comparable(probe), outcome.steps_total, digest))
        assert found[0] == found[1]


def test_no_engine_gives_the_same_words_either_way(dockerd: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", SHELL)
    away = dataclasses.replace(dockerd, host=f"unix://{tmp_path}/absent.sock")
    request = request_for(tmp_path / "work", context)
    answers = [
        buildx(away, shortcuts).probe(request) for shortcuts in (None, Shortcuts(ask_engine=ask))
    ]
    assert comparable(answers[0]) == comparable(answers[1])
    assert not answers[0].usable

"""The shortcuts of the builder `buildx` against real daemons: the same answers, the same image."""

import dataclasses
from pathlib import Path

import pytest

from ci_registry.builders.buildx import Buildx
from ci_registry.builders.buildx_shortcuts import Shortcuts
from ci_registry.builders.interface import Probe
from ci_registry.cache import DiskCache
from ci_registry.network.local_socket import get_over_socket
from ci_registry.oci.manifest import Manifest
from ci_registry.registry.known_blobs import blobs_of_last_build, remember_blobs
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


def test_buildkit_skips_a_blob_that_is_known_and_the_image_stays_the_same(
    dockerd: Dockerd, tmp_path: Path
) -> None:
    cache = DiskCache(folder=tmp_path / "cache", max_bytes=1 << 30)
    dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY a.txt /a.txt\n"
    digests = []
    for text in ("one", "two"):
        context = write_context(tmp_path / "context", dockerfile, **{"a.txt": text})
        plain = request_for(tmp_path / f"plain-{text}", context)
        buildx(dockerd, None).build(plain)
        known = blobs_of_last_build(cache, "api")
        request = request_for(tmp_path / text, context, known_blobs=known)
        buildx(dockerd, None).build(request)
        layout = Layout(request.layout)
        assert layout.root().digest == Layout(plain.layout).root().digest
        manifest = layout.fetch(layout.root().digest)
        assert isinstance(manifest, Manifest)
        files = {path.name for path in (layout.path / "blobs" / "sha256").iterdir()}
        named = (manifest.digest, manifest.config.digest, *(b.digest for b in manifest.layers))
        assert files == {digest.hex for digest in named}
        remember_blobs(cache, "api", layout, manifest.layers)
        digests.append(manifest.layers[0].digest)
    assert digests[0] == digests[1]
    kept = cache.path("blobs", digests[0])
    assert Layout(tmp_path / "two" / "layout").blob_path(digests[0]).samefile(kept)

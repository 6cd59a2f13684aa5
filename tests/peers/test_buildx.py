"""`docker buildx` against real daemons with both image stores."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ci_registry.builders.buildx import Buildx
from ci_registry.builders.interface import BuildSecret, CacheReferences
from ci_registry.errors import BuildError, CancelledError, SetupError, ToolError
from ci_registry.oci.manifest import Manifest
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome
from ci_registry.secret import Secret
from tests.support.building import AMD64, ARM64, Bench, built_images, hash_tree, request_for
from tests.support.distribution import running_distribution
from tests.support.docker import SHELL, Dockerd, answering, write_context

pytestmark = pytest.mark.peer("docker", "dockerd")

COPY_ONLY = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY a.txt /a.txt\n"


def buildx(daemon: Dockerd, bench: Bench, **more: str) -> Buildx:
    return Buildx(
        run=bench.run,
        env=daemon.env | more,
        on_event=bench.events.append,
        masker=bench.masker,
        hash_context=hash_tree,
    )


# --- what comes out


def test_both_image_stores_give_the_platform_and_the_files(
    dockerd: Dockerd, dockerd_classic: Dockerd, tmp_path: Path
) -> None:
    context = write_context(
        tmp_path / "context",
        f"{SHELL}COPY a.txt /a.txt\nRUN --network=none echo made > /made\n",
        **{"a.txt": "A"},
    )
    found = []
    for daemon in (dockerd, dockerd_classic):
        builder = buildx(daemon, Bench())
        request = request_for(tmp_path / str(daemon.containerd_store), context)
        assert builder.probe(request).usable
        outcome = builder.build(request)
        assert outcome.steps_total == 4
        assert ("classic image store" in "".join(outcome.notes)) is not daemon.containerd_store
        assert not (request.layout / "ingest").exists()
        found.append(built_images(request.layout))
    direct, saved = found
    assert list(direct) == list(saved) == ["linux/amd64"]
    assert direct["linux/amd64"].files == saved["linux/amd64"].files
    assert direct["linux/amd64"].files["made"] == b"made\n"
    assert (
        dockerd_classic.docker("image", "ls", "--quiet", "--filter", "reference=ci-registry-*")
        == ""
    )


def test_two_builds_without_cache_give_the_same_digest(dockerd: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", f"{SHELL}RUN --network=none echo made > /made\n")
    digests = []
    for name in ("first", "second"):
        request = request_for(
            tmp_path / name, context, no_cache=True, source_date_epoch=1_700_000_000
        )
        buildx(dockerd, Bench()).build(request)
        digests.append(Layout(request.layout).root().digest)
    assert digests[0] == digests[1]


def test_a_new_commit_builds_nothing_again_and_stamps_its_time(
    dockerd: Dockerd, tmp_path: Path
) -> None:
    dockerfile = (
        f"{SHELL}WORKDIR /srv\nCOPY a.txt .\nRUN --network=none echo made > /made\nCOPY b.txt .\n"
    )
    found: list[tuple[BuildOutcome, Manifest, dict[str, Any]]] = []
    for epoch in (1_700_000_000, 1_700_000_100, 1_700_000_100):
        context = write_context(tmp_path / "context", dockerfile, **{"a.txt": "A", "b.txt": "B"})
        request = request_for(tmp_path / f"{len(found)}", context, source_date_epoch=epoch)
        outcome = buildx(dockerd, Bench()).build(request)
        layout = Layout(request.layout)
        manifest = layout.fetch(layout.root().digest)
        assert isinstance(manifest, Manifest)
        config = json.loads(b"".join(layout.open(manifest.config.digest)))
        found.append((outcome, manifest, config))
    first, second, third = found
    assert second[0].steps_cached == second[0].steps_total
    assert second[1].layers == first[1].layers
    assert [config["created"] for _, _, config in found] == [
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:15:00Z",
        "2023-11-14T22:15:00Z",
    ]
    assert third[1].digest == second[1].digest


def test_every_requested_platform_is_built_and_no_attestation(
    dockerd: Dockerd, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", COPY_ONLY, **{"a.txt": "A"})
    request = request_for(tmp_path / "work", context, platforms=(AMD64, ARM64))
    buildx(dockerd, Bench()).build(request)
    assert sorted(built_images(request.layout)) == ["linux/amd64", "linux/arm64"]


def test_classic_store_refuses_two_platforms_before_building(
    dockerd_classic: Dockerd, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", COPY_ONLY, **{"a.txt": "A"})
    request = request_for(tmp_path / "work", context, platforms=(AMD64, ARM64))
    builder = buildx(dockerd_classic, Bench())
    assert "one platform" in builder.probe(request).reason
    with pytest.raises(SetupError, match="buildkit_image"):
        builder.build(request)


def test_the_environment_of_the_caller_changes_nothing(dockerd: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", COPY_ONLY, **{"a.txt": "A"})
    builder = buildx(
        dockerd,
        Bench(),
        DOCKER_DEFAULT_PLATFORM="linux/arm64",
        SOURCE_DATE_EPOCH="5",
        BUILDKIT_SYNTAX="absent.invalid/x",
    )
    request = request_for(tmp_path / "work", context)
    builder.build(request)
    assert (
        built_images(request.layout)["linux/amd64"]
        .config["created"]
        .startswith("1970-01-01T00:00:00")
    )


def test_platform_fixed_in_the_dockerfile_is_told(dockerd: Dockerd, tmp_path: Path) -> None:
    with running_distribution(tmp_path) as registry:
        context = write_context(tmp_path / "base", COPY_ONLY, **{"a.txt": "A"})
        name = f"{registry}/base:1"
        dockerd.docker(
            "buildx",
            "build",
            "--quiet",
            "--provenance=false",
            "--platform",
            "linux/arm64",
            "--output",
            f"type=registry,name={name}",
            str(context),
        )
        child = write_context(tmp_path / "child", f"FROM --platform=linux/arm64 {name}\n")
        with pytest.raises(BuildError, match="labelled linux/amd64") as caught:
            buildx(dockerd, Bench()).build(request_for(tmp_path / "work", child))
    assert caught.value.line == 1


def test_base_images_are_materials_for_every_platform(dockerd: Dockerd, tmp_path: Path) -> None:
    with running_distribution(tmp_path) as registry:
        base = write_context(tmp_path / "base", COPY_ONLY, **{"a.txt": "A"})
        name = f"{registry}/base:1"
        dockerd.docker(
            "buildx",
            "build",
            "--quiet",
            "--provenance=false",
            "--platform",
            "linux/amd64,linux/arm64",
            "--output",
            f"type=registry,name={name}",
            str(base),
        )
        child = write_context(tmp_path / "child", f"FROM {name}\nCOPY Dockerfile /\n")
        for number, platforms in enumerate(((AMD64,), (AMD64, ARM64))):
            request = request_for(tmp_path / str(number), child, platforms=platforms)
            outcome = buildx(dockerd, Bench()).build(request)
            assert [reference for reference, _ in outcome.materials] == [name]


# --- the context


@pytest.mark.parametrize("store", ["containerd", "classic"])
def test_file_changed_within_one_size_and_mtime_is_not_stale(
    store: str, dockerd: Dockerd, dockerd_classic: Dockerd, tmp_path: Path
) -> None:
    daemon = dockerd if store == "containerd" else dockerd_classic
    context = write_context(tmp_path / "context", COPY_ONLY, **{"a.txt": "AAAA"})
    os.utime(context / "a.txt", (1_700_000_000, 1_700_000_000))
    buildx(daemon, Bench()).build(request_for(tmp_path / "one", context))
    (context / "a.txt").write_text("BBBB")
    os.utime(context / "a.txt", (1_700_000_000, 1_700_000_000))
    request = request_for(tmp_path / "two", context)
    outcome = buildx(daemon, Bench()).build(request)
    assert built_images(request.layout)["linux/amd64"].files["a.txt"] == b"BBBB"
    assert outcome.steps_cached >= 1  # the other COPY still hits


def test_plain_buildx_ships_the_stale_file(dockerd: Dockerd, tmp_path: Path) -> None:
    """The bug that `context_link` mends is there: else the test above proves nothing."""
    context = write_context(tmp_path / "context", COPY_ONLY, **{"a.txt": "AAAA"})
    shipped = []
    for content in ("AAAA", "BBBB"):
        (context / "a.txt").write_text(content)
        os.utime(context / "a.txt", (1_700_000_000, 1_700_000_000))
        layout = tmp_path / content
        dockerd.docker(
            "buildx",
            "build",
            "--provenance=false",
            "--output",
            f"type=oci,dest={layout},tar=false",
            str(context),
        )
        shutil.rmtree(layout / "ingest")
        shipped.append(built_images(layout)["linux/amd64"].files["a.txt"])
    assert shipped == [b"AAAA", b"AAAA"]


def test_contexts_with_one_base_name_are_kept_apart(dockerd: Dockerd, tmp_path: Path) -> None:
    for service, content in (("a", "from a"), ("b", "from b")):
        context = write_context(tmp_path / service / "docker", COPY_ONLY, **{"a.txt": content})
        os.utime(context / "a.txt", (1_700_000_000, 1_700_000_000))
        request = request_for(tmp_path / f"work-{service}", context)
        buildx(dockerd, Bench()).build(request)
        assert built_images(request.layout)["linux/amd64"].files["a.txt"] == content.encode()


def test_dockerfile_outside_the_context_has_its_own_ignore_file(
    dockerd: Dockerd, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", "FROM wrong\n", keep="K", drop="D")
    (context / ".dockerignore").write_text("keep\n")
    (tmp_path / "files").mkdir()
    dockerfile = tmp_path / "files" / "Dockerfile.api"
    dockerfile.write_text("FROM scratch\nCOPY . /\n")
    dockerfile.with_name("Dockerfile.api.dockerignore").write_text("drop\nbusybox\n")
    request = request_for(
        tmp_path / "work", context, dockerfile=dockerfile, dockerfile_name="files/Dockerfile.api"
    )
    buildx(dockerd, Bench()).build(request)
    files = built_images(request.layout)["linux/amd64"].files
    assert "keep" in files
    assert "drop" not in files


# --- cache


def test_exported_cache_hits_after_everything_was_forgotten(
    dockerd: Dockerd, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", f"{SHELL}RUN --network=none echo made > /made\n")
    with running_distribution(tmp_path) as registry:
        reference = f"{registry}/team/api/cache:main"
        first = request_for(tmp_path / "one", context, cache=CacheReferences(export=reference))
        outcome = buildx(dockerd, Bench()).build(first)
        assert outcome.notes == ()
        dockerd.prune()
        second = request_for(tmp_path / "two", context, cache=CacheReferences(imports=(reference,)))
        outcome = buildx(dockerd, Bench()).build(second)
    assert outcome.steps_cached == outcome.steps_total == 3
    assert Layout(first.layout).root().digest == Layout(second.layout).root().digest


def test_absent_cache_is_no_problem_and_failing_export_is_a_note(
    dockerd: Dockerd, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", COPY_ONLY, **{"a.txt": "A"})
    with running_distribution(tmp_path) as registry, answering(403) as refusing:
        cache = CacheReferences(
            imports=(f"{registry}/absent:main",), export=f"{refusing}/cache:main"
        )
        outcome = buildx(dockerd, Bench()).build(
            request_for(tmp_path / "work", context, cache=cache)
        )
    assert len(outcome.notes) == 1
    assert outcome.notes[0].startswith("the layer cache was not written: ")


def test_cache_that_lost_a_layer_is_left_out_in_a_second_try(
    dockerd: Dockerd, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", f"{SHELL}RUN --network=none echo made > /made\n")
    with running_distribution(tmp_path) as registry:
        reference = f"{registry}/cache:main"
        cache = CacheReferences(export=reference)
        buildx(dockerd, Bench()).build(request_for(tmp_path / "one", context, cache=cache))
        dockerd.prune()
        blobs = tmp_path / "docker-registry" / "data" / "docker" / "registry" / "v2" / "blobs"
        for blob in blobs.rglob("data"):
            if blob.read_bytes()[:2] == b"\x1f\x8b":
                blob.unlink()
        bench = Bench()
        cache = CacheReferences(imports=(reference,))
        request = request_for(tmp_path / "two", context, cache=cache)
        outcome = buildx(dockerd, bench).build(request)
    assert "built without the layer cache" in outcome.notes[0]
    assert built_images(request.layout)["linux/amd64"].files["made"] == b"made\n"


# --- secrets


def test_secret_reaches_run_and_nothing_else(dockerd: Dockerd, tmp_path: Path) -> None:
    value = "tok3n-zwölf-and-more"
    (tmp_path / "npmrc").write_text("file-secret-value")
    context = write_context(
        tmp_path / "context",
        f"{SHELL}RUN --network=none --mount=type=secret,id=tok --mount=type=secret,id=npmrc "
        "busybox cat /run/secrets/tok; busybox sha256sum < /run/secrets/tok > /sum; "
        "busybox env > /env; busybox wc -c < /run/secrets/npmrc > /size\n",
    )
    bench = Bench()
    bench.masker.add(Secret(value))
    request = request_for(
        tmp_path / "work",
        context,
        secrets=(
            BuildSecret(id="tok", value=Secret(value)),
            BuildSecret(id="npmrc", file=tmp_path / "npmrc"),
        ),
    )
    buildx(dockerd, bench, CIREG_REGISTRY_PASSWORD="hunter22-hunter22").build(request)
    image = built_images(request.layout)["linux/amd64"]
    assert image.files["sum"].split()[0].decode() == hashlib.sha256(value.encode()).hexdigest()
    assert image.files["size"].strip() == b"17"
    everything = b"".join((*image.layers, repr(image.config).encode()))
    for word in (value.encode(), b"file-secret-value", b"hunter22"):
        assert word not in everything
    assert value not in bench.log
    assert "***" in bench.log  # the RUN did print it


# --- failures


def test_failing_run_names_its_line_and_shows_its_last_words(
    dockerd: Dockerd, tmp_path: Path
) -> None:
    context = write_context(
        tmp_path / "context", f"{SHELL}RUN --network=none busybox echo going wrong; exit 7\n"
    )
    request = request_for(tmp_path / "work", context, dockerfile_name="services/Dockerfile")
    with pytest.raises(BuildError) as caught:
        buildx(dockerd, Bench()).build(request)
    assert (caught.value.file, caught.value.line) == ("services/Dockerfile", 4)
    assert "exit code: 7" in caught.value.message
    assert "going wrong" in caught.value.log


@pytest.mark.parametrize(
    ("dockerfile", "kind", "line", "words"),
    [
        ("FROM scratch\nCOPI a /\n", BuildError, 2, "unknown instruction"),
        ("FROM scratch\nCOPY absent /\n", BuildError, 2, "/absent"),
        ("FROM scratch\nENV A\n", BuildError, 2, "two arguments"),
        (f"{SHELL}RUN --mount=type=secret,id=zip,required=true true\n", SetupError, 4, "zip"),
        ("FROM absent.invalid/x:1\n", ToolError, 1, "absent.invalid/x:1"),
    ],
)
def test_failure_is_sorted_by_whose_fault_it_is(  # noqa: PLR0917 - parameters and fixtures
    dockerfile: str, kind: type[Exception], line: int, words: str, dockerd: Dockerd, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", dockerfile)
    with pytest.raises(kind, match=words) as caught:
        buildx(dockerd, Bench()).build(request_for(tmp_path / "work", context))
    assert getattr(caught.value, "line", 0) == line


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, SetupError), (403, SetupError), (404, SetupError), (429, ToolError), (503, ToolError)],
)
def test_answer_of_the_base_registry_decides_the_kind(
    status: int, kind: type[Exception], dockerd: Dockerd, tmp_path: Path
) -> None:
    with answering(status) as registry:
        context = write_context(tmp_path / "context", f"FROM {registry}/team/base:1\n")
        with pytest.raises(kind, match="team/base:1"):
            buildx(dockerd, Bench()).build(request_for(tmp_path / "work", context))


def test_engine_that_is_not_running_is_a_tool_error(dockerd: Dockerd, tmp_path: Path) -> None:
    absent = dataclasses.replace(dockerd, host=f"unix://{tmp_path}/absent.sock")
    context = write_context(tmp_path / "context", COPY_ONLY, **{"a.txt": "A"})
    builder = buildx(absent, Bench())
    request = request_for(tmp_path / "work", context)
    assert not builder.probe(request).usable
    with pytest.raises(ToolError, match="engine does not answer") as caught:
        builder.build(request)
    assert "DOCKER_HOST" in caught.value.hint


def test_warnings_carry_the_line(dockerd: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM scratch as one\nCOPY busybox /\n")
    outcome = buildx(dockerd, Bench()).build(request_for(tmp_path / "work", context))
    assert outcome.warnings[0].startswith("Dockerfile:1: FromAsCasing")


# --- ends


def _sleeping(marker: str) -> bool:
    """Whether a process with this in its arguments is alive."""
    found = subprocess.run(["pgrep", "-f", marker], capture_output=True, check=False)
    return found.returncode == 0


@pytest.mark.parametrize("store", ["containerd", "classic"])
def test_cancellation_ends_the_step_and_leaves_nothing(
    store: str, dockerd: Dockerd, dockerd_classic: Dockerd, tmp_path: Path
) -> None:
    daemon = dockerd if store == "containerd" else dockerd_classic
    duration = "86413" if store == "containerd" else "86414"
    context = write_context(
        tmp_path / "context", f"{SHELL}RUN --network=none busybox sleep {duration}\n"
    )
    bench = Bench()

    def cancel_when_sleeping() -> None:
        deadline = time.monotonic() + 60
        while not _sleeping(f"busybox sleep {duration}$") and time.monotonic() < deadline:
            time.sleep(0.1)
        bench.cancel.set("SIGTERM")

    thread = threading.Thread(target=cancel_when_sleeping)
    thread.start()
    with pytest.raises(CancelledError):
        buildx(daemon, bench).build(request_for(tmp_path / "work", context, no_cache=True))
    thread.join()
    deadline = time.monotonic() + 20
    while _sleeping(f"busybox sleep {duration}$") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _sleeping(f"busybox sleep {duration}$")
    assert daemon.docker("ps", "--all", "--quiet") == ""
    assert daemon.docker("image", "ls", "--quiet", "--filter", "reference=ci-registry-*") == ""


def test_build_that_takes_too_long_is_ended(dockerd: Dockerd, tmp_path: Path) -> None:
    context = write_context(
        tmp_path / "context", f"{SHELL}RUN --network=none busybox sleep 86415\n"
    )
    request = request_for(tmp_path / "work", context, timeout=timedelta(seconds=2), no_cache=True)
    with pytest.raises(ToolError, match="took longer than 0:00:02"):
        buildx(dockerd, Bench()).build(request)

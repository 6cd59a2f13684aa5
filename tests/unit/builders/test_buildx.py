"""How the builder `buildx` chooses its way and uses its programs, with a runner that plays them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ci_registry.builders.buildx import Buildx
from ci_registry.builders.buildx_metadata import merge_materials, read_materials
from ci_registry.builders.interface import BuildRequest, CacheReferences
from ci_registry.cancel import Cancel
from ci_registry.errors import BuildError, CancelledError, SetupError, ToolError
from ci_registry.events import Event, Log
from ci_registry.oci.platform import Platform
from ci_registry.process import Command, Completed
from ci_registry.secret import Masker
from tests.support.images import ImageSpec, make_layout

INSPECT = (
    "Name: default\nDriver: {driver}\n\nNodes:\nName: default\nPlatforms: linux/amd64*, linux/386\n"
)
CONTAINERD = '[["driver-type","io.containerd.snapshotter.v1"]]'
PINNED = "moby/buildkit@sha256:" + "0" * 64

Answer = Callable[[Command], tuple[int, str, list[str]]]


class Programs:
    """Plays docker: each answer is (exit code, stdout, stderr lines)."""

    def __init__(self, *, driver: str = "docker", store: str = CONTAINERD) -> None:
        self.commands: list[Command] = []
        self.builds: list[tuple[int, list[str]]] = []
        self.cancel = Cancel()
        self.driver, self.store = driver, store
        self.create: tuple[int, str] = (0, "")

    def __call__(
        self, command: Command, *, on_stderr_line: Callable[[str], None] | None = None
    ) -> Completed:
        self.commands.append(command)
        self.cancel.check()
        code, out, lines = self._answer(command)
        for line in lines if on_stderr_line else ():
            assert on_stderr_line is not None
            on_stderr_line(line)
        return Completed(
            argv=command.argv,
            exit_code=code,
            stdout=out.encode(),
            stderr="\n".join(lines).encode(),
            duration_s=1.0,
        )

    def _answer(self, command: Command) -> tuple[int, str, list[str]]:
        match command.argv[1:3]:
            case ("buildx", "version"):
                return 0, "github.com/docker/buildx 0.29.1 abc\n", []
            case ("buildx", "inspect"):
                return 0, INSPECT.format(driver=self.driver), []
            case ("info", _):
                return 0, self.store, []
            case ("buildx", "create"):
                return self.create[0], "", [self.create[1]]
            case ("buildx", "build"):
                return self._build(command)
            case _:
                return 0, "", []

    def _build(self, command: Command) -> tuple[int, str, list[str]]:
        code, lines = self.builds.pop(0) if self.builds else (0, [])
        output = command.argv[command.argv.index("--output") + 1]
        if code == 0 and output.startswith("type=oci"):
            layout = Path(output.split("dest=")[1].split(",")[0])
            make_layout(layout, ImageSpec(layers=[{"a": "b"}]))
        return code, "", lines

    def ran(self, *words: str) -> list[tuple[str, ...]]:
        """Return the commands that start with these words, `docker` left out."""
        found = (command.argv[1:] for command in self.commands)
        return [argv for argv in found if argv[: len(words)] == words]


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text("#!/bin/false\n")
    (folder / "docker").chmod(0o755)
    return folder


class Bench:
    """A builder, its programs, and a request."""

    def __init__(self, tmp_path: Path, bin_folder: Path | None, **settings: Any) -> None:
        self.programs = Programs(**settings)
        self.cleaner = Programs()
        self.events: list[Event] = []
        context = tmp_path / "src"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY a /\n")
        self.values: dict[str, Any] = {
            "image": "api",
            "context": context,
            "dockerfile": context / "Dockerfile",
            "layout": tmp_path / "layout",
            "work": tmp_path / "work",
        }
        self.env = {"PATH": str(bin_folder or tmp_path / "empty"), "HOME": str(tmp_path)}

    def builder(self, buildkit_image: str = "") -> Buildx:
        return Buildx(
            run=self.programs,
            env=self.env,
            on_event=self.events.append,
            masker=Masker(),
            hash_context=lambda _c, _d: "hash",
            buildkit_image=buildkit_image,
            cleanup=self.cleaner,
        )

    def request(self, **more: Any) -> BuildRequest:
        return BuildRequest(**(self.values | more))


def test_engine_that_exports_layouts_is_used_directly(tmp_path: Path, bin_folder: Path) -> None:
    bench = Bench(tmp_path, bin_folder)
    probe = bench.builder().probe(bench.request())
    assert probe.usable
    assert probe.reason == "buildx 0.29.1, driver docker, exports OCI layouts"
    assert probe.exports_cache
    assert probe.multi_platform
    assert probe.notes == ()


def test_engine_is_asked_once_per_run(tmp_path: Path, bin_folder: Path) -> None:
    bench = Bench(tmp_path, bin_folder)
    builder = bench.builder()
    builder.probe(bench.request())
    builder.build(bench.request())
    builder.build(bench.request())
    assert len(bench.programs.ran("buildx", "inspect")) == 1
    assert len(bench.programs.ran("buildx", "build")) == 2


def test_other_drivers_need_no_question_about_the_store(tmp_path: Path, bin_folder: Path) -> None:
    bench = Bench(tmp_path, bin_folder, driver="kubernetes", store="[]")
    assert "driver kubernetes, exports" in bench.builder().probe(bench.request()).reason
    assert bench.programs.ran("info") == []


def test_foreign_platform_is_noted(tmp_path: Path, bin_folder: Path) -> None:
    bench = Bench(tmp_path, bin_folder)
    asked = bench.request(platforms=(Platform("linux", "386"), Platform("linux", "arm64")))
    (note,) = bench.builder().probe(asked).notes
    assert note.startswith("linux/arm64 cannot be executed here")


@pytest.mark.parametrize(
    ("image", "platforms", "usable", "words"),
    [
        ("", 1, True, "saved and converted"),
        ("", 2, False, "one platform at a time"),
        (PINNED, 2, True, "private builder"),
        ("moby/buildkit:latest", 1, False, "not pinned by digest"),
    ],
)
def test_classic_store_has_three_answers(  # noqa: PLR0917 - parameters and fixtures
    image: str, platforms: int, usable: bool, words: str, tmp_path: Path, bin_folder: Path
) -> None:
    bench = Bench(tmp_path, bin_folder, store='[["Backing Filesystem","extfs"]]')
    both = (Platform("linux", "amd64"), Platform("linux", "arm64"))
    probe = bench.builder(image).probe(bench.request(platforms=both[:platforms]))
    assert (probe.usable, words in probe.reason) == (usable, True)


def test_absent_docker_is_told_and_not_raised_by_the_probe(tmp_path: Path) -> None:
    bench = Bench(tmp_path, None)
    probe = bench.builder().probe(bench.request())
    assert (probe.usable, probe.reason) == (False, "the program docker is not on PATH")
    with pytest.raises(ToolError, match="not on PATH"):
        bench.builder().build(bench.request())


def test_build_runs_in_a_private_environment_and_the_secrets_beside(
    tmp_path: Path, bin_folder: Path
) -> None:
    bench = Bench(tmp_path, bin_folder)
    bench.env["BUILDKIT_SYNTAX"] = "x"
    bench.builder().build(bench.request())
    env = bench.programs.commands[-1].env
    work = str(tmp_path / "work")
    assert {name for name, value in env.items() if not value.startswith(work)} == {
        "PATH",
        "BUILDX_METADATA_PROVENANCE",
        "BUILDX_NO_DEFAULT_ATTESTATIONS",
    }


def cache_error(*lines: str) -> tuple[int, list[str]]:
    return 1, [*lines, "ERROR: failed to build: failed to solve: failed to copy: httpReadSeeker: x"]


def test_unreadable_cache_is_left_out_in_one_more_try(tmp_path: Path, bin_folder: Path) -> None:
    bench = Bench(tmp_path, bin_folder)
    bench.programs.builds = [cache_error(), (0, [])]
    cache = CacheReferences(imports=("r.example/c:1",), export="r.example/c:1")
    outcome = bench.builder().build(bench.request(cache=cache))
    first, second = bench.programs.ran("buildx", "build")
    assert "--cache-from" in first
    assert "--cache-from" not in second
    assert "--cache-to" in second
    assert outcome.notes[0].startswith("built without the layer cache")


def test_second_failure_without_cache_is_final(tmp_path: Path, bin_folder: Path) -> None:
    bench = Bench(tmp_path, bin_folder)
    bench.programs.builds = [cache_error(), cache_error()]
    cache = CacheReferences(imports=("r.example/c:1",))
    with pytest.raises(ToolError):
        bench.builder().build(bench.request(cache=cache))
    assert len(bench.programs.ran("buildx", "build")) == 2


@pytest.mark.parametrize(
    "lines",
    [
        [
            "Dockerfile:2",
            "-" * 20,
            'ERROR: failed to solve: process "x" did not complete successfully',
        ],
        ["ERROR: failed to solve: a:1: failed to resolve source metadata for a:1: a:1: not found"],
    ],
)
def test_failure_that_is_not_about_the_cache_is_not_tried_again(
    lines: list[str], tmp_path: Path, bin_folder: Path
) -> None:
    bench = Bench(tmp_path, bin_folder)
    bench.programs.builds = [(1, lines)]
    cache = CacheReferences(imports=("r.example/cache:1",))
    with pytest.raises((BuildError, SetupError)):
        bench.builder().build(bench.request(cache=cache))
    assert len(bench.programs.ran("buildx", "build")) == 1


def test_private_builder_is_made_used_and_removed(tmp_path: Path, bin_folder: Path) -> None:
    bench = Bench(tmp_path, bin_folder, store="[]")
    bench.builder(PINNED).build(bench.request())
    (create,) = bench.programs.ran("buildx", "create")
    name = create[create.index("--name") + 1]
    (build,) = bench.programs.ran("buildx", "build")
    assert build[build.index("--builder") + 1] == name
    assert bench.cleaner.ran("buildx", "rm") == [("buildx", "rm", "--force", name)]


def test_private_builder_is_removed_after_a_cancellation(tmp_path: Path, bin_folder: Path) -> None:
    bench = Bench(tmp_path, bin_folder, store="[]")
    builder = bench.builder(PINNED)
    builder.probe(bench.request())
    bench.programs.cancel.set("SIGTERM")
    with pytest.raises(CancelledError):
        builder.build(bench.request())
    assert len(bench.cleaner.ran("buildx", "rm")) == 1


def test_failed_clean_up_is_told_and_hides_nothing(tmp_path: Path, bin_folder: Path) -> None:
    bench = Bench(tmp_path, bin_folder, store="[]")
    bench.programs.builds = [(1, ["ERROR: the Dockerfile cannot be empty"])]
    bench.cleaner.cancel.set("nobody")
    with pytest.raises(BuildError):
        bench.builder(PINNED).build(bench.request())
    assert any("left in the engine" in e.message for e in bench.events if isinstance(e, Log))


def test_other_platform_in_the_layout_is_an_error(tmp_path: Path, bin_folder: Path) -> None:
    bench = Bench(tmp_path, bin_folder)
    with pytest.raises(BuildError, match="asked for linux/arm64, but buildx built linux/amd64"):
        bench.builder().build(bench.request(platforms=(Platform("linux", "arm64"),)))


def test_materials_of_the_metadata_file_are_read_in_every_form(tmp_path: Path) -> None:
    digest = "a" * 64
    base = {"uri": "pkg:docker/alpine@3.20?platform=linux%2Famd64", "digest": {"sha256": digest}}
    newer = {"uri": "pkg:docker/r.example%3A5000/x@1", "digest": {"sha256": digest}}
    git = {"uri": "https://github.com/x", "digest": {"sha1": "1"}}
    path = tmp_path / "m.json"
    path.write_text(
        json.dumps(
            {
                "buildx.build.provenance": {"materials": [base, git]},
                "buildx.build.provenance/linux/arm64": {
                    "buildDefinition": {"resolvedDependencies": [newer]}
                },
                "containerimage.digest": "sha256:x",
            }
        )
    )
    assert merge_materials(
        read_materials(path), (("docker.io/library/alpine:3.20", f"sha256:{digest}"),)
    ) == (
        ("docker.io/library/alpine:3.20", f"sha256:{digest}"),
        ("r.example:5000/x:1", f"sha256:{digest}"),
    )
    assert read_materials(tmp_path / "absent") == ()

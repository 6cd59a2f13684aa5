"""Getting an image: what the builder is asked for, and that every byte is looked at afterwards."""

import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ci_registry.builders.interface import BuildRequest, CacheReferences, Probe
from ci_registry.config.model import ImageSettings
from ci_registry.errors import IntegrityError, SetupError
from ci_registry.oci.platform import Platform
from ci_registry.oci.reference import parse_reference
from ci_registry.pipeline.sizes import last_size
from ci_registry.pipeline.steps_inspect import inspect
from ci_registry.pipeline.steps_obtain import obtain
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome
from ci_registry.secret import Secret
from tests.support.images import ImageSpec, MadeImage, debian_layer, make_layout
from tests.support.pipeline import World, make_context, make_image, make_plan

SPEC = ImageSpec(layers=[debian_layer(("zlib1g", "1.2", ""))])


class _Builder:
    name = "fake"

    def __init__(self, *specs: ImageSpec) -> None:
        self.requests: list[BuildRequest] = []
        self._specs = specs or (SPEC,)
        self.made: MadeImage | None = None

    def probe(self, request: BuildRequest) -> Probe:
        raise AssertionError("preflight is over")

    def build(self, request: BuildRequest) -> BuildOutcome:
        self.requests.append(request)
        self.made = make_layout(request.layout, *self._specs)
        return BuildOutcome(
            builder="fake",
            builder_version="1",
            duration_s=2.0,
            steps_total=4,
            steps_cached=3,
            warnings=("Dockerfile:1: old",),
            notes=("one platform only",),
        )


def test_the_builder_gets_exactly_what_settings_and_plan_say(tmp_path: Path) -> None:
    builder = _Builder()
    world = World(builders={"fake": builder})
    run = make_context(tmp_path, world)
    (run.project / "npmrc").write_text("token")
    cache = CacheReferences(
        imports=("ghcr.io/acme/app/cache:main",), export="cache.example:5000/c:x"
    )
    image = make_image(
        tmp_path,
        plan=make_plan(bases=("debian:12", "quay.io/acme/base:1"), cache=cache),
        settings=ImageSettings(
            target="runtime",
            build_args={"A": "1"},
            labels={"a": "mine"},
            secret_envs=("TOKEN", "npm=NPM_TOKEN"),
            secret_files={"npmrc": "npmrc"},
        ),
        labels={"a": "from the context", "b": "2"},
        secrets={"TOKEN": Secret("t"), "NPM_TOKEN": Secret("n")},
    )
    run = replace(run, ci=replace(run.ci, committed_at=datetime(2026, 1, 2, tzinfo=UTC)))
    obtain(image, run)
    (request,) = builder.requests
    assert request.context == run.project.resolve()
    assert request.dockerfile == run.project.resolve() / "Dockerfile"
    assert request.target == "runtime"
    assert request.build_args == {"A": "1"}
    assert request.labels == {"a": "mine", "b": "2"}
    assert request.cache == cache
    assert request.source_date_epoch == 1767312000
    secrets = {s.id: s.value.reveal() if s.value else s.file for s in request.secrets}
    assert secrets == {"TOKEN": "t", "npm": "n", "npmrc": run.project / "npmrc"}
    assert world.asked_hosts == [("docker.io", "quay.io", "ghcr.io", "cache.example:5000")]


def test_outside_git_the_time_is_that_of_no_commit(tmp_path: Path) -> None:
    builder = _Builder()
    obtain(make_image(tmp_path), make_context(tmp_path, World(builders={"fake": builder})))
    assert builder.requests[0].source_date_epoch == 0


def test_a_secret_file_that_went_away_is_an_error_before_the_build(tmp_path: Path) -> None:
    builder = _Builder()
    image = make_image(tmp_path, settings=ImageSettings(secret_files={"x": "none"}))
    with pytest.raises(SetupError, match="build secret x: none is no readable file"):
        obtain(image, make_context(tmp_path, World(builders={"fake": builder})))
    assert builder.requests == []


def test_the_report_says_what_the_builder_did(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    done = obtain(image, make_context(tmp_path, World(builders={"fake": _Builder()})))
    (case,) = done.cases
    assert case.name == "build linux/amd64"
    assert case.body.splitlines() == [
        "fake 1",
        "3 of 4 steps from the cache",
        "Dockerfile:1: old",
        "one platform only",
    ]


def test_every_byte_is_verified_after_the_build_and_the_size_remembered(tmp_path: Path) -> None:
    run = make_context(tmp_path, World(builders={"fake": _Builder()}))
    image = make_image(tmp_path)
    obtain(image, run)
    done = inspect(image, run)
    assert image.digest is not None
    assert [case.name for case in done.cases] == ["every digest verified linux/amd64"]
    assert "packages: 1 deb" in done.cases[0].body
    assert last_size(run.cache, "app") > 0


def test_a_builder_that_leaves_out_a_platform_is_found_out(tmp_path: Path) -> None:
    platforms = (Platform("linux", "amd64"), Platform("linux", "arm64"))
    run = make_context(tmp_path, World(builders={"fake": _Builder()}))
    image = make_image(tmp_path, settings=ImageSettings(platforms=platforms))
    obtain(image, run)
    with pytest.raises(IntegrityError, match="linux/arm64 was asked for but is not in it"):
        inspect(image, run)


def test_bytes_that_were_changed_after_the_build_are_found_out(tmp_path: Path) -> None:
    builder = _Builder()
    run = make_context(tmp_path, World(builders={"fake": builder}))
    image = make_image(tmp_path)
    obtain(image, run)
    assert image.layout is not None
    assert builder.made is not None
    manifest = image.layout.fetch(builder.made.manifests[0])
    layer = manifest.layers[0]  # type: ignore[union-attr]  # one platform
    path = image.layout.blob_path(layer.digest)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        inspect(image, run)
    assert image.inspected is None


def test_a_layout_is_taken_as_it_is_with_the_platforms_it_has(tmp_path: Path) -> None:
    run = make_context(tmp_path, World())
    make_layout(run.project / "out", replace(SPEC, architecture="arm64"))
    plan = make_plan(action="import", builder="layout", platforms=())
    image = make_image(tmp_path, plan=plan, settings=ImageSettings(from_layout="out"))
    obtain(image, run)
    inspect(image, run)
    assert image.inspected is not None
    assert [str(p.platform) for p in image.inspected.platforms] == ["linux/arm64"]


def test_an_image_of_the_engine_is_exported_for_its_platform(tmp_path: Path) -> None:
    asked: list[tuple[str, Platform]] = []

    def export(name: str, folder: Path, platform: Platform) -> BuildOutcome:
        asked.append((name, platform))
        make_layout(folder, SPEC)
        return BuildOutcome(builder="docker_engine", builder_version="28")

    run = make_context(tmp_path, World(exported=export))
    plan = make_plan(action="import", builder="docker_engine")
    image = make_image(tmp_path, plan=plan, settings=ImageSettings(from_engine="app:dev"))
    obtain(image, run)
    inspect(image, run)
    assert asked == [("app:dev", Platform("linux", "amd64"))]
    assert image.digest is not None


def test_a_pulled_image_is_copied_whole_and_keeps_its_digest(tmp_path: Path) -> None:
    world = World()
    made = make_layout(tmp_path / "made", SPEC, replace(SPEC, architecture="arm64"))
    source, layout = world.open(parse_reference("registry.example/team/app")), Layout(made.layout)
    for digest in (*made.manifests, made.digest):
        manifest = layout.fetch(digest)
        source.manifests[digest] = (manifest.body, manifest.media_type)
        for blob in getattr(manifest, "blobs", ()):
            source.blobs[blob.digest] = b"".join(layout.open(blob.digest))
    source.manifests["1"] = source.manifests[made.digest]
    run = make_context(tmp_path, world)
    plan = make_plan(action="import", builder="registry", platforms=())
    image = make_image(tmp_path, plan=plan, pull=parse_reference("registry.example/team/app:1"))
    obtain(image, run)
    inspect(image, run)
    assert image.digest == made.digest
    assert image.inspected is not None
    assert [str(p.platform) for p in image.inspected.platforms] == ["linux/amd64", "linux/arm64"]
    assert source.writes == []


def test_the_layout_of_a_single_build_is_kept_where_asked(tmp_path: Path) -> None:
    run = make_context(tmp_path, World(builders={"fake": _Builder()}))
    image = make_image(tmp_path, keep_layout=tmp_path / "kept" / "app")
    obtain(image, run)
    inspect(image, run)
    assert Layout(tmp_path / "kept" / "app").root().digest == image.digest


def test_what_the_later_steps_need_is_prepared_while_the_builder_works(tmp_path: Path) -> None:
    asked = threading.Event()

    class Waiting(_Builder):
        def build(self, request: BuildRequest) -> BuildOutcome:
            assert asked.wait(10)
            return super().build(request)

    def notes() -> tuple[str, ...]:
        asked.set()
        raise OSError("told by the scan, which asks again")

    run = make_context(tmp_path, World(builders={"fake": Waiting()}), scan_notes=notes)
    assert obtain(make_image(tmp_path), run).cases

"""What registries and cache say about base images, and that nobody waits long for them."""

import threading
from dataclasses import replace
from pathlib import Path

from ci_registry.config.model import RuntimeSettings
from ci_registry.errors import NetworkError
from ci_registry.oci.reference import Reference
from ci_registry.pipeline.base_lookup import BaseLookup, find_bases
from ci_registry.pipeline.base_names import base_names
from ci_registry.pipeline.plan import FinalBase
from ci_registry.pipeline.state import ImageRun, RunContext
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome
from tests.support.images import ImageSpec, debian_layer, make_layout
from tests.support.memory_repository import MemoryRepository
from tests.support.pipeline import World, make_context, make_image, make_plan

NAME = "docker.io/library/debian"


def _base(world: World, folder: Path, *packages: tuple[str, str, str], tag: str = "12") -> str:
    """Put a base into the registry; returns its digest."""
    made = make_layout(folder, ImageSpec(layers=[debian_layer(*packages)]))
    layout = Layout(made.layout)
    manifest = layout.fetch(made.digest)
    repository = world.registries.setdefault(NAME, MemoryRepository(name=NAME))
    repository.push(tag, manifest.body, manifest.media_type)
    for digest in made.configs:
        repository.blobs[digest] = b"".join(layout.open(digest))
    return str(made.digest)


def _image(tmp_path: Path, digest: str = "", reference: str = "debian:12") -> ImageRun:
    base = FinalBase(platform="linux/amd64", reference=reference, base_platform="linux/amd64")
    image = make_image(tmp_path, plan=make_plan(final_bases=(base,)))
    materials = (("docker.io/library/debian:12", digest),) if digest else ()
    image.build = BuildOutcome(builder="x", builder_version="1", materials=materials)
    return image


def _offline(run: RunContext) -> RunContext:
    return replace(run, settings=replace(run.settings, runtime=RuntimeSettings(offline=True)))


def test_builder_says_under_any_spelling_which_digest_it_used(tmp_path: Path) -> None:
    digest = "sha256:" + "a" * 64
    (named,) = base_names(_image(tmp_path, digest))
    assert (named.digest, named.is_claim) == (digest, False)
    (pinned,) = base_names(_image(tmp_path, reference=f"debian@{digest}"))
    assert pinned.digest == digest


def test_what_is_known_by_digest_is_not_asked_again(tmp_path: Path) -> None:
    world = World()
    digest = _base(world, tmp_path / "base", ("libc6", "1", ""))
    run, image = make_context(tmp_path, world), _image(tmp_path, digest)
    (first,) = find_bases(image, run)
    assert first.layers is not None
    assert (first.layers.root, first.newer, first.reason) == (digest, None, "")
    world.registries[NAME].calls.clear()
    (again,) = find_bases(image, run)
    assert (again.layers, world.registries[NAME].calls) == (first.layers, [])


def test_offline_uses_what_is_kept_and_asks_nobody(tmp_path: Path) -> None:
    world = World()
    digest = _base(world, tmp_path / "base", ("libc6", "1", ""))
    run, image = make_context(tmp_path, world), _image(tmp_path, digest)
    (nothing,) = find_bases(image, _offline(run))
    assert (nothing.layers, nothing.reason) == (
        None,
        "registries of base images are not asked (--offline)",
    )
    find_bases(image, run)
    world.registries.clear()
    (kept,) = find_bases(image, _offline(run))
    assert kept.layers is not None
    assert world.registries == {}


def test_entry_of_the_cache_that_is_damaged_is_read_again(tmp_path: Path) -> None:
    world = World()
    digest = _base(world, tmp_path / "base", ("libc6", "1", ""))
    run, image = make_context(tmp_path, world), _image(tmp_path, digest)
    run.cache.put("bases", f"{digest}\0linux/amd64", b'{"manifest": "x", "diff_ids": [7]}')
    (found,) = find_bases(image, run)
    assert found.layers is not None


def test_other_digest_with_the_same_layers_is_not_newer(tmp_path: Path) -> None:
    """An index changes whenever another platform does."""
    world = World()
    digest = _base(world, tmp_path / "base", ("libc6", "1", ""))
    repository = world.registries[NAME]
    body, media_type = repository.manifests["12"]
    repository.push("12", body + b"\n", media_type)
    (found,) = find_bases(_image(tmp_path, digest), make_context(tmp_path, world))
    assert (found.newer, found.newer_reason) == (None, "")


def test_other_layers_at_the_tag_are_newer(tmp_path: Path) -> None:
    world = World()
    digest = _base(world, tmp_path / "base", ("libc6", "1", ""))
    newer = _base(world, tmp_path / "newer", ("libc6", "2", ""))
    (found,) = find_bases(_image(tmp_path, digest), make_context(tmp_path, world))
    assert found.layers is not None
    assert found.newer is not None
    assert (found.layers.root, found.newer.root) == (digest, newer)
    assert found.newer_reason.startswith("no SBOM of it is attested by a trusted key")


def test_registry_that_fails_is_a_reason(tmp_path: Path) -> None:
    world = World()

    def refuse(_place: Reference) -> MemoryRepository:
        raise NetworkError("registry.example does not answer")

    run = make_context(tmp_path, world)
    run = replace(run, parts=replace(run.parts, source=refuse))
    (found,) = find_bases(_image(tmp_path, "sha256:" + "a" * 64), run)
    assert (found.layers, found.reason) == (None, "registry.example does not answer")


def test_nobody_waits_long_for_a_registry_that_is_silent(tmp_path: Path) -> None:
    released = threading.Event()

    def wait(_place: Reference) -> MemoryRepository:
        released.wait(30)
        raise NetworkError("too late")

    run = make_context(tmp_path, World())
    run = replace(run, parts=replace(run.parts, source=wait))
    lookup = BaseLookup()
    lookup.start(_image(tmp_path), run)
    found, why = lookup.result(timeout_s=0.01)
    released.set()
    assert (found, why) == ((), "its registry did not answer within 0.01 s after the scan")

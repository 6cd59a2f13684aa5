"""The decision as a table: push, signature and cache for every kind of event."""

from dataclasses import replace

import pytest

from ci_registry.builders.interface import Probe
from ci_registry.ci.context import CiContext, EventKind, Provider
from ci_registry.ci.tags import PlannedTag
from ci_registry.config.model import (
    BuilderChoice,
    BuildSettings,
    CacheMode,
    ImageSettings,
    OnExisting,
    PublishSettings,
    PushMode,
    Settings,
    SignMode,
    SignSettings,
)
from ci_registry.oci.platform import Platform
from ci_registry.oci.reference import parse_reference
from ci_registry.pipeline.decide import decide_image
from ci_registry.pipeline.plan import ExistingTag, GatheredImage, GatheredRun, ImagePlan
from tests.support.pipeline import MAIN

LAPTOP = CiContext(provider=Provider.LOCAL, event=EventKind.LOCAL, branch="main")
EVENTS = {
    "push": MAIN,
    "feature": replace(MAIN, branch="feature/x"),
    "tag": replace(MAIN, event=EventKind.TAG, branch="", tag="v1.2.3"),
    "schedule": replace(MAIN, event=EventKind.SCHEDULE),
    "manual": replace(MAIN, event=EventKind.MANUAL),
    "merge queue": replace(MAIN, event=EventKind.MERGE_QUEUE, branch="queue/pr-1"),
    "change request": replace(
        MAIN, event=EventKind.CHANGE_REQUEST, branch="feature/x", base_branch="main", change="7"
    ),
    "fork": replace(
        MAIN,
        event=EventKind.CHANGE_REQUEST,
        branch="main",
        base_branch="main",
        change="8",
        is_fork=True,
    ),
    "push in a fork": replace(MAIN, is_fork=True),
    "laptop": LAPTOP,
}
PUSHES = {
    PushMode.NEVER: set(),
    PushMode.AUTO: {"push", "feature", "tag", "schedule", "manual", "laptop"},
    PushMode.BY_DIGEST: {"push", "feature", "tag", "schedule", "manual", "laptop", "merge queue"},
    PushMode.ALWAYS: set(EVENTS) - {"fork", "push in a fork"},
}
NEVER_SIGNED = {"change request", "fork", "push in a fork"}
NEVER_CACHED = {"tag", "merge queue", *NEVER_SIGNED}
RUN = GatheredRun(
    key_present=True,
    key_source="env://COSIGN_PRIVATE_KEY",
    policy_source="built-in",
    scanner="osv",
    database="osv.dev",
)


def _plan(
    context: CiContext,
    *,
    push: PushMode = PushMode.AUTO,
    sign: SignMode = SignMode.AUTO,
    run: GatheredRun = RUN,
    build: BuildSettings | None = None,
    registry: str = "ghcr.io/acme/app",
    name: str = "app",
    on_existing: OnExisting = OnExisting.FAIL,
    existing: tuple[ExistingTag, ...] = (),
    exports_cache: bool = True,
    image: ImageSettings | None = None,
) -> ImagePlan:
    image = image or ImageSettings()
    gathered = GatheredImage(
        name=name,
        settings=image,
        dockerfile_name="Dockerfile",
        tags=(
            PlannedTag(template="{sha}", tag="abc", fixed=True),
            PlannedTag(template="{branch}", tag="main", fixed=False),
        ),
        destinations=(parse_reference(registry),) if registry else (),
        probes=(("buildx", Probe(usable=True, reason="works", exports_cache=exports_cache)),),
        existing=existing,
    )
    settings = Settings(
        images={name: image},
        publish=PublishSettings(push=push, on_existing=on_existing),
        sign=SignSettings(mode=sign),
        build=build or BuildSettings(),
    )
    return decide_image(gathered, run, settings, context)


@pytest.mark.parametrize("mode", list(PushMode))
@pytest.mark.parametrize("event", EVENTS)
def test_push_signature_and_cache(event: str, mode: PushMode) -> None:
    plan = _plan(EVENTS[event], push=mode)
    assert plan.problems == ()
    assert plan.push is (event in PUSHES[mode]), plan.push_reason
    assert plan.push_reason
    by_digest = mode is PushMode.BY_DIGEST
    assert plan.by_digest is (plan.push and by_digest)
    assert plan.sign is (plan.push and not by_digest and event not in NEVER_SIGNED)
    if event in NEVER_CACHED - {"merge queue"} or not plan.push:
        assert plan.cache.export == ""
    else:
        assert plan.cache.export
    if not plan.push:
        assert plan.writes == ()


def test_a_fork_reads_the_cache_of_its_base_and_of_nothing_it_named_itself() -> None:
    plan = _plan(replace(EVENTS["fork"], branch="release/secret", base_branch="main"))
    assert [ref.rpartition(":")[2] for ref in plan.cache.imports] == ["app-main"]


def test_a_branch_reads_its_own_cache_first_and_then_that_of_the_default_branch() -> None:
    plan = _plan(EVENTS["feature"])
    own, default = plan.cache.imports
    assert own == plan.cache.export
    assert default == "ghcr.io/acme/app/cache:app-main"


def test_two_branches_never_share_a_cache() -> None:
    names = ["release/1", "release-1", "release_1", "Release/1", "release//1", "x" * 200, "x" * 201]
    refs = {_plan(replace(MAIN, branch=name)).cache.export for name in names}
    assert len(refs) == len(names)
    for ref in refs:
        assert parse_reference(ref).tag


def test_two_images_never_share_a_cache_in_a_common_repository() -> None:
    build = BuildSettings(cache_ref="ghcr.io/acme/cache")
    first = _plan(replace(MAIN, branch="b-c"), name="a", build=build)
    second = _plan(replace(MAIN, branch="c"), name="a-b", build=build)
    assert first.cache.export.startswith("ghcr.io/acme/cache:a-b-c-")
    assert first.cache.export != second.cache.export


@pytest.mark.parametrize(
    ("build", "exports"),
    [
        (BuildSettings(cache=CacheMode.OFF), True),
        (BuildSettings(no_cache=True), True),
        (BuildSettings(), False),
    ],
)
def test_no_cache_is_used_when_off_or_when_the_builder_has_none(
    build: BuildSettings, exports: bool
) -> None:
    plan = _plan(MAIN, build=build, exports_cache=exports)
    assert (plan.cache.imports, plan.cache.export) == ((), "")
    assert plan.cache_reason


@pytest.mark.parametrize(
    ("event", "mode", "problem"),
    [
        ("push", PushMode.AUTO, True),
        ("push", PushMode.NEVER, False),
        ("change request", PushMode.AUTO, False),
        ("laptop", PushMode.AUTO, False),
        ("laptop", PushMode.ALWAYS, True),
        ("laptop", PushMode.BY_DIGEST, True),
    ],
)
def test_no_registry_is_a_problem_where_a_push_is_wanted(
    event: str, mode: PushMode, problem: bool
) -> None:
    plan = _plan(EVENTS[event], push=mode, registry="")
    assert not plan.push
    assert not plan.sign
    messages = [item.message for item in plan.problems]
    assert messages == (["no registry is named for image 'app'"] if problem else [])


@pytest.mark.parametrize(
    ("mode", "present", "signs", "reason"),
    [
        (SignMode.OFF, True, False, "signing is off"),
        (SignMode.AUTO, True, True, "key from env://COSIGN_PRIVATE_KEY"),
        (SignMode.AUTO, False, False, "no key: env://COSIGN_PRIVATE_KEY is not set"),
        (SignMode.KEY, False, True, "key from env://COSIGN_PRIVATE_KEY"),
    ],
)
def test_signing_by_mode_and_key(mode: SignMode, present: bool, signs: bool, reason: str) -> None:
    plan = _plan(MAIN, sign=mode, run=replace(RUN, key_present=present))
    assert (plan.sign, plan.sign_reason) == (signs, reason)


def test_the_plan_lists_every_write_in_order() -> None:
    assert _plan(MAIN).writes == (
        "cache ghcr.io/acme/app/cache:app-main",
        "manifests ghcr.io/acme/app@<digest>",
        "signatures ghcr.io/acme/app@<digest>",
        "tag ghcr.io/acme/app:abc",
        "tag ghcr.io/acme/app:main",
    )
    by_digest = _plan(MAIN, push=PushMode.BY_DIGEST)
    assert by_digest.writes[1:] == ("manifests ghcr.io/acme/app@<digest>",)


@pytest.mark.parametrize(
    ("on_existing", "words"),
    [
        (OnExisting.FAIL, "must turn out to be the same image, or the run stops"),
        (OnExisting.KEEP, "stays as it is"),
        (OnExisting.OVERWRITE, "will be moved"),
    ],
)
def test_fixed_tags_that_exist_are_noted(on_existing: OnExisting, words: str) -> None:
    existing = tuple(
        ExistingTag(destination="ghcr.io/acme/app", tag=tag, digest="sha256:x")
        for tag in ("abc", "main")
    )
    plan = _plan(MAIN, on_existing=on_existing, existing=existing)
    assert plan.notes == (f"ghcr.io/acme/app:abc exists and {words}",)


@pytest.mark.parametrize(
    ("image", "builder", "reason"),
    [
        (ImageSettings(from_engine="app:dev"), "docker_engine", "the engine has app:dev"),
        (ImageSettings(from_layout="out"), "layout", "the layout has out"),
    ],
)
def test_an_imported_image_asks_no_builder(image: ImageSettings, builder: str, reason: str) -> None:
    plan = _plan(MAIN, image=image, build=BuildSettings(builder=BuilderChoice.BUILDAH))
    assert (plan.action, plan.builder, plan.reason) == ("import", builder, reason)
    assert plan.problems == ()


def test_platforms_are_those_of_the_settings() -> None:
    platforms = (Platform("linux", "amd64"), Platform("linux", "arm", "v7"))
    plan = _plan(MAIN, image=ImageSettings(platforms=platforms))
    assert plan.platforms == ("linux/amd64", "linux/arm/v7")

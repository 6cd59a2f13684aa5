"""What each event may do to registries, whatever the settings ask for."""

from dataclasses import replace

import pytest

from ci_registry.builders.interface import Probe
from ci_registry.ci.context import CiContext, EventKind, Provider
from ci_registry.ci.tags import plan_tags
from ci_registry.config.model import (
    ImageSettings,
    PublishSettings,
    PushMode,
    Settings,
    SignMode,
    SignSettings,
)
from ci_registry.oci.reference import Reference
from ci_registry.pipeline.decide import decide_image
from ci_registry.pipeline.plan import GatheredImage, GatheredRun, ImagePlan

RUN = GatheredRun(
    key_present=True,
    key_source="env://COSIGN_PRIVATE_KEY",
    policy_source="policy.yml (main)",
    scanner="osv",
    database="osv.dev",
)
MAIN = CiContext(
    provider=Provider.GITHUB,
    event=EventKind.PUSH,
    commit="a" * 40,
    branch="main",
    default_branch="main",
)
CHANGE = replace(MAIN, event=EventKind.CHANGE_REQUEST, branch="feature", base_branch="main")
FORK = replace(CHANGE, is_fork=True)


def decide(context: CiContext, push: PushMode = PushMode.AUTO, run: GatheredRun = RUN) -> ImagePlan:
    image = ImageSettings()
    gathered = GatheredImage(
        name="app",
        settings=image,
        dockerfile_name="Dockerfile",
        tags=plan_tags((), context),
        destinations=(Reference(registry="ghcr.io", repository="acme/app"),),
        probes=(("buildx", Probe(usable=True, reason="it works", exports_cache=True)),),
    )
    settings = Settings(
        images={"app": image},
        publish=PublishSettings(push=push),
        sign=SignSettings(mode=SignMode.KEY),
    )
    return decide_image(gathered, run, settings, context)


def test_push_to_the_default_branch_pushes_signs_and_writes_the_cache() -> None:
    plan = decide(MAIN)

    assert (plan.push, plan.sign) == (True, True)
    assert plan.cache.export == "ghcr.io/acme/app/cache:app-main"


@pytest.mark.parametrize("mode", list(PushMode))
def test_fork_writes_nothing_whatever_the_mode(mode: PushMode) -> None:
    plan = decide(FORK, mode)

    assert (plan.push, plan.sign, plan.cache.export, plan.writes) == (False, False, "", ())
    assert mode is PushMode.NEVER or "fork" in plan.push_reason


@pytest.mark.parametrize("mode", [PushMode.AUTO, PushMode.BY_DIGEST])
def test_change_request_writes_nothing(mode: PushMode) -> None:
    plan = decide(CHANGE, mode)

    assert (plan.push, plan.sign, plan.cache.export, plan.writes) == (False, False, "", ())


def test_change_request_that_may_push_is_still_not_signed_and_writes_no_cache() -> None:
    plan = decide(CHANGE, PushMode.ALWAYS)

    assert plan.push
    assert not plan.sign
    assert plan.cache.export == ""
    assert plan.cache.imports == ("ghcr.io/acme/app/cache:app-main",)
    assert "signed" in plan.sign_reason


def test_change_request_that_decided_itself_never_pushes() -> None:
    plan = decide(CHANGE, PushMode.ALWAYS, replace(RUN, is_policy_trusted=False))

    assert (plan.push, plan.writes) == (False, ())
    assert "trusted ref" in plan.push_reason


def test_dry_run_leaves_the_cache_alone() -> None:
    plan = decide(MAIN, run=replace(RUN, is_dry_run=True))

    assert plan.push
    assert plan.cache.export == ""
    assert plan.cache.imports


def test_release_writes_no_cache_and_reads_that_of_the_default_branch_only() -> None:
    plan = decide(replace(MAIN, event=EventKind.TAG, branch="", tag="v1.0.0"))

    assert plan.cache.export == ""
    assert plan.cache.imports == ("ghcr.io/acme/app/cache:app-main",)


def test_merge_queue_does_not_push_by_itself() -> None:
    assert not decide(replace(MAIN, event=EventKind.MERGE_QUEUE, branch="")).push

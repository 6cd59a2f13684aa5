"""Decides, from settings, CI context and what was gathered, what happens to each image; pure."""

from ci_registry.builders.interface import CacheReferences
from ci_registry.ci.context import CiContext, EventKind
from ci_registry.ci.tags import slug
from ci_registry.config.model import (
    BuilderChoice,
    CacheMode,
    OnExisting,
    PushMode,
    Settings,
    SignMode,
)
from ci_registry.errors import ExitCode
from ci_registry.oci.digest import digest_of
from ci_registry.pipeline.plan import GatheredImage, GatheredRun, ImagePlan, PlanProblem


def decide_image(
    image: GatheredImage, run: GatheredRun, settings: Settings, context: CiContext
) -> ImagePlan:
    """Return the plan of one image."""
    problems = list(image.problems)
    imported = image.pulled or image.settings.from_engine or image.settings.from_layout
    builder, builder_reason = decide_builder(image, settings.build.builder, problems)
    push, push_reason = decide_push(image, run, settings.publish.push, context, problems)
    by_digest = push and settings.publish.push is PushMode.BY_DIGEST
    sign, sign_reason = decide_sign(
        run, settings.sign.mode, context, push=push, by_digest=by_digest
    )
    cache, cache_reason = decide_cache(image, run, settings, context, push=push, builder=builder)
    where = "engine" if image.settings.from_engine else "layout"
    where = "registry" if image.pulled else where
    return ImagePlan(
        name=image.name,
        action="import" if imported else "build",
        reason=f"the {where} has {imported}"
        if imported
        else _build_reason(builder, builder_reason),
        dockerfile=image.dockerfile_name,
        context=image.settings.context,
        target=image.settings.target,
        platforms=tuple(str(platform) for platform in image.settings.platforms),
        bases=image.bases,
        builder=builder,
        builder_reason=builder_reason,
        destinations=image.destinations,
        tags=image.tags,
        existing=image.existing,
        push=push,
        by_digest=by_digest,
        push_reason=push_reason,
        sign=sign,
        sign_reason=sign_reason,
        cache=cache,
        cache_reason=cache_reason,
        scanner=run.scanner,
        database=run.database,
        policy_source=run.policy_source,
        final_bases=image.final_bases,
        problems=tuple(problems),
        notes=image.notes + _existing_notes(image, settings.publish.on_existing),
    )


def _build_reason(builder: str, reason: str) -> str:
    return f"{builder}, {reason}" if builder else reason


def decide_builder(
    image: GatheredImage, choice: BuilderChoice, problems: list[PlanProblem]
) -> tuple[str, str]:
    """Pick the builder: the one named, or the first that works; an unusable one is a problem."""
    if image.pulled:
        return "registry", "the image is pulled from its registry"
    if image.settings.from_engine:
        return "docker_engine", "the image is taken from the engine"
    if image.settings.from_layout:
        return "layout", "the image is taken from a layout directory"
    tried: list[str] = []
    exit_code = ExitCode.CONFIG
    for name, probe in image.probes:
        if choice is not BuilderChoice.AUTO and name != choice:
            continue
        if probe.usable:
            before = f" ({'; '.join(tried)})" if tried else ""
            return name, f"{probe.reason}{before}"
        tried.append(f"{name}: {probe.reason}")
        if choice is not BuilderChoice.AUTO:
            exit_code = probe.exit_code
    if not problems:
        problems.append(
            PlanProblem(
                message=f"no builder here can build {image.dockerfile_name}: {'; '.join(tried)}",
                hint="start a Docker engine, install buildah, or name one with --builder",
                exit_code=exit_code,
            )
        )
    return "", "; ".join(tried) or "none was asked, because of the problems below"


def decide_push(
    image: GatheredImage,
    run: GatheredRun,
    mode: PushMode,
    context: CiContext,
    problems: list[PlanProblem],
) -> tuple[bool, str]:
    """Say whether this event pushes, and why."""
    if mode is PushMode.NEVER:
        return False, "push is never"
    if context.is_fork:
        return False, "the change comes from a fork: it gets a verdict, never a push"
    if context.is_change_request and mode is not PushMode.ALWAYS:
        return False, "change requests get a verdict, not a push"
    if not run.is_policy_trusted:
        return False, "the change itself decided: no trusted ref could be read"
    if context.event is EventKind.MERGE_QUEUE and mode is PushMode.AUTO:
        return False, "the merge queue builds a commit that is on no branch yet"
    if not image.destinations:
        if context.is_ci or mode is not PushMode.AUTO:
            problems.append(
                PlanProblem(
                    message=f"no registry is named for image {image.name!r}",
                    hint="set registry, or give --image a full name such as ghcr.io/acme/app",
                )
            )
        return False, "no registry is named"
    return True, "untagged, by digest, for a later merge" if mode is PushMode.BY_DIGEST else (
        f"{context.event} event"
        + (f" on {context.branch or context.tag}" if context.commit else "")
    )


def decide_sign(
    run: GatheredRun, mode: SignMode, context: CiContext, *, push: bool, by_digest: bool
) -> tuple[bool, str]:
    """Say whether the image gets signed, and why."""
    if mode is SignMode.OFF:
        return False, "signing is off"
    if not push:
        return False, "nothing is pushed"
    if context.is_change_request:
        return False, "a change that nobody has merged yet is never signed"
    if by_digest:
        return False, "a leg that is pushed by digest is signed by the merge"
    if run.key_present or mode is SignMode.KEY:
        return True, f"key from {run.key_source}"
    return False, f"no key: {run.key_source} is not set"


def decide_cache(
    image: GatheredImage,
    run: GatheredRun,
    settings: Settings,
    context: CiContext,
    *,
    push: bool,
    builder: str,
) -> tuple[CacheReferences, str]:
    """Choose where layer cache comes from and goes to, by event; one scope per image and branch."""
    if settings.build.cache is CacheMode.OFF or settings.build.no_cache:
        return CacheReferences(), "cache is off"
    probe = dict(image.probes).get(builder)
    if probe is None or not probe.exports_cache:
        who = f"{builder} keeps its cache to itself here" if builder else "there is no builder"
        return CacheReferences(), who
    if not image.destinations and not settings.build.cache_ref:
        return CacheReferences(), "no registry is named"
    repository = settings.build.cache_ref or f"{image.destinations[0].name}/cache"

    def ref(branch: str) -> str:
        scope = f"{image.name}-{branch}"
        tag = slug(scope)
        if tag != scope or settings.build.cache_ref:  # another branch or image may have this name
            tag = f"{tag[:100]}-{digest_of(f'{image.name}:{branch}'.encode()).short}"
        return f"{repository}:{tag}"

    branches = [context.branch, context.base_branch, context.default_branch]
    if context.is_change_request:
        branches = branches[1:]
    imports = tuple(dict.fromkeys(ref(branch) for branch in branches if branch))
    is_own = bool(context.branch) and not context.tag and not context.is_change_request
    writes = push and is_own and not run.is_dry_run
    reason = (
        "change requests, forks, tags and dry runs read the cache and never write it"
        if not writes
        else "own branch first, then the default branch; written to the own branch"
    )
    return CacheReferences(imports=imports, export=ref(context.branch) if writes else ""), reason


def _existing_notes(image: GatheredImage, on_existing: OnExisting) -> tuple[str, ...]:
    fixed = {tag.tag for tag in image.tags if tag.fixed and tag.tag}
    then = {
        OnExisting.FAIL: "must turn out to be the same image, or the run stops",
        OnExisting.KEEP: "stays as it is",
        OnExisting.OVERWRITE: "will be moved",
    }[on_existing]
    return tuple(
        f"{tag.destination}:{tag.tag} exists and {then}"
        for tag in image.existing
        if tag.tag in fixed
    )

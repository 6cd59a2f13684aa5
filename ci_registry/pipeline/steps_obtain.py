"""The steps that get an image and look at it: build or import into a layout, then verify every byte."""

import contextlib
import importlib
import threading
from pathlib import Path

from ci_registry.builders.interface import BuildRequest, BuildSecret
from ci_registry.config.model import ImageSettings
from ci_registry.errors import SetupError
from ci_registry.pipeline.state import Done, ImageRun, RunContext
from ci_registry.registry.known_blobs import blobs_of_last_build
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome, Case
from ci_registry.secret import Secret

_BUILDER_STARTS_S = 0.02
"""So long the builder itself is busy with what this process does before it waits."""
_LATER_STEPS = (
    "ci_registry.pipeline.steps_inspect",
    "ci_registry.pipeline.base_lookup",
    "ci_registry.pipeline.attribution",
    "ci_registry.pipeline.steps_scan",
    "ci_registry.pipeline.steps_publish",
    "ci_registry.reports.github",
    "ci_registry.reports.gitlab",
    "ci_registry.reports.markdown",
    "ci_registry.reports.text",
)


def obtain(image: ImageRun, run: RunContext) -> Done:
    """Build the image, or take it from engine, layout or registry, into an OCI layout."""
    folder = image.keep_layout or image.work / "layout"
    if image.pull is not None:
        outcome = _pull(image, run, folder)
    elif image.settings.from_engine:
        platform = image.settings.platforms[0]
        outcome = run.parts.export_from_engine(image.settings.from_engine, folder, platform)
    elif image.settings.from_layout:
        folder = run.project / image.settings.from_layout
        outcome = BuildOutcome(builder="layout", builder_version="")
    else:
        builder = run.parts.builders[image.plan.builder]
        _prepare_later_steps(run)
        outcome = builder.build(_request(image, run, folder))
    image.layout = Layout(folder)
    image.build = outcome
    return Done(cases=_build_cases(image, outcome))


def _prepare_later_steps(run: RunContext) -> None:
    """Begin in a thread what the later steps need, while the builder works and this process waits.

    What fails here fails again in the step that needs it, and is told there.
    """

    def prepare() -> None:
        for name in _LATER_STEPS:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        with contextlib.suppress(Exception):
            run.scan_notes()

    timer = threading.Timer(_BUILDER_STARTS_S, prepare)
    timer.daemon = True
    timer.start()


def _pull(image: ImageRun, run: RunContext, folder: Path) -> BuildOutcome:
    if image.pull is None:
        raise AssertionError("called for images that are pulled")
    from ci_registry.registry.transfer import copy_image  # noqa: PLC0415 - only a scan pulls

    source = run.parts.source(image.pull)
    root = source.fetch(image.pull.target)
    target = Layout.create(folder)
    copy_image(
        source, target, root.descriptor, cancel=run.cancel, on_event=run.on_event, image=image.name
    )
    target.set_root(root.descriptor)
    return BuildOutcome(builder="registry", builder_version="")


def _request(image: ImageRun, run: RunContext, folder: Path) -> BuildRequest:
    settings = image.settings
    work = image.work / "build"
    work.mkdir(parents=True, exist_ok=True)
    hosts = _hosts(image)
    return BuildRequest(
        image=image.name,
        context=(run.project / settings.context).resolve(),
        dockerfile=(run.project / image.plan.dockerfile).resolve(),
        dockerfile_name=image.plan.dockerfile,
        layout=folder,
        work=work,
        target=settings.target,
        platforms=settings.platforms,
        build_args=settings.build_args,
        labels=dict(image.labels) | dict(settings.labels),
        secrets=_secrets(settings, image, run),
        cache=image.plan.cache,
        no_cache=run.settings.build.no_cache,
        pull=run.settings.build.pull,
        network=run.settings.build.network,
        source_date_epoch=run.source_date_epoch,
        docker_config=run.parts.docker_config(hosts, image.work / "docker-config"),
        plain_http=run.settings.network.plain_http,
        timeout=run.settings.build.timeout,
        known_blobs=blobs_of_last_build(run.cache, image.name, image.proven),
    )


def _hosts(image: ImageRun) -> tuple[str, ...]:
    """The registry hosts that the builder needs: those of base images and of the cache."""
    names = [*image.plan.bases, *image.plan.cache.imports, image.plan.cache.export]
    hosts = []
    for name in names:
        first, slash, _ = name.partition("/")
        named = slash and ("." in first or ":" in first or first == "localhost")
        hosts.append(first if named else "docker.io")
    return tuple(dict.fromkeys(hosts))


def _secrets(settings: ImageSettings, image: ImageRun, run: RunContext) -> tuple[BuildSecret, ...]:
    found = []
    for item in settings.secret_envs:
        name, _, variable = item.partition("=")
        value = image.secrets.get(variable or name, Secret(""))
        found.append(BuildSecret(id=name, value=value))
    for name, path in settings.secret_files.items():
        file = run.project / path
        if not file.is_file():
            raise SetupError(f"build secret {name}: {path} is no readable file")
        found.append(BuildSecret(id=name, file=file))
    return tuple(found)


def _build_cases(image: ImageRun, outcome: BuildOutcome) -> tuple[Case, ...]:
    lines = [f"{outcome.builder} {outcome.builder_version}".strip()]
    if outcome.steps_total:
        lines.append(f"{outcome.steps_cached} of {outcome.steps_total} steps from the cache")
    lines += [*outcome.warnings, *outcome.notes]
    duration = outcome.duration_s / max(1, len(image.settings.platforms))
    platforms = image.plan.platforms or ("any platform",)
    return tuple(
        Case(name=f"build {platform}", body="\n".join(lines), duration_s=duration)
        for platform in platforms
    )

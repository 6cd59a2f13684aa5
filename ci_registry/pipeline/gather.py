"""Reads everything that the decision about an image needs; what can't be read becomes a note or a problem."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_registry.builders.interface import Builder, BuildRequest, Probe
from ci_registry.ci.context import CiContext
from ci_registry.ci.tags import PlannedTag, plan_tags
from ci_registry.config.load import destinations
from ci_registry.config.model import BuilderChoice, ImageSettings, Settings
from ci_registry.dockerfile.model import Dockerfile
from ci_registry.dockerfile.parse import parse_dockerfile
from ci_registry.dockerfile.stages import SCRATCH, BuildArguments, bases_of, final_base
from ci_registry.errors import CiRegistryError, ExitCode, UsageError
from ci_registry.files import read_file
from ci_registry.oci.reference import Reference
from ci_registry.pipeline.plan import ExistingTag, FinalBase, GatheredImage, PlanProblem
from ci_registry.registry.interface import Repository

_MAX_DOCKERFILE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where gathering may look."""

    project: Path
    work: Path
    builders: Mapping[str, Builder]
    target: Callable[[Reference], Repository] | None
    """Opens a destination for reading its tags; None when nobody may be asked (offline plan)."""


def gather_image(
    name: str,
    image: ImageSettings,
    settings: Settings,
    context: CiContext,
    sources: Sources,
    *,
    pull: Reference | None = None,
) -> GatheredImage:
    """Read Dockerfile, destinations, tags and builders of one image; nothing is written.

    An image that exists already (`pull`, or what its settings name) needs no Dockerfile.
    """
    problems: list[PlanProblem] = []
    notes: list[str] = []
    imported = bool(pull or image.from_engine or image.from_layout)
    dockerfile = "" if imported else dockerfile_name(image)
    if imported:
        problems += _import_problems(image, sources.project)
    parsed = None
    if not imported:
        parsed = _read_dockerfile(image, dockerfile, sources.project, problems)
    bases, final = _bases(image, parsed, problems)
    tags = _tags(image, context, problems)
    places = _destinations(settings, name, problems)
    probes: tuple[tuple[str, Probe], ...] = ()
    if not imported and not problems:
        probes = _probe(name, image, dockerfile, settings, sources)
    existing = _existing(places, tags, sources.target, notes)
    return GatheredImage(
        name=name,
        settings=image,
        pulled=str(pull or ""),
        dockerfile_name=dockerfile,
        bases=bases,
        final_bases=final,
        tags=tags,
        destinations=places,
        probes=probes,
        existing=existing,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def dockerfile_name(image: ImageSettings) -> str:
    """Return the path of the Dockerfile as the user knows it; empty for imported images."""
    if image.from_engine or image.from_layout:
        return ""
    return image.dockerfile or str(Path(image.context) / "Dockerfile")


def _import_problems(image: ImageSettings, project: Path) -> Iterator[PlanProblem]:
    """Yield what is wrong with where an image is taken from."""
    if image.from_engine and len(image.platforms) > 1:
        wanted = ", ".join(str(platform) for platform in image.platforms)
        yield PlanProblem(
            message=f"from_engine gives one platform, {wanted} were asked for",
            hint="name one platform, or let ci-registry build the image",
        )
    if image.from_layout and not (project / image.from_layout / "index.json").is_file():
        yield PlanProblem(
            message=f"{image.from_layout} is no OCI layout: it has no index.json",
            hint="name a folder that was written by `ci-registry build`, buildx, skopeo or crane",
        )


def _problem(error: CiRegistryError) -> PlanProblem:
    return PlanProblem(
        message=error.message,
        hint=error.hint,
        exit_code=error.exit_code,
        file=error.file,
        line=error.line,
    )


def _read_dockerfile(
    image: ImageSettings, name: str, project: Path, problems: list[PlanProblem]
) -> Dockerfile | None:
    """Return the Dockerfile; what is wrong goes into `problems`."""
    path, context = project / name, project / image.context
    if not context.is_dir():
        problems.append(
            PlanProblem(
                message=f"the build context {image.context} is no folder", file=image.context
            )
        )
        return None
    if not path.is_file():
        hint = "name it with --dockerfile" if not image.dockerfile else ""
        problems.append(PlanProblem(message=f"there is no {name}", hint=hint, file=name))
        return None
    try:
        text = read_file(path, max_bytes=_MAX_DOCKERFILE_BYTES).decode("utf-8", "surrogateescape")
        return parse_dockerfile(text, file=name)
    except CiRegistryError as error:
        problems.append(_problem(error))
        return None


def _bases(
    image: ImageSettings, dockerfile: Dockerfile | None, problems: list[PlanProblem]
) -> tuple[tuple[str, ...], tuple[FinalBase, ...]]:
    """Return the images that the target needs, and those that its last stage lies on."""
    if dockerfile is None:
        return (), ()
    references: dict[str, None] = {}
    final: list[FinalBase] = []
    try:
        for platform in image.platforms:
            arguments = BuildArguments(values=image.build_args, platform=platform)
            references |= dict.fromkeys(
                base.reference for base in bases_of(dockerfile, image.target, arguments)
            )
            base = final_base(dockerfile, image.target, arguments)
            final.append(
                FinalBase(
                    platform=str(platform),
                    reference=base.reference if base else SCRATCH,
                    base_platform=str(base.platform if base else platform),
                )
            )
    except CiRegistryError as error:
        problems.append(_problem(error))
        return (), ()
    return tuple(references), tuple(final)


def _tags(
    image: ImageSettings, context: CiContext, problems: list[PlanProblem]
) -> tuple[PlannedTag, ...]:
    try:
        return plan_tags(image.tags, context)
    except UsageError as error:
        problems.append(_problem(error))
        return ()


def _destinations(
    settings: Settings, name: str, problems: list[PlanProblem]
) -> tuple[Reference, ...]:
    try:
        return destinations(settings, name)
    except UsageError as error:
        problems.append(_problem(error))
        return ()


def _probe(
    name: str, image: ImageSettings, dockerfile: str, settings: Settings, sources: Sources
) -> tuple[tuple[str, Probe], ...]:
    """Ask the builders in order; with `auto` the first usable one ends the search."""
    request = BuildRequest(
        image=name,
        context=(sources.project / image.context).resolve(),
        dockerfile=(sources.project / dockerfile).resolve(),
        dockerfile_name=dockerfile,
        layout=sources.work / "probe-layout",
        work=sources.work,
        target=image.target,
        platforms=image.platforms,
        build_args=image.build_args,
        plain_http=settings.network.plain_http,
    )
    found = []
    for builder_name in sources.builders:
        choice = settings.build.builder
        if choice is not BuilderChoice.AUTO and builder_name != choice:
            continue
        probe = sources.builders[builder_name].probe(request)
        found.append((builder_name, probe))
        if probe.usable:
            break
    return tuple(found)


def _existing(
    places: tuple[Reference, ...],
    tags: tuple[PlannedTag, ...],
    target: Callable[[Reference], Repository] | None,
    notes: list[str],
) -> tuple[ExistingTag, ...]:
    """Look up the planned tags; a registry that can't be read is a note, never a reason to skip."""
    if target is None:
        return ()
    found = []
    for place in places:
        try:
            repository = target(place)
            for planned in tags:
                descriptor = repository.resolve(planned.tag) if planned.tag else None
                if descriptor is not None:
                    found.append(
                        ExistingTag(
                            destination=place.name, tag=planned.tag, digest=str(descriptor.digest)
                        )
                    )
        except CiRegistryError as error:
            if error.exit_code is ExitCode.INTERRUPTED:
                raise
            notes.append(f"tags of {place.name} can't be read: {error.headline}")
    return tuple(found)

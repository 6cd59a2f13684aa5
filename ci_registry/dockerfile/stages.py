"""Which stages, images and instructions a target needs, after build arguments are put in."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ci_registry.dockerfile.expand import ExpansionError, Rules, expand
from ci_registry.dockerfile.model import Dockerfile, Instruction, Stage
from ci_registry.dockerfile.mounts import mounts_of
from ci_registry.errors import BuildError, UsageError
from ci_registry.oci.platform import Platform, parse_platform

SCRATCH = "scratch"
_AMD64 = Platform("linux", "amd64")
_NUMBER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildArguments:
    """What comes from outside into a Dockerfile."""

    values: Mapping[str, str] = field(default_factory=dict)
    """`--build-arg`; only declared names have an effect."""
    platform: Platform = _AMD64
    """What is built for: `TARGETPLATFORM`."""
    build_platform: Platform | None = None
    """What builds: `BUILDPLATFORM`; None: the same."""


class Role(StrEnum):
    """How an image is used."""

    FROM = "FROM"
    COPY = "COPY --from"
    MOUNT = "RUN --mount"
    SYNTAX = "syntax"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """One image from outside that a target needs."""

    reference: str
    """Expanded, as written otherwise: `alpine`, not `docker.io/library/alpine:latest`."""
    platform: Platform
    role: Role
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedStage:
    """A stage with its base and its dependencies named."""

    stage: Stage
    base: str
    """Expanded; a stage's name, an image or `scratch`."""
    parent: int | None
    """Index of the stage that `base` names."""
    platform: Platform | None
    """Of `--platform`."""
    instructions: tuple[Instruction, ...]
    """The `ONBUILD` triggers of the parent, then the stage's own."""


def automatic_arguments(arguments: BuildArguments, target: str = "") -> dict[str, str]:
    """Return the `ARG`s that BuildKit sets by itself; `values` override them."""
    own, build = arguments.platform, arguments.build_platform or arguments.platform
    automatic = {
        "BUILDPLATFORM": str(build),
        "BUILDOS": build.os,
        "BUILDOSVERSION": "",
        "BUILDARCH": build.architecture,
        "BUILDVARIANT": build.variant,
        "TARGETPLATFORM": str(own),
        "TARGETOS": own.os,
        "TARGETOSVERSION": "",
        "TARGETARCH": own.architecture,
        "TARGETVARIANT": own.variant,
        "TARGETSTAGE": target or "default",
    }
    return {name: arguments.values.get(name, value) for name, value in automatic.items()}


def global_arguments(
    dockerfile: Dockerfile, arguments: BuildArguments, target: str = ""
) -> dict[str, str]:
    """Return what `FROM` lines may use: automatic arguments and the `ARG`s above the first `FROM`.

    Raises:
        BuildError: a default can't be expanded.
    """
    name = target or dockerfile.stages[-1].name
    variables = automatic_arguments(arguments, name)
    for instruction in dockerfile.global_args:
        for key, default in instruction.pairs:
            if key in arguments.values:
                variables[key] = arguments.values[key]
            elif default is not None:
                variables[key] = expand_at(dockerfile, instruction, default, variables)
    return variables


def expand_at(
    dockerfile: Dockerfile, instruction: Instruction, text: str, variables: Mapping[str, str]
) -> str:
    """Expand a text of `instruction`; raises `BuildError` at its line."""
    try:
        return expand(text, variables, Rules(escape=dockerfile.escape)).text
    except ExpansionError as error:
        raise _error(dockerfile, instruction, f"cannot expand {text!r}: {error}") from error


def _error(
    dockerfile: Dockerfile, instruction: Instruction, message: str, hint: str = ""
) -> BuildError:
    return BuildError(message, hint=hint, file=dockerfile.file, line=instruction.first_line)


def resolve_stages(
    dockerfile: Dockerfile, arguments: BuildArguments, target: str = ""
) -> tuple[ResolvedStage, ...]:
    """Resolve the base of every stage, in file order.

    Raises:
        BuildError: a base is empty or can't be expanded, a platform is none.
    """
    variables = global_arguments(dockerfile, arguments, target)
    names: dict[str, int] = {}
    resolved: list[ResolvedStage] = []
    for stage in dockerfile.stages:
        base = expand_at(dockerfile, stage.origin, stage.base, variables)
        if not base:
            raise _error(
                dockerfile,
                stage.origin,
                f"the base {stage.base!r} is empty",
                "give the ARG a default, or pass it as build argument",
            )
        parent = names.get(base)
        triggers = _triggers(resolved[parent].stage) if parent is not None else ()
        resolved.append(
            ResolvedStage(
                stage=stage,
                base=base,
                parent=parent,
                platform=_platform(dockerfile, stage, variables),
                instructions=(*triggers, *stage.instructions),
            )
        )
        if stage.name:
            names[stage.name] = stage.index
    return tuple(resolved)


def _triggers(stage: Stage) -> tuple[Instruction, ...]:
    return tuple(i.trigger for i in stage.instructions if i.trigger is not None)


def _platform(
    dockerfile: Dockerfile, stage: Stage, variables: Mapping[str, str]
) -> Platform | None:
    if not stage.platform:
        return None
    text = expand_at(dockerfile, stage.origin, stage.platform, variables)
    try:
        return parse_platform(text)
    except UsageError as error:
        raise _error(
            dockerfile, stage.origin, f"--platform={stage.platform}: {error.message}", error.hint
        ) from error


def find_stage(dockerfile: Dockerfile, target: str) -> Stage:
    """Return the stage called `target` (or of that number); the last one for an empty target.

    Raises:
        BuildError: there is none.
    """
    if not target:
        return dockerfile.stages[-1]
    named = [stage for stage in dockerfile.stages if stage.name == target.lower()]
    if named:
        return named[-1]
    if _NUMBER.fullmatch(target) and 0 <= int(target) < len(dockerfile.stages):
        return dockerfile.stages[int(target)]
    known = ", ".join(stage.name for stage in dockerfile.stages if stage.name)
    raise BuildError(
        f"no stage is called {target!r}",
        hint=f"stages: {known}" if known else "no stage has a name: use FROM image AS name",
        file=dockerfile.file,
    )


def source_stage(
    dockerfile: Dockerfile, instruction: Instruction, name: str, *, before: int
) -> int | None:
    """Return the index of the stage that `--from=name` means; None: it is an image.

    Args:
        dockerfile: where to look.
        instruction: the COPY or RUN, for its keyword and line.
        name: the value of the flag.
        before: index of the stage that the instruction stands in.

    Raises:
        BuildError: the stage comes later, is the same one, or has a number that does not exist.
    """
    number = instruction.keyword == "COPY" and _NUMBER.fullmatch(name) is not None
    named = [s.index for s in dockerfile.stages if s.name and s.name == name.lower()]
    if not number and not named:
        return None
    index = int(name) if number else named[-1]
    if 0 <= index < before:
        return index
    why = "does not exist" if not 0 <= index < len(dockerfile.stages) else "is not built before"
    raise _error(
        dockerfile,
        instruction,
        f"stage {name!r} {why}",
        "--from names an earlier stage or an image",
    )


def sources_of(instruction: Instruction) -> tuple[tuple[Role, str], ...]:
    """Return what `--from` names in an instruction: stages and images."""
    if instruction.keyword == "COPY" and instruction.flag("from"):
        return ((Role.COPY, instruction.flag("from") or ""),)
    if instruction.keyword == "RUN":
        return tuple((Role.MOUNT, m.source_stage) for m in mounts_of(instruction) if m.source_stage)
    return ()


def _needs(
    dockerfile: Dockerfile, resolved: ResolvedStage
) -> Iterator[tuple[Instruction, Role, str, int | None]]:
    """Yield what the instructions of a stage take from: instruction, role, name, stage index."""
    for instruction in resolved.instructions:
        for role, name in sources_of(instruction):
            if role == Role.COPY and expand_at(dockerfile, instruction, name, {}) != name:
                raise _error(
                    dockerfile,
                    instruction,
                    "--from doesn't support variables",
                    "give the image a stage of its own: FROM $image AS name",
                )
            before = resolved.stage.index
            yield (
                instruction,
                role,
                name,
                source_stage(dockerfile, instruction, name, before=before),
            )


def reachable_stages(
    dockerfile: Dockerfile, target: str, arguments: BuildArguments
) -> tuple[ResolvedStage, ...]:
    """Return the stages that `target` needs, itself included, in file order.

    Raises:
        BuildError: no such target, or a stage refers to one that is not built before it.
    """
    resolved = resolve_stages(dockerfile, arguments, target)
    wanted = [find_stage(dockerfile, target).index]
    reached: set[int] = set()
    while wanted:
        index = wanted.pop()
        if index in reached:
            continue
        reached.add(index)
        parent = resolved[index].parent
        wanted += [] if parent is None else [parent]
        wanted += [i for _, _, _, i in _needs(dockerfile, resolved[index]) if i is not None]
    return tuple(resolved[index] for index in sorted(reached))


def stages_for(
    dockerfile: Dockerfile, target: str = "", arguments: BuildArguments | None = None
) -> tuple[Stage, ...]:
    """Return the stages that `target` needs, in file order; see `reachable_stages`."""
    reached = reachable_stages(dockerfile, target, arguments or BuildArguments())
    return tuple(resolved.stage for resolved in reached)


def first_run(
    dockerfile: Dockerfile, target: str = "", arguments: BuildArguments | None = None
) -> Instruction | None:
    """Return the first `RUN` that building `target` would execute; None: files and settings only.

    Triggers in the configuration of a base image are not seen here.
    """
    for resolved in reachable_stages(dockerfile, target, arguments or BuildArguments()):
        for instruction in resolved.instructions:
            if instruction.keyword == "RUN":
                return instruction
    return None


def final_base(
    dockerfile: Dockerfile, target: str = "", arguments: BuildArguments | None = None
) -> BaseImage | None:
    """Return the image that the layers of `target` lie on, stages between them passed; None: `scratch`.

    Raises:
        BuildError: see `reachable_stages`.
    """
    arguments = arguments or BuildArguments()
    resolved = resolve_stages(dockerfile, arguments, target)
    stage = resolved[find_stage(dockerfile, target).index]
    while stage.parent is not None:
        stage = resolved[stage.parent]
    if stage.base == SCRATCH:
        return None
    return BaseImage(
        reference=stage.base,
        platform=stage.platform or arguments.platform,
        role=Role.FROM,
        line=stage.stage.origin.first_line,
    )


def bases_of(
    dockerfile: Dockerfile, target: str = "", arguments: BuildArguments | None = None
) -> tuple[BaseImage, ...]:
    """Return the images from outside that `target` needs, each use once, frontend first.

    Raises:
        BuildError: see `reachable_stages`.
    """
    arguments = arguments or BuildArguments()
    own = arguments.platform
    images: list[BaseImage] = []
    if dockerfile.syntax:
        images.append(
            BaseImage(
                reference=dockerfile.syntax,
                platform=arguments.build_platform or own,
                role=Role.SYNTAX,
                line=dockerfile.syntax_line,
            )
        )
    for resolved in reachable_stages(dockerfile, target, arguments):
        line = resolved.stage.origin.first_line
        if resolved.parent is None and resolved.base != SCRATCH:
            images.append(
                BaseImage(
                    reference=resolved.base,
                    platform=resolved.platform or own,
                    role=Role.FROM,
                    line=line,
                )
            )
        for instruction, role, name, index in _needs(dockerfile, resolved):
            if index is None and name != SCRATCH:
                images.append(
                    BaseImage(reference=name, platform=own, role=role, line=instruction.first_line)
                )
    return tuple(dict.fromkeys(images))

"""Finds out what the Docker CLI, its buildx plugin and the engine behind it can do."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ci_registry.builders.failures import Failure, build_failure
from ci_registry.builders.interface import BuildRequest
from ci_registry.errors import CancelledError, CiRegistryError, SetupError, ToolError
from ci_registry.process import Command, Runner, describe_program, find_program

PROBE_TIMEOUT_S = 30.0
_PINNED = re.compile(r"\S+@sha256:[0-9a-f]{64}")


class Way(StrEnum):
    """How an OCI layout is had from this engine."""

    DIRECT = "direct"
    """The builder exports OCI layouts itself."""
    PRIVATE_BUILDER = "private-builder"
    """A BuildKit container of our own beside the engine, removed afterwards."""
    SAVE = "save"
    """The engine's image store, then `docker image save` and a conversion: one platform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What was found; `problem` is empty when buildx works here."""

    docker: Path | None = None
    sha256: str = ""
    buildx_version: str = ""
    driver: str = ""
    exports_oci: bool = False
    platforms: tuple[str, ...] = ()
    """Those that the builder says it can execute; empty when it does not say before it runs."""
    problem: str = ""

    def way(self, request: BuildRequest, buildkit_image: str) -> Way | None:
        """Choose how to build `request`; None when this engine cannot."""
        if self.exports_oci:
            return Way.DIRECT
        if buildkit_image:
            return Way.PRIVATE_BUILDER
        return Way.SAVE if len(set(request.platforms)) == 1 else None


def is_pinned(image: str) -> bool:
    """Whether an image is named by digest."""
    return _PINNED.fullmatch(image) is not None


def find_engine(run: Runner, env: Mapping[str, str]) -> Engine:
    """Ask `docker` what it can do; three short commands.

    Raises:
        CancelledError: the run was cancelled meanwhile; nothing else is raised.
    """
    docker = find_program("docker", env)
    if docker is None:
        return Engine(problem="the program docker is not on PATH")
    try:
        return _ask(run, env, docker)
    except CancelledError:
        raise
    except ToolError as error:
        return Engine(docker=docker, problem=error.message)


def _ask(run: Runner, env: Mapping[str, str], docker: Path) -> Engine:
    def call(*arguments: str) -> tuple[bool, str, str]:
        argv = (str(docker), *arguments)
        done = run(Command(argv=argv, env=env, timeout_s=PROBE_TIMEOUT_S))
        if done.timed_out:
            raise ToolError(f"docker {' '.join(arguments[:2])} did not answer in time")
        return done.exit_code == 0, done.stdout.decode(errors="replace"), done.error_tail(1)

    program = describe_program(docker)
    worked, text, error = call("buildx", "version")
    if not worked:
        return Engine(docker=docker, problem=f"docker has no buildx plugin: {error}")
    version = _version(text)
    worked, text, error = call("buildx", "inspect")
    found = _inspected(text)
    problem = found.get("Error", "") if worked else error
    if problem:
        return Engine(docker=docker, buildx_version=version, problem=problem)
    driver = found.get("Driver", "")
    exports = driver != "docker"
    if not exports:
        worked, text, error = call("info", "--format", "{{json .DriverStatus}}")
        if not worked:
            return Engine(docker=docker, buildx_version=version, problem=error)
        exports = _has_containerd_store(text)
    return Engine(
        docker=docker,
        sha256=program.sha256,
        buildx_version=version,
        driver=driver,
        exports_oci=exports,
        platforms=tuple(p.strip(" *") for p in found.get("Platforms", "").split(",") if p.strip()),
    )


def _version(text: str) -> str:
    """Return `0.29.1` from `github.com/docker/buildx 0.29.1 commit`."""
    words = text.split()
    return words[1].lstrip("v") if len(words) > 1 else text.strip()


def _inspected(text: str) -> dict[str, str]:
    """Return the fields of the builder and its first node, each as first seen."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _has_containerd_store(text: str) -> bool:
    try:
        status = json.loads(text)
    except ValueError:
        return False
    return ["driver-type", "io.containerd.snapshotter.v1"] in (status or [])


def unusable(engine: Engine) -> CiRegistryError:
    """Return the error for an engine that has a `problem`."""
    if engine.docker is None:
        return ToolError(
            "buildx cannot be used: the program docker is not on PATH",
            hint="install the Docker CLI with buildx, or choose another builder",
        )
    failure = Failure(tool="buildx", image="", dockerfile_name="", text=engine.problem)
    error = build_failure(failure)
    if isinstance(error, ToolError | SetupError) and "engine" in error.message:
        return error
    return ToolError(f"buildx cannot be used: {engine.problem}", hint="install or repair buildx")


def emulation_note(engine: Engine, request: BuildRequest) -> tuple[str, ...]:
    """Say which platforms can be built here only without RUN."""
    foreign = [
        str(p) for p in request.platforms if engine.platforms and not _native(engine, str(p))
    ]
    if not foreign:
        return ()
    return (
        f"{', '.join(foreign)} cannot be executed here: RUN needs emulation or another machine",
    )


def _native(engine: Engine, platform: str) -> bool:
    return any(known == platform or known.startswith(f"{platform}/") for known in engine.platforms)

"""Finds out what the Docker CLI, its buildx plugin and the engine behind it can do."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ci_registry.builders.buildx_shortcuts import (
    Shortcuts,
    ask_facts,
    default_engine,
    find_plugin,
    has_containerd_store,
)
from ci_registry.builders.failures import Failure, build_failure
from ci_registry.builders.interface import BuildRequest
from ci_registry.cache import remembered, remembered_sha256
from ci_registry.errors import (
    CancelledError,
    CiRegistryError,
    SetupError,
    StorageError,
    ToolError,
)
from ci_registry.oci.platform import Platform
from ci_registry.process import Command, Runner, find_program

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
    plugin: Path | None = None
    """The buildx plugin when it is started without the Docker CLI."""
    sha256: str = ""
    """Of the program that builds: the plugin, or the Docker CLI that starts it."""
    buildx_version: str = ""
    driver: str = ""
    exports_oci: bool = False
    platforms: tuple[str, ...] = ()
    """Those that the builder says it can execute; empty when it does not say before it runs."""
    native: Platform | None = None
    """Set when `platforms` was not asked for, because only this one was wanted."""
    problem: str = ""

    @property
    def program(self) -> Path | None:
        """The program that `sha256` is of."""
        return self.plugin or self.docker

    def argv(self, *arguments: str) -> tuple[str, ...]:
        """Return the command line of `docker ARGUMENTS`."""
        return _argv(self.docker, self.plugin, arguments)

    def covers(self, platforms: tuple[Platform, ...]) -> bool:
        """Whether enough was asked about these platforms."""
        return self.native is None or set(platforms) == {self.native}

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


def find_engine(
    run: Runner,
    env: Mapping[str, str],
    *,
    platforms: tuple[Platform, ...] = (),
    shortcuts: Shortcuts | None = None,
) -> Engine:
    """Find out what the engine can do: at most three short commands, none of them when shortcuts serve.

    Args:
        run: runs them.
        env: their environment, see `docker_config.prepare_docker_home`.
        platforms: those of the image to build.
        shortcuts: what may be used instead.

    Raises:
        CancelledError: the run was cancelled meanwhile; nothing else is raised.
    """
    docker = find_program("docker", env)
    if docker is None:
        return Engine(problem="the program docker is not on PATH")
    plugin = find_plugin(env, shortcuts.plugin_folders) if shortcuts is not None else None
    search = _Search(run=run, env=env, docker=docker, plugin=plugin, shortcuts=shortcuts)
    try:
        return search.ask(platforms)
    except CancelledError:
        raise
    except (ToolError, StorageError) as error:
        return Engine(docker=docker, problem=error.message)


def _argv(docker: Path | None, plugin: Path | None, arguments: tuple[str, ...]) -> tuple[str, ...]:
    if plugin is not None and arguments[:1] == ("buildx",):
        return (str(plugin), *arguments[1:])
    return (str(docker), *arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """One search for what an engine can do."""

    run: Runner
    env: Mapping[str, str]
    docker: Path
    plugin: Path | None
    shortcuts: Shortcuts | None

    def ask(self, platforms: tuple[Platform, ...]) -> Engine:
        """Ask everything."""
        cache = self.shortcuts.cache if self.shortcuts is not None else None
        program = self.plugin or self.docker
        try:
            text = remembered(cache, program, "buildx version", self._ask_version)
        except _NoPluginError as error:
            if self.plugin is not None:  # it may need the Docker CLI around it
                return replace(self, plugin=None).ask(platforms)
            return Engine(
                docker=self.docker, problem=f"docker has no buildx plugin: {error.message}"
            )
        found = Engine(docker=self.docker, plugin=self.plugin, buildx_version=_version(text))
        found = self._asked_by_socket(found, platforms) or self._asked_by_command(found)
        return found if found.problem else replace(found, sha256=remembered_sha256(cache, program))

    def _call(self, *arguments: str) -> tuple[bool, str, str]:
        argv = _argv(self.docker, self.plugin, arguments)
        done = self.run(Command(argv=argv, env=self.env, timeout_s=PROBE_TIMEOUT_S))
        if done.timed_out:
            raise ToolError(f"docker {' '.join(arguments[:2])} did not answer in time")
        return done.exit_code == 0, done.stdout.decode(errors="replace"), done.error_tail(1)

    def _ask_version(self) -> str:
        worked, text, error = self._call("buildx", "version")
        if not worked:
            raise _NoPluginError(error)
        return text

    def _asked_by_socket(self, found: Engine, platforms: tuple[Platform, ...]) -> Engine | None:
        """Take the short way: it says too little of platforms that need emulation, and of other stores."""
        socket = default_engine(self.env) if self.shortcuts is not None else None
        if self.shortcuts is None or socket is None:
            return None
        facts = ask_facts(socket, self.shortcuts.ask_engine)
        if facts is None or not facts.has_containerd_store or set(platforms) != {facts.platform}:
            return None
        return replace(found, driver="docker", exports_oci=True, native=facts.platform)

    def _asked_by_command(self, found: Engine) -> Engine:
        worked, text, error = self._call("buildx", "inspect")
        fields = _inspected(text)
        problem = fields.get("Error", "") if worked else error
        if problem:
            return replace(found, problem=problem)
        driver = fields.get("Driver", "")
        exports = driver != "docker"
        if not exports:
            worked, text, error = self._call("info", "--format", "{{json .DriverStatus}}")
            if not worked:
                return replace(found, problem=error)
            exports = _exports(text)
        listed = fields.get("Platforms", "").split(",")
        return replace(
            found,
            driver=driver,
            exports_oci=exports,
            platforms=tuple(p.strip(" *") for p in listed if p.strip()),
        )


class _NoPluginError(ToolError):
    """The plugin is missing or does not run."""


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


def _exports(text: str) -> bool:
    """Whether the engine exports OCI layouts, by its `DriverStatus`."""
    try:
        return has_containerd_store(json.loads(text))
    except ValueError:
        return False


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

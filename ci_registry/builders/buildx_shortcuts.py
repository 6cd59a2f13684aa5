"""Spares questions to slow programs: the buildx plugin without the Docker CLI, the engine by its socket.

`docker buildx` starts three programs for each command: the CLI, the plugin to hear what it is, and
the plugin. It may run by itself as well. Each shortcut is taken only where it leads to the same place,
otherwise the Docker CLI is asked.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_registry.builders.docker_config import read_config
from ci_registry.cache import DiskCache
from ci_registry.errors import StorageError
from ci_registry.oci.platform import Platform, normalise_platform

SYSTEM_PLUGIN_FOLDERS = tuple(
    Path(folder) / "docker" / "cli-plugins"
    for folder in ("/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec")
)
"""Where the Docker CLI looks for plugins after the user's folders, in its order."""
_DEFAULT_SOCKET = "/var/run/docker.sock"
_PLUGIN = "docker-buildx"

AskEngine = Callable[[Path, str], bytes | None]
"""`(socket, target)` → the body of the engine's answer; None when it gave none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcuts:
    """What may be used instead of asking the Docker CLI."""

    ask_engine: AskEngine
    cache: DiskCache | None = None
    """Remembers what was found out about programs."""
    plugin_folders: tuple[Path, ...] = SYSTEM_PLUGIN_FOLDERS


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What the engine behind the default builder says about itself."""

    has_containerd_store: bool
    platform: Platform
    """The one that it can execute in any case."""


def find_plugin(env: Mapping[str, str], folders: tuple[Path, ...]) -> Path | None:
    """Return the buildx plugin that the Docker CLI would start; None when that is not certain."""
    config = Path(env.get("DOCKER_CONFIG", ""))
    try:
        extra = read_config(config).get("cliPluginsExtraDirs") or []
    except StorageError:
        return None
    if not isinstance(extra, list) or not all(isinstance(item, str) for item in extra):
        return None
    for folder in (*map(Path, extra), config / "cli-plugins", *folders):
        plugin = folder / _PLUGIN
        if plugin.exists():
            return plugin.absolute()
    return None


def default_engine(env: Mapping[str, str]) -> Path | None:
    """Return the engine's socket when buildx can only use its default builder there, else None."""
    instances = Path(env.get("BUILDX_CONFIG", "")) / "instances"
    if env.get("BUILDX_BUILDER") or (instances.is_dir() and any(instances.iterdir())):
        return None
    host = env.get("DOCKER_HOST", "")
    if not host:
        try:
            named = read_config(Path(env.get("DOCKER_CONFIG", ""))).get("currentContext")
        except StorageError:
            return None
        if (env.get("DOCKER_CONTEXT") or named) not in (None, "", "default"):
            return None
        host = f"unix://{_DEFAULT_SOCKET}"
    return Path(host.removeprefix("unix://")) if host.startswith("unix:///") else None


def ask_facts(socket: Path, ask: AskEngine) -> EngineFacts | None:
    """Ask the engine what it is; None when its answer is not one of Docker's."""
    body = ask(socket, "/info")
    try:
        info = json.loads(body) if body is not None else None
    except ValueError:
        return None
    if not isinstance(info, dict):
        return None
    os, architecture = info.get("OSType"), info.get("Architecture")
    if not isinstance(os, str) or not isinstance(architecture, str):
        return None
    return EngineFacts(
        has_containerd_store=has_containerd_store(info.get("DriverStatus")),
        platform=normalise_platform(os, architecture),
    )


def has_containerd_store(status: object) -> bool:
    """Whether the `DriverStatus` of an engine is that of the containerd image store."""
    row = ["driver-type", "io.containerd.snapshotter.v1"]
    return isinstance(status, list) and row in status

"""Makes the private Docker configuration of one build, and the environment that its programs see.

The private folder has the credentials that the request brings and nothing else of the user's `auths`.
What is needed to reach an engine is carried over: contexts, buildx builders, proxies, the CLI plugin.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_registry.builders.interface import BuildRequest
from ci_registry.errors import IntegrityError, StorageError
from ci_registry.files import read_file, storage_error, write_atomic
from ci_registry.process import allowed_environment
from ci_registry.strict import as_object, parse_json

MAX_CONFIG_BYTES = 1024 * 1024
CONNECTION_VARIABLES = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_API_VERSION",
    "BUILDX_BUILDER",
    "KUBECONFIG",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
)
"""What a Docker client needs to find its engine; nothing here changes what is built."""
_CARRIED_KEYS = ("currentContext", "proxies", "cliPluginsExtraDirs")
_CARRIED_BUILDX = ("current", "defaults", "instances", "certs")


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerHome:
    """The private folders of one build and the environment for `docker`."""

    config: Path
    env: Mapping[str, str]


def user_config_folder(env: Mapping[str, str]) -> Path | None:
    """Return the user's own Docker configuration folder, None without one."""
    if env.get("DOCKER_CONFIG"):
        folder = Path(env["DOCKER_CONFIG"])
    elif env.get("HOME"):
        folder = Path(env["HOME"]) / ".docker"
    else:
        return None
    return folder if folder.is_dir() else None


def connection_environment(env: Mapping[str, str], *, home: Path) -> dict[str, str]:
    """Return the allow-listed environment for a program that talks to a Docker engine."""
    result = allowed_environment(env, *CONNECTION_VARIABLES, home=home, proxies=True)
    user = user_config_folder(env)
    if env.get("DOCKER_TLS_VERIFY") and not env.get("DOCKER_CERT_PATH") and user is not None:
        result["DOCKER_CERT_PATH"] = str(user)
    return result


def prepare_docker_home(request: BuildRequest, env: Mapping[str, str]) -> DockerHome:
    """Make the private configuration below `request.work`.

    Raises:
        StorageError: the work folder can't be written, or a configuration is not readable JSON.
    """
    folder = request.work / "docker"
    home = request.work / "home"
    user = user_config_folder(env)
    try:
        for path in (folder, home):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = read_config(request.docker_config)
        config |= {k: v for k, v in read_config(user).items() if k in _CARRIED_KEYS}
        write_atomic(folder / "config.json", json.dumps(config), mode=0o600, sync=False)
        if user is not None:
            _link_into(folder, user, "contexts")
            _link_into(folder, user, "cli-plugins")
        _copy_buildx(_user_buildx(env, user), folder / "buildx")
    except OSError as error:
        raise storage_error(error, folder, "prepare") from error
    private = connection_environment(env, home=home) | {
        "DOCKER_CONFIG": str(folder),
        "BUILDX_CONFIG": str(folder / "buildx"),
    }
    return DockerHome(config=folder, env=_with_kubeconfig(private, env, folder / "buildx"))


def read_config(folder: Path | None) -> dict[str, object]:
    """Return the `config.json` of a Docker configuration folder; empty without one.

    Raises:
        StorageError: it can't be read, or is no JSON object.
    """
    path = folder / "config.json" if folder is not None else None
    if path is None or not path.is_file():
        return {}
    raw = read_file(path, max_bytes=MAX_CONFIG_BYTES)
    try:
        return as_object(parse_json(raw, what=str(path), strict=False), what=str(path))
    except IntegrityError as error:
        raise StorageError(error.message, hint="mend or remove the file") from error


def _link_into(folder: Path, user: Path, name: str) -> None:
    """Let the private folder show one folder of the user's."""
    link = folder / name
    if (user / name).is_dir() and not link.is_symlink():
        link.symlink_to((user / name).absolute())


def _user_buildx(env: Mapping[str, str], user: Path | None) -> Path | None:
    if env.get("BUILDX_CONFIG"):
        return Path(env["BUILDX_CONFIG"])
    return user / "buildx" if user is not None else None


def _copy_buildx(source: Path | None, target: Path) -> None:
    """Copy the user's builders, but not the node id.

    The node id is half of the name under which an engine keeps our context (see `context_link`): a
    fresh one per build means that no earlier build on a shared engine can have prepared that copy.
    """
    target.mkdir(mode=0o700, exist_ok=True)
    for name in _CARRIED_BUILDX if source is not None else ():
        assert source is not None  # noqa: S101 - the loop is empty without it
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        elif (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _with_kubeconfig(
    private: dict[str, str], env: Mapping[str, str], buildx: Path
) -> Mapping[str, str]:
    """Name the user's kubeconfig, which a private HOME hides, when a builder runs in Kubernetes."""
    default = Path(env.get("HOME") or "/") / ".kube" / "config"
    if "KUBECONFIG" in private or not default.is_file():
        return private
    instances = (buildx / "instances").glob("*")
    if any('"kubernetes"' in path.read_text(errors="replace") for path in instances):
        return private | {"KUBECONFIG": str(default)}
    return private


def context_host(env: Mapping[str, str]) -> str:
    """Return the engine's address in the current Docker context; empty without one.

    Contexts with TLS material are left to the Docker CLI.
    """
    user = user_config_folder(env)
    if user is None:
        return ""
    name = env.get("DOCKER_CONTEXT") or read_config(user).get("currentContext")
    if not isinstance(name, str) or name in ("", "default"):
        return ""
    key = hashlib.sha256(name.encode()).hexdigest()
    path = user / "contexts" / "meta" / key / "meta.json"
    if not path.is_file():
        return ""
    raw = read_file(path, max_bytes=MAX_CONFIG_BYTES)
    data = parse_json(raw, what=str(path), strict=False)
    for part in ("Endpoints", "docker", "Host"):
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, str) and data.startswith(("unix://", "tcp://")) else ""

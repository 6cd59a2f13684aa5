"""Where user names and passwords for registries come from: settings, Docker's config files, helper programs."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ci_registry.errors import AccessError, IntegrityError, SetupError, StorageError, ToolError
from ci_registry.files import read_file, write_atomic
from ci_registry.oci.reference import DEFAULT_REGISTRY
from ci_registry.process import Command, Runner, allowed_environment, find_program
from ci_registry.secret import Secret
from ci_registry.strict import as_object, parse_json

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_TOKEN_USER = "<token>"  # noqa: S105 - what helpers answer as user name when the secret is a refresh token
_MAX_CONFIG_BYTES = 1024 * 1024
_HELPER_TIMEOUT_S = 60.0
_HELPER_PREFIXES = (
    "AWS_",
    "GOOGLE_",
    "GCLOUD_",
    "CLOUDSDK_",
    "AZURE_",
    "ACR_",
    "ARM_",
    "IDENTITY_",
    "MSI_",
    "DBUS_",
    "XDG_",
    "GNUPGHOME",
    "PASSWORD_STORE_",
)
"""Variables that the cloud vendors' and desktop credential helpers read; nothing else reaches them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """One login: user name and password, a refresh token, or a ready token."""

    username: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    identity_token: Secret = field(default_factory=lambda: Secret(""))
    """OAuth2 refresh token, exchanged at the token service."""
    registry_token: Secret = field(default_factory=lambda: Secret(""))
    """Bearer token that is sent as it is."""

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> Secret:
        """The value of a Basic `Authorization` field."""
        pair = f"{self.username}:{self.password.reveal()}".encode()
        return Secret(f"Basic {base64.b64encode(pair).decode()}")


class CredentialSource(Protocol):
    """Finds the login for a repository."""

    def find(self, host: str, repository: str) -> Credentials | None:
        """Return the login for `repository` on `host` (`docker.io` for Docker Hub); None = anonymous.

        Raises:
            AccessError: a credential helper refused.
            ToolError: a credential helper is missing or broken.
            SetupError: a config file is unreadable.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCredentials:
    """One login that the user named, for these hosts only."""

    hosts: frozenset[str]
    credentials: Credentials

    def find(self, host: str, repository: str) -> Credentials | None:
        """Return the login when `host` is one of ours."""
        del repository
        return self.credentials if self.credentials and host in self.hosts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialChain:
    """Asks sources in order; the first that knows a login wins."""

    sources: tuple[CredentialSource, ...] = ()

    def find(self, host: str, repository: str) -> Credentials | None:
        """Return the first login found."""
        for source in self.sources:
            if found := source.find(host, repository):
                return found
        return None


def credential_sources(
    env: Mapping[str, str], runner: Runner, *, given: tuple[GivenCredentials, ...] = ()
) -> CredentialChain:
    """Return the sources that `env` names, after the logins given in the settings.

    In order: `DOCKER_AUTH_CONFIG` (JSON, as GitLab passes it), `REGISTRY_AUTH_FILE` (as podman names it),
    `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, and where podman, buildah and skopeo keep
    logins: `containers/auth.json` in `$XDG_RUNTIME_DIR` and in `$XDG_CONFIG_HOME` or `~/.config`.
    Missing files are skipped.

    Raises:
        SetupError: one of them is not readable as JSON.
    """
    sources: list[CredentialSource] = list(given)
    if text := env.get("DOCKER_AUTH_CONFIG", "").strip():
        sources.append(_docker_config(text.encode(), "DOCKER_AUTH_CONFIG", env, runner))
    for path in _config_paths(env):
        if path.is_file():
            raw = _read(path)
            sources.append(_docker_config(raw, str(path), env, runner))
    return CredentialChain(sources=tuple(sources))


def _config_paths(env: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where logins may be kept, in order, each once."""
    home = env.get("HOME")
    docker = env.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else "")
    config = env.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    paths = [Path(env["REGISTRY_AUTH_FILE"])] if env.get("REGISTRY_AUTH_FILE") else []
    paths += [Path(docker) / "config.json"] if docker else []
    folders = (env.get("XDG_RUNTIME_DIR"), config)
    paths += [Path(folder) / "containers/auth.json" for folder in folders if folder]
    return tuple(dict.fromkeys(paths))


def _read(path: Path) -> bytes:
    try:
        return read_file(path, max_bytes=_MAX_CONFIG_BYTES)
    except StorageError as error:
        raise SetupError(error.message, hint="log in again to write it anew") from error


def _docker_config(
    raw: bytes, origin: str, env: Mapping[str, str], runner: Runner
) -> "DockerConfigCredentials":
    try:
        document = as_object(parse_json(raw or b"{}", what=origin), what=origin)
        auths = as_object(document.get("auths") or {}, what=f"{origin}: auths")
        helpers = as_object(document.get("credHelpers") or {}, what=f"{origin}: credHelpers")
    except IntegrityError as error:
        raise SetupError(error.message, hint="log in again to write it anew") from error
    store = document.get("credsStore")
    return DockerConfigCredentials(
        origin=origin,
        auths={_scope_of(key): value for key, value in auths.items() if isinstance(value, dict)},
        helpers={_scope_of(k): v for k, v in helpers.items() if isinstance(v, str)},
        store=store if isinstance(store, str) else "",
        env=env,
        runner=runner,
    )


def _scope_of(key: str) -> str:
    """Return the host, with path when it is scoped, that a key of `auths` stands for."""
    bare = key.partition("://")[2] or key
    host, _, path = bare.strip("/").partition("/")
    host = DEFAULT_REGISTRY if host.lower() in _HUB_NAMES else host.lower()
    return host if path in ("", "v1", "v2") else f"{host}/{path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerConfigCredentials:
    """The logins of one Docker config document; helper programs are asked before its own entries."""

    origin: str
    """Path or variable, for messages."""
    auths: Mapping[str, Mapping[str, object]] = field(repr=False)
    helpers: Mapping[str, str]
    store: str
    env: Mapping[str, str] = field(repr=False)
    runner: Runner = field(repr=False)
    helper_timeout_s: float = _HELPER_TIMEOUT_S

    def find(self, host: str, repository: str) -> Credentials | None:
        """Return the most specific login: `host/team/app`, then `host/team`, then `host`."""
        helper = self.helpers.get(
            host, self.store
        )  # an empty name of a helper switches the store off
        if helper and (found := self._ask(helper, host)):
            return found
        parts = [host, *repository.split("/")]
        for length in range(len(parts), 0, -1):
            entry = self.auths.get("/".join(parts[:length]))
            if entry and (found := self._entry(entry, host)):
                return found
        return None

    def _entry(self, entry: Mapping[str, object], host: str) -> Credentials | None:
        def text(key: str) -> str:
            value = entry.get(key)
            return value.strip() if isinstance(value, str) else ""

        username, password = text("username"), text("password")
        if encoded := text("auth"):
            try:
                pair = base64.b64decode(encoded, validate=True).decode().rstrip("\0")
            except (binascii.Error, UnicodeDecodeError):
                raise SetupError(
                    f"{self.origin}: the login for {host} is not valid base64",
                    hint=f"log in again: docker login {host}",
                ) from None
            username, _, password = pair.partition(":")
        found = Credentials(
            username=username,
            password=Secret(password.strip()),
            identity_token=Secret(text("identitytoken")),
            registry_token=Secret(text("registrytoken")),
        )
        return found or None

    def _ask(self, helper: str, host: str) -> Credentials | None:
        """Run `docker-credential-HELPER get` as Docker does: the server on stdin, JSON on stdout."""
        name = f"docker-credential-{helper}"
        program = find_program(name, self.env) if "/" not in helper else None
        if program is None:
            raise ToolError(
                f"{self.origin} names the credential helper {name}, which is not on PATH",
                hint=f"install {name}, or log in to {host} without it",
            )
        wanted = [key for key in self.env if key.startswith(_HELPER_PREFIXES)]
        home = Path(self.env.get("HOME") or "/")
        server = DOCKER_HUB_KEY if host == DEFAULT_REGISTRY else host
        done = self.runner(
            Command(
                argv=(str(program), "get"),
                env=allowed_environment(self.env, *wanted, home=home, proxies=True),
                stdin=server.encode(),
                timeout_s=self.helper_timeout_s,
            )
        )
        if done.timed_out:
            raise ToolError(
                f"{name} gave no answer for {host} within {self.helper_timeout_s:g} s",
                hint=f"see what it waits for: echo {host} | {name} get",
            )
        if done.exit_code == 0:
            return _helper_answer(name, host, done.stdout)
        _raise_unless_unknown(name, host, done.stdout + b"\n" + done.stderr)
        return None


def _raise_unless_unknown(name: str, host: str, output: bytes) -> None:
    """Take "not found" as anonymous and everything else as an error: a broken helper is not a public image."""
    text = output.decode(errors="replace").strip()
    if "credentials not found" in text.lower():
        return
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no output")
    raise AccessError(
        f"{name} has no login for {host}: {first[:200]}",
        hint=f"check that helper with: echo {host} | {name} get",
    )


def _helper_answer(name: str, host: str, output: bytes) -> Credentials | None:
    what = f"answer of {name} for {host}"
    try:
        document = as_object(parse_json(output, what=what, max_bytes=_MAX_CONFIG_BYTES), what=what)
    except IntegrityError:
        raise ToolError(f"{what} is not JSON") from None
    username, secret = document.get("Username"), document.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise ToolError(f"{what} lacks Username or Secret")
    if username == _TOKEN_USER:
        return Credentials(identity_token=Secret(secret))
    return Credentials(username=username, password=Secret(secret)) or None


def write_docker_config(folder: Path, credentials_by_host: Mapping[str, Credentials]) -> Path:
    """Write a private `DOCKER_CONFIG` folder (0700, its file 0600) with only these logins.

    Raises:
        StorageError: the folder can't be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise StorageError(f"cannot make {folder}: {error.strerror or error}") from error
    auths: dict[str, dict[str, str]] = {}
    for host, found in credentials_by_host.items():
        entry = {"auth": found.basic.reveal().removeprefix("Basic ")} if found.username else {}
        if found.identity_token:
            entry["identitytoken"] = found.identity_token.reveal()
        if found.registry_token:
            entry["registrytoken"] = found.registry_token.reveal()
        auths[DOCKER_HUB_KEY if host == DEFAULT_REGISTRY else host] = entry
    path = folder / "config.json"
    write_atomic(path, json.dumps({"auths": auths}, indent=2) + "\n", mode=0o600)
    return path

"""Opens registries: one HTTP client and one login per host for a run, and the embedded registry of a dry run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.ci.detect import is_gitlab
from ci_registry.ci.gitlab import gitlab_credentials
from ci_registry.config.destinations import destinations
from ci_registry.config.model import PushMode
from ci_registry.network.client import HttpClient
from ci_registry.network.settings import HttpSettings
from ci_registry.oci.reference import Reference
from ci_registry.registry.credentials import (
    CredentialChain,
    Credentials,
    GivenCredentials,
    credential_sources,
    write_docker_config,
)
from ci_registry.registry.mirrors import Mirrors
from ci_registry.registry.remote import RemoteRegistry
from ci_registry.wiring.basis import Basis, Caller, with_locked_programs
from ci_registry.wiring.caching import cache_root

if TYPE_CHECKING:
    from ci_registry.registry_server.store import Store

_PROXY_NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@contextlib.contextmanager
def open_store(folder: Path | None, *, durable: bool = True) -> "Iterator[Store]":
    """Open the storage of an embedded registry: a folder, or memory; closed at the end."""
    from ci_registry.registry_server.store import FolderStore, MemoryStore

    store: Store = MemoryStore() if folder is None else FolderStore(folder, durable=durable)
    try:
        yield store
    finally:
        store.close()


class Registries:
    """The registries of one run."""

    def __init__(
        self, caller: Caller, basis: Basis, client: HttpClient, hosts: tuple[str, ...] = ()
    ) -> None:
        """`hosts` may be logged in to with the given password, beside the destinations of images."""
        self.client = client
        self._caller = caller
        self.credentials = _credentials(caller, basis, hosts)
        self._remote = RemoteRegistry(
            client,
            credentials=self.credentials,
            on_event=caller.on_event,
            realms=basis.settings.auth.realms,
            lock_folder=cache_root(basis.settings, caller.env) / "locks",
        )
        self.open = self._remote.repository
        """Opens the repository of a reference with the logins of this run."""
        self.open_source = Mirrors(
            self.open, hosts=basis.settings.network.mirrors, on_event=caller.on_event
        ).repository
        """The same for reading base images and images to scan: mirrors come first."""

    def docker_config(self, hosts: tuple[str, ...], folder: Path) -> Path:
        """Write a private `DOCKER_CONFIG` with the logins for these hosts; returns the folder."""
        found = {host: self.credentials.find(host, "") for host in hosts}
        write_docker_config(folder, {host: login for host, login in found.items() if login})
        return folder


@contextlib.contextmanager
def open_registries(
    caller: Caller, basis: Basis, *, hosts: tuple[str, ...] = ()
) -> Iterator[Registries]:
    """Open the HTTP client of a run; its connections are closed at the end.

    `hosts` are those that a command names to be written to; the given password counts there too.
    """
    caller = with_locked_programs(caller, basis.settings)
    settings = basis.settings.network
    names = (*_PROXY_NAMES, *(name.lower() for name in _PROXY_NAMES))
    http = HttpSettings(
        plain_http=settings.plain_http,
        ca_file=basis.project / settings.ca_file if settings.ca_file else None,
        certs_dirs=_certs_dirs(caller),
        retries=settings.retries,
        budget_s=settings.retry_budget.total_seconds(),
        proxy_env={name: caller.env[name] for name in names if caller.env.get(name)},
    )
    with HttpClient(http, caller.cancel, on_event=caller.on_event) as client:
        yield Registries(caller, basis, client, hosts)


def _certs_dirs(caller: Caller) -> tuple[Path, ...]:
    """Return where Docker, podman and skopeo look for the CA and the client certificate of a registry."""
    home = caller.env.get("HOME")
    own = (Path(home) / ".config/containers/certs.d",) if home else ()
    return (*own, Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


def _credentials(caller: Caller, basis: Basis, hosts: tuple[str, ...]) -> CredentialChain:
    """Find the logins: given ones for the destinations, the CI's own, then Docker's configuration."""
    given = _given(caller, basis, hosts) if may_log_in(basis) else []
    for login in given:
        caller.masker.add(login.credentials.password)
    return credential_sources(caller.env, caller.runner, given=tuple(given))


def may_log_in(basis: Basis) -> bool:
    """Whether this event may use the credentials of the push: not for changes that nobody merged yet.

    `push: always` allows it, but never for a fork, and never when the change decided that itself.
    """
    if not basis.ci.is_change_request:
        return True
    is_allowed = basis.settings.publish.push is PushMode.ALWAYS and not basis.ci.is_fork
    return is_allowed and basis.trusted.label != "untrusted"


def _given(caller: Caller, basis: Basis, further_hosts: tuple[str, ...]) -> list[GivenCredentials]:
    auth, env = basis.settings.auth, caller.env
    hosts = {*further_hosts} | {
        place.registry
        for name in basis.loaded.selected
        for place in destinations(basis.settings, name)
    }
    found = []
    if auth.registry_password:
        user = auth.registry_username
        for host in hosts:
            name = user or (env.get("GITHUB_ACTOR", "") if host == "ghcr.io" else "")
            login = Credentials(username=name or "token", password=auth.registry_password)
            found.append(GivenCredentials(hosts=frozenset({host}), credentials=login))
    own = gitlab_credentials(env) if is_gitlab(env) else None
    if own is not None:
        host, user, password = own
        login = Credentials(username=user, password=password)
        found.append(GivenCredentials(hosts=frozenset({host}), credentials=login))
    return found


def dry_run_place(place: Reference, host: str) -> Reference:
    """Return where a destination is kept by the embedded registry at `host`."""
    repository = f"{place.registry.replace(':', '_').strip('[]')}/{place.repository}"
    return Reference(registry=host, repository=repository)

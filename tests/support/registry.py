"""Runs the embedded registry for tests, with any personality, and records what was asked of it."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from ci_registry.registry.quirks import RegistryKind, quirks_of
from ci_registry.registry.remote import RemoteRepository
from ci_registry.registry_server.message import Request, Response
from ci_registry.registry_server.options import FaultScript, Options
from ci_registry.registry_server.personalities import PERSONALITIES, USER, Personality
from ci_registry.registry_server.serve import EmbeddedRegistry, TlsFiles
from ci_registry.registry_server.store import MemoryStore, Store
from tests.support.remote import login, remote_repository


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that was answered."""

    method: str
    path: str
    """With `?query` when there was one."""
    status: int
    authorization: str = field(default="", repr=False)


@dataclass(slots=True)
class RunningRegistry:
    """A registry that runs, and what it has seen."""

    server: EmbeddedRegistry
    store: Store
    faults: FaultScript
    seen: list[Seen] = field(default_factory=list)

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return self.server.host

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{self.server.host}"

    def count(self, method: str, part: str = "") -> int:
        """How many requests of a method had `part` in their path."""
        return sum(1 for s in tuple(self.seen) if s.method == method and part in s.path)


@dataclass(frozen=True, slots=True)
class Personified:
    """A registry with a personality."""

    registry: RunningRegistry
    name: str
    personality: Personality
    password: str = field(repr=False)

    @contextlib.contextmanager
    def client(self, repository: str, **settings: Any) -> Iterator[RemoteRepository]:
        """Give a client that is logged in; every fault and limit of the personality starts anew.

        Names of hosts tell clients whose registry it is; here the client is told.
        """
        self.registry.faults.clear()
        self.registry.faults.add(*self.personality.faults())
        limit = self.registry.server.options.rate_limit
        if limit is not None:
            limit.reset()
        host = self.registry.host
        known = login(host, USER, self.password) if self.personality.gives_tokens else None
        with remote_repository(host, repository, credentials=known, **settings) as client:
            kind = _KINDS.get(self.name)
            if kind is not None:
                client._session.quirks = quirks_of(kind)
            yield client


_KINDS = {
    "docker-hub": RegistryKind.DOCKER_HUB,
    "ghcr": RegistryKind.GHCR,
    "ecr": RegistryKind.ECR,
    "ecr-refuses-referrers": RegistryKind.ECR,
    "acr": RegistryKind.ACR,
    "acr-own-keys": RegistryKind.ACR,
    "gar": RegistryKind.GAR,
}
"""Whose registry a client finds out by the name of the host alone."""


@contextlib.contextmanager
def running_personality(name: str) -> Iterator[Personified]:
    """Run a registry that behaves like another one."""
    personality = PERSONALITIES[name]
    password = secrets.token_hex(8)
    options = personality.options_with(password)
    with running_registry(**{f.name: getattr(options, f.name) for f in fields(options)}) as running:
        yield Personified(running, name, personality, password)


@contextlib.contextmanager
def running_registry(
    *, store: Store | None = None, tls: TlsFiles | None = None, **options: Any
) -> Iterator[RunningRegistry]:
    """Run a registry with these `Options`; `faults` may be an iterable of `Fault`.

    With `tls` it speaks https. A given store stays open and belongs to the caller; without one it is in memory.
    """
    faults = options.pop("faults", ())
    script = faults if isinstance(faults, FaultScript) else FaultScript(faults)
    used = store or MemoryStore()
    seen: list[Seen] = []

    def observe(request: Request, response: Response) -> None:
        target = request.path + (f"?{request.query}" if request.query else "")
        authorization = request.header("authorization")
        seen.append(Seen(request.method, target, response.status, authorization))

    server = EmbeddedRegistry(
        used, options=Options(faults=script, **options), observer=observe, tls=tls
    )
    try:
        with server:
            yield RunningRegistry(server=server, store=used, faults=script, seen=seen)
    finally:
        if store is None:
            used.close()

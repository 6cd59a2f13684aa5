"""Runs the embedded registry for tests, with any personality, and records what was asked of it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ci_registry.registry_server.message import Request, Response
from ci_registry.registry_server.options import FaultScript, Options
from ci_registry.registry_server.serve import EmbeddedRegistry, TlsFiles
from ci_registry.registry_server.store import MemoryStore, Store


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

"""The registry of a dry run: inside the process, reads through to the real destination, keeps every write."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ci_registry.errors import AccessError, CancelledError, CiRegistryError, RegistryError
from ci_registry.network.client import HttpClient
from ci_registry.network.settings import HttpSettings
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.reference import Reference
from ci_registry.registry.credentials import CredentialChain, Credentials, GivenCredentials
from ci_registry.registry.interface import (
    BlobSource,
    PushedBlob,
    PushedManifest,
    Repository,
)
from ci_registry.registry.remote import RemoteRegistry
from ci_registry.secret import Secret
from ci_registry.wiring.basis import Caller
from ci_registry.wiring.registries import dry_run_place, open_store

_USER = "dry-run"
_BAD_GATEWAY = 502


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """The stand-ins of the destinations."""

    target: Callable[[Reference], Repository]
    check: Callable[[Reference], None]
    """Asks the real destination once, so that what can't be read fails before the build."""


@contextlib.contextmanager
def open_dry_run(
    caller: Caller, open_real: Callable[[Reference], Repository] | None, work: Path
) -> Iterator[DryRun]:
    """Run the embedded registry on loopback, in the work folder, with a random password.

    Args:
        caller: clock, randomness, cancellation.
        open_real: opens a real destination, which is only ever read; None = ask nobody.
        work: where the registry's folder is made.
    """
    from ci_registry.registry_server.options import Options
    from ci_registry.registry_server.serve import EmbeddedRegistry

    password = Secret(caller.random(24).hex())
    caller.masker.add(password)
    behind = _Behind(open_real)
    options = Options(
        users={_USER: password.reveal()},
        upstream=behind.open if open_real is not None else None,
        upstream_failed=behind.failed,
    )
    with (
        open_store(work / "registry", durable=False) as store,
        EmbeddedRegistry(store, options=options, events=caller.on_event) as server,
        # the real registry has had its retries; the one in this process needs none
        HttpClient(HttpSettings(retries=0), caller.cancel, on_event=caller.on_event) as client,
    ):
        login = Credentials(username=_USER, password=password)
        given = GivenCredentials(hosts=frozenset({server.host}), credentials=login)
        embedded = RemoteRegistry(
            client, credentials=CredentialChain(sources=(given,)), on_event=caller.on_event
        )

        def target(place: Reference) -> Repository:
            stand_in = dry_run_place(place, server.host)
            behind.places[stand_in.repository] = place
            return _StandIn(embedded.repository(stand_in), stand_in.repository, behind)

        def check(place: Reference) -> None:
            if open_real is not None:
                target(place).resolve("latest")

        yield DryRun(target=target, check=check)


class _Behind:
    """The real destinations behind the stand-ins, and what went wrong there last."""

    def __init__(self, open_real: Callable[[Reference], Repository] | None) -> None:
        self._open_real = open_real
        self.places: dict[str, Reference] = {}
        self.failures: dict[str, CiRegistryError] = {}

    def open(self, name: str) -> Repository | None:
        """Open the destination that is kept under a name; None for a name that stands for none."""
        place = self.places.get(name)
        return self._open_real(place) if place is not None and self._open_real else None

    def failed(self, name: str, error: CiRegistryError) -> None:
        """Keep a failure for the one who waits for the answer."""
        self.failures[name] = error


class _StandIn:
    """One repository of the embedded registry; a failure of the real one is raised as that, not as 502."""

    def __init__(self, inner: Repository, repository: str, behind: _Behind) -> None:
        self._inner = inner
        self._repository = repository
        self._behind = behind

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except RegistryError as error:
            real = self._behind.failures.get(self._repository)
            if error.status != _BAD_GATEWAY or real is None:
                raise
            raise _failure(real) from real

    @property
    def name(self) -> str:
        return self._inner.name

    def resolve(self, reference: str) -> Descriptor | None:
        with self._explained():
            return self._inner.resolve(reference)

    def fetch(self, reference: str) -> Manifest | Index:
        with self._explained():
            return self._inner.fetch(reference)

    def push(self, reference: str, body: bytes, media_type: str) -> PushedManifest:
        with self._explained():
            return self._inner.push(reference, body, media_type)

    def delete(self, digest: Digest) -> None:
        with self._explained():
            self._inner.delete(digest)

    def size_of(self, digest: Digest) -> int | None:
        with self._explained():
            return self._inner.size_of(digest)

    def open(self, digest: Digest) -> Iterator[bytes]:
        with self._explained():
            yield from self._inner.open(digest)

    def push_blob(
        self, descriptor: Descriptor, source: BlobSource, *, mount_from: tuple[str, ...] = ()
    ) -> PushedBlob:
        with self._explained():
            return self._inner.push_blob(descriptor, source, mount_from=mount_from)

    def referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        with self._explained():
            return self._inner.referrers(subject)

    def attach(self, subject: Descriptor, body: bytes, media_type: str) -> Digest:
        with self._explained():
            return self._inner.attach(subject, body, media_type)

    def tags(self) -> tuple[str, ...]:
        with self._explained():
            return self._inner.tags()


def _failure(real: CiRegistryError) -> CiRegistryError:
    """Return the failure of a real destination with the way to do without it."""
    if isinstance(real, CancelledError):
        return real
    hint = "or run with --offline: then nothing at the real destination is asked or checked"
    kind = AccessError if isinstance(real, AccessError) else RegistryError
    return kind(
        f"the dry run cannot read the real destination: {real.message}",
        hint=f"{real.hint}; {hint}" if real.hint else hint.removeprefix("or "),
    )

"""Reads a repository from mirrors first and from its own registry at last; writes go to the latter only."""

import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

from ci_registry.errors import (
    AccessError,
    CiRegistryError,
    NetworkError,
    NotFoundError,
    RegistryError,
)
from ci_registry.events import EventSink, Level, Log
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.reference import Reference
from ci_registry.registry.content import verified
from ci_registry.registry.interface import BlobSource, PushedBlob, PushedManifest, Repository

_T = TypeVar("_T")
_FALLS_THROUGH = (NotFoundError, RegistryError, NetworkError, AccessError)
"""Whatever a mirror refuses may be had elsewhere. Wrong bytes are not among them: they are an error."""


class Mirrors:
    """Knows the mirrors of each registry, and which of them failed in this run."""

    def __init__(
        self,
        open_repository: Callable[[Reference], Repository],
        *,
        hosts: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
        on_event: EventSink,
    ) -> None:
        """`hosts`: registry → mirrors, each `HOST[:PORT][/PATH]`; a mirror gets only logins of its own host."""
        self._open = open_repository
        self._hosts = {host.lower(): mirrors for host, mirrors in hosts.items()}
        self._on_event = on_event
        self._lock = threading.Lock()
        self._failed: set[str] = set()

    def repository(self, reference: Reference) -> Repository:
        """Return the repository of a reference for reading; where it has no mirror, just that."""
        upstream = self._open(reference)
        mirrors = self._hosts.get(reference.registry.lower(), ())
        if not mirrors:
            return upstream
        found = {mirror: self._open(_in_mirror(mirror, reference)) for mirror in mirrors}
        return MirroredRepository(upstream, found, self)

    def works(self, mirror: str) -> bool:
        """Whether a mirror is still to be asked."""
        with self._lock:
            return mirror not in self._failed

    def note(self, mirror: str, error: CiRegistryError) -> None:
        """Say that a mirror failed; one that can't be reached or refuses us is not asked again in this run."""
        if isinstance(error, NotFoundError):
            self._on_event(Log(message=f"mirror {mirror}: {error.headline}", level=Level.DEBUG))
            return
        with self._lock:
            is_new = mirror not in self._failed
            self._failed.add(mirror)
        if is_new:
            message = f"mirror {mirror} is not asked again in this run: {error.headline}"
            self._on_event(Log(message=message, level=Level.WARNING))


def _in_mirror(mirror: str, reference: Reference) -> Reference:
    host, _, path = mirror.partition("/")
    return Reference(
        registry=host, repository=f"{path}/{reference.repository}" if path else reference.repository
    )


class MirroredRepository:
    """One repository with its mirrors; implements `interface.Repository`.

    Manifests and blobs by digest are verified, whoever sends them. A tag means what the first mirror
    that has it says. Lists of tags and referrers come from the registry itself: a mirror that lacks
    some of them would pass for "there are no more".
    """

    def __init__(
        self, upstream: Repository, mirrors: Mapping[str, Repository], state: Mirrors
    ) -> None:
        self._upstream = upstream
        self._mirrors = mirrors
        self._state = state

    @property
    def name(self) -> str:
        """The name of the repository itself, not of a mirror."""
        return self._upstream.name

    def _first(self, ask: Callable[[Repository], _T]) -> _T:
        """Return the first answer that is not None."""
        for mirror, repository in self._mirrors.items():
            if not self._state.works(mirror):
                continue
            try:
                answer = ask(repository)
            except _FALLS_THROUGH as error:
                self._state.note(mirror, error)
                continue
            if answer is not None:
                return answer
        return ask(self._upstream)

    def resolve(self, reference: str) -> Descriptor | None:
        """Return what a tag or digest points at, None when nobody has it."""
        return self._first(lambda repository: repository.resolve(reference))

    def fetch(self, reference: str) -> Manifest | Index:
        """Return the manifest at a tag or digest.

        Raises:
            NotFoundError: neither a mirror nor the registry has it.
            IntegrityError: a mirror sent something else than was asked for.
        """
        return self._first(lambda repository: repository.fetch(reference))

    def size_of(self, digest: Digest) -> int | None:
        """Return the size of a blob, None when nobody has it."""
        return self._first(lambda repository: repository.size_of(digest))

    def open(self, digest: Digest) -> Iterator[bytes]:
        """Yield the raw bytes; when a mirror fails midway the next one goes on.

        Raises:
            IntegrityError: at the end, when they have another digest.
        """
        return verified(self._pieces(digest), digest, what=f"blob {digest} of {self.name}")

    def _pieces(self, digest: Digest) -> Iterator[bytes]:
        done = 0
        for mirror, repository in self._mirrors.items():
            if not self._state.works(mirror):
                continue
            try:
                for piece in _after(repository.open(digest), done):
                    done += len(piece)
                    yield piece
            except _FALLS_THROUGH as error:
                self._state.note(mirror, error)
            else:
                return
        yield from _after(self._upstream.open(digest), done)

    # --- not from mirrors

    def referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Return every referrer that the registry itself lists."""
        return self._upstream.referrers(subject)

    def tags(self) -> tuple[str, ...]:
        """Return all tags of the registry itself."""
        return self._upstream.tags()

    def push(self, reference: str, body: bytes, media_type: str) -> PushedManifest:
        """Put a manifest into the registry itself."""
        return self._upstream.push(reference, body, media_type)

    def delete(self, digest: Digest) -> None:
        """Delete a manifest from the registry itself."""
        self._upstream.delete(digest)

    def push_blob(
        self, descriptor: Descriptor, source: BlobSource, *, mount_from: tuple[str, ...] = ()
    ) -> PushedBlob:
        """Push a blob to the registry itself."""
        return self._upstream.push_blob(descriptor, source, mount_from=mount_from)

    def attach(self, subject: Descriptor, body: bytes, media_type: str) -> Digest:
        """Put a referrer into the registry itself."""
        return self._upstream.attach(subject, body, media_type)


def _after(pieces: Iterator[bytes], done: int) -> Iterator[bytes]:
    """Yield what comes after the first `done` bytes, and free the connection however far it was read."""
    try:
        skip = done
        for piece in pieces:
            if skip < len(piece):
                yield piece[skip:]
            skip = max(0, skip - len(piece))
    finally:
        close = getattr(pieces, "close", None)
        if callable(close):
            close()

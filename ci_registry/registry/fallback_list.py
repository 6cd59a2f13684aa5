"""Keeps the list of referrers at the fallback tag of a remote repository: one writer at a time, read back."""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from typing import Protocol

from ci_registry.errors import RegistryError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index
from ci_registry.registry.fallback_writers import FallbackWriters
from ci_registry.registry.interface import Manifests, PushedManifest
from ci_registry.registry.referrers import (
    LONGEST_SETTLING_S,
    add_to_fallback,
    fallback_tag,
    remove_from_fallback,
)
from ci_registry.registry.session import Session

_PRECONDITION_FAILED = 412
_MOST_REFUSALS = 100
"""Each refusal means that somebody else got an entry in: with many writers there may be many."""
_LONGEST_PAUSE_S = 0.2


class ConditionalManifests(Manifests, Protocol):
    """Manifests of a repository that can be put on a condition."""

    @property
    def name(self) -> str:
        """`registry/repository`."""

    def push(
        self, reference: str, body: bytes, media_type: str, *, condition: Mapping[str, str] = ...
    ) -> PushedManifest:
        """Put manifest bytes under a tag or digest, with these further header fields."""


class FallbackList:
    """The lists of one repository.

    Where the registry is known to honour `If-Match`, no entry of anybody who sends it too is ever
    lost. Elsewhere other runs of this machine are kept out, and those of other machines are found by
    reading back.
    """

    def __init__(
        self, repository: ConditionalManifests, session: Session, writers: FallbackWriters
    ) -> None:
        self._repository = repository
        self._session = session
        self._writers = writers

    def add(self, subject: Digest, referrer: Descriptor) -> None:
        """Add a referrer; as `referrers.add_to_fallback`."""
        client = self._session.client
        with self._alone(subject):
            add_to_fallback(
                self._repository,
                subject,
                referrer,
                client.retrier(f"list of referrers of {subject}").wait,
                settle=partial(client.settle, client.monotonic(), LONGEST_SETTLING_S),
                put=partial(self._put, fallback_tag(subject), count(1)),
            )

    def remove(self, subject: Digest, referrer: Digest) -> None:
        """Take a deleted referrer out; as `referrers.remove_from_fallback`."""
        with self._alone(subject):
            remove_from_fallback(
                self._repository,
                subject,
                referrer,
                self._session.client.retrier(f"list of referrers of {subject}").wait,
                put=partial(self._put, fallback_tag(subject), count(1)),
            )

    @contextlib.contextmanager
    def _alone(self, subject: Digest) -> Iterator[None]:
        name = f"{self._repository.name}@{subject}"
        pause = partial(self._session.client.pause, 1.0)
        with self._writers.alone(name, pause=pause) as is_alone:
            if not is_alone:
                self._session.warn(f"the list of referrers of {name} is written without a lock")
            yield

    def _put(self, tag: str, refusals: Iterator[int], before: Index | None, body: bytes) -> bool:
        """Put the list; false when the registry says that it is not `before` any more."""
        condition: Mapping[str, str] = {}
        if self._session.quirks.honours_if_match:
            condition = {"If-Match": f'"{before.digest}"'} if before else {"If-None-Match": "*"}
        try:
            self._repository.push(tag, body, media_types.OCI_INDEX, condition=condition)
        except RegistryError as error:
            if not condition or error.status != _PRECONDITION_FAILED:
                raise
            if next(refusals) > _MOST_REFUSALS:
                raise
            self._session.client.pause(_LONGEST_PAUSE_S)
            return False
        return True

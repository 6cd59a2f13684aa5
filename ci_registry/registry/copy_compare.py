"""Looks at both sides of what is to be copied, with as few questions as possible."""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from ci_registry.cancel import Cancel
from ci_registry.errors import AccessError, CancelledError, CiRegistryError, NotFoundError
from ci_registry.oci.digest import Digest, is_digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.interface import Repository
from ci_registry.registry.parallel import in_parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyItem:
    """One thing to copy."""

    source: str
    """Tag or digest in the source."""
    tag: str = ""
    """In the target; empty: by digest only."""
    found: Descriptor | None = field(default=None, compare=False)
    """What it is in the source, when somebody has looked already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The tags of both sides, where they were listed anyway."""

    source: frozenset[str]
    target: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What one item is on both sides."""

    item: CopyItem
    found: Descriptor | None = None
    there: Digest | None = None
    """Where the tag is in the target; for an item without one, the image itself."""
    is_there: bool | None = None
    """Whether the target has the image, under whatever tag; None: not looked for."""
    error: CiRegistryError | None = None


_Answer = Descriptor | CiRegistryError | None


def _paired(item: CopyItem, found: _Answer, there: _Answer) -> Compared:
    for answer in (found, there):
        if isinstance(answer, CiRegistryError):
            return Compared(item=item, error=answer)
    assert isinstance(found, Descriptor)  # noqa: S101 - a source says what it has, or why not
    return _compared(item, found, there, is_there=None)


def _compared(
    item: CopyItem, found: Descriptor, there: _Answer, *, is_there: bool | None
) -> Compared:
    at = there.digest if isinstance(there, Descriptor) else None
    return Compared(
        item=item, found=found, there=at, is_there=True if at == found.digest else is_there
    )


class Comparer:
    """Compares the items of one copy."""

    def __init__(
        self,
        source: Repository,
        target: Repository,
        *,
        listing: Listing | None,
        rewrite_index: bool,
        pool: ThreadPoolExecutor,
        cancel: Cancel,
    ) -> None:
        self._source = source
        self._target = target
        self._listing = listing
        self._rewrite_index = rewrite_index
        self._pool = pool
        self._cancel = cancel

    def compare(self, items: Iterable[CopyItem]) -> Iterator[Compared]:
        """Look at both sides of each item, with a HEAD request each.

        Where both sides were listed the two questions do not wait for each other.
        """
        if self._listing is None:
            yield from in_parallel(self._compare_unlisted, items, pool=self._pool)
            return
        first, second = itertools.tee(items)
        asks = (
            partial(look, item) for item in first for look in (self._at_source, self._at_target)
        )
        answers = in_parallel(lambda ask: ask(), asks, pool=self._pool)
        for item in second:
            found, there = next(answers), next(answers)
            yield _paired(item, found, there)

    def _at_source(self, item: CopyItem) -> _Answer:
        """Return what an item is, or why nobody knows."""
        self._cancel.check()
        try:
            return self._found(item)
        except (AccessError, CancelledError):
            raise
        except CiRegistryError as error:
            return error

    def _at_target(self, item: CopyItem) -> _Answer:
        """Return where the tag of an item is, None when it was not listed, or why nobody knows."""
        self._cancel.check()
        try:
            if not item.tag:
                return self._target.resolve(item.source) if is_digest(item.source) else None
            listed = self._listing is None or item.tag in self._listing.target
            return self._target.resolve(item.tag) if listed else None
        except (AccessError, CancelledError):
            raise
        except CiRegistryError as error:
            return error

    def _found(self, item: CopyItem) -> Descriptor:
        found = item.found or self._source.resolve(item.source)
        if found is None:
            raise NotFoundError(
                f"{self._source.name} has no {item.source}", hint="check the name and the tag"
            )
        return found

    def _compare_unlisted(self, item: CopyItem) -> Compared:
        """Ask the target for the image before its tag: without that no tag is on it.

        Unless the tag is on a rewritten index.
        """
        self._cancel.check()
        is_there = None
        try:
            found = self._found(item)
            there = None
            if not (item.tag and self._rewrite_index):
                there = self._target.resolve(found.digest)
                is_there = there is not None
            if item.tag and is_there is not False:
                there = self._target.resolve(item.tag)
        except (AccessError, CancelledError):
            raise
        except CiRegistryError as error:
            return Compared(item=item, error=error)
        return _compared(item, found, there, is_there=is_there)

"""Copies tags from one place to another: compares first, copies what differs, tells about each tag."""

import contextlib
import fnmatch
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from ci_registry.cancel import Cancel
from ci_registry.errors import (
    AccessError,
    CancelledError,
    CiRegistryError,
    NotFoundError,
    UsageError,
)
from ci_registry.events import EventSink, Level, Log, StepEnded, StepStarted
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.companions import is_companion, subject_of
from ci_registry.registry.copy_attached import AttachedCopier, find_attached
from ci_registry.registry.copy_compare import Compared, Comparer, CopyItem, Listing
from ci_registry.registry.copy_image import CopiedImage, CopyOptions, ImageCopier
from ci_registry.registry.interface import Repository
from ci_registry.registry.parallel import in_parallel, lookup_pool
from ci_registry.registry.rehearsal import Rehearsal
from ci_registry.registry.shared_uploads import BLOBS_AT_ONCE, SharedUploads

__all__ = [
    "IMAGES_AT_ONCE",
    "STEP",
    "CopyItem",
    "CopyOutcome",
    "CopyStatus",
    "Copying",
    "Listing",
    "choose_tags",
    "copy_items",
    "expect_digest",
]

IMAGES_AT_ONCE = 16
STEP = "copy"


class CopyStatus(StrEnum):
    """How copying one tag ended."""

    COPIED = "copied"
    PRESENT = "up-to-date"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOutcome:
    """How one item went."""

    item: CopyItem
    status: CopyStatus
    digest: Digest | None = None
    image: CopiedImage | None = None
    """Only where something was looked into; the first tag of several on one image has it."""
    error: CiRegistryError | None = None


def choose_tags(tags: Iterable[str], patterns: tuple[str, ...]) -> tuple[CopyItem, ...]:
    """Return an item for each tag that names an image and matches a glob pattern; all without patterns.

    Raises:
        NotFoundError: none.
    """
    images = [tag for tag in tags if not is_companion(tag)]
    chosen = [
        tag
        for tag in images
        if not patterns or any(fnmatch.fnmatchcase(tag, pattern) for pattern in patterns)
    ]
    if not chosen:
        what = f"no tag matches {' or '.join(patterns)}" if images else "there are no tags"
        hint = f"it has {', '.join(images[-3:])}" if images else "check the name and the login"
        raise NotFoundError(f"{what}: nothing to copy", hint=hint)
    return tuple(CopyItem(source=tag, tag=tag) for tag in chosen)


@dataclass(slots=True, kw_only=True)
class _Group:
    """One image, and all items that are it."""

    root: Descriptor
    compared: list[Compared]


class Copying:
    """One copy between two repositories: its threads, and what it knows of both sides."""

    def __init__(
        self,
        source: Repository,
        target: Repository,
        options: CopyOptions,
        *,
        listing: Listing | None,
        dry_run: bool,
        cancel: Cancel,
        on_event: EventSink,
        stack: contextlib.ExitStack,
    ) -> None:
        """`stack` ends the threads; use `copy_items`."""
        self.source = source
        self.real_target = target
        self.target = Rehearsal(target) if dry_run else target
        self.options = options
        self.listing = listing
        self.is_dry = dry_run
        self.cancel = cancel
        self.on_event = on_event
        self.lookups = stack.enter_context(lookup_pool())
        self.workers = stack.enter_context(ThreadPoolExecutor(IMAGES_AT_ONCE, "image"))
        blobs = stack.enter_context(ThreadPoolExecutor(BLOBS_AT_ONCE, "blob"))
        is_new = listing is not None and not listing.target
        self.uploads = uploads = SharedUploads(
            source,
            self.target,
            pool=blobs,
            cancel=cancel,
            on_event=on_event,
            step=STEP,
            is_new=is_new,
        )
        self.comparer = Comparer(
            source,
            self.target,
            listing=listing,
            rewrite_index=options.rewrite_index,
            pool=self.lookups,
            cancel=cancel,
        )
        self.attached = AttachedCopier(
            source,
            self.target,
            uploads=uploads,
            lookups=self.lookups,
            known_tags=listing.source if listing is not None else None,
        )
        self.images = ImageCopier(
            source,
            self.target,
            options,
            attached=self.attached,
            uploads=uploads,
            lookups=self.lookups,
            cancel=cancel,
            is_new=is_new,
        )

    def copy_group(self, group: _Group) -> tuple[CopyOutcome, ...]:
        """Copy one image with all of its tags."""
        self.cancel.check()
        items = [one.item for one in group.compared]
        tags = {one.item.tag: one.there for one in group.compared if one.item.tag}
        first = next(iter(tags), "")
        name = f"{self.target.name}:{first}" if first else f"{self.target.name}@{group.root.digest}"
        started = time.monotonic()
        self.on_event(StepStarted(image=name, step=STEP))
        try:
            known = {one.is_there for one in group.compared} - {None}
            is_there = known.pop() if len(known) == 1 else None
            image = self.images.copy(group.root, tags, is_there=is_there, image=name)
        except CancelledError:
            raise
        except CiRegistryError as error:
            if self.uploads.refusal is not None:
                raise self.uploads.refusal from error
            self._end(name, started, "error", error.headline)
            return tuple(_failed(item, error) for item in items)
        self.warn(name, image.notes)
        self._end(name, started, "passed", "" if image.changed else "up to date")
        status = CopyStatus.COPIED if image.changed else CopyStatus.PRESENT
        return tuple(
            CopyOutcome(
                item=item, status=status, digest=image.digest, image=image if not count else None
            )
            for count, item in enumerate(items)
        )

    def _end(self, name: str, started: float, status: str, reason: str) -> None:
        took_s = time.monotonic() - started
        event = StepEnded(image=name, step=STEP, status=status, duration_s=took_s, reason=reason)
        self.on_event(event)

    def warn(self, name: str, notes: Iterable[str]) -> None:
        """Tell what was left out."""
        for note in notes:
            self.on_event(Log(message=f"{name}: {note}", level=Level.WARNING, image="", step=STEP))


def copy_items(
    source: Repository,
    target: Repository,
    items: tuple[CopyItem, ...],
    options: CopyOptions,
    *,
    deep: bool,
    dry_run: bool = False,
    listing: Listing | None = None,
    cancel: Cancel,
    on_event: EventSink,
) -> tuple[CopyOutcome, ...]:
    """Copy every item; one that fails does not stop the others.

    Without `deep`, an item that is the same digest on both sides costs two HEAD requests and is
    done; with it, its platforms and referrers are compared too.

    Args:
        source: where from.
        target: where to; nothing is written there with `dry_run`.
        items: what.
        options: what of each image.
        deep: look into images that are equal already.
        dry_run: find out and tell, write nothing.
        listing: the tags of both sides when they are known; then cosign's and fallback tags of the
            source are compared too, and tags that the target lacks are not asked for.
        cancel: ends the copy at the next piece; no tag moves afterwards.
        on_event: gets a line per tag and the progress of each blob.

    Raises:
        AccessError: we may not read the source or write to the target at all; that shows with the
            first blob, and nothing was written then.
        NotFoundError: the target's repository must be created first.
        CancelledError: interrupted.
    """
    with contextlib.ExitStack() as stack:
        copying = Copying(
            source,
            target,
            options,
            listing=listing,
            dry_run=dry_run,
            cancel=cancel,
            on_event=on_event,
            stack=stack,
        )
        compared = copying.comparer.compare(items)
        done, groups = _sort_out(compared, look_inside=deep or bool(options.platforms))
        for outcomes in in_parallel(copying.copy_group, groups, pool=copying.workers):
            done.update((outcome.item, outcome) for outcome in outcomes)
        further = tuple(_companions(copying, done)) if options.with_referrers else ()
        return (*(done[item] for item in items), *further)


def _sort_out(
    compared: Iterable[Compared], *, look_inside: bool
) -> tuple[dict[CopyItem, CopyOutcome], tuple[_Group, ...]]:
    """Return what is settled already, and the images that have to be looked into."""
    done: dict[CopyItem, CopyOutcome] = {}
    groups: dict[Digest, _Group] = {}
    for one in compared:
        if one.error is not None or one.found is None:
            done[one.item] = CopyOutcome(item=one.item, status=CopyStatus.FAILED, error=one.error)
        elif one.there == one.found.digest and not look_inside:
            done[one.item] = CopyOutcome(item=one.item, status=CopyStatus.PRESENT, digest=one.there)
        else:
            group = groups.setdefault(one.found.digest, _Group(root=one.found, compared=[]))
            group.compared.append(one)
    return done, tuple(groups.values())


def _failed(item: CopyItem, error: CiRegistryError) -> CopyOutcome:
    return CopyOutcome(item=item, status=CopyStatus.FAILED, error=error)


def _companions(copying: Copying, done: dict[CopyItem, CopyOutcome]) -> Iterator[CopyOutcome]:
    """Compare the signature tags of images that were equal already, and copy what is new."""
    if copying.listing is None:
        return
    handled = {
        outcome.digest
        for outcome in done.values()
        if outcome.status is CopyStatus.COPIED or outcome.image is not None
    }
    tags = sorted(
        tag
        for tag in copying.listing.source
        if is_companion(tag) and subject_of(tag) not in handled
    )
    items = (CopyItem(source=tag, tag=tag) for tag in tags)
    for one in copying.comparer.compare(items):
        if one.error is not None:
            yield _failed(one.item, one.error)
        elif one.found is not None and one.found.digest != one.there:
            outcome = _copy_companion(copying, one.item, copying.listing.source)
            if outcome is not None:
                yield outcome


def _copy_companion(
    copying: Copying, item: CopyItem, known_tags: frozenset[str]
) -> CopyOutcome | None:
    """Copy what belongs to the subject of a companion tag, when the target has that subject."""
    subject = subject_of(item.source)
    name = f"{copying.target.name}:{item.tag}"
    try:
        if subject is None or copying.target.resolve(subject) is None:
            return None
        found = find_attached(copying.source, subject, known_tags)
        outcome = copying.attached.copy((found,), image=name)
    except (CancelledError, AccessError):
        raise
    except CiRegistryError as error:
        return _failed(item, error)
    copying.warn(name, outcome.notes)
    if not outcome.copied:
        return None
    return CopyOutcome(item=item, status=CopyStatus.COPIED, digest=subject)


def expect_digest(digest: Digest | None, found: Digest) -> None:
    """Refuse a target that names another digest than the source has.

    Raises:
        UsageError: they differ.
    """
    if digest is not None and digest != found:
        raise UsageError(
            f"the target names {digest}, the source is {found}",
            hint="a copy never changes a digest: leave the target's out",
        )

"""Deletes an image with what only it holds: plans first, so that a person sees what goes.

The order is tags, the image, its platforms, what refers to them: registries refuse to delete a
child that is still referenced, and a run that is interrupted never leaves an image unsigned.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from ci_registry.errors import (
    AccessError,
    CancelledError,
    CiRegistryError,
    IntegrityError,
    RegistryError,
    UsageError,
)
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.registry.companions import is_companion
from ci_registry.registry.copy_attached import MAX_LEVELS, find_attached
from ci_registry.registry.interface import EditableRepository, Repository
from ci_registry.registry.parallel import in_parallel
from ci_registry.registry.referrers import fallback_tag, remove_from_fallback
from ci_registry.registry.remote import RemoteRepository
from ci_registry.registry.tagging import UNSUPPORTED
from ci_registry.registry.transfer import MAX_DEPTH, MAX_MANIFESTS


class RemovalKind(StrEnum):
    """What is removed, in the order in which it is."""

    TAG = "tag"
    IMAGE = "image"
    CHILD = "platform"
    REFERRER = "referrer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One thing that goes."""

    kind: RemovalKind
    digest: Digest
    tag: str = ""
    """The tag itself for `TAG`; for a referrer the companion tag that it is under."""
    owner: Digest | None = None
    """What must be gone before; when that could not be deleted, this stays too."""
    detail: str = ""

    def __str__(self) -> str:
        what = f"{self.tag} ({self.digest})" if self.tag else str(self.digest)
        return f"{what}{f', {self.detail}' if self.detail else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionPlan:
    """Everything that goes, in order, and what stays although it belongs to the image."""

    root: Digest
    removals: tuple[Removal, ...]
    kept: tuple[str, ...]
    """One line each, with the reason."""
    known_tags: frozenset[str]
    subject: Digest | None = None
    """What the deleted manifest itself refers to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalOutcome:
    """How one removal went."""

    removal: Removal
    done: bool
    detail: str = ""
    error: CiRegistryError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holders:
    """Who else in the repository needs a manifest."""

    tags: dict[str, Descriptor]
    """Every tag that names an image."""
    parents: dict[Digest, str]
    """Manifest → the tagged index that lists it."""

    def why_kept(self, digest: Digest) -> str:
        """Say why a manifest must stay; empty when nothing else needs it."""
        tag = next((t for t, there in self.tags.items() if there.digest == digest), "")
        if tag:
            return f"it has the tag {tag}"
        parent = self.parents.get(digest, "")
        return f"index {parent} lists it" if parent else ""


def plan_deletion(
    repository: Repository, root: Descriptor, *, pool: ThreadPoolExecutor
) -> DeletionPlan:
    """Find out what goes with a manifest: every tag on it, children and referrers that nothing else holds.

    An index that has no tag can't be found by any client, so what only such an index lists counts
    as not held.

    Args:
        repository: where it is.
        root: the manifest.
        pool: for the many small requests.

    Raises:
        UsageError: another index lists the manifest: deleting it would break that one.
        CiRegistryError: something that could hold it could not be read; nothing is guessed.
    """
    tags = repository.tags()
    holders = _holders(repository, tags, root.digest, pool)
    parent = holders.parents.get(root.digest)
    if parent is not None:
        raise UsageError(
            f"{root.digest} is a part of index {parent}: deleting it would break that image",
            hint="delete the index first",
        )
    image = repository.fetch(root.digest)
    on_it = [tag for tag, there in holders.tags.items() if there.digest == root.digest]
    removals = [Removal(kind=RemovalKind.TAG, digest=root.digest, tag=tag) for tag in on_it]
    removals.append(Removal(kind=RemovalKind.IMAGE, digest=root.digest, detail=image.media_type))
    children, kept = _children(repository, image, holders)
    removals += children
    gone = [root.digest, *(child.digest for child in children)]
    referrers, kept_referrers = _referrers(repository, gone, holders, frozenset(tags))
    return DeletionPlan(
        root=root.digest,
        removals=(*removals, *referrers),
        kept=(*kept, *kept_referrers),
        known_tags=frozenset(tags),
        subject=image.subject.digest if image.subject is not None else None,
    )


def _holders(
    repository: Repository, tags: Iterable[str], root: Digest, pool: ThreadPoolExecutor
) -> _Holders:
    """Look where every tag points, and into every index but the one that goes."""
    images = [tag for tag in tags if not is_companion(tag)]
    there = in_parallel(repository.resolve, images, pool=pool)
    by_tag = {tag: found for tag, found in zip(images, there, strict=True) if found is not None}
    indexes = {
        found.digest: tag
        for tag, found in by_tag.items()
        if found.media_type in media_types.INDEXES and found.digest != root
    }
    parents: dict[Digest, str] = {}
    listed = in_parallel(lambda digest: _descendants(repository, digest), indexes, pool=pool)
    for (digest, tag), found in zip(indexes.items(), listed, strict=True):
        for child in found:
            parents.setdefault(child, f"{digest} (tag {tag})")
    return _Holders(tags=by_tag, parents=parents)


def _descendants(repository: Repository, index: Digest) -> tuple[Digest, ...]:
    """Return everything that an index lists, nested indexes included, nearest first."""
    found: dict[Digest, None] = {}
    level = [index]
    for _ in range(MAX_DEPTH + 1):
        deeper: list[Digest] = []
        for digest in level:
            manifest = repository.fetch(digest)
            if not isinstance(manifest, Index):
                continue
            new = [child for child in manifest.manifests if child.digest not in found]
            found.update(dict.fromkeys(child.digest for child in new))
            if len(found) > MAX_MANIFESTS:
                raise IntegrityError(f"index {index} lists more than {MAX_MANIFESTS} manifests")
            deeper += [
                child.digest
                for child in new
                if child.media_type in media_types.INDEXES
                and repository.resolve(child.digest) is not None
            ]
        if not deeper:
            return tuple(found)
        level = deeper
    raise UsageError(f"index {index} is nested too deep to be deleted")


def _children(
    repository: Repository, image: Manifest | Index, holders: _Holders
) -> tuple[list[Removal], list[str]]:
    """Return what the image lists and nothing else holds, and what stays."""
    if not isinstance(image, Index):
        return [], []
    platforms = {child.digest: child.platform for child in image.manifests}
    removals, kept = [], []
    for digest in _descendants(repository, image.digest):
        reason = holders.why_kept(digest)
        if reason:
            kept.append(f"{digest}: {reason}")
            continue
        removals.append(
            Removal(
                kind=RemovalKind.CHILD,
                digest=digest,
                owner=image.digest,
                detail=str(platforms.get(digest) or ""),
            )
        )
    return removals, kept


def _referrers(
    repository: Repository, subjects: list[Digest], holders: _Holders, tags: frozenset[str]
) -> tuple[list[Removal], list[str]]:
    """Return what refers to anything that goes, level by level, with cosign's and fallback tags."""
    removals: list[Removal] = []
    kept: list[str] = []
    seen = set(subjects)
    level = subjects
    for _ in range(MAX_LEVELS):
        deeper: list[Digest] = []
        for subject in level:
            found = find_attached(repository, subject, tags)
            named = [("", d) for d in found.referrers] + list(found.cosign)
            for tag, descriptor in named:
                if descriptor.digest in seen:
                    continue
                seen.add(descriptor.digest)
                reason = holders.why_kept(descriptor.digest)
                if reason:
                    kept.append(f"{descriptor.digest}, a referrer of {subject.short}: {reason}")
                    continue
                removals.append(_referrer(subject, descriptor, tag))
                deeper.append(descriptor.digest)
            removals += _fallback(repository, subject, tags)
        if not deeper:
            return removals, kept
        level = deeper
    raise UsageError(f"what refers to {subjects[0]} is nested deeper than {MAX_LEVELS} levels")


def _referrer(subject: Digest, descriptor: Descriptor, tag: str) -> Removal:
    return Removal(
        kind=RemovalKind.REFERRER,
        digest=descriptor.digest,
        tag=tag,
        owner=subject,
        detail=f"{descriptor.artifact_type or descriptor.media_type} of {subject.short}",
    )


def _fallback(repository: Repository, subject: Digest, tags: frozenset[str]) -> list[Removal]:
    """Return the list of referrers itself, where the registry keeps it under a tag."""
    tag = fallback_tag(subject)
    there = repository.resolve(tag) if tag in tags else None
    if there is None:
        return []
    detail = f"the list of referrers of {subject.short}"
    return [
        Removal(
            kind=RemovalKind.REFERRER, digest=there.digest, tag=tag, owner=subject, detail=detail
        )
    ]


def apply_deletion(
    repository: EditableRepository,
    plan: DeletionPlan,
    *,
    check: Callable[[], None],
    wait: Callable[[str], bool],
) -> tuple[RemovalOutcome, ...]:
    """Delete what the plan says; what is gone already counts as done, so it can be run again.

    Args:
        repository: where.
        plan: what.
        check: raises when the run is cancelled; called before each removal.
        wait: as of `referrers.add_to_fallback`.

    Raises:
        UsageError: a tag was put on one of the manifests since the plan was made.
        AccessError: no right to delete; nothing was deleted.
        CancelledError: interrupted.
    """
    outcomes: list[RemovalOutcome] = []
    stays: set[Digest] = set()
    checked = False
    for removal in plan.removals:
        check()
        if removal.kind is not RemovalKind.TAG and not checked:
            _check_drift(repository, plan)
            checked = True
        if removal.owner in stays:
            outcome = RemovalOutcome(removal=removal, done=False, detail="its owner stays")
        else:
            outcome = _remove(repository, removal, is_first=not outcomes)
        if not outcome.done:
            stays.add(removal.digest)
        outcomes.append(outcome)
        if outcome.error is not None and removal.kind in (RemovalKind.TAG, RemovalKind.IMAGE):
            return tuple(outcomes)
    if plan.subject is not None:
        if isinstance(repository, RemoteRepository):
            repository.unlist(plan.subject, plan.root)  # one writer at a time
        else:
            remove_from_fallback(repository, plan.subject, plan.root, wait)
    return tuple(outcomes)


def _check_drift(repository: Repository, plan: DeletionPlan) -> None:
    """List the tags again: somebody may have tagged what is about to go."""
    going = {removal.digest for removal in plan.removals}
    for tag in set(repository.tags()) - plan.known_tags:
        there = repository.resolve(tag)
        if there is not None and there.digest in going:
            raise UsageError(
                f"tag {tag} was put on {there.digest} in the meantime: no manifest was deleted",
                hint="run again to see what would go now",
            )


def _remove(repository: EditableRepository, removal: Removal, *, is_first: bool) -> RemovalOutcome:
    try:
        if removal.tag:
            detail = _untag(repository, removal.tag)
            if removal.kind is RemovalKind.TAG:
                return RemovalOutcome(removal=removal, done=True, detail=detail)
        repository.delete(removal.digest)
    except CancelledError:
        raise
    except AccessError as error:
        if is_first:
            raise
        return RemovalOutcome(removal=removal, done=False, error=error)
    except CiRegistryError as error:
        return RemovalOutcome(removal=removal, done=False, error=error)
    return RemovalOutcome(removal=removal, done=True)


def _untag(repository: EditableRepository, tag: str) -> str:
    """Remove a tag; where that is impossible, deleting its manifest does it: every tag on it is planned."""
    try:
        repository.untag(tag)
    except RegistryError as error:
        if error.code != UNSUPPORTED:
            raise
        return "goes with its manifest: this registry can't delete a tag alone"
    return ""

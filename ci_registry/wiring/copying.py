"""`copy`: opens both sides, chooses what is copied, and tells how it went."""

import threading
from dataclasses import dataclass

from ci_registry.errors import ExitCode, UsageError, worst_exit_code
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.platform import Platform
from ci_registry.oci.reference import is_tag
from ci_registry.registry.companions import is_companion
from ci_registry.registry.copy import (
    CopyItem,
    CopyOutcome,
    CopyStatus,
    Listing,
    choose_tags,
    copy_items,
    expect_digest,
)
from ci_registry.registry.copy_image import CopyOptions
from ci_registry.registry.interface import Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.layout_entries import tag_of
from ci_registry.registry.place import Place, PlaceKind, parse_place
from ci_registry.wiring.basis import Caller
from ci_registry.wiring.places import open_places, resolve_place

_NOT_DEEP = (
    "of tags that were equal already, signature tags were compared; referrers that only the API"
    " lists and platforms were not looked for again (--deep does)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """What `copy` was asked for."""

    source: str
    target: str
    all_tags: bool = False
    tags: tuple[str, ...] = ()
    """Glob patterns; several tags like `all_tags`."""
    platforms: tuple[Platform, ...] = ()
    rewrite_index: bool = False
    with_referrers: bool = True
    deep: bool = False
    dry_run: bool = False

    @property
    def is_many(self) -> bool:
        """Whether tags are chosen from a list."""
        return self.all_tags or bool(self.tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """How a copy went."""

    source: str
    target: str
    dry_run: bool
    outcomes: tuple[CopyOutcome, ...]
    notes: tuple[str, ...] = ()

    def count(self, status: CopyStatus) -> int:
        """Return how many items ended so."""
        return sum(1 for outcome in self.outcomes if outcome.status is status)

    @property
    def bytes_sent(self) -> int:
        """Return how many bytes of blobs travelled."""
        return sum(o.image.bytes_sent for o in self.outcomes if o.image is not None)

    @property
    def exit_code(self) -> ExitCode:
        """4 when some items failed; when all did, what their errors say."""
        codes = tuple(o.error.exit_code for o in self.outcomes if o.error is not None)
        if not codes:
            return ExitCode.OK
        if len(codes) < len(self.outcomes):
            return ExitCode.INFRASTRUCTURE
        return worst_exit_code(codes)


def run_copy(caller: Caller, request: CopyRequest) -> CopyReport:
    """Copy images from one place to another.

    Raises:
        UsageError: the options contradict each other or the places.
        CiRegistryError: nothing could be copied at all.
    """
    source = parse_place(request.source, folder=caller.folder)
    target = parse_place(request.target, folder=caller.folder)
    _check(request, source, target)
    with open_places(caller, target) as places:
        reading = places.readable(source, every_image=request.is_many)
        single = None if request.is_many else _single_item(source, target, reading)
        copying = _Job(caller=caller, request=request, source=source, target=target, single=single)
        if target.kind is PlaceKind.OCI_ARCHIVE and target.path is not None:
            archive = places.archive(target.path)
            report = copying.run(reading, archive)
            if report.exit_code is ExitCode.OK and not request.dry_run:
                archive.finish()
            return report
        return copying.run(reading, places.writable(target, dry_run=request.dry_run))


def _check(request: CopyRequest, source: Place, target: Place) -> None:
    if request.is_many and (source.target or target.target):
        named = source if source.target else target
        raise UsageError(
            f"{named} names one image, but several tags are to be copied",
            hint="leave the tag out, or copy that one image without --all-tags and --tags",
        )
    same = source.name == target.name and target.target in ("", source.target)
    if same and not request.rewrite_index:
        raise UsageError(
            f"source and target are the same: {source}",
            hint=f"further tags are put by: ci-registry tag {source} NEWTAG",
        )
    if request.rewrite_index and not request.platforms:
        raise UsageError("--rewrite-index needs --platform: with all platforms the index stays")
    if target.kind is PlaceKind.DOCKER_ARCHIVE:
        raise UsageError(
            f"{target.name} can only be read", hint="write oci-archive:FILE, which Docker loads too"
        )
    if target.digest is not None and request.rewrite_index:
        raise UsageError("a rewritten index has a new digest: leave the target's out")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One copy whose places are known."""

    caller: Caller
    request: CopyRequest
    source: Place
    target: Place
    single: CopyItem | None
    """None: tags are chosen from a list."""

    def run(self, reading: Repository, writing: Repository) -> CopyReport:
        """Copy what was asked for."""
        request = self.request
        listing = _list_both(reading, writing) if self.single is None else None
        if self.single is not None:
            items: tuple[CopyItem, ...] = (self.single,)
        else:
            items = choose_tags(sorted(listing.source if listing else ()), request.tags)
        outcomes = copy_items(
            reading,
            writing,
            items,
            CopyOptions(
                platforms=request.platforms,
                rewrite_index=request.rewrite_index,
                with_referrers=request.with_referrers,
            ),
            deep=request.deep or self.single is not None,
            dry_run=request.dry_run,
            listing=listing,
            cancel=self.caller.cancel,
            on_event=self.caller.on_event,
        )
        if self.single is not None and outcomes[0].error is not None:
            raise outcomes[0].error
        return CopyReport(
            source=self.source.name,
            target=self.target.name,
            dry_run=request.dry_run,
            outcomes=outcomes,
            notes=self._notes(outcomes),
        )

    def _notes(self, outcomes: tuple[CopyOutcome, ...]) -> tuple[str, ...]:
        if self.single is not None:
            named = self.single.tag
            return () if named else ("it has no tag there: its digest alone names it",)
        equal = any(o.status is CopyStatus.PRESENT and o.image is None for o in outcomes)
        request = self.request
        return (_NOT_DEEP,) if equal and request.with_referrers and not request.deep else ()


def _list_both(source: Repository, target: Repository) -> Listing:
    """List the tags of both sides at the same time."""
    found: list[tuple[str, ...]] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(target.tags())
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="list target")
    thread.start()
    try:
        source_tags = source.tags()
    finally:
        thread.join()
    if errors:
        raise errors[0]
    return Listing(source=frozenset(source_tags), target=frozenset(found[0]))


def _single_item(source: Place, target: Place, reading: Repository) -> CopyItem:
    """Return what is copied under which tag: the target's, else the one that the source was named by."""
    root = resolve_place(reading, source)
    expect_digest(target.digest, root.digest)
    tag = target.tag
    if not tag and target.digest is None:
        tag = _plain_tag(source.tag) or _tag_of_root(source, reading, root)
    return CopyItem(source=source.digest or source.tag or root.digest, tag=tag, found=root)


def _tag_of_root(source: Place, reading: Repository, root: Descriptor) -> str:
    if source.digest is not None:
        return ""
    if not isinstance(reading, Layout):
        return "latest"
    names = (tag_of(entry) for entry in reading.entries() if entry.digest == root.digest)
    tags = {_plain_tag(name) for name in names if not is_companion(name)} - {""}
    return tags.pop() if len(tags) == 1 else ""


def _plain_tag(name: str) -> str:
    """Return the tag of a layout's entry; some tools write whole references, `team/app:v1`, there."""
    tag = name.rpartition(":")[2]
    return tag if is_tag(tag) else ""

"""The registry commands that only read: `ls`, `inspect`, `referrers`, `du`."""

from collections.abc import Iterator
from dataclasses import dataclass

from ci_registry.errors import NotFoundError, UsageError
from ci_registry.events import Level, Log
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.companions import is_companion
from ci_registry.registry.image_tree import NamedReferrer, Node, list_referrers, read_tree
from ci_registry.registry.interface import Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.listing import ListedTag, tags_as_listed, tags_with_content
from ci_registry.registry.parallel import lookup_pool
from ci_registry.registry.place import Place, parse_place
from ci_registry.registry.usage import Usage, compare_usage, read_contents
from ci_registry.wiring.basis import Caller
from ci_registry.wiring.places import open_places, resolve_place


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """An image as it is stored."""

    place: Place
    tree: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferrerList:
    """What belongs to an image."""

    place: Place
    subject: Descriptor
    referrers: tuple[NamedReferrer, ...]


def list_tags(
    caller: Caller, text: str, *, is_long: bool, with_companions: bool
) -> Iterator[ListedTag]:
    """Yield the tags of a repository as they come; how many signature tags are left out is logged.

    Raises:
        NotFoundError: there is no such repository, or it has no tag.
    """
    place = parse_place(text, folder=caller.folder)
    if place.target:
        raise UsageError(f"{place} names one image", hint=f"list {place.name}")
    with open_places(caller, place) as places:
        repository = places.readable(place, every_image=True)
        hidden = shown = 0

        def chosen() -> Iterator[str]:
            nonlocal hidden, shown
            for tag in tags_as_listed(repository):
                if is_companion(tag) and not with_companions:
                    hidden += 1
                else:
                    shown += 1
                    yield tag

        if is_long:
            yield from tags_with_content(repository, chosen())
        else:
            yield from (ListedTag(tag=tag) for tag in chosen())
        if not shown and not hidden:
            raise _no_tags(place, repository)
        if hidden:
            message = f"{hidden} signature tags are not shown (--all shows them)"
            caller.on_event(Log(message=message, level=Level.INFO))


def inspect_image(caller: Caller, text: str, *, with_referrers: bool) -> Inspection:
    """Read an image, all of its platforms and what refers to them.

    Raises:
        NotFoundError: there is none.
    """
    place = parse_place(text, folder=caller.folder)
    with open_places(caller, place) as places, lookup_pool() as pool:
        repository = places.readable(place)
        root = resolve_place(repository, place)
        tree = read_tree(repository, root, with_referrers=with_referrers, pool=pool)
    return Inspection(place=place, tree=tree)


def raw_manifest(caller: Caller, text: str) -> bytes:
    """Return the bytes of a manifest exactly as they are stored.

    Raises:
        NotFoundError: there is none.
    """
    place = parse_place(text, folder=caller.folder)
    with open_places(caller, place) as places:
        repository = places.readable(place)
        return repository.fetch(resolve_place(repository, place).digest).body


def referrers_of(caller: Caller, text: str) -> ReferrerList:
    """Return what belongs to one manifest: API and fallback tag merged, and cosign's tags.

    Raises:
        NotFoundError: there is no such manifest.
        IntegrityError: there are more than can be told apart from an attack.
    """
    place = parse_place(text, folder=caller.folder)
    with open_places(caller, place) as places:
        repository = places.readable(place)
        subject = resolve_place(repository, place)
        found = list_referrers(repository, subject)
    return ReferrerList(place=place, subject=subject, referrers=found)


def count_usage(
    caller: Caller, texts: tuple[str, ...], *, with_referrers: bool
) -> tuple[Usage, ...]:
    """Count the bytes of repositories; each is counted once however often it is named.

    Raises:
        UsageError: one names an image instead of a repository.
    """
    parsed = [parse_place(text, folder=caller.folder) for text in texts]
    named = {place.name: place for place in parsed}
    wrong = next((place for place in parsed if place.target), None)
    if wrong is not None:
        raise UsageError(f"{wrong} names one image", hint=f"count {wrong.name}")
    with open_places(caller, *named.values()) as places, lookup_pool() as pool:
        contents = tuple(
            read_contents(
                places.readable(place, every_image=True),
                place=place.reference.registry if place.reference is not None else place.name,
                with_referrers=with_referrers,
                pool=pool,
            )
            for place in named.values()
        )
        for place, found in zip(named.values(), contents, strict=True):
            if not found.manifests:  # a sum that lacks a mistyped repository would mislead
                raise _no_tags(place, places.readable(place))
    return compare_usage(contents)


def _no_tags(place: Place, repository: Repository) -> NotFoundError:
    """Return the error for a place without tags: mistyped, empty, or a layout whose images have none."""
    untagged = len(repository.entries()) if isinstance(repository, Layout) else 0
    hint = "check the name and the login" if place.reference is not None else "check the path"
    if untagged:
        hint = f"it has {untagged} images without a tag: ci-registry inspect {place.name}"
    return NotFoundError(f"{place.name} has no tags", hint=hint)

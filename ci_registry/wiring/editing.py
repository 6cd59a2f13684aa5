"""The registry commands that change tags or delete: `tag`, `untag`, `rm`."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ci_registry.errors import ExitCode, NotFoundError, UsageError, worst_exit_code
from ci_registry.oci.digest import Digest
from ci_registry.oci.reference import is_tag
from ci_registry.registry.deletion import (
    DeletionPlan,
    RemovalOutcome,
    apply_deletion,
    plan_deletion,
)
from ci_registry.registry.parallel import lookup_pool
from ci_registry.registry.place import Place, parse_place
from ci_registry.registry.tagging import MovedTag, put_tags, remove_tag
from ci_registry.wiring.basis import Caller
from ci_registry.wiring.places import missing_image, open_places, resolve_place


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What was planned, and how it went; no outcomes: nothing was done."""

    place: Place
    plan: DeletionPlan
    outcomes: tuple[RemovalOutcome, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """The worst of what failed."""
        codes = tuple(o.error.exit_code for o in self.outcomes if o.error is not None)
        return worst_exit_code(codes)


def tag_image(caller: Caller, text: str, tags: tuple[str, ...]) -> tuple[MovedTag, ...]:
    """Put further tags on an image of the same repository.

    Raises:
        UsageError: one of them is no tag.
        AccessError: one may not be moved; those before it have been.
    """
    wrong = next((tag for tag in tags if not is_tag(tag)), None)
    if wrong is not None:
        raise UsageError(
            f"not a tag: {wrong[:140]!r}",
            hint="letters, digits, '_', '.' and '-', at most 128; the repository stays the same"
            " (`ci-registry copy` goes elsewhere)",
        )
    place = parse_place(text, folder=caller.folder)
    with open_places(caller, place) as places:
        repository = places.writable(place)
        source = resolve_place(repository, place)
        return tuple(put_tags(repository, source, tuple(dict.fromkeys(tags))))


def untag_image(caller: Caller, text: str) -> tuple[Place, Digest]:
    """Remove one tag and nothing else; returns what it was on.

    Raises:
        UsageError: no tag is named, it is elsewhere, or the registry can't delete a tag alone.
        NotFoundError: there is no such tag.
    """
    place = parse_place(text, folder=caller.folder)
    if not place.tag:
        raise UsageError(
            f"{place} names no tag", hint="name one: REPOSITORY:TAG; manifests are deleted by rm"
        )
    with open_places(caller, place) as places:
        repository = places.writable(place)
        try:
            return place, remove_tag(repository, place.tag, place.digest)
        except NotFoundError as error:
            raise missing_image(repository, replace(place, digest=None)) from error


def delete_image(
    caller: Caller, text: str, *, may_delete: Callable[[Place, DeletionPlan], bool]
) -> Deletion:
    """Delete an image with everything that it alone holds, after `may_delete` has seen the plan.

    Raises:
        UsageError: neither tag nor digest is named, or another index needs the image.
        NotFoundError: there is none.
    """
    place = parse_place(text, folder=caller.folder)
    if not place.target:
        raise UsageError(
            f"{place} names no image", hint="name one: REPOSITORY:TAG or REPOSITORY@DIGEST"
        )
    with open_places(caller, place) as places, lookup_pool() as pool:
        repository = places.writable(place)
        root = resolve_place(repository, place)
        plan = plan_deletion(repository, root, pool=pool)
        if not may_delete(place, plan):
            return Deletion(place=place, plan=plan)
        outcomes = apply_deletion(
            repository,
            plan,
            check=caller.cancel.check,
            wait=places.registries.client.retrier(f"deletion in {place.name}").wait,
        )
    return Deletion(place=place, plan=plan, outcomes=outcomes)

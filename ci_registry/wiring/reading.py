"""The registry commands that only read: `ls`, `inspect`, `referrers`, `du`."""

from collections.abc import Iterator

from ci_registry.errors import NotFoundError, UsageError
from ci_registry.events import Level, Log
from ci_registry.registry.companions import is_companion
from ci_registry.registry.listing import ListedTag, tags_as_listed, tags_with_content
from ci_registry.registry.place import parse_place
from ci_registry.wiring.basis import Caller
from ci_registry.wiring.places import open_places


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
            raise NotFoundError(f"{place.name} has no tags", hint="check the name and the login")
        if hidden:
            message = f"{hidden} signature tags are not shown (--all shows them)"
            caller.on_event(Log(message=message, level=Level.INFO))

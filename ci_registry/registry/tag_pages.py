"""Lists the tags of a remote repository page by page, however the registry pages."""

import urllib.parse
from collections.abc import Iterator

from ci_registry.errors import IntegrityError, RegistryError
from ci_registry.network.message import Response
from ci_registry.oci.reference import is_tag
from ci_registry.registry.auth import Access
from ci_registry.registry.session import Session
from ci_registry.strict import as_list, as_object, as_text, parse_json

MAX_PAGES = 20_000
"""Some registries give no more than 50 tags at a time."""
MAX_TAGS = 1_000_000
_SMALLEST_PAGE = 50
"""A list without `Link` that is shorter than any registry's page is complete."""


def tag_pages(session: Session, repository: str, access: Access) -> Iterator[tuple[str, ...]]:
    """Yield the tags as the registry lists them, each tag once; nothing when there is no such repository.

    Raises:
        RegistryError: the listing failed, or has no end.
        IntegrityError: it holds what is no tag.
    """
    name = f"{session.host}/{repository}"
    first = session.url(f"{repository}/tags/list?n={session.quirks.tags_per_page}")
    url, linked = first, False
    tags: set[str] = set()
    for _ in range(MAX_PAGES):
        response = session.send("GET", url, access)
        if response.status == 404:
            return
        if not response.ok:
            raise session.failure(response, f"list the tags of {name}")
        page = _parsed(response, name)
        new = tuple(tag for tag in dict.fromkeys(page) if tag not in tags)
        tags.update(new)
        if len(tags) > MAX_TAGS:
            raise RegistryError(f"{name} has more than {MAX_TAGS} tags")
        yield new
        url = session.page_after(response)
        if url and page and not new:
            break  # it leads in a circle
        linked = linked or bool(url)
        if not url and not linked and new and len(page) >= _SMALLEST_PAGE:
            url = (
                f"{first}&last={urllib.parse.quote(page[-1])}"  # a registry that pages without Link
            )
        if not url:
            return
    raise RegistryError(f"{name} lists tags without an end")


def _parsed(response: Response, name: str) -> list[str]:
    what = f"tag list of {name}"
    document = as_object(
        parse_json(response.body, what=what, max_bytes=len(response.body)), what=what
    )
    tags = [as_text(tag, what=what) for tag in as_list(document.get("tags") or [], what=what)]
    wrong = next((tag for tag in tags if not is_tag(tag)), None)
    if wrong is not None:
        raise IntegrityError(f"{what} holds what is no tag: {wrong[:140]!r}")
    return tags

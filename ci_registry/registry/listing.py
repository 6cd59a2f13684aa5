"""Lists the tags of a repository: as they come, and with what each points at."""

from collections.abc import Iterator
from dataclasses import dataclass

from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.interface import Repository
from ci_registry.registry.parallel import in_parallel, lookup_pool
from ci_registry.registry.remote import RemoteRepository


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTag:
    """One tag, and what it points at when that was asked for."""

    tag: str
    descriptor: Descriptor | None = None
    """None also when the tag went away between listing and looking."""


def tags_as_listed(repository: Repository) -> Iterator[str]:
    """Yield every tag once; of a remote repository page by page, so that the first come at once."""
    if isinstance(repository, RemoteRepository):
        for page in repository.tag_pages():
            yield from page
    else:
        yield from repository.tags()


def tags_with_content(repository: Repository, tags: Iterator[str]) -> Iterator[ListedTag]:
    """Yield what each tag points at, in order; one HEAD request each, many at once."""
    with lookup_pool() as pool:
        yield from in_parallel(
            lambda tag: ListedTag(tag=tag, descriptor=repository.resolve(tag)), tags, pool=pool
        )

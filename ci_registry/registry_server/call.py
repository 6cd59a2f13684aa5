"""What every part of the handler gets: the store, the request, and the checked parts of its path."""

import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import Digest
from ci_registry.registry_server.message import Headers, RefusalError, Request
from ci_registry.registry_server.options import Options
from ci_registry.registry_server.store import Store

_NAME = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request on its way through the handler."""

    store: Store
    request: Request
    options: Options
    name: str = ""
    """The repository; empty where the path has none."""
    item: str = ""
    """What stands behind it: a digest, a tag, an upload id; not yet checked."""
    may_pull: Callable[[str], bool] = lambda _name: True
    """Whether the caller may also read another repository (for a mount)."""

    @property
    def digest(self) -> Digest:
        """The item as a digest."""
        return parse_digest(self.item)

    def page(self, most: int | None = None) -> tuple[str, int]:
        """Return (`last`, `n`) of a listing, `n` within the limit of this registry.

        `most`: more is refused, not cut down.
        """
        text = self.request.parameter("n")
        limit = self.options.page_limit
        if text is None and self.options.page_default is not None:
            limit = min(self.options.page_default, limit)
        if text is not None:
            if not re.fullmatch(r"[0-9]{1,9}", text):
                raise RefusalError(
                    400, "PAGINATION_NUMBER_INVALID", f"not a page size: {text[:40]}"
                )
            if most is not None and int(text) > most:
                raise RefusalError(400, "PAGINATION_NUMBER_INVALID", f"n is more than {most}")
            limit = min(int(text), limit)
        return self.request.parameter("last") or "", limit

    def etag(self, digest: Digest) -> Headers:
        """Return the `ETag` of content; none when this registry has no such header."""
        return (("ETag", f'"{digest}"'),) if self.options.etag else ()

    def next_link(self, **parameters: str | int) -> Headers:
        """Return the `Link` header of the next page; none when this registry has no such header."""
        if not self.options.paging_link:
            return ()
        query = urllib.parse.urlencode(parameters)
        return (("Link", f'<{self.request.path}?{query}>; rel="next"'),)

    def check_space(self, size_bytes: int) -> None:
        """Refuse what would go over the storage limit."""
        limit = self.options.storage_limit_bytes
        if limit is None:
            return
        used = self.store.catalog.used_bytes + self.store.pending_bytes()
        if used + size_bytes > limit:
            raise RefusalError(
                507, "INSUFFICIENT_STORAGE", f"the limit of {limit} bytes is reached"
            )


def check_name(name: str) -> str:
    """Return a repository name, or refuse it."""
    if len(name) > 255 or not _NAME.fullmatch(name):
        raise RefusalError(400, "NAME_INVALID", f"not a repository name: {name[:100]!r}")
    return name


def parse_digest(text: str) -> Digest:
    """Return a digest, or refuse it."""
    try:
        return Digest(text)
    except IntegrityError as error:
        raise RefusalError(400, "DIGEST_INVALID", str(error)) from error

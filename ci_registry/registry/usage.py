"""Counts the bytes of repositories from their manifests alone: logical, stored, unique, shared."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ci_registry.errors import IntegrityError, NotFoundError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Index, Manifest
from ci_registry.registry.companions import is_companion
from ci_registry.registry.interface import Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.parallel import in_parallel

MAX_MANIFESTS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Everything that the tags of one repository reach."""

    name: str
    place: str
    """What shares bytes: the registry's host, or a layout's own path."""
    tags: int
    """Those that name images."""
    manifests: int
    logical_bytes: int
    """Each manifest with all of its blobs, whoever else has them."""
    sizes: dict[Digest, int] = field(repr=False)
    """Manifests, configs and layers, each once."""
    missing: int = 0
    """Children of indexes that are not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The bytes of one repository beside the others that were counted with it."""

    contents: Contents
    unique_bytes: int
    """In this repository alone."""
    shared_bytes: int
    """Also in another one on the same registry."""
    charged_bytes: int
    """Unique bytes and an even share of the shared ones: over all repositories, what is stored."""

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of this repository, each blob once."""
        return self.unique_bytes + self.shared_bytes


def read_contents(
    repository: Repository, *, place: str, with_referrers: bool, pool: ThreadPoolExecutor
) -> Contents:
    """Read every manifest that a tag reaches; configs and layers are counted by their descriptors.

    Foreign layers are left out: the registry does not have them. So are manifests of a registry
    without a tag that nothing refers to: no client can find them.

    Raises:
        CiRegistryError: a listing or a manifest failed; a sum that lacks something would mislead.
    """
    tags = repository.tags()
    there = [found for found in in_parallel(repository.resolve, tags, pool=pool) if found]
    if isinstance(repository, Layout):
        there += repository.entries()  # a layout lists images without a tag too
    waiting = list(dict.fromkeys(found.digest for found in there))
    counter = _Counter()
    while waiting:
        level, waiting = waiting, []
        new = [digest for digest in dict.fromkeys(level) if counter.is_new(digest)]
        for manifest in in_parallel(lambda d: _fetch(repository, d), new, pool=pool):
            waiting += counter.add(manifest)
        if with_referrers:
            for found in in_parallel(repository.referrers, new, pool=pool):
                waiting += [descriptor.digest for descriptor in found]
    return Contents(
        name=repository.name,
        place=place,
        tags=sum(1 for tag in tags if not is_companion(tag)),
        manifests=counter.manifests,
        logical_bytes=counter.logical_bytes,
        sizes=counter.sizes,
        missing=counter.missing,
    )


def _fetch(repository: Repository, digest: Digest) -> Manifest | Index | None:
    try:
        return repository.fetch(digest)
    except NotFoundError:
        return None


class _Counter:
    """Adds manifests up."""

    def __init__(self) -> None:
        self.sizes: dict[Digest, int] = {}
        self.manifests = 0
        self.missing = 0
        self.logical_bytes = 0
        self._seen: set[Digest] = set()

    def is_new(self, digest: Digest) -> bool:
        """Whether a manifest was not asked for before; then it counts as asked for."""
        if digest in self._seen:
            return False
        self._seen.add(digest)
        if len(self._seen) > MAX_MANIFESTS:
            raise IntegrityError(f"more than {MAX_MANIFESTS} manifests in one repository")
        return True

    def add(self, manifest: Manifest | Index | None) -> list[Digest]:
        """Count a manifest with its blobs; returns what it lists."""
        if manifest is None:
            self.missing += 1
            return []
        self.manifests += 1
        self.logical_bytes += len(manifest.body)
        self.sizes[manifest.digest] = len(manifest.body)
        if isinstance(manifest, Index):
            return [child.digest for child in manifest.manifests]
        for blob in manifest.blobs:
            if blob.media_type not in media_types.FOREIGN_LAYERS:
                self.logical_bytes += blob.size
                self.sizes[blob.digest] = blob.size
        return []


def compare_usage(repositories: tuple[Contents, ...]) -> tuple[Usage, ...]:
    """Split the bytes of each repository into those that it has alone and those that it shares.

    Bytes are shared within one registry only: another host stores its own.
    """
    holders = Counter((c.place, digest) for c in repositories for digest in c.sizes)
    return tuple(_usage(contents, holders) for contents in repositories)


def _usage(contents: Contents, holders: Counter[tuple[str, Digest]]) -> Usage:
    unique = shared = 0
    charged = 0.0
    for digest, size in contents.sizes.items():
        count = holders[contents.place, digest]
        charged += size / count
        if count == 1:
            unique += size
        else:
            shared += size
    return Usage(
        contents=contents,
        unique_bytes=unique,
        shared_bytes=shared,
        charged_bytes=round(charged),
    )

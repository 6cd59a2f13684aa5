"""Asks registries about base images, in a thread: which layers they have, and whether the tag has newer ones.

What is known by digest is kept in the cache, so that the next run asks for the tag and nothing else.
"""

import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTimeError
from dataclasses import dataclass, field

from ci_registry.errors import CiRegistryError, IncompleteError, IntegrityError, NotFoundError
from ci_registry.findings import Inventory
from ci_registry.inventory.config import parse_image_config
from ci_registry.oci.digest import Digest, is_digest
from ci_registry.oci.manifest import MAX_MANIFEST_BYTES, Descriptor, Index, Manifest
from ci_registry.oci.platform import Platform
from ci_registry.oci.reference import Reference
from ci_registry.pipeline.base_inventories import inventory_of_base
from ci_registry.pipeline.base_names import SCRATCH, UNNAMED, NamedBase, base_names
from ci_registry.pipeline.state import ImageRun, RunContext
from ci_registry.registry.interface import Repository
from ci_registry.strict import as_list, as_object, as_text, parse_json

PATIENCE_S = 5.0
"""So long a scan that is done waits for registries of base images."""
OFFLINE = "registries of base images are not asked (--offline)"
_KIND = "bases"
_MAX_FACTS_BYTES = 256 * 1024
_PUBLIC = frozenset(
    {
        "cgr.dev",
        "docker.io",
        "gcr.io",
        "ghcr.io",
        "mcr.microsoft.com",
        "public.ecr.aws",
        "quay.io",
        "registry.access.redhat.com",
        "registry.gitlab.com",
        "registry.k8s.io",
    }
)
"""Registries that anybody may be sent to by what an image claims about itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseLayers:
    """One platform of a base image, by digest."""

    root: str
    manifest: str
    diff_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBase:
    """What registries and cache say about the base of one platform."""

    named: NamedBase
    layers: BaseLayers | None = None
    """None: not known, see `reason`; for `scratch` there are none."""
    reason: str = ""
    newer: BaseLayers | None = None
    """What the tag points at now, when its layers are other ones."""
    newer_reason: str = ""
    newer_inventory: Inventory | None = None


@dataclass(slots=True)
class BaseLookup:
    """A lookup that runs; nobody waits for it longer than `PATIENCE_S`."""

    _future: Future[tuple[FoundBase, ...]] = field(default_factory=Future)

    def start(self, image: ImageRun, run: RunContext) -> None:
        """Begin in a thread of its own, which ends with the process at the latest."""

        def work() -> None:
            try:
                self._future.set_result(find_bases(image, run))
            except BaseException as error:  # noqa: BLE001 - told to whoever waits
                self._future.set_exception(error)

        threading.Thread(target=work, name="base-image", daemon=True).start()

    def result(self, timeout_s: float = PATIENCE_S) -> tuple[tuple[FoundBase, ...], str]:
        """Return what was found, and why it is not all."""
        try:
            return self._future.result(timeout_s), ""
        except NotInTimeError:
            return (), f"its registry did not answer within {timeout_s:g} s after the scan"
        except CiRegistryError as error:
            return (), error.headline
        except OSError as error:
            return (), str(error)


def find_bases(image: ImageRun, run: RunContext) -> tuple[FoundBase, ...]:
    """Return what is known of the base of each platform; a registry that fails is a reason, no error.

    Raises:
        CiRegistryError: the layout can't be read.
    """
    hosts = _known_hosts(image, run)
    return tuple(_find(named, run, hosts) for named in base_names(image))


def _known_hosts(image: ImageRun, run: RunContext) -> frozenset[str]:
    places = [*image.plan.destinations, *([image.pull] if image.pull else [])]
    return frozenset({*_PUBLIC, *run.settings.network.mirrors, *(p.registry for p in places)})


def _find(named: NamedBase, run: RunContext, hosts: frozenset[str]) -> FoundBase:
    if named.reference == SCRATCH:
        return FoundBase(named=named)
    place = named.place
    if place is None:
        bad = f"{named.reference[:80]!r} is no image reference"
        return FoundBase(named=named, reason=bad if named.reference else UNNAMED)
    if named.is_claim and place.registry not in hosts:
        reason = f"the image names {place.registry}, which this run has nothing to do with"
        return FoundBase(named=named, reason=reason)
    known = _cached(run, named.digest, named.base_platform)
    if run.settings.runtime.offline:
        reason = "" if known else OFFLINE
        return FoundBase(named=named, layers=known, reason=reason, newer_reason=OFFLINE)
    return _ask(named, place, known, run)


def _ask(
    named: NamedBase, place: Reference, known: BaseLayers | None, run: RunContext
) -> FoundBase:
    reason, now, newer_reason = "", None, ""
    try:
        repository = run.parts.source(place)
        if known is None and named.digest:
            known = _read(repository, named.digest, named.base_platform, run)
    except CiRegistryError as error:
        return FoundBase(named=named, reason=error.headline)
    try:
        now = _at_tag(repository, place, named.base_platform, run)
        if now is None:
            newer_reason = f"{named.reference} names no tag"
    except CiRegistryError as error:
        newer_reason = error.headline
    if known is None:  # nobody says which digest was used: the layers will tell
        known, reason = now, newer_reason
    if known is None or now is None or now.diff_ids == known.diff_ids:
        return FoundBase(named=named, layers=known, reason=reason, newer_reason=newer_reason)
    try:
        inventory = inventory_of_base(
            repository, Digest(now.manifest), now.diff_ids, named.base_platform, run
        )
    except CiRegistryError as error:
        inventory, newer_reason = None, error.headline
    return FoundBase(
        named=named,
        layers=known,
        newer=now,
        newer_reason=newer_reason,
        newer_inventory=inventory,
    )


def _at_tag(
    repository: Repository, place: Reference, platform: Platform, run: RunContext
) -> BaseLayers | None:
    """Return what the tag points at now; None when the base is named by digest alone."""
    if place.digest and not place.tag:
        return None
    tag = place.tag or "latest"
    found = repository.resolve(tag)
    if found is None:
        raise NotFoundError(f"{place.name}:{tag} does not exist")
    return _cached(run, str(found.digest), platform) or _read(
        repository, str(found.digest), platform, run
    )


def _read(repository: Repository, digest: str, platform: Platform, run: RunContext) -> BaseLayers:
    root = repository.fetch(digest)
    manifest = root
    if isinstance(root, Index):
        manifest = repository.fetch(_entry(root, platform, repository.name).digest)
    if not isinstance(manifest, Manifest):
        raise IntegrityError(f"{repository.name}@{digest}: an index within an index")
    data = bytearray()
    for chunk in repository.open(manifest.config.digest):
        data += chunk
        if len(data) > MAX_MANIFEST_BYTES:
            raise IntegrityError(f"{manifest.config.digest} is larger than a config may be")
    config = parse_image_config(bytes(data))
    found = BaseLayers(
        root=digest,
        manifest=str(manifest.digest),
        diff_ids=tuple(str(diff_id) for diff_id in config.diff_ids),
    )
    body = {"manifest": found.manifest, "diff_ids": found.diff_ids}
    run.cache.put(_KIND, _key(digest, platform), json.dumps(body).encode())
    return found


def _entry(index: Index, platform: Platform, name: str) -> Descriptor:
    """Return the entry of a platform; one that leaves the variant out will do."""
    same = [entry for entry in index.images if entry.platform == platform]
    alike = [
        entry
        for entry in index.images
        if entry.platform is not None
        and (entry.platform.os, entry.platform.architecture) == (platform.os, platform.architecture)
    ]
    if not same and not alike:
        raise IncompleteError(f"{name} has no {platform}")
    return (same or alike)[0]


def _key(digest: str, platform: Platform) -> str:
    return f"{digest}\0{platform}"


def _cached(run: RunContext, digest: str, platform: Platform) -> BaseLayers | None:
    if not digest:
        return None
    body = run.cache.get(_KIND, _key(digest, platform), max_bytes=_MAX_FACTS_BYTES)
    if body is None:
        return None
    try:
        data = as_object(parse_json(body, what="cached base"), what="cached base")
        manifest = as_text(data.get("manifest"), what="manifest")
        diff_ids = tuple(
            as_text(item, what="diff id") for item in as_list(data.get("diff_ids"), what="diff ids")
        )
    except IntegrityError:
        return None  # of another version: it is read again
    if not all(map(is_digest, (manifest, *diff_ids))):
        return None
    return BaseLayers(root=digest, manifest=manifest, diff_ids=diff_ids)


def begins_with(diff_ids: Sequence[str], base: Sequence[str]) -> bool:
    """Whether the layers of an image lie on those of a base."""
    return tuple(diff_ids[: len(base)]) == tuple(base)

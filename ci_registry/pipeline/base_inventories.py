"""Finds what is installed in a base image: kept from an earlier run, attested, or read when that is allowed.

What reads and writes SBOMs is imported when it is needed: most runs need none of it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ci_registry.errors import IncompleteError, IntegrityError
from ci_registry.findings import Inventory
from ci_registry.inventory.layer_store import reader_version
from ci_registry.oci.digest import Digest
from ci_registry.oci.platform import Platform
from ci_registry.pipeline.state import RunContext
from ci_registry.registry.interface import Repository

_KIND = "base-inventories"
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def kept_inventory(run: RunContext, diff_ids: Sequence[str]) -> Inventory | None:
    """Return what these layers hold, when a run with the same readers found it out."""
    from ci_registry.sbom.cyclonedx import read_cyclonedx  # noqa: PLC0415 - late
    from ci_registry.sbom.document import MAX_SBOM_BYTES  # noqa: PLC0415 - late

    body = run.cache.get(_KIND, _key(diff_ids), max_bytes=MAX_SBOM_BYTES)
    if body is None:
        return None
    try:
        return read_cyclonedx(body, what="kept inventory").inventory
    except IntegrityError:
        return None  # of another version: it is taken again


def keep_inventory(run: RunContext, diff_ids: Sequence[str], inventory: Inventory) -> None:
    """Keep what these layers hold."""
    from ci_registry.sbom.cyclonedx import write_cyclonedx  # noqa: PLC0415 - late, see above
    from ci_registry.sbom.document import SbomDocument  # noqa: PLC0415 - late, see above

    document = SbomDocument(image="base", inventory=inventory, created_at=_NEVER)
    run.cache.put(_KIND, _key(diff_ids), write_cyclonedx(document))


def _key(diff_ids: Sequence[str]) -> str:
    return "\0".join((reader_version(), *diff_ids))


def inventory_of_base(
    repository: Repository,
    manifest: Digest,
    diff_ids: Sequence[str],
    platform: Platform,
    run: RunContext,
) -> Inventory:
    """Return the packages of one platform of a base image.

    Raises:
        IncompleteError: nobody vouches for them, and reading them is not allowed.
        CiRegistryError: the registry failed.
    """
    kept = kept_inventory(run, diff_ids)
    if kept is not None:
        return kept
    if (trusted := run.trusted_keys()) is not None:
        from ci_registry.verification.inventory import attested_inventory  # noqa: PLC0415 - late

        try:
            return attested_inventory(repository, manifest, trusted).inventory
        except IncompleteError:
            if not run.settings.scan.read_new_base:
                raise
    if not run.settings.scan.read_new_base:
        raise IncompleteError(
            "no SBOM of it is attested by a trusted key, and scan.read_new_base is off"
        )
    from ci_registry.pipeline.read_image import image_reader  # noqa: PLC0415 - only when allowed

    found = image_reader(run)(repository, repository.fetch(manifest).descriptor)
    mine = [inventory for inventory in found if inventory.platform == str(platform)] or found
    keep_inventory(run, diff_ids, mine[0])
    return mine[0]


def taken_once(
    run: RunContext, diff_ids: Sequence[str], take: Callable[[], Inventory]
) -> Inventory:
    """Return what these layers hold: kept, or taken now and kept."""
    kept = kept_inventory(run, diff_ids)
    if kept is None:
        kept = take()
        keep_inventory(run, diff_ids, kept)
    return kept

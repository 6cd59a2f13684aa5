"""Images of which only the inventory is at hand: matched again, no layer is read."""

from dataclasses import dataclass, replace

from ci_registry.builders.interface import CacheReferences
from ci_registry.errors import CiRegistryError
from ci_registry.findings import Inventory, UnreadDatabase
from ci_registry.oci.digest import Digest
from ci_registry.oci.reference import Reference
from ci_registry.pipeline.plan import GatheredRun, ImagePlan
from ci_registry.sbom.document import SbomDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenImage:
    """One image and the inventories of its platforms."""

    name: str
    """What reports call it."""
    inventories: tuple[Inventory, ...]
    source: str
    """Where the inventories come from, for the plan: `sbom.cdx.json`, `the attested inventory`."""
    reference: Reference | None = None
    """Where the image is, when that is known; waivers and rules go by its repository."""
    digest: Digest | None = None
    """Of the image itself: the index, or the manifest when there is none."""
    error: CiRegistryError | None = None
    """Why there is no inventory to go by."""


def inventory_from(document: SbomDocument, what: str) -> Inventory:
    """Return the inventory of an SBOM; one of another program says nothing about what it left out."""
    inventory = document.inventory
    if document.names_unread:
        return inventory
    maker = document.tool or "another program"
    silent = UnreadDatabase(
        kind="", path=what, reason=f"{maker} wrote it and does not say what it could not read"
    )
    return replace(inventory, unread=(*inventory.unread, silent))


def given_plan(image: GivenImage, gathered: GatheredRun) -> ImagePlan:
    """Return the plan of an image that is only matched and judged."""
    why = "nothing is written: only the inventory is matched"
    return ImagePlan(
        name=image.name,
        action="match",
        reason=f"the packages are known from {image.source}",
        dockerfile="",
        context="",
        target="",
        platforms=tuple(inventory.platform for inventory in image.inventories),
        bases=(),
        builder="",
        builder_reason="no layer is read",
        destinations=(image.reference,) if image.reference else (),
        tags=(),
        existing=(),
        push=False,
        by_digest=False,
        push_reason=why,
        sign=False,
        sign_reason=why,
        cache=CacheReferences(),
        cache_reason=why,
        scanner=gathered.scanner,
        database=gathered.database,
        policy_source=gathered.policy_source,
    )

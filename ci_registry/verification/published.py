"""Finds the inventories of images that are in a registry: attested ones, or read anew when asked to."""

from collections.abc import Callable
from dataclasses import dataclass

from ci_registry.errors import IncompleteError
from ci_registry.findings import Inventory
from ci_registry.oci.manifest import Descriptor, Index
from ci_registry.registry.interface import Repository
from ci_registry.sbom.document import SbomDocument
from ci_registry.verification.inventory import attested_inventory
from ci_registry.verification.trust import TrustedKeys

ReadImage = Callable[[Repository, Descriptor], tuple[Inventory, ...]]
"""Pulls an image and reads the inventory of each platform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedImage:
    """What is known of the packages of an image in a registry."""

    inventories: tuple[Inventory, ...]
    source: str
    """Where they come from, for people."""


def inventories_of(
    repository: Repository,
    root: Descriptor,
    trusted: TrustedKeys,
    *,
    read_image: ReadImage | None = None,
) -> PublishedImage:
    """Return the inventory of each platform of an image.

    Args:
        repository: where it is.
        root: the index or the manifest.
        trusted: whose word counts.
        read_image: how to read images that have no trusted inventory for each platform; None
            makes that an error.

    Raises:
        IncompleteError: a platform has no trusted inventory.
        RegistryError: a listing or fetch failed; also `AccessError`, `NetworkError`.
    """
    manifest = repository.fetch(root.digest)
    children = manifest.images if isinstance(manifest, Index) else (manifest.descriptor,)
    try:
        if not children:
            raise IncompleteError(f"{repository.name}@{root.digest} is an index without images")
        documents = [_document(repository, child, trusted) for child in children]
    except IncompleteError:
        if read_image is None:
            raise
        return PublishedImage(
            inventories=read_image(repository, root), source="its layers, read now"
        )
    oldest = min(document.created_at for document in documents)
    return PublishedImage(
        inventories=tuple(document.inventory for document in documents),
        source=f"the inventory attested on {oldest:%Y-%m-%d}",
    )


def _document(repository: Repository, child: Descriptor, trusted: TrustedKeys) -> SbomDocument:
    """Return the attested SBOM of one platform; a nested index has none of its own."""
    return attested_inventory(repository, child.digest, trusted)

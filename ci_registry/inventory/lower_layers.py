"""Tells what the lowest layers of an image hold by themselves: the packages of its base image.

The layer that last wrote a package database says little: one `apt-get install` rewrites it for every
package. So the inventory of the lower layers alone is taken, and compared.
"""

from collections.abc import Iterable
from dataclasses import replace

from ci_registry.cancel import Cancel
from ci_registry.events import ignore_events
from ci_registry.findings import Inventory, Package
from ci_registry.inventory.inspect import IsProven, LayerReader, merged
from ci_registry.inventory.layer_store import LayerCache
from ci_registry.inventory.limits import DEFAULT_LIMITS, Limits
from ci_registry.inventory.packages import read_contents
from ci_registry.inventory.verified import OpenBlob
from ci_registry.results import PlatformImage


def inventory_of_lower_layers(
    image: PlatformImage,
    count: int,
    *,
    open_blob: OpenBlob,
    cancel: Cancel,
    layer_cache: LayerCache | None,
    is_proven: IsProven,
    limits: Limits = DEFAULT_LIMITS,
) -> Inventory:
    """Return what the first `count` layers hold, as if they were an image; its digests are empty.

    Raises:
        IntegrityError: a layer is not what it claims to be.
        CancelledError: the run was cancelled.
    """
    reader = LayerReader(open_blob, limits, cancel, ignore_events, "", layer_cache, is_proven)
    layers = image.layers[:count]
    stack = [
        reader.read(layer, f"layer {number} of {image.platform}")
        for number, layer in enumerate(layers, 1)
    ]
    tree, found, files_count = merged(layers, image.platform, stack, reader)
    contents = read_contents(tree, found, image.diff_ids[:count])
    return Inventory(
        platform=str(image.platform),
        manifest_digest="",
        config_digest="",
        distribution=contents.distribution,
        packages=contents.packages,
        unread=contents.unread,
        files_count=files_count,
    )


def needs_lower_layers(image: PlatformImage, count: int) -> bool:
    """Whether the layers alone leave it open which packages are the base's."""
    own = frozenset(image.diff_ids[count:])
    return any(package.layer in own for package in image.inventory.packages)


def with_base(inventory: Inventory, base: Iterable[Package] | None) -> Inventory:
    """Mark the packages that the base has in the same version at the same place; None: it has all."""
    if base is None:
        return _marked(inventory, None)
    return _marked(inventory, {_identity(package) for package in base})


def _marked(inventory: Inventory, known: set[tuple[str, ...]] | None) -> Inventory:
    packages = tuple(
        replace(package, from_base=known is None or _identity(package) in known)
        for package in inventory.packages
    )
    return replace(inventory, packages=packages)


def _identity(package: Package) -> tuple[str, ...]:
    return (package.ecosystem, package.name, package.version, package.architecture, package.path)

"""Reads the inventory of an image straight from a registry: pulled, proven, nothing stored."""

import contextlib
from collections.abc import Callable

from ci_registry.errors import IntegrityError, NotFoundError
from ci_registry.findings import Inventory
from ci_registry.inventory.inspect import inspect_image
from ci_registry.inventory.layer_store import StoredLayers
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import MAX_MANIFEST_BYTES, Descriptor
from ci_registry.pipeline.state import RunContext
from ci_registry.registry.interface import Repository
from ci_registry.verification.published import ReadImage


def image_reader(run: RunContext) -> ReadImage:
    """Return what pulls an image, proves every byte and reads its packages; nothing is stored."""

    def read_image(repository: Repository, root: Descriptor) -> tuple[Inventory, ...]:
        inspected = inspect_image(
            root,
            read=_blob_reader(repository),
            open_blob=repository.open,
            cancel=run.cancel,
            on_event=run.on_event,
            image=repository.name,
            layer_cache=StoredLayers(cache=run.cache),
        )
        return tuple(platform.inventory for platform in inspected.platforms)

    return read_image


def _blob_reader(repository: Repository) -> Callable[[Digest], bytes]:
    """Return what reads a manifest, or else a config, into memory; registries keep the two apart."""

    def read(digest: Digest) -> bytes:
        with contextlib.suppress(NotFoundError):
            return repository.fetch(digest).body
        data = bytearray()
        for chunk in repository.open(digest):
            data += chunk
            if len(data) > MAX_MANIFEST_BYTES:
                raise IntegrityError(f"{digest} is larger than a config may be")
        return bytes(data)

    return read

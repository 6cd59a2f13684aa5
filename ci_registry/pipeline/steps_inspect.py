"""The step that looks at an image: it verifies every byte of the layout and reads what is installed."""

import contextlib
from collections.abc import Iterator

from ci_registry.errors import IntegrityError
from ci_registry.inventory.inspect import InspectedImage, inspect_image
from ci_registry.inventory.layer_store import StoredLayers
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import MAX_MANIFEST_BYTES
from ci_registry.oci.platform import Platform
from ci_registry.pipeline.sizes import remember_size
from ci_registry.pipeline.state import Done, ImageRun, RunContext
from ci_registry.registry.known_blobs import remember_blobs
from ci_registry.registry.proven import Identity, identity_of
from ci_registry.results import Case


def inspect(image: ImageRun, run: RunContext) -> Done:
    """Verify every digest, size and diff id of the layout and read what is installed."""
    layout = image.layout
    if layout is None:
        raise AssertionError("inspect runs after build")
    _ask_for_base(image, run)

    def read(digest: Digest) -> bytes:
        data = bytearray()
        for chunk in layout.open(digest):
            data += chunk
            if len(data) > MAX_MANIFEST_BYTES:
                raise IntegrityError(f"{digest} is larger than a manifest may be")
        return bytes(data)

    hashed: dict[Digest, Identity] = {}

    def open_blob(digest: Digest) -> Iterator[bytes]:
        with contextlib.suppress(OSError):  # an absent blob is told by its reader
            hashed[digest] = identity_of(layout.blob_path(digest).stat())
        return layout.unverified(digest)

    requested: tuple[Platform, ...] = ()
    if image.plan.action == "build":
        requested = image.settings.platforms
    image.inspected = inspect_image(
        layout.root(),
        read=read,
        open_blob=open_blob,
        requested=requested,
        cancel=run.cancel,
        on_event=run.on_event,
        image=image.name,
        layer_cache=StoredLayers(cache=run.cache),
        is_proven=lambda blob: image.proven.holds(blob, layout.blob_path(blob.digest)),
    )
    for digest, identity in hashed.items():
        image.proven.add(digest, identity, layout.blob_path(digest))
    remember_size(run.cache, image.name, _size_of(image.inspected))
    layers = (layer for platform in image.inspected.platforms for layer in platform.layers)
    remember_blobs(run.cache, image.name, layout, layers)
    return Done(
        cases=tuple(
            _inspect_case(image.inspected, index) for index in range(len(image.inspected.platforms))
        )
    )


def _ask_for_base(image: ImageRun, run: RunContext) -> None:
    """Begin to ask for the base image; the scan takes the answer."""
    from ci_registry.pipeline.base_lookup import BaseLookup  # noqa: PLC0415 - as the steps themselves

    image.base_lookup = BaseLookup()
    image.base_lookup.start(image, run)


def _inspect_case(inspected: InspectedImage, index: int) -> Case:
    platform = inspected.platforms[index]
    counts = ", ".join(f"{number} {kind}" for kind, number in platform.inventory.counts())
    unread = "".join(f"\nnot read: {u.path} ({u.reason})" for u in platform.inventory.unread)
    text = f"{len(platform.layers)} layers verified; packages: {counts or 'none'}{unread}"
    return Case(name=f"every digest verified {platform.platform}", body=text)


def _size_of(inspected: InspectedImage) -> int:
    blobs = {layer.digest: layer.size for image in inspected.platforms for layer in image.layers}
    return sum(blobs.values())

"""Inspects hand-made layouts as the pipeline does, with a record of what was opened."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ci_registry.cancel import Cancel
from ci_registry.inventory.inspect import InspectedImage, inspect_image
from ci_registry.inventory.limits import DEFAULT_LIMITS, Limits
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, parse_descriptor
from ci_registry.oci.platform import Platform
from ci_registry.strict import as_list, as_object, parse_json


@dataclass
class LayoutReader:
    """Reads blobs of a layout without checking anything."""

    layout: Path
    opened: list[Digest] = field(default_factory=list)
    piece_bytes: int = 1 << 20

    @property
    def root(self) -> Descriptor:
        index = as_object(
            parse_json((self.layout / "index.json").read_bytes(), what="index"), what="index"
        )
        return parse_descriptor(as_list(index["manifests"], what="manifests")[0], what="root")

    def path(self, digest: Digest) -> Path:
        return self.layout / "blobs" / digest.algorithm / digest.hex

    def read(self, digest: Digest) -> bytes:
        return self.path(digest).read_bytes()

    def open_blob(self, digest: Digest) -> Iterator[bytes]:
        self.opened.append(digest)
        with self.path(digest).open("rb") as file:
            while piece := file.read(self.piece_bytes):
                yield piece


def inspect_layout(
    layout: Path,
    *,
    requested: tuple[Platform, ...] = (),
    limits: Limits = DEFAULT_LIMITS,
    reader: LayoutReader | None = None,
) -> InspectedImage:
    """Inspect the first entry of a layout."""
    reader = reader or LayoutReader(layout)
    return inspect_image(
        reader.root,
        read=reader.read,
        open_blob=reader.open_blob,
        requested=requested,
        cancel=Cancel(),
        limits=limits,
    )

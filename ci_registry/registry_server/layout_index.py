"""Writes `oci-layout` and `index.json`, so that a folder of the registry is an OCI image layout too."""

from pathlib import Path

from ci_registry.files import write_atomic
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.layout_entries import entry_of
from ci_registry.registry.layout_index import LAYOUT_FILE, index_bytes
from ci_registry.registry_server.catalog import Catalog
from ci_registry.registry_server.schema import StoredManifest

INDEX = "index.json"


def write_layout_index(folder: Path, catalog: Catalog) -> None:
    """Write the two files; a tag stands in it as `repository:tag`.

    Raises:
        StorageError: they can't be written.
    """
    write_atomic(folder / "oci-layout", LAYOUT_FILE)
    entries = [entry_of(_descriptor(manifest), name) for name, manifest in catalog.roots()]
    write_atomic(folder / INDEX, index_bytes(entries))


def _descriptor(manifest: StoredManifest) -> Descriptor:
    return Descriptor(
        media_type=manifest.media_type,
        digest=manifest.digest,
        size=manifest.size,
        artifact_type=manifest.artifact_type if manifest.subject else "",
    )

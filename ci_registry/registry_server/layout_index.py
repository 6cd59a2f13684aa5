"""Writes `oci-layout` and `index.json`, so that a folder of the registry is an OCI image layout too."""

import json
from pathlib import Path

from ci_registry.files import write_atomic
from ci_registry.oci import media_types
from ci_registry.registry_server.catalog import Catalog
from ci_registry.registry_server.schema import StoredManifest

INDEX = "index.json"
_TAG = "org.opencontainers.image.ref.name"


def write_layout_index(folder: Path, catalog: Catalog) -> None:
    """Write the two files; a tag stands in it as `repository:tag`.

    Raises:
        StorageError: they can't be written.
    """
    index = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [_entry(name, manifest) for name, manifest in catalog.roots()],
    }
    write_atomic(folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    write_atomic(folder / INDEX, json.dumps(index, indent=1) + "\n")


def _entry(name: str, manifest: StoredManifest) -> dict[str, object]:
    entry: dict[str, object] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
    }
    if manifest.artifact_type and manifest.subject:
        entry["artifactType"] = manifest.artifact_type
    if name:
        entry["annotations"] = {_TAG: name}
    return entry

"""Reads the base images that BuildKit really used from the metadata file of buildx."""

import re
import urllib.parse
from pathlib import Path

from ci_registry.errors import IntegrityError, UsageError
from ci_registry.files import read_file
from ci_registry.oci.reference import parse_reference
from ci_registry.strict import parse_json

METADATA_ENV = {"BUILDX_METADATA_PROVENANCE": "min", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
"""Has buildx write the sources into its metadata file without any attestation in the image."""
MAX_METADATA_BYTES = 32 * 1024 * 1024
_KEY = "buildx.build.provenance"
_PURL = re.compile(r"pkg:docker/(?P<name>[^?@]+)(?:@(?P<version>[^?]+))?(?:\?.*)?")

Materials = tuple[tuple[str, str], ...]
"""(reference, digest) pairs."""


def read_materials(path: Path) -> Materials:
    """Return the images in the metadata file; none when buildx wrote none (multi-platform before 0.31).

    Raises:
        IntegrityError: the file is no JSON.
        StorageError: it can't be read.
    """
    if not path.is_file():
        return ()
    raw = read_file(path, max_bytes=MAX_METADATA_BYTES)
    data = parse_json(raw, what="buildx metadata file", max_bytes=MAX_METADATA_BYTES, strict=False)
    if not isinstance(data, dict):
        raise IntegrityError("buildx metadata file: expected a JSON object")
    found: set[tuple[str, str]] = set()
    for key, value in data.items():
        if key == _KEY or key.startswith(f"{_KEY}/"):
            found.update(_images(value))
    return tuple(sorted(found))


def merge_materials(*several: Materials) -> Materials:
    """Return all materials under one spelling of their names, sorted."""
    found = set()
    for reference, digest in (pair for materials in several for pair in materials):
        try:
            found.add((str(parse_reference(reference)), digest))
        except UsageError:
            found.add((reference, digest))
    return tuple(sorted(found))


def _images(provenance: object) -> list[tuple[str, str]]:
    """Return the images of a SLSA provenance predicate, v0.2 (`materials`) or v1."""
    if not isinstance(provenance, dict):
        return []
    definition = provenance.get("buildDefinition")
    newer = definition.get("resolvedDependencies") if isinstance(definition, dict) else None
    entries = provenance.get("materials") or newer
    found = []
    for entry in entries if isinstance(entries, list) else []:
        match = _PURL.fullmatch(str(entry.get("uri"))) if isinstance(entry, dict) else None
        digests = entry.get("digest") if isinstance(entry, dict) else None
        sha256 = digests.get("sha256") if isinstance(digests, dict) else None
        if match and isinstance(sha256, str):
            name = urllib.parse.unquote(match["name"])
            version = urllib.parse.unquote(match["version"] or "")
            separator = "@" if version.startswith("sha256:") else ":"
            found.append((f"{name}{separator}{version}" if version else name, f"sha256:{sha256}"))
    return found

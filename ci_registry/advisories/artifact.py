"""An advisory database as an OCI artifact: its manifest, written and read; nothing is sent or fetched here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ci_registry.advisories.compiled_file import MAX_DATABASE_BYTES, DatabaseInfo, info_from
from ci_registry.errors import IntegrityError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.strict import as_object, as_size, as_text, parse_json

ARTIFACT_TYPE = "application/vnd.ci-registry.advisories.v1"
CONFIG_TYPE = "application/vnd.ci-registry.advisories.config.v1+json"
LAYER_TYPE = "application/vnd.ci-registry.advisories.layer.v1.sqlite+zstd"
TRIVY_CONFIG_TYPE = "application/vnd.aquasec.trivy.config.v1+json"
TRIVY_LAYER_TYPE = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
MAX_LAYER_BYTES = 2 * 1024 * 1024 * 1024
"""Of the compressed layer."""
MAX_CONFIG_BYTES = 1024 * 1024
_TITLE, _CREATED = "org.opencontainers.image.title", "org.opencontainers.image.created"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactConfig:
    """What the config of an artifact says: known before the database itself is fetched."""

    info: DatabaseInfo
    size_bytes: int
    """Of the unpacked file."""
    trivy: Digest | None = None
    """The manifest of the trivy database in the same repository, made of the same records."""


def write_config(config: ArtifactConfig) -> bytes:
    """Return the config's bytes."""
    document = {**config.info.to_json(), "size": config.size_bytes}
    if config.trivy is not None:
        document["trivy"] = str(config.trivy)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def parse_config(data: bytes, *, what: str) -> ArtifactConfig:
    """Read a config.

    Raises:
        IntegrityError: another schema, or malformed.
    """
    document = as_object(parse_json(data, what=what, max_bytes=MAX_CONFIG_BYTES), what=what)
    size_bytes = as_size(document.get("size"), what=f"{what}: size")
    if size_bytes > MAX_DATABASE_BYTES:
        raise IntegrityError(f"{what}: a database of {size_bytes} bytes, too large")
    trivy = document.get("trivy")
    return ArtifactConfig(
        info=info_from(document, what=what),
        size_bytes=size_bytes,
        trivy=None if trivy is None else Digest(as_text(trivy, what=f"{what}: trivy")),
    )


def write_manifest(config: bytes, layer: Descriptor, built_at: datetime) -> bytes:
    """Return the manifest of our own artifact."""
    return _manifest(
        {"artifactType": ARTIFACT_TYPE},
        _described(CONFIG_TYPE, config),
        _titled(layer, "advisories.sqlite.zst"),
        built_at,
    )


def write_trivy_manifest(config: bytes, layer: Descriptor, built_at: datetime) -> bytes:
    """Return the manifest of a trivy database, as trivy publishes its own."""
    return _manifest(
        {}, _described(TRIVY_CONFIG_TYPE, config), _titled(layer, "db.tar.gz"), built_at
    )


def our_layer(manifest: Manifest | Index, *, what: str) -> Descriptor:
    """Return the layer that holds the database.

    Raises:
        IntegrityError: it is no advisory database of ours, or too large.
    """
    if not is_ours(manifest) or not isinstance(manifest, Manifest):
        raise IntegrityError(
            f"{what} is no advisory database: its type is "
            f"{manifest.artifact_type[:80] or manifest.media_type!r}",
            hint="name what ci-registry db push wrote",
        )
    if len(manifest.layers) != 1 or manifest.layers[0].media_type != LAYER_TYPE:
        raise IntegrityError(f"{what}: an advisory database has exactly one layer of its own type")
    if manifest.config.media_type != CONFIG_TYPE or manifest.config.size > MAX_CONFIG_BYTES:
        raise IntegrityError(f"{what}: its config is none of an advisory database")
    if manifest.layers[0].size > MAX_LAYER_BYTES:
        raise IntegrityError(f"{what}: a layer of {manifest.layers[0].size} bytes, too large")
    return manifest.layers[0]


def is_ours(manifest: Manifest | Index) -> bool:
    """Whether it calls itself an advisory database of ours."""
    return manifest.artifact_type == ARTIFACT_TYPE


def trivy_layer(manifest: Manifest | Index, *, what: str) -> Descriptor:
    """Return the layer of a trivy database.

    Raises:
        IntegrityError: it is none, or too large.
    """
    if isinstance(manifest, Index) or len(manifest.layers) != 1:
        raise IntegrityError(f"{what} is no trivy database: it must have exactly one layer")
    if manifest.layers[0].size > MAX_LAYER_BYTES:
        raise IntegrityError(f"{what}: a layer of {manifest.layers[0].size} bytes, too large")
    return manifest.layers[0]


def _described(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))


def _titled(layer: Descriptor, title: str) -> dict[str, object]:
    return {**layer.to_json(), "annotations": {_TITLE: title}}


def _manifest(
    head: Mapping[str, object], config: Descriptor, layer: Mapping[str, object], built_at: datetime
) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        **head,
        "config": config.to_json(),
        "layers": [dict(layer)],
        "annotations": {_CREATED: built_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
    }
    return json.dumps(document, separators=(",", ":")).encode()

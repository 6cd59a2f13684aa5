"""The manifests that carry signatures beside an image, byte for byte reproducible."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ci_registry.attestations.simplesigning import SIGNATURE_ANNOTATION
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor

EMPTY = Descriptor(
    media_type=media_types.OCI_EMPTY,
    digest=digest_of(media_types.EMPTY_JSON),
    size=len(media_types.EMPTY_JSON),
)
PREDICATE_TYPE_ANNOTATION = "dev.sigstore.bundle.predicateType"
_ZERO_TIME = "0001-01-01T00:00:00Z"


def signature_tag(digest: Digest) -> str:
    """Return the tag beside an image that holds its `.sig` manifest."""
    return f"{digest.algorithm}-{digest.hex}.sig"


def sig_layer(payload: bytes, signature_base64: str) -> dict[str, object]:
    """Return the descriptor of one simple-signing payload with its signature."""
    return {
        "mediaType": media_types.SIMPLE_SIGNING,
        "size": len(payload),
        "digest": str(digest_of(payload)),
        "annotations": {SIGNATURE_ANNOTATION: signature_base64},
    }


def sig_config(layer_digests: Sequence[str]) -> bytes:
    """Return the config that cosign writes for a `.sig` manifest; Harbor and zot want a real one."""
    document = {
        "architecture": "",
        "created": _ZERO_TIME,
        "history": [{"created": _ZERO_TIME} for _ in layer_digests],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": list(layer_digests)},
        "config": {},
    }
    return _compact(document)


def sig_manifest(
    layers: Sequence[Mapping[str, object]], config: bytes, previous: Mapping[str, object]
) -> bytes:
    """Return a `.sig` image manifest.

    Args:
        layers: descriptors as JSON objects; those of others are passed as they were read.
        config: from `sig_config`.
        previous: the manifest being replaced, empty for none; its other members are kept.
    """
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": {
            "mediaType": media_types.OCI_CONFIG,
            "size": len(config),
            "digest": str(digest_of(config)),
        },
        "layers": [dict(layer) for layer in layers],
    }
    return _compact(document | {k: v for k, v in previous.items() if k not in document})


def bundle_manifest(
    bundle: bytes, subject: Descriptor, *, predicate_type: str, created_at: datetime
) -> bytes:
    """Return the OCI 1.1 referrer that attaches a bundle to `subject`.

    `created_at` is the time of the source, so that a second run writes the same bytes.
    """
    created = created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": media_types.SIGSTORE_BUNDLE,
        "config": EMPTY.to_json(),
        "layers": [
            {
                "mediaType": media_types.SIGSTORE_BUNDLE,
                "digest": str(digest_of(bundle)),
                "size": len(bundle),
            }
        ],
        "subject": {
            "mediaType": subject.media_type,
            "digest": str(subject.digest),
            "size": subject.size,
        },
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            PREDICATE_TYPE_ANNOTATION: predicate_type,
            "org.opencontainers.image.created": created,
        },
    }
    return _compact(document)


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()

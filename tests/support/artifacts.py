"""Makes artifacts beside images: referrers, and cosign's tags, small and without any cryptography."""

import json
from collections.abc import Mapping

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.interface import Repository


def put_blob(repository: Repository, data: bytes, media_type: str) -> Descriptor:
    """Store a blob and return its descriptor."""
    found = Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))
    repository.push_blob(found, lambda: iter((data,)) if data else iter(()))
    return found


def artifact(
    repository: Repository,
    subject: Descriptor | None,
    note: str,
    *,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Store the blobs of an artifact and return its manifest, which is not pushed yet."""
    config = put_blob(repository, media_types.EMPTY_JSON, media_types.OCI_EMPTY)
    layer = put_blob(repository, note.encode(), "application/x-note").to_json()
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": "application/x-note",
        "config": config.to_json(),
        "layers": [layer | {"annotations": {"note": note}}],
        "annotations": {"note": note, **(annotations or {})},
    }
    if subject is not None:
        document["subject"] = {
            "mediaType": subject.media_type,
            "digest": subject.digest,
            "size": subject.size,
        }
    return json.dumps(document).encode()


def attach(repository: Repository, subject: Descriptor, note: str) -> Descriptor:
    """Attach an artifact to `subject` and return its descriptor."""
    body = artifact(repository, subject, note)
    digest = repository.attach(subject, body, media_types.OCI_MANIFEST)
    return Descriptor(media_type=media_types.OCI_MANIFEST, digest=digest, size=len(body))


def put_cosign(
    repository: Repository, subject: Digest, *notes: str, suffix: str = ".sig"
) -> Descriptor:
    """Put a manifest with one layer per note under cosign's tag of `subject`."""
    config = put_blob(repository, b"{}", media_types.OCI_CONFIG)
    layers = [
        put_blob(repository, note.encode(), media_types.SIMPLE_SIGNING).to_json()
        | {"annotations": {"dev.cosignproject.cosign/signature": note}}
        for note in notes
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": layers,
    }
    body = json.dumps(document).encode()
    tag = f"{subject.algorithm}-{subject.hex}{suffix}"
    digest = repository.push(tag, body, media_types.OCI_MANIFEST).digest
    return Descriptor(media_type=media_types.OCI_MANIFEST, digest=digest, size=len(body))

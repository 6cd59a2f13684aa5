"""Signers and small images for tests of signatures; keys are derived from a name, so runs are equal."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec

from ci_registry.attestations.ecdsa import P256_ORDER
from ci_registry.attestations.manifests import signature_tag
from ci_registry.attestations.shape import encode_base64
from ci_registry.attestations.simplesigning import SIGNATURE_ANNOTATION
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor, parse_manifest
from ci_registry.oci.reference import parse_reference
from ci_registry.secret import Secret
from ci_registry.signers.keys import KeyPair, generate_key_pair
from ci_registry.signers.native import NativeSigner
from ci_registry.verification.trust import TrustedKeys, parse_trust
from tests.support.memory_repository import MemoryRepository, add_blob

CREATED_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
PASSWORD = Secret("correct horse")
HERE = parse_reference("registry.example/team/app:v1")


def _random(name: str) -> Callable[[int], bytes]:
    return lambda count: hashlib.shake_256(name.encode()).digest(count)


@cache
def key_pair(name: str) -> KeyPair:
    """Return the key pair that belongs to `name`."""
    return generate_key_pair(PASSWORD, _random(name))


@cache
def signer(name: str = "ours") -> NativeSigner:
    """Return a signer with the key of `key_pair(name)`, without the slow key derivation."""
    scalar = int.from_bytes(_random(name)(48), "big") % (P256_ORDER - 1) + 1
    return NativeSigner(ec.derive_private_key(scalar, ec.SECP256R1()))


@cache
def trusted(*names: str) -> TrustedKeys:
    """Return trust in the keys of `names`, by default in `ours`."""
    pem = b"".join(signer(name).public_key_pem for name in names or ("ours",))
    return parse_trust(pem, "test")


def compact(value: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def add_image(repository: MemoryRepository, marker: str = "one") -> Descriptor:
    """Store a small image manifest and return its descriptor."""
    config, layer = compact({"marker": marker}), marker.encode()
    body = compact(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": _descriptor(repository, config, media_types.OCI_CONFIG),
            "layers": [_descriptor(repository, layer, media_types.OCI_LAYER)],
        }
    )
    return add_manifest(repository, body)


def add_index(repository: MemoryRepository, *children: Descriptor) -> Descriptor:
    """Store an index of these manifests, with platforms of their own."""
    entries = [
        child.to_json() | {"platform": {"os": "linux", "architecture": f"arch{number}"}}
        for number, child in enumerate(children)
    ]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    return add_manifest(repository, compact(document))


def add_manifest(repository: MemoryRepository, body: bytes, tag: str = "") -> Descriptor:
    """Store a manifest by digest, and under a tag when one is given."""
    descriptor = parse_manifest(body).descriptor
    for reference in filter(None, (descriptor.digest, tag)):
        repository.manifests[reference] = (body, descriptor.media_type)
    return descriptor


def _descriptor(repository: MemoryRepository, data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": add_blob(repository, data), "size": len(data)}


def add_sig(
    repository: MemoryRepository, image: Digest, *layers: tuple[bytes, str] | dict[str, object]
) -> None:
    """Store a `.sig` manifest with layers of (payload, base64 signature), or raw descriptors."""
    entries = []
    for layer in layers:
        if isinstance(layer, dict):
            entries.append(layer)
            continue
        payload, signature = layer
        entry = _descriptor(repository, payload, media_types.SIMPLE_SIGNING)
        entries.append(entry | {"annotations": {SIGNATURE_ANNOTATION: signature}})
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": _descriptor(repository, b"{}", media_types.OCI_CONFIG),
        "layers": entries,
    }
    add_manifest(repository, compact(document), signature_tag(image))


def add_referrer(
    repository: MemoryRepository,
    subject: Descriptor,
    content: bytes,
    *,
    media_type: str = media_types.SIGSTORE_BUNDLE,
    artifact_type: str = media_types.SIGSTORE_BUNDLE,
) -> Descriptor:
    """Store an artifact that refers to `subject`."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": _descriptor(repository, b"{}", media_types.OCI_EMPTY),
        "layers": [_descriptor(repository, content, media_type)],
        "subject": subject.to_json(),
    }
    return add_manifest(repository, compact(document))


def signed(payload: bytes, name: str = "ours") -> tuple[bytes, str]:
    """Return (payload, base64 signature) by the key of `name`."""
    return payload, encode_base64(signer(name).sign(payload))


def payload_of(
    digest: Digest, reference: str = "registry.example/team/app:v1"
) -> dict[str, object]:
    """Return a simple-signing payload to tamper with."""
    return {
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": str(digest)},
            "type": "cosign container image signature",
        },
        "optional": None,
    }


OTHER_DIGEST = digest_of(b"something else")

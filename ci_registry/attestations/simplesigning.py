"""The payload of a cosign `.sig` signature ("simple signing"): written, and read strictly.

containers/image (podman, skopeo, CRI-O) reads it as strictly as this; cosign itself looks only at the digest.
"""

import json
from dataclasses import dataclass

from ci_registry.attestations.shape import exact_members
from ci_registry.errors import IntegrityError, UsageError
from ci_registry.oci.digest import Digest
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.strict import as_object, as_text, parse_json

PAYLOAD_TYPE = "cosign container image signature"
MAX_PAYLOAD_BYTES = 1024 * 1024
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
"""Annotation of the layer's descriptor: the signature over the payload's bytes, base64."""
_WHAT = "signature payload"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleSigning:
    """What a payload says: these manifest bytes are that reference."""

    reference: Reference
    """`registry/repo`, with the tag when the signer knew it."""
    digest: Digest


def write_payload(reference: Reference, digest: Digest) -> bytes:
    """Return the payload for `registry/repo[:tag]`; the same input gives the same bytes."""
    identity = str(Reference(registry=reference.registry, repository=reference.repository))
    if reference.tag:
        identity = f"{identity}:{reference.tag}"
    document = {
        "critical": {
            "identity": {"docker-reference": identity},
            "image": {"docker-manifest-digest": str(digest)},
            "type": PAYLOAD_TYPE,
        },
        "optional": None,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def parse_payload(payload: bytes) -> SimpleSigning:
    """Parse a payload: exact member sets at every level, our type, no duplicate keys.

    `optional` may be null or a flat object; nothing is read from it.

    Raises:
        IntegrityError: it says anything else.
    """
    root = exact_members(
        parse_json(payload, what=_WHAT, max_bytes=MAX_PAYLOAD_BYTES),
        ("critical", "optional"),
        what=_WHAT,
    )
    critical = exact_members(
        root["critical"], ("identity", "image", "type"), what=f"{_WHAT}: critical"
    )
    identity = exact_members(critical["identity"], ("docker-reference",), what=f"{_WHAT}: identity")
    image = exact_members(critical["image"], ("docker-manifest-digest",), what=f"{_WHAT}: image")
    if critical["type"] != PAYLOAD_TYPE:
        raise IntegrityError(f"{_WHAT}: its type is not {PAYLOAD_TYPE!r}")
    _check_optional(root["optional"])
    name = as_text(identity["docker-reference"], what=f"{_WHAT}: docker-reference")
    digest = as_text(image["docker-manifest-digest"], what=f"{_WHAT}: docker-manifest-digest")
    return SimpleSigning(reference=_parse_identity(name), digest=Digest(digest))


def _check_optional(value: object) -> None:
    if value is None:
        return
    for key, entry in as_object(value, what=f"{_WHAT}: optional").items():
        if isinstance(entry, dict | list):
            raise IntegrityError(f"{_WHAT}: optional member {key[:60]!r} is not flat")


def _parse_identity(text: str) -> Reference:
    try:
        return parse_reference(text)
    except UsageError as error:
        raise IntegrityError(f"{_WHAT}: docker-reference is no image reference") from error

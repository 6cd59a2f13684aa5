"""Sigstore bundles v0.3 with a DSSE envelope, signed with a key: the writer and a strict reader."""

import json
from dataclasses import dataclass

from ci_registry.attestations.dsse import Envelope, parse_envelope
from ci_registry.attestations.shape import exact_members
from ci_registry.errors import IntegrityError
from ci_registry.oci.media_types import SIGSTORE_BUNDLE
from ci_registry.strict import as_list, as_text, parse_json

MAX_BUNDLE_BYTES = 4 * 1024 * 1024
_WHAT = "sigstore bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An envelope and a hint which key signed it; the hint decides nothing."""

    envelope: Envelope
    hint: str


def write_bundle(bundle: Bundle) -> bytes:
    """Return the bundle as compact JSON, without `keyid` (cosign 3 skips signatures that have one)."""
    document = {
        "mediaType": SIGSTORE_BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": bundle.hint}, "tlogEntries": []},
        "dsseEnvelope": bundle.envelope.to_json(),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def parse_bundle(data: bytes, *, max_bytes: int = MAX_BUNDLE_BYTES) -> Bundle:
    """Parse a bundle: exact members, exactly one signature, and a public key instead of a certificate.

    Log entries and timestamps are accepted and ignored: with a key they decide nothing.

    Raises:
        IntegrityError: it breaks one of these rules.
    """
    root = exact_members(
        parse_json(data, what=_WHAT, max_bytes=max_bytes),
        ("mediaType", "verificationMaterial", "dsseEnvelope"),
        what=_WHAT,
    )
    if root["mediaType"] != SIGSTORE_BUNDLE:
        raise IntegrityError(f"{_WHAT}: its mediaType is not {SIGSTORE_BUNDLE!r}")
    material = exact_members(
        root["verificationMaterial"],
        ("publicKey",),
        optional=("tlogEntries", "timestampVerificationData"),
        what=f"{_WHAT}: verificationMaterial",
    )
    as_list(material.get("tlogEntries", []), what=f"{_WHAT}: tlogEntries")
    key = exact_members(material["publicKey"], (), optional=("hint",), what=f"{_WHAT}: publicKey")
    return Bundle(
        envelope=parse_envelope(root["dsseEnvelope"]),
        hint=as_text(key.get("hint", ""), what=f"{_WHAT}: hint"),
    )

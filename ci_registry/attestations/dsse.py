"""DSSE envelopes: the encoding that is signed, the writer, and a strict reader."""

import json
from dataclasses import dataclass

from ci_registry.attestations.shape import decode_base64, encode_base64, exact_members
from ci_registry.errors import IntegrityError
from ci_registry.strict import as_list, as_text

IN_TOTO = "application/vnd.in-toto+json"
_WHAT = "DSSE envelope"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload with its type and signatures; a `keyid` is never written and ignored when read."""

    payload: bytes
    payload_type: str
    signatures: tuple[bytes, ...]

    @property
    def signed_bytes(self) -> bytes:
        """What the signatures are over."""
        return pre_authentication_encoding(self.payload_type, self.payload)

    def to_json(self) -> dict[str, object]:
        """Return the JSON object of the DSSE specification."""
        return {
            "payload": encode_base64(self.payload),
            "payloadType": self.payload_type,
            "signatures": [{"sig": encode_base64(signature)} for signature in self.signatures],
        }


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the PAE of the DSSE specification; lengths count bytes, not characters."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def write_envelope(envelope: Envelope) -> bytes:
    """Return the envelope as compact JSON."""
    return json.dumps(envelope.to_json(), separators=(",", ":")).encode()


def parse_envelope(value: object, *, max_signatures: int = 1) -> Envelope:
    """Parse an envelope from parsed JSON: exact members, in-toto payload type, canonical base64.

    Args:
        value: the JSON value; parse the bytes with `strict.parse_json`.
        max_signatures: how many signatures it may carry; a Sigstore bundle has exactly one.

    Raises:
        IntegrityError: it breaks one of these rules, or has no signature.
    """
    data = exact_members(value, ("payload", "payloadType", "signatures"), what=_WHAT)
    if data["payloadType"] != IN_TOTO:
        raise IntegrityError(f"{_WHAT}: its payloadType is not {IN_TOTO!r}")
    entries = as_list(data["signatures"], what=f"{_WHAT}: signatures")
    if not 1 <= len(entries) <= max_signatures:
        raise IntegrityError(f"{_WHAT}: {len(entries)} signatures, expected {max_signatures}")
    text = as_text(data["payload"], what=f"{_WHAT}: payload")
    return Envelope(
        payload=decode_base64(text, what=f"{_WHAT}: payload", url_safe=True),
        payload_type=IN_TOTO,
        signatures=tuple(_parse_signature(entry) for entry in entries),
    )


def _parse_signature(value: object) -> bytes:
    what = f"{_WHAT}: signature"
    data = exact_members(value, ("sig",), optional=("keyid",), what=what)
    as_text(data.get("keyid", ""), what=f"{what}: keyid")
    return decode_base64(as_text(data["sig"], what=what), what=what, url_safe=True)

"""Checks of ECDSA P-256 signatures: strict DER first, then the curve.

The signature bytes are no identity: whoever has (r, s) also has (r, n - s), and both verify.
"""

import hashlib
from typing import TYPE_CHECKING

from ci_registry.attestations.shape import encode_base64
from ci_registry.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_LONGEST_DER = 72
_SEQUENCE, _INTEGER = 0x30, 0x02


def _read_integer(data: bytes, start: int, name: str) -> tuple[int, int]:
    """Return one DER INTEGER of a signature and where the next element starts."""
    if len(data) < start + 2 or data[start] != _INTEGER:
        raise SignatureError(f"signature: {name} is not a DER integer")
    end = start + 2 + data[start + 1]
    body = data[start + 2 : end]
    if data[start + 1] > 33 or len(data) < end or not body:
        raise SignatureError(f"signature: {name} has a wrong DER length")
    if body[0] & 0x80 or (body[0] == 0 and len(body) > 1 and not body[1] & 0x80):
        raise SignatureError(f"signature: {name} is not in its one DER form")
    value = int.from_bytes(body, "big")
    if not 0 < value < P256_ORDER:
        raise SignatureError(f"signature: {name} is out of range")
    return value, end


def parse_der_signature(signature: bytes) -> tuple[int, int]:
    """Return (r, s) of a P-256 signature in its one DER form; a high s is allowed.

    Raises:
        SignatureError: empty, raw r‖s, BER, trailing bytes, r or s zero or not below the group order.
    """
    if not signature:
        raise SignatureError("signature: empty")
    if len(signature) > _LONGEST_DER or len(signature) < 2 or signature[0] != _SEQUENCE:
        raise SignatureError("signature: not an ASN.1 DER signature of P-256")
    if signature[1] != len(signature) - 2:
        raise SignatureError("signature: wrong DER length")
    r, start = _read_integer(signature, 2, "r")
    s, end = _read_integer(signature, start, "s")
    if end != len(signature):
        raise SignatureError("signature: bytes after s")
    return r, s


def is_signed_by(key: "EllipticCurvePublicKey", signature: bytes, payload: bytes) -> bool:
    """Whether `signature` (strict DER) over SHA-256 of `payload` was made with the P-256 key `key`.

    Raises:
        SignatureError: the signature is no strict DER.
    """
    from cryptography.exceptions import (  # noqa: PLC0415 - loading OpenSSL takes 30 ms
        InvalidSignature,
    )
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415 - as above

    parse_der_signature(signature)
    try:
        key.verify(signature, payload, ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def public_key_der(key: "EllipticCurvePublicKey") -> bytes:
    """Return the SubjectPublicKeyInfo of a key, DER."""
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - as above
        Encoding,
        PublicFormat,
    )

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_hint(der: bytes) -> str:
    """Return the hint of a public key in a Sigstore bundle: base64 of SHA-256 over its DER."""
    return encode_base64(hashlib.sha256(der).digest())


def fingerprint(der: bytes) -> str:
    """Return a short name of a public key for people: `sha256:` and twelve hexadecimal digits."""
    return f"sha256:{hashlib.sha256(der).hexdigest()[:12]}"

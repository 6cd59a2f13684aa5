"""What a signer is: it holds a key and signs bytes; the formats around the bytes are in `attestations/`."""

from typing import Protocol


class Signer(Protocol):
    """Signs with one key."""

    @property
    def public_key_pem(self) -> bytes:
        """The public key, SubjectPublicKeyInfo PEM."""

    def sign(self, payload: bytes) -> bytes:
        """Return the signature over SHA-256 of `payload`: ECDSA P-256, ASN.1 DER, deterministic (RFC 6979)."""

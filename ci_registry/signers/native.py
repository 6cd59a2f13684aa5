"""Signs in this process with an ECDSA P-256 key, as cosign does."""

from typing import TYPE_CHECKING

from ci_registry.errors import SetupError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


class NativeSigner:
    """A `Signer` that holds the private key in memory; the key never leaves the object."""

    __slots__ = ("_key", "_public_key_pem")

    def __init__(self, key: "EllipticCurvePrivateKey") -> None:
        """Take a P-256 key; `keys.load_private_key` has checked the curve."""
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - loading OpenSSL takes 30 ms
            Encoding,
            PublicFormat,
        )

        self._key = key
        self._public_key_pem = key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def public_key_pem(self) -> bytes:
        """The public key, SubjectPublicKeyInfo PEM."""
        return self._public_key_pem

    def sign(self, payload: bytes) -> bytes:
        """Return the DER signature over SHA-256 of `payload`; the same payload gives the same bytes.

        Deterministic nonces (RFC 6979) make a second run write nothing new and need no randomness.

        Raises:
            SetupError: the OpenSSL below `cryptography` is older than 3.2 and can't do that.
        """
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415 - as above

        try:
            algorithm = ECDSA(hashes.SHA256(), deterministic_signing=True)
            return self._key.sign(payload, algorithm)
        except UnsupportedAlgorithm as error:
            raise SetupError(
                "the installed cryptography can't make deterministic signatures",
                hint="install the wheel from PyPI, or build it against OpenSSL 3.2 or newer",
            ) from error


def generate_signer() -> NativeSigner:
    """Make a signer whose key exists in memory only, for dry runs."""
    from cryptography.hazmat.primitives.asymmetric import (  # noqa: PLC0415 - loading OpenSSL takes 30 ms
        ec,
    )

    return NativeSigner(ec.generate_private_key(ec.SECP256R1()))

"""Signing keys: generated, encrypted as cosign does, and loaded with clear errors.

Nothing here asks for a password, and no message quotes key material.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.attestations.ecdsa import P256_ORDER
from ci_registry.attestations.shape import decode_base64, encode_base64, exact_members
from ci_registry.errors import IntegrityError, SetupError, StorageError
from ci_registry.files import read_file
from ci_registry.secret import Secret
from ci_registry.signers import secretbox
from ci_registry.signers.native import NativeSigner
from ci_registry.signers.pem import MAX_PEM_BYTES, PemBlock, parse_pem, write_pem
from ci_registry.strict import as_text, parse_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

ENCRYPTED_LABEL = "ENCRYPTED SIGSTORE PRIVATE KEY"
ENCRYPTED_LABELS = frozenset({ENCRYPTED_LABEL, "ENCRYPTED COSIGN PRIVATE KEY"})
SCRYPT_PARAMETERS = frozenset({(32768, 8, 1), (65536, 8, 1), (131072, 8, 1)})
"""(N, r, p) that cosign knows; checked before deriving, so that a key file can't eat the memory."""
PASSWORD_VARIABLE = "COSIGN_PASSWORD"  # noqa: S105 - the name of a variable
_SCRYPT_DEFAULT = (65536, 8, 1)
_SCRYPT_BYTES = 256 << 20
"""More than the largest parameters need: 128 · N · r."""
_SALT_BYTES = 32
_WHAT = "the signing key"
_HOW_TO_MAKE = "make one with `ci-registry keys generate` or `cosign generate-key-pair`"
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A new key: the private half encrypted, the public half to give away."""

    private_pem: Secret
    public_pem: bytes


def generate_key_pair(password: Secret, random: Callable[[int], bytes]) -> KeyPair:
    """Make an ECDSA P-256 key; the private half is an encrypted key file that cosign loads too.

    Args:
        password: encrypts the private half; may be empty, as with cosign.
        random: returns that many random bytes (`secrets.token_bytes`).
    """
    from cryptography.hazmat.primitives.asymmetric import (  # noqa: PLC0415 - loading OpenSSL takes 30 ms
        ec,
    )
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - as above
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    # FIPS 186-5, A.2.1: 128 extra random bits make the remainder uniform enough.
    scalar = int.from_bytes(random(48), "big") % (P256_ORDER - 1) + 1
    key = ec.derive_private_key(scalar, ec.SECP256R1())
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(
        private_pem=Secret(write_pem(ENCRYPTED_LABEL, _encrypt(der, password, random))),
        public_pem=NativeSigner(key).public_key_pem,
    )


def load_private_key(pem: Secret, password: Secret | None) -> NativeSigner:
    """Return a signer for an encrypted cosign key or an unencrypted PKCS#8 key, ECDSA P-256 only.

    Args:
        pem: the text of the key file.
        password: None when none was given, which is not the same as an empty one.

    Raises:
        SetupError: anything is wrong with it; the message holds nothing of the key.
    """
    block = _one_block(parse_pem(pem.reveal(), what=_WHAT), _WHAT)
    if block.label in ENCRYPTED_LABELS:
        if password is None:
            raise SetupError(
                "the signing key is encrypted and no password was given",
                hint="set COSIGN_PASSWORD; an empty password must be set too, as an empty value",
            )
        return NativeSigner(_parse_pkcs8(_decrypt(block.content, password)))
    if block.label == "PRIVATE KEY":
        return NativeSigner(_parse_pkcs8(block.content))
    raise SetupError(
        f"{_WHAT} is not a private key that can be used: found {block.label!r}",
        hint=_private_hint(block.label),
    )


def load_public_key(pem: bytes) -> "EllipticCurvePublicKey":
    """Return the one ECDSA P-256 public key in `pem`.

    Raises:
        SetupError: it holds something else: a private key, a certificate, two keys, another curve.
    """
    what = "the public key"
    try:
        text = pem.decode("ascii")
    except UnicodeDecodeError as error:
        raise SetupError(f"{what} is not a PEM file: it is not ASCII text") from error
    return public_key_of(_one_block(parse_pem(text, what=what), what))


def public_key_of(block: PemBlock) -> "EllipticCurvePublicKey":
    """Return the ECDSA P-256 key in a `PUBLIC KEY` block; raises `SetupError` for anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - as above
        load_der_public_key,
    )

    if block.label != "PUBLIC KEY":
        raise SetupError(
            f"the public key is not a public key: found {block.label!r}",
            hint=_public_hint(block.label),
        )
    try:
        key = load_der_public_key(block.content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SetupError(
            "the public key is damaged: no valid point on a known curve", hint=_HOW_TO_MAKE
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SetupError("the public key is not an ECDSA P-256 key", hint=_HOW_TO_MAKE)
    return key


def read_key_source(source: str, env: Mapping[str, str], *, folder: Path = Path()) -> Secret | None:
    """Return the text of a key file, None when its source is absent.

    Args:
        source: `env://NAME` or a path.
        env: the environment; an empty variable counts as absent, as CI systems set missing secrets so.
        folder: what a relative path is relative to.

    Raises:
        SetupError: the source is there but can't be used, or is of an unknown kind.
    """
    if source.startswith("env://"):
        name = source.removeprefix("env://")
        if not _ENV_NAME.fullmatch(name):
            raise SetupError(f"not the name of an environment variable: {name[:60]!r}")
        return Secret(env[name]) if env.get(name, "").strip() else None
    if scheme := _SCHEME.match(source):
        raise SetupError(
            f"keys from {scheme[1]}:// are not supported", hint="use env://NAME or a path"
        )
    if not source or "-----BEGIN" in source or "\x00" in source:
        raise SetupError(
            "the source of the signing key is neither env://NAME nor a path",
            hint="name where the key is, never the key itself",
        )
    return _read_key_file(folder / source)


def read_password(env: Mapping[str, str]) -> Secret | None:
    """Return the password of the signing key, None when `COSIGN_PASSWORD` is not set at all."""
    return Secret(env[PASSWORD_VARIABLE]) if PASSWORD_VARIABLE in env else None


def _read_key_file(path: Path) -> Secret | None:
    try:
        if not path.exists():
            return None
        return Secret(read_file(path, max_bytes=MAX_PEM_BYTES).decode("ascii"))
    except (StorageError, OSError) as error:
        raise SetupError(f"cannot read the key file {path}: {error}") from error
    except UnicodeDecodeError:
        # Without the cause: it would carry the bytes of the file.
        raise SetupError(f"the key file {path} is not a PEM file: it is not text") from None


def _one_block(blocks: tuple[PemBlock, ...], what: str) -> PemBlock:
    if len(blocks) != 1:
        raise SetupError(f"{what} has {len(blocks)} PEM blocks, expected one")
    return blocks[0]


def _private_hint(label: str) -> str:
    if label == "PUBLIC KEY":
        return "this is the public half; the private half is usually called cosign.key"
    if label in ("EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"):
        return "convert it: openssl pkcs8 -topk8 -nocrypt, or cosign import-key-pair"
    return _HOW_TO_MAKE


def _public_hint(label: str) -> str:
    if "PRIVATE KEY" in label:
        return "remove it from there; the public half is usually called cosign.pub"
    if "CERTIFICATE" in label:
        return "take the key out of it: openssl x509 -pubkey -noout"
    return "expected a PUBLIC KEY block, as in cosign.pub"


def _parse_pkcs8(der: bytes) -> "EllipticCurvePrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - as above
        load_der_private_key,
    )

    try:
        key = load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SetupError(f"{_WHAT} is damaged: no PKCS#8 key", hint=_HOW_TO_MAKE) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SetupError(f"{_WHAT} is not an ECDSA P-256 key", hint=_HOW_TO_MAKE)
    return key


def _derive(password: Secret, salt: bytes, parameters: tuple[int, int, int]) -> bytes:
    n, r, p = parameters
    secret, size = password.reveal().encode(), secretbox.KEY_BYTES
    try:  # at hand already; it lets other threads run, such as one that imports cryptography
        return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=_SCRYPT_BYTES, dklen=size)
    except (AttributeError, ValueError):  # Python was built, or is run, with an OpenSSL without it
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt  # noqa: PLC0415 - as above

        return Scrypt(salt=salt, length=size, n=n, r=r, p=p).derive(secret)


def _encrypt(der: bytes, password: Secret, random: Callable[[int], bytes]) -> bytes:
    salt, nonce = random(_SALT_BYTES), random(secretbox.NONCE_BYTES)
    n, r, p = _SCRYPT_DEFAULT
    box = secretbox.seal(_derive(password, salt, _SCRYPT_DEFAULT), nonce, der)
    document = {
        "kdf": {
            "name": "scrypt",
            "params": {"N": n, "r": r, "p": p},
            "salt": encode_base64(salt),
        },
        "cipher": {"name": "nacl/secretbox", "nonce": encode_base64(nonce)},
        "ciphertext": encode_base64(box),
    }
    return json.dumps(document, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _EncryptedKey:
    """The content of an encrypted key file, with its parameters already allowed."""

    parameters: tuple[int, int, int]
    salt: bytes
    nonce: bytes
    box: bytes


def _decrypt(content: bytes, password: Secret) -> bytes:
    try:
        key = _parse_encrypted(content)
    except IntegrityError:
        raise SetupError(
            f"{_WHAT} is damaged: not an encrypted key file of cosign", hint=_HOW_TO_MAKE
        ) from None
    try:
        return secretbox.open_box(_derive(password, key.salt, key.parameters), key.nonce, key.box)
    except secretbox.WrongKeyError:
        which = "COSIGN_PASSWORD" if password else "COSIGN_PASSWORD, which is empty"
        raise SetupError("wrong password for the signing key", hint=f"check {which}") from None


def _parse_encrypted(content: bytes) -> _EncryptedKey:
    root = exact_members(
        parse_json(content, what=_WHAT), ("kdf", "cipher", "ciphertext"), what=_WHAT
    )
    kdf = exact_members(root["kdf"], ("name", "params", "salt"), what=_WHAT)
    cipher = exact_members(root["cipher"], ("name", "nonce"), what=_WHAT)
    params = exact_members(kdf["params"], ("N", "r", "p"), what=_WHAT)
    if kdf["name"] != "scrypt" or cipher["name"] != "nacl/secretbox":
        raise SetupError(f"{_WHAT} is encrypted in an unknown way", hint=_HOW_TO_MAKE)
    parameters = (params["N"], params["r"], params["p"])
    known = next((p for p in SCRYPT_PARAMETERS if p == parameters), None)
    if known is None:
        raise SetupError(
            f"{_WHAT} asks for scrypt parameters that cosign does not use", hint=_HOW_TO_MAKE
        )
    salt, nonce, box = (
        decode_base64(as_text(text, what=_WHAT), what=_WHAT)
        for text in (kdf["salt"], cipher["nonce"], root["ciphertext"])
    )
    if len(salt) != _SALT_BYTES or len(nonce) != secretbox.NONCE_BYTES:
        raise SetupError(f"{_WHAT} is damaged: salt or nonce has a wrong size", hint=_HOW_TO_MAKE)
    return _EncryptedKey(parameters=known, salt=salt, nonce=nonce, box=box)

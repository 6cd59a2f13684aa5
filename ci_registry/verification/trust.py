"""Whose signatures count: public keys, read from a file or the environment; never a private key."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ci_registry.attestations.ecdsa import fingerprint, is_signed_by, public_key_der
from ci_registry.errors import SetupError
from ci_registry.signers.keys import public_key_of
from ci_registry.signers.pem import parse_pem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

_HINT = "set `trust` to env://NAME or to the path of a public key such as cosign.pub"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """One ECDSA P-256 public key."""

    key: "EllipticCurvePublicKey"
    fingerprint: str
    """`sha256:` and twelve hexadecimal digits, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKeys:
    """A signature by any of these keys counts; there is at least one."""

    keys: tuple[TrustedKey, ...]
    source: str
    """Where they came from, for people."""

    def signer_of(self, signature: bytes, signed_bytes: bytes) -> TrustedKey | None:
        """Return the key that made a signature, None when it was none of these.

        Raises:
            SignatureError: the signature is no strict DER.
        """
        for trusted in self.keys:
            if is_signed_by(trusted.key, signature, signed_bytes):
                return trusted
        return None


def parse_trust(pem: bytes, source: str) -> TrustedKeys:
    """Return the keys in PEM text; several `PUBLIC KEY` blocks mean any of them.

    Raises:
        SetupError: a block is no ECDSA P-256 public key, or the text is no PEM.
    """
    try:
        text = pem.decode("ascii")
    except UnicodeDecodeError as error:
        raise SetupError(f"the public key in {source} is not text") from error
    found: dict[str, TrustedKey] = {}
    for block in parse_pem(text, what=f"the public key in {source}"):
        key = public_key_of(block)
        name = fingerprint(public_key_der(key))
        found[name] = TrustedKey(key=key, fingerprint=name)
    return TrustedKeys(keys=tuple(found.values()), source=source)


def find_trust(
    source: str, env: Mapping[str, str], read: Callable[[str], bytes | None]
) -> TrustedKeys | None:
    """Return the trusted keys, None when their source is absent.

    Args:
        source: `env://NAME` or a path.
        env: the environment; an empty variable counts as absent.
        read: returns the file at a path, None when there is none; it decides from which git ref.

    Raises:
        SetupError: the source is there, but holds something else than public keys.
    """
    if not source:
        return None
    if source.startswith("env://"):
        value = env.get(source.removeprefix("env://"), "")
        return parse_trust(value.encode(), source) if value.strip() else None
    if "://" in source:
        raise SetupError(
            f"public keys from {source.partition('://')[0]}:// are not supported", hint=_HINT
        )
    data = read(source)
    return None if data is None else parse_trust(data, source)


def load_trust(
    source: str, env: Mapping[str, str], read: Callable[[str], bytes | None]
) -> TrustedKeys:
    """Return the trusted keys as `find_trust` does, and insist on them.

    Raises:
        SetupError: there are none, or they can't be used.
    """
    found = find_trust(source, env, read)
    if found is None:
        raise SetupError(
            f"no public key to verify with: {source or 'trust'} is not set", hint=_HINT
        )
    return found

"""Every signer keeps the promises of `signers.interface.Signer`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ci_registry.attestations.ecdsa import is_signed_by, parse_der_signature
from ci_registry.secret import Secret
from ci_registry.signers.attach import sign_image
from ci_registry.signers.interface import Signer
from ci_registry.signers.keys import (
    generate_key_pair,
    load_private_key,
    load_public_key,
    read_key_source,
)
from ci_registry.signers.native import generate_signer
from ci_registry.verification.read_back import verify_signed_by
from tests.support.memory_repository import MemoryRepository
from tests.support.signing import CREATED_AT, HERE, add_image


def _from_encrypted_file(folder: Path) -> Signer:
    pair = generate_key_pair(Secret("pw"), lambda count: b"\x07" * count)
    (folder / "cosign.key").write_text(pair.private_pem.reveal())
    pem = read_key_source("cosign.key", {}, folder=folder)
    assert pem is not None
    return load_private_key(pem, Secret("pw"))


def _from_pkcs8_in_the_environment(_folder: Path) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    pem = read_key_source("env://KEY", {"KEY": text})
    assert pem is not None
    return load_private_key(pem, None)


def _throw_away(_folder: Path) -> Signer:
    return generate_signer()


SIGNERS: dict[str, Callable[[Path], Signer]] = {
    "native, encrypted key file": _from_encrypted_file,
    "native, PKCS#8 variable": _from_pkcs8_in_the_environment,
    "native, in memory only": _throw_away,
}


@pytest.fixture(params=list(SIGNERS))
def signer(request: pytest.FixtureRequest, tmp_path: Path) -> Signer:
    return SIGNERS[request.param](tmp_path)


@pytest.mark.parametrize("payload", [b"", b"x", b"\x00\xff" * 5000])
def test_signature_is_strict_der_and_verifies_with_the_public_key(
    signer: Signer, payload: bytes
) -> None:
    signature = signer.sign(payload)
    parse_der_signature(signature)
    assert is_signed_by(load_public_key(signer.public_key_pem), signature, payload)


def test_two_throw_away_keys_differ() -> None:
    assert generate_signer().public_key_pem != generate_signer().public_key_pem


def test_same_payload_gives_the_same_signature(signer: Signer) -> None:
    assert signer.sign(b"payload") == signer.sign(b"payload")
    assert signer.sign(b"payload") != signer.sign(b"payloae")


def test_public_key_never_changes_and_nothing_prints_the_private_one(signer: Signer) -> None:
    assert signer.public_key_pem == signer.public_key_pem
    assert signer.public_key_pem.startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert "PRIVATE" not in repr(signer)


def test_image_signed_with_it_reads_back(signer: Signer) -> None:
    repository = MemoryRepository()
    image = add_image(repository)
    sign_image(repository, image, (HERE,), signer, created_at=CREATED_AT)
    assert verify_signed_by(repository, image, (HERE,), signer.public_key_pem).valid

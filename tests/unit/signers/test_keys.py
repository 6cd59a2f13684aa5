"""Key files: made, loaded, refused with one clear line (S11, S12)."""

import base64
import hashlib
import json
import secrets
import traceback
from collections.abc import Callable
from typing import Any

import nacl.secret
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.kdf import scrypt

from ci_registry.errors import ExitCode, SetupError
from ci_registry.secret import Secret
from ci_registry.signers.keys import generate_key_pair, load_private_key, load_public_key
from ci_registry.signers.pem import parse_pem, write_pem
from tests.support.signing import PASSWORD, key_pair, signer

ENCRYPTED = key_pair("ours").private_pem


def pkcs8(key: Any) -> bytes:
    return bytes(
        key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def spki(key: Any) -> bytes:
    return bytes(
        key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()


def refused(pem: str | Secret, password: Secret | None = PASSWORD) -> SetupError:
    secret = pem if isinstance(pem, Secret) else Secret(pem)
    with pytest.raises(SetupError) as caught:
        load_private_key(secret, password)
    assert caught.value.exit_code is ExitCode.CONFIG
    assert "\n" not in caught.value.message
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    for line in secret.reveal().splitlines():
        assert len(line) < 20 or line.startswith("-----") or line not in shown
    return caught.value


def test_key_that_was_made_is_loaded_with_its_password() -> None:
    pair = key_pair("ours")
    loaded = load_private_key(pair.private_pem, PASSWORD)
    assert loaded.public_key_pem == pair.public_pem == signer().public_key_pem
    assert loaded.sign(b"x") == signer().sign(b"x")


def test_key_file_looks_as_cosign_writes_it() -> None:
    block = parse_pem(ENCRYPTED.reveal(), what="key")[0]
    assert block.label == "ENCRYPTED SIGSTORE PRIVATE KEY"
    document = json.loads(block.content)
    assert document["kdf"]["params"] == {"N": 65536, "r": 8, "p": 1}
    assert (document["kdf"]["name"], document["cipher"]["name"]) == ("scrypt", "nacl/secretbox")
    assert len(base64.b64decode(document["kdf"]["salt"])) == 32
    assert len(base64.b64decode(document["cipher"]["nonce"])) == 24
    assert max(len(line) for line in ENCRYPTED.reveal().splitlines()) <= 64


def test_two_keys_are_never_the_same_and_print_nothing() -> None:
    first, second = (generate_key_pair(Secret(""), secrets.token_bytes) for _ in range(2))
    assert first.public_pem != second.public_pem
    assert "PRIVATE" not in repr(first)
    assert load_private_key(first.private_pem, Secret("")).public_key_pem == first.public_pem


@pytest.mark.parametrize("n", [32768, 65536, 131072])
def test_file_made_by_other_libraries_is_read_with_every_cost_that_cosign_used(n: int) -> None:
    salt, nonce, password = b"s" * 32, b"n" * 24, "päss wörd"
    derived = hashlib.scrypt(password.encode(), salt=salt, n=n, r=8, p=1, maxmem=2**28, dklen=32)
    box = nacl.secret.SecretBox(derived).encrypt(pkcs8(P256), nonce).ciphertext
    salt_text, nonce_text, box_text = (base64.b64encode(b).decode() for b in (salt, nonce, box))
    document = {
        "kdf": {"name": "scrypt", "params": {"N": n, "r": 8, "p": 1}, "salt": salt_text},
        "cipher": {"name": "nacl/secretbox", "nonce": nonce_text},
        "ciphertext": box_text,
    }
    pem = write_pem("ENCRYPTED COSIGN PRIVATE KEY", json.dumps(document).encode())
    loaded = load_private_key(Secret(pem), Secret(password))
    assert load_public_key(loaded.public_key_pem) == P256.public_key()


def test_older_label_and_windows_line_ends_are_read() -> None:
    text = ENCRYPTED.reveal().replace("SIGSTORE", "COSIGN").replace("\n", "\r\n")
    assert load_private_key(Secret(text), PASSWORD).public_key_pem == signer().public_key_pem


def test_unencrypted_pkcs8_is_read_whether_a_password_is_set_or_not() -> None:
    pem = Secret(write_pem("PRIVATE KEY", pkcs8(P256)))
    for password in (None, Secret(""), PASSWORD):
        public = load_public_key(load_private_key(pem, password).public_key_pem)
        assert public == P256.public_key()


def test_wrong_password_is_one_clear_line() -> None:
    error = refused(ENCRYPTED, Secret("wrong"))
    assert error.headline == "wrong password for the signing key"
    assert error.hint == "check COSIGN_PASSWORD"


def test_unset_password_is_not_an_empty_one() -> None:
    assert "no password was given" in refused(ENCRYPTED, None).message
    assert "which is empty" in refused(ENCRYPTED, Secret("")).hint


def encrypted_with(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(parse_pem(ENCRYPTED.reveal(), what="key")[0].content)
    change(document)
    return write_pem("ENCRYPTED SIGSTORE PRIVATE KEY", json.dumps(document).encode())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d["kdf"]["params"].update(N=2**30), id="N eats the memory"),
        pytest.param(lambda d: d["kdf"]["params"].update(r=2**20), id="r eats the memory"),
        pytest.param(lambda d: d["kdf"]["params"].update(p=2**20), id="p eats the time"),
        pytest.param(lambda d: d["kdf"]["params"].update(N=16384), id="too weak for cosign"),
        pytest.param(lambda d: d["kdf"]["params"].update(N="65536"), id="N is text"),
        pytest.param(lambda d: d["kdf"]["params"].pop("p"), id="no p"),
        pytest.param(lambda d: d["kdf"].update(name="pbkdf2"), id="other derivation"),
        pytest.param(lambda d: d["cipher"].update(name="aes"), id="other cipher"),
        pytest.param(lambda d: d["cipher"].update(nonce="AAAA"), id="short nonce"),
        pytest.param(lambda d: d["kdf"].update(salt=""), id="empty salt"),
        pytest.param(lambda d: d["kdf"].update(salt=5), id="salt no text"),
        pytest.param(lambda d: d.update(ciphertext="?"), id="ciphertext no base64"),
        pytest.param(lambda d: d.update(extra=1), id="unknown member"),
        pytest.param(lambda d: d.pop("kdf"), id="no kdf"),
    ],
)
def test_key_files_out_of_bounds_are_refused_before_deriving(
    change: Callable[[dict[str, Any]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def derive(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("derived a key with foreign parameters")

    monkeypatch.setattr(scrypt, "Scrypt", derive)
    refused(encrypted_with(change))


def test_damaged_ciphertext_is_refused() -> None:
    refused(encrypted_with(lambda d: d.update(ciphertext="AAAA")))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "expected a block"),
        ("not a key", "expected a block"),
        (ENCRYPTED.reveal().replace("\n", "\\n"), "written out instead of line breaks"),
        (base64.b64encode(ENCRYPTED.reveal().encode()).decode(), "base64-encoded"),
        ("/builds/team/app.tmp/COSIGN_PRIVATE_KEY", "looks like a path"),
        (ENCRYPTED.reveal()[:200], "expected a block"),
        (ENCRYPTED.reveal() * 2, ""),
        (ENCRYPTED.reveal() + "-----BEGIN X-----\n", "expected a block"),
        (write_pem("ENCRYPTED SIGSTORE PRIVATE KEY", b"not JSON"), "ci-registry keys generate"),
        (write_pem("ENCRYPTED SIGSTORE PRIVATE KEY", b"[" * 40_000), "ci-registry keys generate"),
        ("-----BEGIN PRIVATE KEY-----\n====\n-----END PRIVATE KEY-----\n", ""),
        (write_pem("PRIVATE KEY", b"no DER"), "ci-registry keys generate"),
        (write_pem("PRIVATE KEY", pkcs8(P384)), "ci-registry keys generate"),
        (write_pem("PRIVATE KEY", pkcs8(ED25519)), "ci-registry keys generate"),
        (write_pem("PUBLIC KEY", spki(P256)), "the public half"),
        (write_pem("EC PRIVATE KEY", b"x"), "openssl pkcs8"),
        (write_pem("ENCRYPTED PRIVATE KEY", b"x"), "openssl pkcs8"),
        ("-" * 70_000, ""),
        ("-----BEGIN X-----" + "\n" * 40_000, "expected a block"),
    ],
)
def test_what_is_no_signing_key_is_refused_with_a_way_out(text: str, hint: str) -> None:
    assert hint in refused(text).hint


def test_rsa_key_of_cosign_is_refused_by_its_kind() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert "not an ECDSA P-256 key" in refused(write_pem("PRIVATE KEY", pkcs8(key))).message


OFF_CURVE = bytearray(spki(P256))
OFF_CURVE[-1] ^= 1


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (write_pem("PRIVATE KEY", pkcs8(P256)), "found 'PRIVATE KEY'"),
        (ENCRYPTED.reveal(), "found 'ENCRYPTED SIGSTORE PRIVATE KEY'"),
        (write_pem("CERTIFICATE", b"x"), "found 'CERTIFICATE'"),
        (write_pem("PUBLIC KEY", spki(P256)) * 2, "2 PEM blocks"),
        (write_pem("PUBLIC KEY", spki(P384)), "not an ECDSA P-256 key"),
        (write_pem("PUBLIC KEY", spki(ED25519)), "not an ECDSA P-256 key"),
        (write_pem("PUBLIC KEY", bytes(OFF_CURVE)), "damaged"),
        (write_pem("PUBLIC KEY", spki(P256)[:-1]), "damaged"),
        (write_pem("PUBLIC KEY", b""), "damaged"),
        ("\N{SNOWMAN}", "not ASCII"),
        ("", "not a PEM file"),
    ],
)
def test_what_is_no_public_key_is_refused(pem: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        load_public_key(pem.encode())

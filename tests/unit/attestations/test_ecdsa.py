"""Signatures: strict DER, then the curve (S8)."""

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.attestations.ecdsa import P256_ORDER, is_signed_by, parse_der_signature
from ci_registry.errors import SignatureError
from ci_registry.signers.keys import load_public_key
from tests.support.signing import signer

KEY = load_public_key(signer().public_key_pem)
GOOD = signer().sign(b"payload")
R, S = parse_der_signature(GOOD)


def raw(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def der(*integers: bytes) -> bytes:
    body = b"".join(b"\x02" + bytes([len(i)]) + i for i in integers)
    return b"\x30" + bytes([len(body)]) + body


def body_of(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def test_own_signature_verifies() -> None:
    assert is_signed_by(KEY, GOOD, b"payload")
    assert not is_signed_by(KEY, GOOD, b"payloaf")


def test_high_s_is_accepted_because_both_forms_verify_everywhere() -> None:
    assert is_signed_by(KEY, encode_dss_signature(R, P256_ORDER - S), b"payload")


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(b"", id="empty"),
        pytest.param(raw(R, S), id="raw r|s, which cosign accepts"),
        pytest.param(GOOD + b"\x00", id="trailing byte"),
        pytest.param(GOOD[:-1], id="cut short"),
        pytest.param(der(b"\x01", b"\x01", b"\x01"), id="third integer"),
        pytest.param(der(b"\x00" + body_of(R), body_of(S)), id="integer with a spare zero"),
        pytest.param(der(body_of(R).lstrip(b"\x00"), b"\x80" * 32), id="negative s"),
        pytest.param(b"\x30\x81" + GOOD[1:], id="long form of the length"),
        pytest.param(b"\x30\x80" + GOOD[2:] + b"\x00\x00", id="indefinite length"),
        pytest.param(der(b"\x00", body_of(S)), id="r is zero"),
        pytest.param(der(body_of(R), b"\x00"), id="s is zero"),
        pytest.param(der(body_of(P256_ORDER), body_of(S)), id="r is the group order"),
        pytest.param(der(body_of(R), body_of(P256_ORDER + 1)), id="s is over the group order"),
        pytest.param(der(b"", body_of(S)), id="empty integer"),
        pytest.param(b"\x31" + GOOD[1:], id="a set, not a sequence"),
        pytest.param(b"\x30\x02\x02\x21", id="integer longer than the signature"),
        pytest.param(b"\x30", id="one byte"),
        pytest.param(b"\x30" * 5000, id="long junk"),
    ],
)
def test_anything_but_the_one_der_form_is_refused(signature: bytes) -> None:
    with pytest.raises(SignatureError):
        is_signed_by(KEY, signature, b"payload")


@settings(max_examples=100, deadline=None)
@given(st.integers(1, P256_ORDER - 1), st.integers(1, P256_ORDER - 1))
def test_every_pair_in_its_one_form_is_read_back(r: int, s: int) -> None:
    assert parse_der_signature(encode_dss_signature(r, s)) == (r, s)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_what_is_accepted_is_exactly_what_an_encoder_writes(data: bytes) -> None:
    try:
        r, s = parse_der_signature(data)
    except SignatureError:
        return
    assert encode_dss_signature(r, s) == data

"""Our secretbox against PyNaCl's."""

import nacl.secret
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.signers.secretbox import WrongKeyError, open_box, seal

KEYS = st.binary(min_size=32, max_size=32)
NONCES = st.binary(min_size=24, max_size=24)


@settings(max_examples=60, deadline=None)
@given(KEYS, NONCES, st.binary(max_size=300))
def test_box_has_the_bytes_of_pynacl(key: bytes, nonce: bytes, message: bytes) -> None:
    box = seal(key, nonce, message)
    assert box == nacl.secret.SecretBox(key).encrypt(message, nonce).ciphertext
    assert open_box(key, nonce, box) == message


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 16 + 5 - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, difference: int) -> None:
    box = bytearray(seal(b"k" * 32, b"n" * 24, b"hello"))
    box[position] ^= difference
    with pytest.raises(WrongKeyError):
        open_box(b"k" * 32, b"n" * 24, bytes(box))


def test_box_shorter_than_its_tag_is_refused() -> None:
    with pytest.raises(WrongKeyError):
        open_box(b"k" * 32, b"n" * 24, b"short")


@pytest.mark.parametrize(("key", "nonce"), [(b"k" * 31, b"n" * 24), (b"k" * 32, b"n" * 23)])
def test_keys_and_nonces_have_one_size(key: bytes, nonce: bytes) -> None:
    with pytest.raises(ValueError, match="32-byte key"):
        seal(key, nonce, b"")

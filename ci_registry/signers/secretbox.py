"""NaCl secretbox (XSalsa20-Poly1305), the cipher of cosign's key files.

`cryptography` has Poly1305 but no XSalsa20; a key file has 138 bytes, so plain Python is fast enough.
"""

import struct

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
_QUARTERS = (
    (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11),
    (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14),
)  # fmt: skip


class WrongKeyError(ValueError):
    """The tag does not fit: another key, or changed bytes."""


def _rotate(value: int, bits: int) -> int:
    value &= _MASK
    return (value << bits | value >> (32 - bits)) & _MASK


def _matrix(key: bytes, block: bytes) -> list[int]:
    """Return the Salsa20 state for a 32-byte key and a 16-byte input block."""
    k, b = struct.unpack("<8I", key), struct.unpack("<4I", block)
    return [_SIGMA[0], *k[:4], _SIGMA[1], *b, _SIGMA[2], *k[4:], _SIGMA[3]]


def _twenty_rounds(state: list[int]) -> list[int]:
    x = list(state)
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            x[b] ^= _rotate(x[a] + x[d], 7)
            x[c] ^= _rotate(x[b] + x[a], 9)
            x[d] ^= _rotate(x[c] + x[b], 13)
            x[a] ^= _rotate(x[d] + x[c], 18)
    return x


def _hsalsa20(key: bytes, block: bytes) -> bytes:
    x = _twenty_rounds(_matrix(key, block))
    return struct.pack("<8I", *(x[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))


def _key_stream(key: bytes, nonce: bytes, size_bytes: int) -> bytes:
    """Return `size_bytes` of XSalsa20 key stream."""
    subkey = _hsalsa20(key, nonce[:16])
    stream = bytearray()
    for counter in range((size_bytes + 63) // 64):
        state = _matrix(subkey, nonce[16:] + struct.pack("<Q", counter))
        words = (a + b & _MASK for a, b in zip(_twenty_rounds(state), state, strict=True))
        stream += struct.pack("<16I", *words)
    return bytes(stream[:size_bytes])


def _xor(data: bytes, stream: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


def _check_sizes(key: bytes, nonce: bytes) -> None:
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError(f"secretbox takes a {KEY_BYTES}-byte key and a {NONCE_BYTES}-byte nonce")


def seal(key: bytes, nonce: bytes, message: bytes) -> bytes:
    """Encrypt `message`; the 16-byte tag comes first."""
    from cryptography.hazmat.primitives.poly1305 import (  # noqa: PLC0415 - loading OpenSSL takes 30 ms
        Poly1305,
    )

    _check_sizes(key, nonce)
    stream = _key_stream(key, nonce, KEY_BYTES + len(message))
    ciphertext = _xor(message, stream[KEY_BYTES:])
    return Poly1305.generate_tag(stream[:KEY_BYTES], ciphertext) + ciphertext


def open_box(key: bytes, nonce: bytes, box: bytes) -> bytes:
    """Check the tag, then decrypt.

    Raises:
        WrongKeyError: the box was not made with this key and nonce.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.poly1305 import Poly1305  # noqa: PLC0415 - as above

    _check_sizes(key, nonce)
    tag, ciphertext = box[:TAG_BYTES], box[TAG_BYTES:]
    if len(tag) != TAG_BYTES:
        raise WrongKeyError("box is shorter than its tag")
    stream = _key_stream(key, nonce, KEY_BYTES + len(ciphertext))
    try:
        Poly1305.verify_tag(stream[:KEY_BYTES], ciphertext, tag)
    except InvalidSignature:
        raise WrongKeyError("wrong key or changed bytes") from None
    return _xor(ciphertext, stream[KEY_BYTES:])

"""Hashing aside: the same digest, no thread for little, and none that stays behind."""

import threading

import pytest

from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import digest_of
from ci_registry.registry.content import verified
from ci_registry.registry.hashing import AsideHasher

PIECE = bytes(range(256)) * 4096


def hashing() -> int:
    return sum(thread.name == "hash" for thread in threading.enumerate())


@pytest.mark.parametrize("pieces", [0, 1, 4, 5, 40])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_digest_is_that_of_all_bytes(pieces: int, algorithm: str) -> None:
    hasher = AsideHasher(algorithm)
    for number in range(pieces):
        hasher.update(bytes([number]) + PIECE)
    assert hashing() == (1 if pieces >= 4 else 0)
    hasher.close()
    hasher.close()
    whole = b"".join(bytes([number]) + PIECE for number in range(pieces))
    assert hasher.digest == digest_of(whole, algorithm)
    assert hashing() == 0


def test_a_reader_that_stops_midway_leaves_no_thread() -> None:
    stream = verified((PIECE for _ in range(100)), digest_of(b""), what="blob")
    for _ in range(20):
        next(stream)
    assert hashing() == 1
    stream.close()  # type: ignore[attr-defined]
    assert hashing() == 0


def test_a_source_that_fails_midway_leaves_no_thread_and_its_own_error() -> None:
    def failing() -> object:
        for _ in range(20):
            yield PIECE
        raise IntegrityError("cut off")

    with pytest.raises(IntegrityError, match="cut off"):
        for _ in verified(failing(), digest_of(b""), what="blob"):  # type: ignore[arg-type]
            pass
    assert hashing() == 0


def test_damage_at_the_end_of_a_large_blob_keeps_its_last_piece_back() -> None:
    pieces = [*[PIECE] * 19, b"x" + PIECE[1:]]
    stream = verified(pieces, digest_of(PIECE * 20), what="blob")
    assert [next(stream) for _ in range(19)] == [PIECE] * 19
    with pytest.raises(IntegrityError, match="have digest"):
        next(stream)

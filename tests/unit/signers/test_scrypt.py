"""The key derivation of cosign's key files gives the same bytes with either library."""

import hashlib

import pytest

from ci_registry.secret import Secret
from ci_registry.signers import keys


@pytest.mark.parametrize("parameters", [(32768, 8, 1), (65536, 8, 1)])
def test_both_libraries_derive_the_same_key(
    parameters: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    password, salt = Secret("correct horse"), bytes(range(32))
    ours = keys._derive(password, salt, parameters)

    def refuse(*_: object, **__: object) -> bytes:
        raise ValueError("unsupported")

    monkeypatch.setattr(hashlib, "scrypt", refuse)
    assert keys._derive(password, salt, parameters) == ours


def test_the_largest_parameters_of_cosign_fit_into_the_memory_that_is_allowed() -> None:
    assert len(keys._derive(Secret(""), b"s" * 32, max(keys.SCRYPT_PARAMETERS))) == 32

"""Whom we trust: public keys only, from a file or the environment (S11)."""

import pytest

from ci_registry.errors import SetupError
from ci_registry.signers.pem import write_pem
from ci_registry.verification.trust import find_trust, load_trust, parse_trust
from tests.support.signing import key_pair, signer, trusted

OURS, THEIRS = signer().public_key_pem, signer("theirs").public_key_pem


def nothing(_path: str) -> bytes | None:
    return None


def test_key_comes_from_the_environment_or_a_file() -> None:
    from_env = load_trust("env://PUB", {"PUB": OURS.decode()}, nothing)
    from_file = load_trust("keys/cosign.pub", {}, {"keys/cosign.pub": OURS}.get)
    assert [k.fingerprint for k in from_env.keys] == [k.fingerprint for k in from_file.keys]
    assert (from_env.source, from_file.source) == ("env://PUB", "keys/cosign.pub")


def test_several_keys_mean_any_of_them_and_a_repeated_one_counts_once() -> None:
    keys = parse_trust(OURS + b"\n# rotated in May\n" + THEIRS + OURS, "x")
    assert len(keys.keys) == 2
    for name in ("ours", "theirs"):
        assert keys.signer_of(signer(name).sign(b"x"), b"x") in keys.keys
    assert keys.signer_of(signer("stranger").sign(b"x"), b"x") is None


@pytest.mark.parametrize(
    ("source", "env"), [("", {}), ("env://PUB", {}), ("env://PUB", {"PUB": ""}), ("no.pub", {})]
)
def test_absent_source_is_none_or_an_error_when_it_is_needed(
    source: str, env: dict[str, str]
) -> None:
    assert find_trust(source, env, nothing) is None
    with pytest.raises(SetupError, match="no public key to verify with"):
        load_trust(source, env, nothing)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(key_pair("ours").private_pem.reveal().encode(), id="private key"),
        pytest.param(OURS + write_pem("CERTIFICATE", b"x").encode(), id="one is a certificate"),
        pytest.param(OURS + write_pem("PUBLIC KEY", b"x").encode(), id="one is damaged"),
        pytest.param(OURS[:-20], id="cut short"),
        pytest.param(b"\xff", id="binary"),
        pytest.param(b"x", id="no key"),
    ],
)
def test_source_that_holds_something_else_is_an_error_and_not_absent(text: bytes) -> None:
    with pytest.raises(SetupError):
        find_trust("x.pub", {}, lambda _path: text)


def test_other_kinds_of_sources_are_refused() -> None:
    with pytest.raises(SetupError, match="awskms"):
        find_trust("awskms:///x", {}, nothing)


def test_default_of_the_test_support_is_our_key() -> None:
    assert trusted().keys == parse_trust(OURS, "x").keys

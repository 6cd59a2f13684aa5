"""Digests and platforms."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.errors import IntegrityError, UsageError
from ci_registry.oci.digest import Digest, Hasher, digest_of, is_digest
from ci_registry.oci.platform import Platform, normalise_platform, parse_platform

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        f"sha256:{HEX}0",
        f"sha256:{HEX[:-1]}",
        f"SHA256:{HEX}",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"sha512:{HEX}",
        f"md5:{HEX[:32]}",
        f"sha256-{HEX}",
        f"sha256:{HEX[:-2]}/.",
    ],
)
def test_anything_but_a_lower_case_sha2_digest_is_refused(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(IntegrityError, match="not a content digest"):
        Digest(text)


def test_a_digest_is_text_with_parts() -> None:
    digest = Digest(f"sha256:{HEX}")
    assert (digest.algorithm, digest.hex, digest.short) == ("sha256", HEX, HEX[:12])
    assert digest == f"sha256:{HEX}"
    assert json.dumps(digest) == f'"sha256:{HEX}"'
    assert Digest(f"sha512:{HEX * 2}").algorithm == "sha512"


@given(st.lists(st.binary(max_size=20), max_size=5), st.sampled_from(["sha256", "sha512"]))
@settings(max_examples=50)
def test_pieces_hash_as_the_whole(pieces: list[bytes], algorithm: str) -> None:
    hasher = Hasher(algorithm)
    for piece in pieces:
        hasher.update(piece)
    whole = b"".join(pieces)
    assert hasher.size_bytes == len(whole)
    assert hasher.digest == digest_of(whole, algorithm)
    assert hasher.digest.hex == hashlib.new(algorithm, whole).hexdigest()


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("macos/aarch64", "darwin/arm64"),
        (" windows/amd64 ", "windows/amd64"),
    ],
)
def test_platforms_are_normalised_as_containerd_does(text: str, normal: str) -> None:
    platform = parse_platform(text)
    assert str(platform) == normal
    assert parse_platform(str(platform)) == platform
    assert normalise_platform(*text.strip().split("/")) == platform


@pytest.mark.parametrize(
    "text",
    [
        "",
        "linux",
        "linux/",
        "/amd64",
        "a/b/c/d",
        "linux/am d64",
        "../..",
        "linux/..",
        "linux/ä",
        "linux/amd64\x00",
        "linux/amd\n64",
        "linux/" + "a" * 65,
    ],
)
def test_what_is_no_platform_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="not a platform"):
        parse_platform(text)


def test_a_platform_has_a_name_for_files_and_its_json() -> None:
    assert Platform("linux", "arm", "v7").slug == "linux-arm-v7"
    assert Platform("linux", "amd64").to_json() == {"architecture": "amd64", "os": "linux"}
    assert Platform("linux", "arm", "v7").to_json()["variant"] == "v7"

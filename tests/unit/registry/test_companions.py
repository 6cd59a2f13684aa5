"""Which tags stand beside an image."""

import pytest

from ci_registry.oci.digest import digest_of
from ci_registry.registry.companions import cosign_tags, is_companion, is_cosign_tag, subject_of
from ci_registry.registry.referrers import fallback_tag

DIGEST = digest_of(b"image")
SHA512 = digest_of(b"image", "sha512")


@pytest.mark.parametrize("tag", [*cosign_tags(DIGEST), *cosign_tags(SHA512), fallback_tag(DIGEST)])
def test_companions_know_their_subject(tag: str) -> None:
    assert is_companion(tag)
    assert subject_of(tag) == (SHA512 if tag.startswith("sha512") else DIGEST)
    assert is_cosign_tag(tag) == ("." in tag)


def test_a_cut_fallback_tag_is_a_companion_that_names_no_subject() -> None:
    tag = fallback_tag(SHA512)
    assert is_companion(tag)
    assert subject_of(tag) is None


@pytest.mark.parametrize(
    "tag",
    [
        "v1",
        "v1.sig",
        "latest",
        "sha256-abc.sig",
        f"{fallback_tag(DIGEST)}.exe",
        f"{fallback_tag(DIGEST)}.sig.sig",
        f"sha256-{'A' * 64}",
        "sha256-" + "a" * 63,
    ],
)
def test_everything_else_names_an_image(tag: str) -> None:
    assert not is_companion(tag)
    assert subject_of(tag) is None

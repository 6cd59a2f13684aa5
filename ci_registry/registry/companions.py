"""Tags that stand beside an image instead of naming one: the fallback tag of referrers, and cosign's own."""

from ci_registry.oci.digest import Digest, is_digest
from ci_registry.oci.reference import is_tag
from ci_registry.registry.referrers import is_fallback_tag

COSIGN_SUFFIXES = (".sig", ".att", ".sbom")
"""Signatures, attestations and SBOMs of cosign before its bundles."""


def cosign_tags(subject: Digest) -> tuple[str, ...]:
    """Return the tags under which cosign keeps what belongs to `subject`; for sha512 they are too long to exist."""
    names = (f"{subject.algorithm}-{subject.hex}{suffix}" for suffix in COSIGN_SUFFIXES)
    return tuple(name for name in names if is_tag(name))


def is_cosign_tag(tag: str) -> bool:
    """Whether cosign keeps something for a manifest under this tag."""
    return tag.endswith(COSIGN_SUFFIXES) and subject_of(tag) is not None


def is_companion(tag: str) -> bool:
    """Whether a tag stands beside an image; such tags are neither listed nor counted as images."""
    return is_fallback_tag(tag) or is_cosign_tag(tag)


def subject_of(tag: str) -> Digest | None:
    """Return the manifest that a companion tag belongs to, None for any other tag.

    A fallback tag of a sha512 digest is cut, so it names no digest: None too.
    """
    name, dot, suffix = tag.partition(".")
    if dot and f".{suffix}" not in COSIGN_SUFFIXES:
        return None
    text = name.replace("-", ":", 1)
    return Digest(text) if is_digest(text) else None

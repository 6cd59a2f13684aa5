"""What refers to a manifest: the referrers API, the fallback tag, and both merged (distribution-spec 1.1)."""

from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest


def fallback_tag(subject: Digest) -> str:
    """Return the tag of the referrers tag schema: `sha256-<hex>`, cut as the specification says."""
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"


def is_fallback_tag(tag: str) -> bool:
    """Whether a tag belongs to the referrers tag schema."""
    algorithm, _, rest = tag.partition("-")
    return (
        algorithm in ("sha256", "sha512")
        and len(rest) == 64
        and not set(rest) - set("0123456789abcdef")
    )


def referrer_descriptor(manifest: Manifest | Index) -> Descriptor:
    """Return the descriptor of a referrer as a registry lists it: with artifact type and annotations."""
    artifact_type = manifest.artifact_type
    if not artifact_type and isinstance(manifest, Manifest):
        artifact_type = manifest.config.media_type
    return Descriptor(
        media_type=manifest.media_type,
        digest=manifest.digest,
        size=len(manifest.body),
        annotations=dict(manifest.annotations),
        artifact_type=artifact_type,
    )


def merged(*lists: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    """Return the descriptors of all lists, each digest once, the first list that has it wins."""
    found: dict[Digest, Descriptor] = {}
    for descriptors in lists:
        for descriptor in descriptors:
            found.setdefault(descriptor.digest, descriptor)
    return tuple(found.values())


def check_subject(manifest: Manifest | Index, subject: Descriptor) -> None:
    """Refuse to attach a manifest that does not refer to `subject`."""
    if manifest.subject is None or manifest.subject.digest != subject.digest:
        raise IntegrityError(f"manifest {manifest.digest.short} does not refer to {subject.digest}")

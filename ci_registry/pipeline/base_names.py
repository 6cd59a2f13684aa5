"""Says by what name and digest the base of each platform of an image goes, as far as anybody tells."""

from collections.abc import Iterator
from dataclasses import dataclass

from ci_registry.errors import IntegrityError, UsageError
from ci_registry.inventory.config import parse_image_config
from ci_registry.oci.digest import Digest, is_digest
from ci_registry.oci.manifest import MAX_MANIFEST_BYTES, Index, Manifest
from ci_registry.oci.platform import Platform, parse_platform
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.pipeline.plan import ImagePlan
from ci_registry.pipeline.state import ImageRun
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome

SCRATCH = "scratch"
BASE_NAME, BASE_DIGEST = (
    "org.opencontainers.image.base.name",
    "org.opencontainers.image.base.digest",
)
UNNAMED = "nobody names the base image: no Dockerfile, and no annotation of the image"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedBase:
    """The base of one platform, by name."""

    platform: str
    """Of the image."""
    base_platform: Platform
    reference: str = ""
    """As written; `scratch`; empty when nobody names one."""
    digest: str = ""
    """What the builder used, or what the image claims; empty when nobody says."""
    is_claim: bool = False
    """Only the image itself says so: its layers must prove it, and not every host is asked."""

    @property
    def place(self) -> Reference | None:
        """Where it is; None when the name is no reference."""
        try:
            return parse_reference(self.reference) if self.reference else None
        except UsageError:
            return None


def base_names(image: ImageRun) -> tuple[NamedBase, ...]:
    """Return the base of each platform: from Dockerfile and builder, else from the image's annotations.

    Raises:
        CiRegistryError: the layout can't be read; the inspection tells that too.
    """
    if image.plan.final_bases:
        return tuple(_from_dockerfile(image.plan, image.build))
    if image.layout is None:
        return ()
    return tuple(_from_annotations(image.layout))


def _from_dockerfile(plan: ImagePlan, build: BuildOutcome | None) -> Iterator[NamedBase]:
    used = {_canonical(name): digest for name, digest in (build.materials if build else ())}
    for base in plan.final_bases:
        pinned = base.reference.partition("@")[2]
        yield NamedBase(
            platform=base.platform,
            base_platform=parse_platform(base.base_platform),
            reference=base.reference,
            digest=pinned or used.get(_canonical(base.reference), ""),
        )


def _canonical(name: str) -> str:
    """Return one spelling of a name: `alpine` and `docker.io/library/alpine:latest` are the same."""
    try:
        place = parse_reference(name)
    except UsageError:
        return name
    return str(place if place.tag or place.digest else place.tagged("latest"))


def _from_annotations(layout: Layout) -> Iterator[NamedBase]:
    root = layout.fetch(layout.root().digest)
    manifests = [root] if isinstance(root, Manifest) else list(_images(layout, root))
    for manifest in manifests:
        config = parse_image_config(_small_blob(layout, manifest.config.digest))
        notes = {**root.annotations, **manifest.annotations}
        digest = notes.get(BASE_DIGEST, "")
        yield NamedBase(
            platform=str(config.platform),
            base_platform=config.platform,
            reference=notes.get(BASE_NAME, "")[:512],
            digest=digest if is_digest(digest) else "",
            is_claim=True,
        )


def _images(layout: Layout, index: Index) -> Iterator[Manifest]:
    for descriptor in index.images:
        found = layout.fetch(descriptor.digest)
        if isinstance(found, Manifest):
            yield found


def _small_blob(layout: Layout, digest: Digest) -> bytes:
    data = bytearray()
    for chunk in layout.open(digest):
        data += chunk
        if len(data) > MAX_MANIFEST_BYTES:
            raise IntegrityError(f"{digest} is larger than a config may be")
    return bytes(data)

"""Descriptors, image manifests and image indexes, parsed strictly from the bytes as stored.

The digest of a manifest is the digest of its bytes: nothing here re-serialises what it parsed.
"""

from dataclasses import dataclass, field

from ci_registry.errors import IntegrityError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.platform import Platform, normalise_platform
from ci_registry.strict import as_list, as_object, as_size, as_text, parse_json

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
ATTESTATION_ANNOTATION = "vnd.docker.reference.type"
"""BuildKit marks its attestation manifests with this annotation, value `attestation-manifest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Points at content by digest, size and media type."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @property
    def is_attestation(self) -> bool:
        """Whether BuildKit marked this entry of an index as an attestation, not a platform image."""
        marked = self.annotations.get(ATTESTATION_ANNOTATION) == "attestation-manifest"
        return marked or (self.platform is not None and self.platform.os == "unknown")

    def to_json(self) -> dict[str, object]:
        """Return the JSON object of the image specification, without empty members."""
        result: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.platform is not None:
            result["platform"] = self.platform.to_json()
        if self.annotations:
            result["annotations"] = dict(self.annotations)
        if self.artifact_type:
            result["artifactType"] = self.artifact_type
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An image manifest (or an artifact in its shape) together with its bytes."""

    body: bytes
    media_type: str
    digest: Digest
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> Descriptor:
        """A descriptor of this manifest, without platform."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.body))

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each digest once, in order."""
        return tuple({d.digest: d for d in (self.config, *self.layers)}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An image index (manifest list) together with its bytes."""

    body: bytes
    media_type: str
    digest: Digest
    manifests: tuple[Descriptor, ...]
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> Descriptor:
        """A descriptor of this index."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.body))

    @property
    def images(self) -> tuple[Descriptor, ...]:
        """The entries that are platform images (or nested indexes), BuildKit's attestations left out."""
        return tuple(m for m in self.manifests if not m.is_attestation)


def _texts(value: object, what: str) -> dict[str, str]:
    pairs = as_object({} if value is None else value, what=what)
    return {key: as_text(text, what=f"{what}.{key}") for key, text in pairs.items()}


def _parse_platform(value: object, what: str) -> Platform | None:
    if value is None:
        return None
    data = as_object(value, what=what)
    os = as_text(data.get("os", ""), what=f"{what}.os")
    architecture = as_text(data.get("architecture", ""), what=f"{what}.architecture")
    return normalise_platform(os, architecture, as_text(data.get("variant", ""), what=what))


def parse_descriptor(value: object, *, what: str) -> Descriptor:
    """Parse one descriptor; unknown members are accepted, as the specification asks.

    Raises:
        IntegrityError: a member is missing or has the wrong shape.
    """
    data = as_object(value, what=what)
    return Descriptor(
        media_type=as_text(data.get("mediaType", ""), what=f"{what}.mediaType"),
        digest=Digest(as_text(data.get("digest"), what=f"{what}.digest")),
        size=as_size(data.get("size"), what=f"{what}.size"),
        platform=_parse_platform(data.get("platform"), f"{what}.platform"),
        annotations=_texts(data.get("annotations"), f"{what}.annotations"),
        artifact_type=as_text(data.get("artifactType") or "", what=f"{what}.artifactType"),
    )


def parse_manifest(body: bytes, media_type: str = "") -> Manifest | Index:
    """Parse the bytes of a manifest or index.

    Args:
        body: the bytes as stored.
        media_type: from the `Content-Type` or descriptor; may be empty when the document has its own.

    Raises:
        IntegrityError: too large, not strict JSON, media types disagree, or not one of the four kinds.
    """
    digest = digest_of(body)
    what = f"manifest {digest.short}"
    data = as_object(parse_json(body, what=what, max_bytes=MAX_MANIFEST_BYTES), what=what)
    inner = as_text(data.get("mediaType") or "", what=f"{what}.mediaType")
    media_type = media_type.partition(";")[0].strip()
    if inner and media_type and inner != media_type:
        raise IntegrityError(f"{what}: sent as {media_type} but says it is {inner}")
    kind = inner or media_type
    if not kind:
        kind = media_types.OCI_INDEX if "manifests" in data else media_types.OCI_MANIFEST
    if ("manifests" in data) == ("layers" in data):
        raise IntegrityError(f"{what}: neither a manifest nor an index")
    subject = data.get("subject")
    common_subject = parse_descriptor(subject, what=f"{what}.subject") if subject else None
    artifact_type = as_text(data.get("artifactType") or "", what=f"{what}.artifactType")
    annotations = _texts(data.get("annotations"), f"{what}.annotations")
    if kind in media_types.INDEXES and "manifests" in data:
        entries = as_list(data["manifests"], what=f"{what}.manifests")
        return Index(
            body=body,
            media_type=kind,
            digest=digest,
            subject=common_subject,
            artifact_type=artifact_type,
            annotations=annotations,
            manifests=tuple(parse_descriptor(e, what=f"{what}.manifests") for e in entries),
        )
    if kind in media_types.MANIFESTS and "layers" in data:
        layers = as_list(data["layers"], what=f"{what}.layers")
        return Manifest(
            body=body,
            media_type=kind,
            digest=digest,
            subject=common_subject,
            artifact_type=artifact_type,
            annotations=annotations,
            config=parse_descriptor(data.get("config"), what=f"{what}.config"),
            layers=tuple(parse_descriptor(e, what=f"{what}.layers") for e in layers),
        )
    raise IntegrityError(f"{what}: unsupported media type {kind!r}")

"""Descriptors, image manifests and image indexes, parsed strictly from the bytes as stored.

The digest of a manifest is the digest of its bytes: nothing here re-serialises what it parsed.
"""

from dataclasses import dataclass, field

from ci_registry.errors import IntegrityError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.platform import Platform, is_platform_part, normalise_platform
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
        """Whether BuildKit marked this entry of an index as an attestation, not a platform image.

        An entry with a real platform never is one, whatever its annotations say: a runtime would
        pick it by its platform, so it has to be looked at.
        """
        if self.platform is not None:
            return self.platform.os == "unknown"
        return self.annotations.get(ATTESTATION_ANNOTATION) == "attestation-manifest"

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


def _members(value: object, what: str) -> dict[str, object]:
    """Return a JSON object no two names of which differ only in case.

    Go programs, that is every registry and runtime, read names without regard to case and let the
    last one win: such a document would mean one image to us and another one to them.
    """
    data = as_object(value, what=what)
    if len({name.casefold() for name in data}) != len(data):
        raise IntegrityError(f"{what}: two members differ only in upper and lower case")
    return data


def _text(data: dict[str, object], name: str, what: str) -> str:
    value = data.get(name)
    return "" if value is None else as_text(value, what=f"{what}.{name}")


def _texts(value: object, what: str) -> dict[str, str]:
    pairs = as_object({} if value is None else value, what=what)
    return {key: as_text(text, what=f"{what}.{key}") for key, text in pairs.items()}


def _parse_platform(value: object, what: str) -> Platform | None:
    if value is None:
        return None
    data = _members(value, what)
    parts = [_text(data, name, what) for name in ("os", "architecture", "variant")]
    for part in parts:
        if part and not is_platform_part(part):
            raise IntegrityError(f"{what}: {part[:80]!r} is no part of a platform")
    return normalise_platform(*parts)


def parse_descriptor(value: object, *, what: str) -> Descriptor:
    """Parse one descriptor; unknown members are accepted, as the specification asks.

    Raises:
        IntegrityError: a member is missing or has the wrong shape.
    """
    data = _members(value, what)
    return Descriptor(
        media_type=_text(data, "mediaType", what),
        digest=Digest(as_text(data.get("digest"), what=f"{what}.digest")),
        size=as_size(data.get("size"), what=f"{what}.size"),
        platform=_parse_platform(data.get("platform"), f"{what}.platform"),
        annotations=_texts(data.get("annotations"), f"{what}.annotations"),
        artifact_type=_text(data, "artifactType", what),
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
    data = _members(parse_json(body, what=what, max_bytes=MAX_MANIFEST_BYTES), what)
    kind = _kind(data, media_type.partition(";")[0].strip(), what)
    subject = data.get("subject")
    parsed_subject = None
    if subject is not None:
        parsed_subject = parse_descriptor(subject, what=f"{what}.subject")
    artifact_type = _text(data, "artifactType", what)
    annotations = _texts(data.get("annotations"), f"{what}.annotations")
    if kind in media_types.INDEXES:
        return Index(
            body=body,
            media_type=kind,
            digest=digest,
            subject=parsed_subject,
            artifact_type=artifact_type,
            annotations=annotations,
            manifests=_descriptors(data["manifests"], f"{what}.manifests"),
        )
    return Manifest(
        body=body,
        media_type=kind,
        digest=digest,
        subject=parsed_subject,
        artifact_type=artifact_type,
        annotations=annotations,
        config=parse_descriptor(data.get("config"), what=f"{what}.config"),
        layers=_descriptors(data["layers"], f"{what}.layers"),
    )


def _descriptors(value: object, what: str) -> tuple[Descriptor, ...]:
    return tuple(parse_descriptor(entry, what=what) for entry in as_list(value, what=what))


def _kind(data: dict[str, object], sent_as: str, what: str) -> str:
    """Return the media type; what was sent, what is said inside and what is there must agree."""
    inner = _text(data, "mediaType", what)
    if inner and sent_as and inner != sent_as:
        raise IntegrityError(f"{what}: sent as {sent_as} but says it is {inner}")
    found = {name.casefold() for name in data} & {"manifests", "layers", "config", "fslayers"}
    if found == {"manifests"}:
        member, kinds, plain = "manifests", media_types.INDEXES, media_types.OCI_INDEX
    elif found == {"layers", "config"}:
        member, kinds, plain = "layers", media_types.MANIFESTS, media_types.OCI_MANIFEST
    else:
        raise IntegrityError(f"{what}: neither a manifest nor an index")
    kind = inner or sent_as or plain
    if kind not in kinds:
        raise IntegrityError(f"{what}: has {member}, but its media type is {kind!r}")
    if member not in data:  # written in another case
        raise IntegrityError(f"{what}: neither a manifest nor an index")
    return kind

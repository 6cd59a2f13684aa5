"""Reads what an image is made of, for people: index, platforms, config, layers, referrers."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from ci_registry.errors import IntegrityError, NotFoundError
from ci_registry.oci import media_types
from ci_registry.oci.manifest import Descriptor, Manifest
from ci_registry.oci.platform import Platform, normalise_platform
from ci_registry.registry.content import bounded
from ci_registry.registry.copy_attached import find_attached
from ci_registry.registry.interface import Repository
from ci_registry.registry.parallel import in_parallel
from ci_registry.registry.transfer import MAX_DEPTH, MAX_MANIFESTS
from ci_registry.strict import MAX_JSON_BYTES, as_object, parse_json

_CONFIGS = frozenset({media_types.OCI_CONFIG, media_types.DOCKER_CONFIG})


class NodeKind(StrEnum):
    """What one manifest of an image is."""

    INDEX = "index"
    IMAGE = "image"
    ATTESTATION = "attestation"
    ARTIFACT = "artifact"
    MISSING = "missing"
    """An index lists it, and it is not there: the index is sparse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFacts:
    """What an image config says; values of environment variables are left out, they may be secrets."""

    platform: Platform
    created: str = ""
    user: str = ""
    working_dir: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env_names: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedReferrer:
    """What refers to a manifest."""

    descriptor: Descriptor
    tag: str = ""
    """cosign's tag, when it is not in the list of referrers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One manifest and what is below it."""

    kind: NodeKind
    descriptor: Descriptor
    artifact_type: str = ""
    annotations: Mapping[str, str]
    config: ConfigFacts | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple["Node", ...] = ()
    referrers: tuple[NamedReferrer, ...] = ()

    @property
    def layers_bytes(self) -> int:
        """Return the compressed size of all layers."""
        return sum(layer.size for layer in self.layers)


def list_referrers(repository: Repository, subject: Descriptor) -> tuple[NamedReferrer, ...]:
    """Return everything that belongs to a manifest: API and fallback tag merged, then cosign's tags."""
    found = find_attached(repository, subject.digest)
    return (
        *(NamedReferrer(descriptor=descriptor) for descriptor in found.referrers),
        *(NamedReferrer(descriptor=descriptor, tag=tag) for tag, descriptor in found.cosign),
    )


def read_tree(
    repository: Repository, root: Descriptor, *, with_referrers: bool, pool: ThreadPoolExecutor
) -> Node:
    """Read a manifest and all below it.

    Args:
        repository: where.
        root: the manifest.
        with_referrers: also list what refers to each manifest.
        pool: for the many small requests.

    Raises:
        NotFoundError: the manifest itself is missing; a missing child is a node of its own.
        IntegrityError: something is not what its digest says, nested too deep, or too much.
    """
    reader = _Reader(repository=repository, with_referrers=with_referrers, pool=pool)
    return reader.read(root, 1)


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Reads one tree; counts, because an index may list many indexes that list many."""

    repository: Repository
    with_referrers: bool
    pool: ThreadPoolExecutor
    count: int = 0

    def read(self, root: Descriptor, depth: int) -> Node:
        """Read an index and everything below, or an image."""
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_MANIFESTS:
            raise IntegrityError(f"{root.digest}: nested deeper than {MAX_DEPTH}, or too many")
        manifest = self.repository.fetch(root.digest)
        referrers = list_referrers(self.repository, root) if self.with_referrers else ()
        if isinstance(manifest, Manifest):
            return _leaf(self.repository, root, manifest, referrers)
        children = {child.digest: child for child in manifest.manifests}
        nested = [c for c in children.values() if c.media_type in media_types.INDEXES]
        nodes = {child.digest: self._below(child, depth) for child in nested}
        flat = [child for child in children.values() if child.digest not in nodes]
        self.count += len(flat)
        for node in in_parallel(self._image, flat, pool=self.pool):
            nodes[node.descriptor.digest] = node
        return Node(
            kind=NodeKind.INDEX,
            descriptor=root,
            artifact_type=manifest.artifact_type,
            annotations=manifest.annotations,
            children=tuple(nodes[digest] for digest in children),
            referrers=referrers,
        )

    def _below(self, child: Descriptor, depth: int) -> Node:
        try:
            return self.read(child, depth + 1)
        except NotFoundError:
            return _missing(child)

    def _image(self, child: Descriptor) -> Node:
        """Read an image; runs in the pool, so it waits for nothing that the pool would have to do."""
        try:
            manifest = self.repository.fetch(child.digest)
        except NotFoundError:
            return _missing(child)
        if not isinstance(manifest, Manifest):
            raise IntegrityError(
                f"{child.digest} is listed as {child.media_type!r} but is an index"
            )
        referrers = list_referrers(self.repository, child) if self.with_referrers else ()
        return _leaf(self.repository, child, manifest, referrers)


def _missing(child: Descriptor) -> Node:
    return Node(kind=NodeKind.MISSING, descriptor=child, annotations=child.annotations)


def _leaf(
    repository: Repository,
    root: Descriptor,
    manifest: Manifest,
    referrers: tuple[NamedReferrer, ...],
) -> Node:
    is_image = manifest.config.media_type in _CONFIGS and not manifest.artifact_type
    kind = NodeKind.IMAGE if is_image else NodeKind.ARTIFACT
    if root.is_attestation:
        kind = NodeKind.ATTESTATION
    return Node(
        kind=kind,
        descriptor=root,
        artifact_type=manifest.artifact_type or ("" if is_image else manifest.config.media_type),
        annotations=manifest.annotations,
        config=_facts(repository, manifest.config) if kind is NodeKind.IMAGE else None,
        layers=manifest.layers,
        referrers=referrers,
    )


def _facts(repository: Repository, config: Descriptor) -> ConfigFacts:
    what = f"config {config.digest.short}"
    body = b"".join(bounded(repository.open(config.digest), MAX_JSON_BYTES, what=what))
    data = as_object(parse_json(body, what=what), what=what)
    inner = data.get("config")
    settings = inner if isinstance(inner, dict) else {}
    labels = settings.get("Labels")
    return ConfigFacts(
        platform=normalise_platform(
            _text(data, "os"), _text(data, "architecture"), _text(data, "variant")
        ),
        created=_text(data, "created"),
        user=_text(settings, "User"),
        working_dir=_text(settings, "WorkingDir"),
        entrypoint=_texts(settings.get("Entrypoint")),
        command=_texts(settings.get("Cmd")),
        env_names=tuple(line.partition("=")[0] for line in _texts(settings.get("Env"))),
        ports=_names(settings.get("ExposedPorts")),
        labels={k: v for k, v in labels.items() if isinstance(v, str)}
        if isinstance(labels, dict)
        else {},
    )


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _names(value: object) -> tuple[str, ...]:
    return tuple(sorted(str(key) for key in value)) if isinstance(value, dict) else ()

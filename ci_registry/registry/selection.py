"""Chooses some platforms of an image: which manifests belong to them, and what becomes of the index."""

import json
from dataclasses import dataclass

from ci_registry.errors import IntegrityError, UsageError
from ci_registry.oci.digest import Digest
from ci_registry.oci.image_config import parse_config_platform
from ci_registry.oci.manifest import Descriptor, Index, Manifest, parse_manifest
from ci_registry.oci.platform import Platform
from ci_registry.registry.content import bounded
from ci_registry.registry.interface import Repository
from ci_registry.registry.transfer import manifests_of
from ci_registry.strict import MAX_JSON_BYTES, as_list, as_object, parse_json

_ATTESTS_ANNOTATION = "vnd.docker.reference.digest"
"""What a BuildKit attestation in an index is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The manifests of an image that are wanted."""

    manifests: tuple[Manifest | Index, ...]
    """Children before the index that lists them; the last one is the image itself."""
    is_sparse: bool = False
    """Whether the index lists more than is wanted."""
    rewritten_from: Digest | None = None
    """The index that this one is a part of; its signatures are not about this one."""

    @property
    def root(self) -> Manifest | Index:
        """The image itself."""
        return self.manifests[-1]


def select(
    source: Repository, root: Descriptor, platforms: tuple[Platform, ...], *, rewrite: bool = False
) -> Selection:
    """Return the manifests of some platforms, or of all when `platforms` is empty.

    BuildKit's attestations of the chosen platforms are chosen too.

    Args:
        source: where the image is.
        root: the image.
        platforms: the platforms wanted.
        rewrite: make an index of the chosen ones, with a digest of its own, instead of keeping the
            whole index with children that will be missing.

    Raises:
        UsageError: the image does not have one of the platforms.
    """
    if not platforms:
        return Selection(manifests=manifests_of(source, root))
    image = source.fetch(root.digest)
    if isinstance(image, Manifest):
        _check_single(source, image, platforms)
        return Selection(manifests=(image,))
    chosen = _chosen(image, platforms)
    children: dict[Digest, Manifest | Index] = {}
    for child in chosen:
        for manifest in manifests_of(source, child):
            children.setdefault(manifest.digest, manifest)
    if len(chosen) == len(image.manifests):
        return Selection(manifests=(*children.values(), image))
    if not rewrite:
        return Selection(manifests=(*children.values(), image), is_sparse=True)
    smaller = _rewritten(image, {child.digest for child in chosen})
    return Selection(manifests=(*children.values(), smaller), rewritten_from=image.digest)


def _check_single(source: Repository, image: Manifest, platforms: tuple[Platform, ...]) -> None:
    found = platform_of(source, image)
    if platforms != (found,):
        wanted = ", ".join(map(str, platforms))
        raise UsageError(f"{image.digest} is an image for {found} alone, not for {wanted}")


def platform_of(source: Repository, image: Manifest) -> Platform:
    """Return the platform that the config of an image names; read from the source."""
    what = f"config {image.config.digest.short}"
    chunks = source.open(image.config.digest)
    return parse_config_platform(b"".join(bounded(chunks, MAX_JSON_BYTES, what=what)), what=what)


def _chosen(index: Index, platforms: tuple[Platform, ...]) -> tuple[Descriptor, ...]:
    found = {child.digest for child in index.images if child.platform in platforms}
    there = {child.platform for child in index.images if child.platform is not None}
    missing = [str(platform) for platform in platforms if platform not in there]
    if missing:
        names = ", ".join(sorted(map(str, there))) or "none that are named"
        raise UsageError(
            f"{index.digest} has no image for {', '.join(missing)}", hint=f"it has: {names}"
        )
    return tuple(
        child
        for child in index.manifests
        if child.digest in found or child.annotations.get(_ATTESTS_ANNOTATION) in found
    )


def _rewritten(index: Index, chosen: set[Digest]) -> Index:
    """Return an index with only the chosen entries; all else in it stays as it was."""
    document = as_object(parse_json(index.body, what="image index"), what="image index")
    entries = as_list(document["manifests"], what="image index")
    document["manifests"] = [
        entry for entry in entries if as_object(entry, what="image index")["digest"] in chosen
    ]
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    smaller = parse_manifest(body, index.media_type)
    if not isinstance(smaller, Index):
        raise IntegrityError(f"{index.digest} is an index with members of an image manifest")
    return smaller

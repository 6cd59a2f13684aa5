"""Finds the platform images behind a root descriptor and refuses indexes that mean two things."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ci_registry.errors import IntegrityError
from ci_registry.inventory.config import ImageConfig, parse_image_config
from ci_registry.inventory.layer import compression_of
from ci_registry.inventory.limits import Limits
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor, Index, Manifest, parse_manifest
from ci_registry.oci.platform import Platform

ReadBlob = Callable[[Digest], bytes]
"""Returns the bytes of a manifest or config; the caller bounds their size."""

_CONFIGS = frozenset({media_types.OCI_CONFIG, media_types.DOCKER_CONFIG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One platform image: manifest and config verified, layers not yet read."""

    platform: Platform
    descriptor: Descriptor
    """Of the manifest, with platform."""
    manifest: Manifest
    config: ImageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Everything behind a root."""

    root: Manifest | Index
    images: tuple[Candidate, ...]
    others: tuple[Manifest, ...]


def read_verified(read: ReadBlob, descriptor: Descriptor, what: str) -> bytes:
    """Read a manifest or config and prove size and digest.

    Raises:
        IntegrityError: the bytes are not what the descriptor says.
    """
    body = read(descriptor.digest)
    if len(body) != descriptor.size:
        raise IntegrityError(
            f"{what} ({descriptor.digest}): has {len(body)} bytes, its descriptor says {descriptor.size}"
        )
    found = digest_of(body, descriptor.digest.algorithm)
    if found != descriptor.digest:
        raise IntegrityError(f"{what} ({descriptor.digest}): the bytes have the digest {found}")
    return body


def select_images(
    root: Descriptor, read: ReadBlob, requested: Sequence[Platform], limits: Limits
) -> Selection:
    """Return the platform images behind `root`; `requested` platforms must be among them.

    Raises:
        IntegrityError: digests, sizes or platforms contradict each other, a platform is there twice or
            missing, or an entry is neither an image nor an attestation.
    """
    walk = _Walk(read, limits)
    top = walk.visit(root, depth=0)
    images = tuple(walk.images)
    platforms = [image.platform for image in images]
    for platform in platforms:
        if platforms.count(platform) > 1:
            raise IntegrityError(f"image {root.digest}: the platform {platform} is in it twice")
    if not images:
        raise IntegrityError(f"image {root.digest}: no platform image in it")
    missing = [str(p) for p in requested if p not in platforms]
    if missing:
        raise IntegrityError(
            f"image {root.digest}: {', '.join(missing)} was asked for but is not in it;"
            f" it has {', '.join(map(str, platforms))}",
            hint="build the missing platform, or take it off the list of platforms",
        )
    return Selection(root=top, images=images, others=tuple(walk.others))


class _Walk:
    def __init__(self, read: ReadBlob, limits: Limits) -> None:
        self._read = read
        self._limits = limits
        self._count = 0
        self.images: list[Candidate] = []
        self.others: list[Manifest] = []

    def visit(self, descriptor: Descriptor, *, depth: int) -> Manifest | Index:
        """Read what a descriptor points at and everything below it."""
        self._count += 1
        if depth > self._limits.index_depth or self._count > self._limits.manifests_count:
            raise IntegrityError(f"index {descriptor.digest}: too deep or too many manifests")
        body = read_verified(self._read, descriptor, "manifest")
        manifest = parse_manifest(body, descriptor.media_type)
        if isinstance(manifest, Index):
            if descriptor.is_attestation:
                raise IntegrityError(
                    f"index {descriptor.digest}: an index is marked as attestation"
                )
            for entry in manifest.manifests:
                self.visit(entry, depth=depth + 1)
        elif descriptor.is_attestation:
            self._add_attestation(manifest)
        else:
            self._add_image(descriptor, manifest)
        return manifest

    def _add_attestation(self, manifest: Manifest) -> None:
        if any(layer.media_type in media_types.LAYER_COMPRESSION for layer in manifest.layers):
            raise IntegrityError(
                f"manifest {manifest.digest}: marked as attestation but holds layers of a file system"
            )
        self.others.append(manifest)

    def _add_image(self, descriptor: Descriptor, manifest: Manifest) -> None:
        what = f"manifest {manifest.digest}"
        if manifest.config.media_type not in _CONFIGS:
            raise IntegrityError(
                f"{what}: not an image, its config is {manifest.config.media_type!r}"
            )
        if len(manifest.layers) > self._limits.layers_count:
            raise IntegrityError(f"{what}: {len(manifest.layers)} layers")
        config = parse_image_config(read_verified(self._read, manifest.config, "config"))
        platform = _agreed_platform(descriptor, config, what)
        if len(config.diff_ids) != len(manifest.layers):
            raise IntegrityError(
                f"{what}: {len(manifest.layers)} layers, but its config lists {len(config.diff_ids)} diff ids"
            )
        for number, layer in enumerate(manifest.layers, 1):
            compression_of(layer, f"layer {number} of {platform}")
        candidate = Candidate(
            platform=platform,
            descriptor=replace(descriptor, platform=platform),
            manifest=manifest,
            config=config,
        )
        self.images.append(candidate)


def _agreed_platform(descriptor: Descriptor, config: ImageConfig, what: str) -> Platform:
    claimed, found = descriptor.platform, config.platform
    if claimed is None:
        return found
    same = (claimed.os, claimed.architecture) == (found.os, found.architecture)
    if not same or (config.has_variant and claimed.variant != found.variant):
        raise IntegrityError(
            f"{what}: listed as {claimed} but its config says {found}",
            hint="the builder mixed up platforms; rebuild the image",
        )
    return claimed

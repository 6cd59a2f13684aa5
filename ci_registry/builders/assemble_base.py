"""Reads base images: finds the platform, copies and verifies layers, indexes their files."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ci_registry.builders.assemble_content import ContentStore
from ci_registry.builders.assemble_index import apply_layer
from ci_registry.builders.assemble_tree import Tree, TreeError
from ci_registry.errors import (
    AccessError,
    BuildError,
    CancelledError,
    CiRegistryError,
    IntegrityError,
    NotFoundError,
    SetupError,
    ToolError,
)
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.platform import Platform, normalise_platform
from ci_registry.registry.content import bounded
from ci_registry.registry.interface import Repository
from ci_registry.strict import MAX_JSON_BYTES, as_list, as_object, as_text, parse_json

OpenBase = Callable[[str], tuple[Repository, str]]
"""From an image's name, as in `FROM`, to its repository and the tag or digest in it."""

MAX_INDEX_DEPTH = 4
_TO_OCI = {
    media_types.DOCKER_LAYER: media_types.OCI_LAYER,
    media_types.DOCKER_LAYER_GZIP: media_types.OCI_LAYER_GZIP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the Dockerfile an image is named, for errors."""

    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """One platform of a base image, its layers in the layout of the build."""

    reference: str
    root: Digest
    """Of what the reference pointed at: an index or a manifest."""
    platform: Platform
    config: dict[str, object]
    layers: tuple[Descriptor, ...]
    """In OCI media types, bytes as they were."""
    diff_ids: tuple[Digest, ...] = field(default=())


class BaseImages:
    """The base images of one build; each is fetched and indexed once."""

    def __init__(self, open_base: OpenBase, contents: ContentStore) -> None:
        self._open_base = open_base
        self._contents = contents
        self._images: dict[tuple[str, Platform], BaseImage] = {}
        self._roots: dict[str, Manifest | Index] = {}
        self._trees: dict[tuple[Digest, ...], Tree] = {}

    @property
    def materials(self) -> tuple[tuple[str, str], ...]:
        """(reference, digest) of every image that was used, sorted."""
        return tuple(sorted({(i.reference, str(i.root)) for i in self._images.values()}))

    def load(self, reference: str, platform: Platform, place: Place) -> BaseImage:
        """Fetch manifest, config and layers of one platform.

        Raises:
            BuildError: the image has no such platform, or layers that can't be kept.
            SetupError: it does not exist or may not be read.
            ToolError: its registry failed, or sent something that it should not.
        """
        key = (reference, platform)
        if key not in self._images:
            try:
                self._images[key] = self._load(reference, platform, place)
            except (BuildError, SetupError, ToolError, CancelledError):
                raise
            except CiRegistryError as error:
                raise _as_builder_error(error, reference, place) from error
        return self._images[key]

    def _load(self, reference: str, platform: Platform, place: Place) -> BaseImage:
        repository, target = self._open_base(reference)
        root = self._roots.get(reference)
        if root is None:
            root = self._roots[reference] = repository.fetch(target)
        manifest = _manifest_for(repository, root, platform, reference, place)
        config = _read_config(repository, manifest, reference)
        found = _platform_of(config, platform)
        if found != platform:
            raise BuildError(
                f"base image {reference} is for {found}, not {platform}",
                hint="name an image that has the platform, or leave the platform out",
                file=place.file,
                line=place.line,
            )
        layers = tuple(_oci_layer(layer, reference, place) for layer in manifest.layers)
        for layer in layers:
            self._fetch_layer(repository, layer)
        return BaseImage(
            reference=reference,
            root=root.digest,
            platform=platform,
            config=config,
            layers=layers,
            diff_ids=_diff_ids(config, len(layers), reference),
        )

    def _fetch_layer(self, repository: Repository, layer: Descriptor) -> None:
        self._contents.layout.push_blob(layer, lambda: repository.open(layer.digest))
        self._contents.add_layer(layer)

    def tree(self, image: BaseImage) -> Tree:
        """Return a tree of the image's files, whiteouts applied; the caller may change it.

        Raises:
            ToolError: a layer is damaged or has another diff id than the config says.
        """
        key = tuple(layer.digest for layer in image.layers)
        if key not in self._trees:
            tree = Tree()
            try:
                for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
                    apply_layer(tree, self._contents, layer.digest, diff_id)
            except (IntegrityError, TreeError) as error:
                raise ToolError(
                    f"base image {image.reference} has a damaged layer: {error}",
                    hint="push the image again, or name another one",
                ) from error
            tree.take_changes()
            self._trees[key] = tree
        return self._trees[key].copied()


def _as_builder_error(error: CiRegistryError, reference: str, place: Place) -> CiRegistryError:
    message, hint = f"base image {reference}: {error.message}", error.hint
    kind = ToolError if error.exit_code == ToolError.exit_code else SetupError
    if isinstance(error, NotFoundError):
        kind, message = SetupError, f"base image {reference} does not exist"
        hint = "check name, tag and digest"
    elif isinstance(error, AccessError):
        kind = SetupError
    return kind(message, hint=hint, file=place.file, line=place.line)


def _manifest_for(
    repository: Repository,
    root: Manifest | Index,
    platform: Platform,
    reference: str,
    place: Place,
) -> Manifest:
    found: Manifest | Index = root
    for _ in range(MAX_INDEX_DEPTH):
        if isinstance(found, Manifest):
            return found
        entry = _entry_for(found, platform)
        if entry is None:
            known = ", ".join(sorted(str(e.platform) for e in found.images if e.platform))
            raise BuildError(
                f"base image {reference} has no {platform}",
                hint=f"it has: {known or 'no platform at all'}",
                file=place.file,
                line=place.line,
            )
        found = repository.fetch(entry.digest)
    raise IntegrityError(f"{reference}: indexes nested deeper than {MAX_INDEX_DEPTH}")


def _entry_for(index: Index, platform: Platform) -> Descriptor | None:
    exact = next((entry for entry in index.images if entry.platform == platform), None)
    if exact is not None:
        return exact
    # An index inside the index may name no platform.
    unnamed = [
        e for e in index.images if e.platform is None and e.media_type in media_types.INDEXES
    ]
    return unnamed[0] if len(unnamed) == 1 else None


def _read_config(repository: Repository, manifest: Manifest, reference: str) -> dict[str, object]:
    if manifest.config.media_type not in (media_types.OCI_CONFIG, media_types.DOCKER_CONFIG):
        raise IntegrityError(
            f"{reference} is no container image: its config is {manifest.config.media_type!r}"
        )
    what = f"config of {reference}"
    chunks = bounded(repository.open(manifest.config.digest), MAX_JSON_BYTES, what=what)
    return as_object(parse_json(b"".join(chunks), what=what), what=what)


def _platform_of(config: dict[str, object], wanted: Platform) -> Platform:
    """Return the platform in a config; one without variant has the variant that is wanted."""
    os, architecture, variant = (
        as_text(config.get(key) or "", what=f"config.{key}")
        for key in ("os", "architecture", "variant")
    )
    return normalise_platform(os, architecture, variant or wanted.variant)


def _diff_ids(config: dict[str, object], layers_count: int, reference: str) -> tuple[Digest, ...]:
    what = f"rootfs of {reference}"
    rootfs = as_object(config.get("rootfs") or {}, what=what)
    ids = as_list(rootfs.get("diff_ids") or [], what=what)
    if len(ids) != layers_count:
        raise IntegrityError(f"{reference}: {layers_count} layers but {len(ids)} diff ids")
    return tuple(Digest(as_text(text, what=what)) for text in ids)


def _oci_layer(layer: Descriptor, reference: str, place: Place) -> Descriptor:
    media_type = _TO_OCI.get(layer.media_type, layer.media_type)
    known = media_type in media_types.LAYER_COMPRESSION
    if not known or media_type in media_types.FOREIGN_LAYERS:
        raise BuildError(
            f"base image {reference} has a layer of type {layer.media_type}, which can't be copied",
            hint="use a base image with ordinary layers, or another builder",
            file=place.file,
            line=place.line,
        )
    return Descriptor(media_type=media_type, digest=layer.digest, size=layer.size)

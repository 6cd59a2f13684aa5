"""Checks that a layout holds exactly the platforms that were asked for."""

from pathlib import Path

from ci_registry.builders.interface import BuildRequest
from ci_registry.dockerfile.model import Dockerfile, Stage
from ci_registry.errors import BuildError, IntegrityError, StorageError, ToolError, UsageError
from ci_registry.files import remove_tree
from ci_registry.oci.image_config import parse_config_platform
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.platform import Platform, parse_platform
from ci_registry.registry.content import bounded
from ci_registry.registry.layout import Layout
from ci_registry.strict import MAX_JSON_BYTES


def config_platform(layout: Layout, image: Manifest) -> Platform:
    """Return the platform that an image's config names.

    Raises:
        IntegrityError: the config is absent from the layout, too large or not an image config.
    """
    what = f"config {image.config.digest.short}"
    chunks = layout.open(image.config.digest)
    body = b"".join(bounded(chunks, MAX_JSON_BYTES, what=what))
    return parse_config_platform(body, what=what)


def check_fixed_platform(dockerfile: Dockerfile, request: BuildRequest) -> None:
    """Refuse a result whose files are of another platform than its label says.

    BuildKit labels an image with the platform that was asked for, although its last stage comes from
    `FROM --platform=linux/arm64 …`; nothing in the image shows it afterwards. Variables are not looked at.

    Raises:
        BuildError: the stage that becomes the image starts from a fixed, different platform.
    """
    stage = _target_stage(dockerfile, request.target)
    while stage is not None and (parent := _parent(dockerfile, stage)) is not None:
        stage = parent
    if stage is None or not stage.platform or "$" in stage.platform or stage.base == "scratch":
        return
    try:
        fixed = parse_platform(stage.platform)
    except UsageError:
        return  # the builder says what is wrong with it
    wrong = tuple(platform for platform in request.platforms if platform != fixed)
    if wrong:
        raise BuildError(
            f"{request.image}: the files would be of {fixed}, but the image would be labelled "
            f"{_names(wrong)}",
            hint=f"remove --platform={stage.platform}, or build only {fixed}",
            file=request.dockerfile_name,
            line=stage.origin.first_line,
        )


def _target_stage(dockerfile: Dockerfile, target: str) -> Stage | None:
    if not target:
        return dockerfile.stages[-1]
    stages = (s for s in dockerfile.stages if target.lower() in (s.name, str(s.index)))
    return next(stages, None)


def _parent(dockerfile: Dockerfile, stage: Stage) -> Stage | None:
    """Return the stage that `FROM` names, when it is an earlier one."""
    earlier = dockerfile.stages[: stage.index]
    return next((s for s in reversed(earlier) if s.name and s.name == stage.base.lower()), None)


def check_layout(path: Path, platforms: tuple[Platform, ...], *, tool: str) -> None:
    """Compare the platforms in a layout, index and configs alike, with those requested.

    The empty `ingest` folder that BuildKit leaves behind is removed first.

    Raises:
        BuildError: another set of platforms came out than was asked for.
        ToolError: the builder wrote no usable layout, or something beside the images.
    """
    remove_tree(path / "ingest") if (path / "ingest").is_dir() else None
    try:
        layout = Layout(path)
        images = _images(layout, layout.root(), tool)
        found = [_platform(layout, image, tool) for image in images]
    except (IntegrityError, StorageError) as error:
        raise ToolError(f"{tool} wrote an unusable OCI layout: {error.message}") from error
    if sorted(found) != sorted(set(platforms)):
        raise BuildError(
            f"asked for {_names(platforms)}, but {tool} built {_names(tuple(found))}",
            hint="check the --platform of each FROM and the platforms of the base images",
        )


def _names(platforms: tuple[Platform, ...]) -> str:
    return ", ".join(str(platform) or "no platform" for platform in sorted(platforms)) or "nothing"


def _images(layout: Layout, root: Descriptor, tool: str) -> tuple[Descriptor, ...]:
    manifest = layout.fetch(root.digest)
    if isinstance(manifest, Manifest):
        return (root,)
    extra = [entry for entry in manifest.manifests if entry.is_attestation]
    if extra:
        raise ToolError(f"{tool} added an attestation that was not asked for: {extra[0].digest}")
    return manifest.manifests


def _platform(layout: Layout, entry: Descriptor, tool: str) -> Platform:
    """Return the platform of one image; what the index says must agree with the config."""
    image = layout.fetch(entry.digest)
    if isinstance(image, Index):
        raise ToolError(f"{tool} wrote an index inside an index: {entry.digest}")
    platform = config_platform(layout, image)
    if entry.platform is not None and entry.platform != platform:
        raise BuildError(
            f"{tool} lists {entry.digest.short} as {entry.platform}, but its config says {platform}",
            hint="check the --platform of each FROM and the platforms of the base images",
        )
    return platform

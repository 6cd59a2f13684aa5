"""The embedded builder: images from Dockerfiles without `RUN`, with no engine and no other program.

The same files, Dockerfile, bases and `source_date_epoch` give the same diff ids everywhere, and the
same digests on machines with the same zlib. Base layers are kept byte for byte.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ci_registry.builders.assemble_base import BaseImage, BaseImages, OpenBase
from ci_registry.builders.assemble_content import ContentStore
from ci_registry.builders.assemble_refusals import Refusal, find_refusal
from ci_registry.builders.assemble_stage import BuiltStage, PlatformBuild, Workshop
from ci_registry.builders.assemble_tree import HostFile, Node, NodeKind, Tree
from ci_registry.builders.context import MAX_DOCKERFILE_BYTES, context_entries
from ci_registry.builders.context_link import check_inputs
from ci_registry.builders.interface import BuildRequest, Probe
from ci_registry.cancel import Cancel
from ci_registry.dockerfile.model import Dockerfile
from ci_registry.dockerfile.parse import parse_dockerfile
from ci_registry.dockerfile.stages import BuildArguments, automatic_arguments
from ci_registry.errors import (
    BuildError,
    CancelledError,
    CiRegistryError,
    SetupError,
    StorageError,
    ToolError,
)
from ci_registry.files import read_file, storage_error
from ci_registry.oci import media_types
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.platform import Platform
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome
from ci_registry.source.walk import ContextEntry, EntryType

VERSION = "1"
"""Changes when equal inputs give another image."""
_KINDS = {
    EntryType.FILE: NodeKind.FILE,
    EntryType.DIRECTORY: NodeKind.DIRECTORY,
    EntryType.LINK: NodeKind.LINK,
}


class Assemble:
    """Builds without running anything; implements `interface.Builder`.

    `BUILDPLATFORM` is the platform that is built for, so that nothing depends on the machine.
    """

    name = "assemble"

    def __init__(self, *, open_base: OpenBase, cancel: Cancel) -> None:
        """Read base images through `open_base`."""
        self._open_base = open_base
        self._cancel = cancel

    def probe(self, request: BuildRequest) -> Probe:
        """Say whether the Dockerfile does without `RUN`; names the first line that does not."""
        try:
            check_inputs(request)
            refusal = _refusal(_read_dockerfile(request), request)
        except CiRegistryError as error:
            return Probe(usable=False, reason=error.headline, version=VERSION)
        if refusal is not None:
            where = f"{request.dockerfile_name}:{refusal.line}"
            return Probe(usable=False, reason=f"{where}: {refusal.reason}", version=VERSION)
        return Probe(
            usable=True,
            reason="embedded: the Dockerfile runs no program",
            version=VERSION,
            multi_platform=True,
        )

    def build(self, request: BuildRequest) -> BuildOutcome:
        """Build into `request.layout`; nothing is written when the Dockerfile needs another builder.

        Raises:
            BuildError: syntax, a missing source, an instruction that can't be carried out.
            SetupError: the Dockerfile has a `RUN` or something else that `assemble` does not do; a
                file or base can't be read.
            ToolError: a registry failed or a disk is full.
        """
        started = time.monotonic()
        check_inputs(request)
        dockerfile = _read_dockerfile(request)
        refusal = _refusal(dockerfile, request)
        if refusal is not None:
            raise refusal.error(dockerfile.file)
        try:
            outcome = self._build(request, dockerfile)
        except (BuildError, SetupError, ToolError, CancelledError):
            raise
        except CiRegistryError as error:
            raise ToolError(error.message, hint=error.hint) from error
        return replace(outcome, duration_s=time.monotonic() - started)

    def _build(self, request: BuildRequest, dockerfile: Dockerfile) -> BuildOutcome:
        check = _checker(self._cancel, request)
        output = Layout.create(request.layout)
        scratch = request.work / "assemble"
        contents = ContentStore(Layout.create(scratch / "bases"), scratch / "files", check)
        workshop = Workshop(
            dockerfile=dockerfile,
            target=request.target,
            output=output,
            contents=contents,
            bases=BaseImages(self._open_base, contents),
            context=_context_of(request),
            check=check,
            mtime=request.source_date_epoch,
        )
        images, warnings, steps = [], [], 0
        declared: set[str] = set()
        for platform in dict.fromkeys(request.platforms):
            build = PlatformBuild(workshop, _arguments(request, platform))
            stage = build.run()
            images.append(_write_image(workshop, request, stage, platform))
            warnings += build.warnings
            steps += len(stage.history)
            declared |= build.declared
        output.set_root(images[0] if len(images) == 1 else _write_index(output, images))
        return BuildOutcome(
            builder=self.name,
            builder_version=VERSION,
            steps_total=steps,
            warnings=(*dict.fromkeys(warnings), *_unused(request, declared)),
            materials=workshop.bases.materials,
        )


def _checker(cancel: Cancel, request: BuildRequest) -> Callable[[], None]:
    deadline = time.monotonic() + request.timeout.total_seconds()

    def check() -> None:
        cancel.check()
        if time.monotonic() > deadline:
            raise ToolError(
                f"building {request.image} took longer than {request.timeout}",
                hint="raise build.timeout, or make the context smaller",
            )

    return check


def _read_dockerfile(request: BuildRequest) -> Dockerfile:
    try:
        raw = read_file(request.dockerfile, max_bytes=MAX_DOCKERFILE_BYTES)
    except StorageError as error:
        raise SetupError(error.message, hint="check the path and its permissions") from error
    return parse_dockerfile(raw.decode("utf-8", "surrogateescape"), file=request.dockerfile_name)


def _arguments(request: BuildRequest, platform: Platform) -> BuildArguments:
    return BuildArguments(values=request.build_args, platform=platform)


def _refusal(dockerfile: Dockerfile, request: BuildRequest) -> Refusal | None:
    found = (
        find_refusal(dockerfile, request.target, _arguments(request, platform))
        for platform in request.platforms
    )
    return next((refusal for refusal in found if refusal is not None), None)


def _unused(request: BuildRequest, declared: set[str]) -> tuple[str, ...]:
    known = declared | set(automatic_arguments(BuildArguments()))
    return tuple(
        f"{request.dockerfile_name}: build argument {name} is declared by no ARG that is reached"
        for name in sorted(request.build_args)
        if name not in known and not name.lower().endswith("_proxy")
    )


def _context_of(request: BuildRequest) -> Callable[[], Tree]:
    trees: list[Tree] = []

    def context() -> Tree:
        if not trees:
            entries = context_entries(request.context, request.dockerfile)
            trees.append(_tree_of(request.context, entries))
        return trees[0]

    return context


def _tree_of(context: Path, entries: tuple[ContextEntry, ...]) -> Tree:
    tree = Tree()
    linked: dict[tuple[int, int], Node] = {}
    for entry in entries:  # sorted, so a directory comes before what it holds
        node = Node(
            kind=_KINDS[entry.type],
            mode=entry.mode,
            size_bytes=entry.size_bytes,
            link=entry.link.decode("utf-8", "surrogateescape"),
            content=HostFile(context / entry.name) if entry.type == EntryType.FILE else None,
        )
        if entry.inode is not None:
            node = linked.setdefault(entry.inode, node)
        tree.put(tuple(entry.name.split("/")), node)
    return tree


# --- the image


def _dump(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )


def _write_image(
    workshop: Workshop, request: BuildRequest, stage: BuiltStage, platform: Platform
) -> Descriptor:
    """Write config and manifest of one platform and return its descriptor."""
    if stage.config.platform != platform:
        origin = stage.resolved.stage.origin
        raise BuildError(
            f"the image for {platform} would hold files of {stage.config.platform}",
            hint="leave --platform out of the FROM of the last stage, or build for that platform",
            file=workshop.dockerfile.file,
            line=origin.first_line,
        )
    base_layers = stage.base.layers if stage.base else ()
    for layer in base_layers:
        _keep_layer(workshop, layer)
    stage.config.set_labels(request.labels)
    config = workshop.output.write_blob(
        (_dump(_config(stage, request.source_date_epoch)),), media_types.OCI_CONFIG
    )
    layers = [*base_layers, *(layer.descriptor for layer in stage.layers)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    descriptor = workshop.output.write_manifest(_dump(manifest), media_types.OCI_MANIFEST)
    return replace(descriptor, platform=platform)


def _keep_layer(workshop: Workshop, layer: Descriptor) -> None:
    """Put a base layer into the output, as a second name of the same file where that works."""
    bases, output = workshop.contents.layout, workshop.output
    target = output.blob_path(layer.digest)
    if target.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(bases.blob_path(layer.digest))
    except FileNotFoundError as error:
        raise storage_error(error, target, "write") from error
    except OSError:  # another file system
        output.push_blob(layer, lambda: bases.open(layer.digest))


def _config(stage: BuiltStage, epoch: int) -> dict[str, object]:
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    base_ids = list(stage.base.diff_ids) if stage.base else []
    history = _base_history(stage.base, created) if stage.base else []
    for text, made_layer in stage.history:
        entry: dict[str, object] = {"created": created, "created_by": text}
        history.append(entry if made_layer else entry | {"empty_layer": True})
    return {
        **stage.config.top,
        **stage.config.platform.to_json(),
        "created": created,
        "config": stage.config.settings,
        "rootfs": {
            "type": "layers",
            "diff_ids": [str(i) for i in base_ids] + [str(w.diff_id) for w in stage.layers],
        },
        "history": history,
    }


def _base_history(base: BaseImage, created: str) -> list[dict[str, object]]:
    """Return the history of a base, or one entry a layer where it has none that fits."""
    found = base.config.get("history")
    entries = [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []
    if sum(1 for e in entries if not e.get("empty_layer")) == len(base.layers):
        return entries
    return [{"created": created, "created_by": f"FROM {base.reference}"} for _ in base.layers]


def _write_index(output: Layout, images: list[Descriptor]) -> Descriptor:
    index = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [image.to_json() for image in images],
    }
    return output.write_manifest(_dump(index), media_types.OCI_INDEX)

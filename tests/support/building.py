"""Requests for builders, and a look into what they built."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ci_registry.builders.interface import BuildRequest
from ci_registry.cancel import Cancel
from ci_registry.events import Event, Log
from ci_registry.oci.manifest import Index, Manifest
from ci_registry.oci.platform import Platform
from ci_registry.process import ProcessRunner
from ci_registry.registry.layout import Layout
from ci_registry.secret import Masker

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


def hash_tree(context: Path, _dockerfile: Path) -> str:
    """Hash paths and contents of everything below `context`."""
    hasher = hashlib.sha256()
    for path in sorted(context.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            hasher.update(f"{path.relative_to(context)}\0{len(content)}\0".encode() + content)
    return hasher.hexdigest()


def pack_tree(context: Path, _dockerfile: Path, target: Path) -> None:
    """Pack everything below `context`."""
    with tarfile.open(target, "w") as tar:
        for path in sorted(context.rglob("*")):
            tar.add(path, path.relative_to(context).as_posix(), recursive=False)


@dataclass(kw_only=True)
class Bench:
    """What the builders of one test share."""

    cancel: Cancel = field(default_factory=Cancel)
    masker: Masker = field(default_factory=Masker)
    events: list[Event] = field(default_factory=list)

    @property
    def run(self) -> ProcessRunner:
        """The real runner."""
        return ProcessRunner(cancel=self.cancel, masker=self.masker)

    @property
    def log(self) -> str:
        """Every log line so far."""
        return "\n".join(e.message for e in self.events if isinstance(e, Log))


def request_for(work: Path, context: Path, **more: Any) -> BuildRequest:
    """Ask for a build of `context` with everything of its own below `work`."""
    work.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "image": "api",
        "context": context,
        "dockerfile": context / "Dockerfile",
        "layout": work / "layout",
        "work": work,
    }
    return BuildRequest(**(values | more))


@dataclass(frozen=True, kw_only=True)
class Built:
    """One platform of a built image."""

    manifest: Manifest
    config: dict[str, Any]
    layers: tuple[bytes, ...]
    """Unpacked tars."""

    @property
    def files(self) -> dict[str, bytes]:
        """Path → content of the regular files, upper layers last."""
        found = {}
        for layer in self.layers:
            with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.isreg() else None
                    if file is not None:
                        found[member.name.removeprefix("./")] = file.read()
        return found


def built_images(path: Path) -> dict[str, Built]:
    """Return platform → image of a layout, from the configs."""
    layout = Layout(path)
    return {
        f"{built.config['os']}/{built.config['architecture']}": built
        for built in (_built(layout, manifest) for manifest in _manifests(layout))
    }


def _manifests(layout: Layout) -> Iterator[Manifest]:
    root = layout.fetch(layout.root().digest)
    if isinstance(root, Manifest):
        yield root
        return
    for entry in root.manifests:
        child = layout.fetch(entry.digest)
        assert not isinstance(child, Index)
        yield child


def _built(layout: Layout, manifest: Manifest) -> Built:
    config = json.loads(b"".join(layout.open(manifest.config.digest)))
    layers = tuple(
        gzip.decompress(b"".join(layout.open(layer.digest))) for layer in manifest.layers
    )
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    assert digests == config["rootfs"]["diff_ids"]
    return Built(manifest=manifest, config=config, layers=layers)

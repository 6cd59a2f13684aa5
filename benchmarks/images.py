"""Makes the images that the benchmarks move: any size, quickly, with layers that do not compress."""

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ci_registry.oci import media_types
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.layout import Layout

_BLOCK_BYTES = 1 << 20


def _tar(name: str, size_bytes: int) -> Iterator[bytes]:
    """Yield a tar archive with one file of noise."""
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    yield member.tobuf(format=tarfile.PAX_FORMAT)
    noise = os.urandom(_BLOCK_BYTES)
    for start in range(0, size_bytes, _BLOCK_BYTES):
        piece = start.to_bytes(8, "big") + noise[8:]
        yield piece[: size_bytes - start]
    yield bytes(-size_bytes % 512 + 1024)


def _layer(layout: Layout, name: str, size_bytes: int) -> tuple[Descriptor, str]:
    """Write a gzip layer whose data is stored, not squeezed; returns it and its diff id."""
    inner = hashlib.sha256()

    def compressed() -> Iterator[bytes]:
        gzip = zlib.compressobj(level=0, wbits=31)
        for piece in _tar(name, size_bytes):
            inner.update(piece)
            yield gzip.compress(piece)
        yield gzip.flush()

    layer = layout.write_blob(compressed(), media_types.OCI_LAYER_GZIP)
    return layer, f"sha256:{inner.hexdigest()}"


def noisy_image(folder: Path, *layer_bytes: int, tag: str = "v1") -> Layout:
    """Write an OCI layout with one image that has a layer of each of these sizes."""
    layout = Layout.create(folder)
    layers = [_layer(layout, f"noise{number}", size) for number, size in enumerate(layer_bytes)]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        "history": [{"created_by": "noise"} for _ in layers],
    }
    body = io.BytesIO(json.dumps(config).encode())
    written = layout.write_blob(iter(lambda: body.read(_BLOCK_BYTES), b""), media_types.OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": written.to_json(),
        "layers": [layer.to_json() for layer, _ in layers],
    }
    root = layout.write_manifest(json.dumps(manifest).encode(), media_types.OCI_MANIFEST)
    layout.set_root(root, tag=tag)
    return layout

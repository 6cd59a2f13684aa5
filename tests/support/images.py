"""Makes small OCI layouts by hand, so that tests need no builder."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of

Files = Mapping[str, bytes | str | None]
"""Path → content; None is a directory; a path ending in `->target` is a symbolic link."""


def tar_of(files: Files) -> bytes:
    """Return a plain tar; `.wh.` names are ordinary entries, as in real layers."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in files.items():
            name, arrow, target = path.partition("->")
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            if arrow:
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)
            elif content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                data = content.encode() if isinstance(content, str) else content
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """One platform image to make."""

    layers: Sequence[Files | bytes]
    """Files of each layer, or a ready plain tar."""
    architecture: str = "amd64"
    os: str = "linux"
    compression: str = "gzip"
    """`gzip`, `zstd` or empty."""
    level: int = 9
    """Of gzip; 1 for a large layer."""
    config: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MadeImage:
    """What was made."""

    layout: Path
    digest: Digest
    """Of the index when there are several platforms, else of the manifest."""
    manifests: tuple[Digest, ...]
    configs: tuple[Digest, ...]
    diff_ids: tuple[tuple[Digest, ...], ...]


def put_blob(layout: Path, data: bytes) -> Digest:
    """Store a blob in a layout."""
    digest = digest_of(data)
    path = layout / "blobs" / digest.algorithm / digest.hex
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest


def _compress(data: bytes, compression: str, level: int) -> tuple[bytes, str]:
    if compression == "gzip":
        return gzip.compress(data, level, mtime=0), media_types.OCI_LAYER_GZIP
    if compression == "zstd":
        return zstandard.ZstdCompressor().compress(data), media_types.OCI_LAYER_ZSTD
    return data, media_types.OCI_LAYER


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _one_image(layout: Path, spec: ImageSpec) -> tuple[bytes, Digest, tuple[Digest, ...]]:
    layers, diff_ids = [], []
    for files in spec.layers:
        tar = files if isinstance(files, bytes) else tar_of(files)
        diff_ids.append(Digest(f"sha256:{hashlib.sha256(tar).hexdigest()}"))
        blob, media_type = _compress(tar, spec.compression, spec.level)
        digest = put_blob(layout, blob)
        layers.append({"mediaType": media_type, "digest": digest, "size": len(blob)})
    config = _dump(
        {
            "architecture": spec.architecture,
            "os": spec.os,
            "config": dict(spec.config),
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    )
    config_digest = put_blob(layout, config)
    manifest = _dump(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": {
                "mediaType": media_types.OCI_CONFIG,
                "digest": config_digest,
                "size": len(config),
            },
            "layers": layers,
        }
    )
    return manifest, config_digest, tuple(diff_ids)


def make_layout(layout: Path, *specs: ImageSpec) -> MadeImage:
    """Write an OCI layout with one image, or an index of several."""
    layout.mkdir(parents=True, exist_ok=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    entries, manifests, configs, diff_ids = [], [], [], []
    for spec in specs:
        body, config_digest, ids = _one_image(layout, spec)
        digest = put_blob(layout, body)
        manifests.append(digest)
        configs.append(config_digest)
        diff_ids.append(ids)
        entries.append(
            {
                "mediaType": media_types.OCI_MANIFEST,
                "digest": digest,
                "size": len(body),
                "platform": {"architecture": spec.architecture, "os": spec.os},
            }
        )
    root = entries
    if len(specs) > 1:
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
        body = _dump(index)
        root = [
            {
                "mediaType": media_types.OCI_INDEX,
                "digest": put_blob(layout, body),
                "size": len(body),
            }
        ]
    (layout / "index.json").write_bytes(_dump({"schemaVersion": 2, "manifests": root}))
    return MadeImage(
        layout=layout,
        digest=Digest(str(root[0]["digest"])),
        manifests=tuple(manifests),
        configs=tuple(configs),
        diff_ids=tuple(diff_ids),
    )


DEBIAN_OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


def dpkg_status(*packages: tuple[str, str, str]) -> str:
    """Return a dpkg status file of (package, version, source) rows; an empty source is left out."""
    blocks = []
    for name, version, source in packages:
        lines = [f"Package: {name}", "Status: install ok installed", "Architecture: amd64"]
        lines += [f"Source: {source}"] if source else []
        blocks.append("\n".join([*lines, f"Version: {version}", "Description: test"]))
    return "\n\n".join(blocks) + "\n"


def debian_layer(*packages: tuple[str, str, str]) -> dict[str, bytes | str | None]:
    """Return the files of a Debian 12 base layer with these packages."""
    return {
        "etc/os-release": DEBIAN_OS_RELEASE,
        "etc/debian_version": "12.5\n",
        "var/lib/dpkg/status": dpkg_status(*packages),
    }

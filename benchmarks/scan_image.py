"""Makes the image that the scanners of the benchmark read: a real Debian 12, Python and Node on it, an application.

    python -m benchmarks.scan_image FOLDER

Needs root, `.peers` and Debian's mirror (apt in a chroot); it takes half a minute and is done once.
"""

import argparse
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ci_registry.oci import media_types
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.layout import Layout
from tests.support.peers import PEERS

_PIECE_BYTES = 1 << 20
_WHEELS = (
    "click",
    "cryptography",
    "cvss",
    "docker",
    "httpx",
    "packaging",
    "pyyaml",
    "rich",
    "uvicorn",
    "zstandard",
)
_PROGRAM = PEERS / "bin" / "registry3"
"""A Go program of 78 MB that `scripts/install-peers` builds, where there is Go."""


def main() -> int:
    """Make the image unless it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(scan_image(parser.parse_args().folder))
    return 0


def scan_image(folder: Path) -> Path:
    """Return an OCI layout of three layers; what an earlier call left is used again."""
    if (folder / "index.json").exists():
        return folder
    if os.geteuid() or not (PEERS / "debian-12-root.tar").exists():
        raise SystemExit("scan_image: needs root, and what scripts/install-peers brings")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        layout = Layout.create(part)
        base = PEERS / "debian-12-root.tar"
        tars = (base, _languages(base, Path(work)), _application(Path(work)))
        _write(layout, [_layer(layout, tar) for tar in tars])
    part.rename(folder)
    return folder


def _languages(base: Path, work: Path) -> Path:
    """Install Python and Node with apt, and pack what that changed."""
    root = work / "root"
    root.mkdir()
    subprocess.run(("tar", "-xf", base, "-C", root), check=True)
    before = {path: _state(path) for path in _below(root)}
    null = root / "dev" / "null"
    os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (
        ("apt-get", "update", "-qq"),
        ("apt-get", "install", "-qq", "-y", "--no-install-recommends", "python3", "nodejs"),
        ("apt-get", "clean"),
    ):
        subprocess.run(
            ("chroot", root, *argv),
            env=env,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    null.unlink()
    shutil.rmtree(root / "var/lib/apt/lists")
    changed = [path for path in _below(root) if before.get(path) != _state(path)]
    return _packed(work / "languages.tar", {path: path.relative_to(root) for path in changed})


def _below(root: Path) -> list[Path]:
    return sorted(root.rglob("*"))


def _state(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    is_folder = stat.S_ISDIR(found.st_mode)
    return found.st_mode, 0 if is_folder else found.st_size, 0 if is_folder else found.st_mtime_ns


def _application(work: Path) -> Path:
    """Pack ten distributions of this environment, the npm packages of the peers, and a Go program."""
    files: dict[Path, Path] = {}
    for name in _WHEELS:
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                files[Path(str(file.locate()))] = Path("srv/app/site-packages") / file
    modules = PEERS / "npm"
    for path in sorted((modules / "node_modules").rglob("*")):
        if path.is_file() and not path.is_symlink():
            files[path] = Path("srv/app") / path.relative_to(modules)
    if _PROGRAM.exists():
        files[_PROGRAM.resolve()] = Path("srv/app/bin/server")
    return _packed(work / "application.tar", files)


def _packed(tar: Path, files: dict[Path, Path]) -> Path:
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        for path, name in files.items():
            if path.exists() or path.is_symlink():
                archive.add(path, str(name), recursive=False)
    return tar


def _layer(layout: Layout, tar: Path) -> tuple[Descriptor, str]:
    """Compress as Docker does."""
    inner = hashlib.sha256()

    def compressed() -> Iterator[bytes]:
        gzip = zlib.compressobj(level=6, wbits=31)
        with tar.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                inner.update(piece)
                yield gzip.compress(piece)
        yield gzip.flush()

    layer = layout.write_blob(compressed(), media_types.OCI_LAYER_GZIP)
    return layer, f"sha256:{inner.hexdigest()}"


def _write(layout: Layout, layers: list[tuple[Descriptor, str]]) -> None:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
    }
    body = io.BytesIO(json.dumps(config).encode())
    written = layout.write_blob(iter(lambda: body.read(_PIECE_BYTES), b""), media_types.OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": written.to_json(),
        "layers": [layer.to_json() for layer, _ in layers],
    }
    root = layout.write_manifest(json.dumps(manifest).encode(), media_types.OCI_MANIFEST)
    layout.set_root(root, tag="v1")


if __name__ == "__main__":
    sys.exit(main())

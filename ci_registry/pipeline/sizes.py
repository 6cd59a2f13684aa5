"""Remembers how large each image was, so that preflight knows how much space a build wants."""

import contextlib
from pathlib import Path

from ci_registry.errors import StorageError
from ci_registry.files import read_file, write_atomic
from ci_registry.oci.digest import digest_of


def _file(cache: Path, image: str) -> Path:
    return cache / "sizes" / digest_of(image.encode()).hex[:32]


def last_size(cache: Path, image: str) -> int:
    """Return the bytes of the image's layout the last time, 0 when unknown."""
    try:
        text = read_file(_file(cache, image), max_bytes=64).decode(errors="replace").strip()
    except StorageError:
        return 0
    return int(text) if text.isdecimal() else 0


def remember_size(cache: Path, image: str, size_bytes: int) -> None:
    """Store the size; a cache that can't be written is no reason to fail a run."""
    with contextlib.suppress(StorageError):
        write_atomic(_file(cache, image), str(size_bytes), sync=False)

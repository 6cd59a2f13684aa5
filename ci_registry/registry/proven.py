"""Remembers which blob files were hashed in this run, so that large ones are read once and not three times."""

import os
from pathlib import Path

from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor

Identity = tuple[int, int, int, int]
"""Device, inode, size and time of the last change of the content: another file, or a changed one, differs."""


def identity_of(status: os.stat_result) -> Identity:
    """Return what tells a file from every other one and from its former self."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class ProvenBlobs:
    """Digest → the very file whose bytes had that digest; lives as long as one run; threads may share it."""

    def __init__(self) -> None:
        self._files: dict[Digest, Identity] = {}

    def add(self, digest: Digest, before: Identity, path: Path) -> None:
        """Note that `path` was hashed and fits, unless it changed since `before`, when hashing began."""
        try:
            if identity_of(path.stat()) == before:
                self._files[digest] = before
        except OSError:
            return  # gone meanwhile: there is nothing to remember

    def holds(self, descriptor: Descriptor, path: Path) -> bool:
        """Whether `path` is a file, or a link to it, that was hashed in this run and stayed as it was."""
        proven = self._files.get(descriptor.digest)
        if proven is None:
            return False
        try:
            status = path.stat()
        except OSError:
            return False
        return identity_of(status) == proven and status.st_size == descriptor.size

"""Every change that the folder store makes to files, behind one small interface, so that tests can record it."""

import os
from pathlib import Path
from typing import BinaryIO, Protocol

from ci_registry.files import sync_folder


class FileOperations(Protocol):
    """Changes files; all methods raise `OSError`."""

    def make_folder(self, path: Path) -> None:
        """Make a folder and what is missing above it; an existing one is fine."""

    def open(self, path: Path, *, new: bool) -> BinaryIO:
        """Open a file for writing at its end, unbuffered; `new` makes it empty."""

    def write(self, file: BinaryIO, data: bytes) -> None:
        """Write all of `data`."""

    def truncate(self, file: BinaryIO, size_bytes: int) -> None:
        """Cut a file, and go on at its new end."""

    def sync(self, file: BinaryIO) -> None:
        """Make the content of a file survive a power cut."""

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, replacing what has it."""

    def remove(self, path: Path) -> None:
        """Remove a file; a missing one is fine."""

    def sync_folder(self, path: Path) -> None:
        """Make what was made, renamed and removed in a folder survive a power cut."""


class RealFileOperations:
    """The operations of the operating system."""

    def __init__(self, *, durable: bool) -> None:
        """Without `durable` nothing is ever synced: the folder need not survive a power cut."""
        self._durable = durable

    def make_folder(self, path: Path) -> None:
        """Make a folder and what is missing above it."""
        path.mkdir(parents=True, exist_ok=True)

    def open(self, path: Path, *, new: bool) -> BinaryIO:
        """Open a file for writing at its end, unbuffered."""
        return path.open("wb" if new else "ab", buffering=0)

    def write(self, file: BinaryIO, data: bytes) -> None:
        """Write all of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]

    def truncate(self, file: BinaryIO, size_bytes: int) -> None:
        """Cut a file, and go on at its new end."""
        file.truncate(size_bytes)
        file.seek(size_bytes)

    def sync(self, file: BinaryIO) -> None:
        """Make the content of a file survive a power cut."""
        if self._durable:
            os.fsync(file.fileno())

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink(missing_ok=True)

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder survive a power cut."""
        if self._durable:
            sync_folder(path)

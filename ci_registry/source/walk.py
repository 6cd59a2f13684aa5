"""Lists the files of a build context that are left after the ignore file."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ci_registry.errors import SetupError

MAX_ENTRIES = 2_000_000
MAX_DEPTH = 256


class EntryType(StrEnum):
    """What an entry is; devices, FIFOs and sockets are errors."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextEntry:
    """One file, directory or symbolic link."""

    path: bytes
    """Relative to the context, `/`-separated."""
    type: EntryType
    mode: int
    """Permission bits, 07777; 0777 for links."""
    size_bytes: int = 0
    """Of a file; 0 for others."""
    link: bytes = b""
    """Text of a symbolic link."""
    inode: tuple[int, int] | None = None
    """Device and inode of a file that has several names."""

    @property
    def name(self) -> str:
        """The path as text."""
        return self.path.decode()


def keep_all(_path: str) -> bool:
    """Leave nothing out."""
    return False


def context_files(
    context: Path,
    excluded: Callable[[str], bool] = keep_all,
    must_walk: Callable[[str], bool] = keep_all,
) -> tuple[ContextEntry, ...]:
    """List a context, sorted by the bytes of the path; the context itself is not listed.

    An excluded directory is listed when something below it is not excluded: its mode reaches the
    image.

    Args:
        context: the folder.
        excluded: whether a relative path is left out.
        must_walk: whether an excluded directory may hold something that is not.

    Raises:
        SetupError: the context or a part of it can't be read, a name is not UTF-8, or an entry is a
            device, FIFO or socket.
    """
    walker = _Walker(context, excluded, must_walk)
    if not context.is_dir():
        raise SetupError(
            f"the build context is not a folder: {context}",
            hint="set `context` to the folder that the build may read",
        )
    entries = list(walker.walk(os.fsencode(context), b"", []))
    entries.sort(key=lambda entry: entry.path)
    return tuple(entries)


class _Walker:
    def __init__(
        self, context: Path, excluded: Callable[[str], bool], must_walk: Callable[[str], bool]
    ) -> None:
        self._context = context
        self._excluded = excluded
        self._must_walk = must_walk
        self._count = 0

    def walk(
        self, folder: bytes, prefix: bytes, pending: list[ContextEntry]
    ) -> Iterator[ContextEntry]:
        """Yield what is below `folder`; `pending` are excluded parents not listed yet."""
        for found in self._scan(folder, prefix):
            path = prefix + found.name
            name = self._text(path)
            is_directory = found.is_dir(follow_symlinks=False)
            excluded = self._excluded(name)
            if excluded and not (is_directory and self._must_walk(name)):
                continue
            entry = self._entry(found, path)
            if excluded:
                yield from self.walk(found.path, path + b"/", [*pending, entry])
                continue
            yield from pending
            pending.clear()
            yield entry
            if is_directory:
                yield from self.walk(found.path, path + b"/", [])

    def _scan(self, folder: bytes, prefix: bytes) -> list["os.DirEntry[bytes]"]:
        if prefix.count(b"/") > MAX_DEPTH:
            raise SetupError(
                f"folders in the build context {self._context} are nested deeper than {MAX_DEPTH}",
                hint="leave them out with .dockerignore",
            )
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise unreadable(self._context, prefix.rstrip(b"/"), error) from error
        self._count += len(entries)
        if self._count > MAX_ENTRIES:
            raise SetupError(
                f"the build context {self._context} holds more than {MAX_ENTRIES} entries",
                hint="choose a smaller context, or leave folders out with .dockerignore",
            )
        return entries

    def _text(self, path: bytes) -> str:
        try:
            return path.decode()
        except UnicodeDecodeError as error:
            raise SetupError(
                f"a name in the build context is not UTF-8: {path!r}",
                hint="rename it, or leave its folder out with .dockerignore",
            ) from error

    def _entry(self, found: "os.DirEntry[bytes]", path: bytes) -> ContextEntry:
        try:
            status = found.stat(follow_symlinks=False)
            is_link = stat.S_ISLNK(status.st_mode)
            link = os.readlink(found.path) if is_link else b""  # noqa: PTH115 - the path is bytes
        except OSError as error:
            raise unreadable(self._context, path, error) from error
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISREG(status.st_mode):
            inode = (status.st_dev, status.st_ino) if status.st_nlink > 1 else None
            return ContextEntry(
                path=path, type=EntryType.FILE, mode=mode, size_bytes=status.st_size, inode=inode
            )
        if stat.S_ISDIR(status.st_mode):
            return ContextEntry(path=path, type=EntryType.DIRECTORY, mode=mode)
        if stat.S_ISLNK(status.st_mode):
            return ContextEntry(path=path, type=EntryType.LINK, mode=0o777, link=link)
        raise SetupError(
            f"the build context holds a {_kind(status.st_mode)}: {path.decode()}",
            hint="remove it, or leave it out with .dockerignore",
        )


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "FIFO"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def unreadable(context: Path, path: bytes, error: OSError) -> SetupError:
    """Say that a part of the context can't be read, or vanished meanwhile."""
    name = path.decode(errors="backslashreplace")
    if isinstance(error, FileNotFoundError):
        return SetupError(
            f"the build context changed while it was read: {name} is gone from {context}",
            hint="nothing may write into the context during a build",
        )
    return SetupError(
        f"cannot read {name or '.'} in the build context {context}: {error.strerror}",
        hint="give the build read access, or leave it out with .dockerignore",
    )

"""Packs the entries of a build context into a plain tar, reproducibly."""

import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

from ci_registry.errors import SetupError
from ci_registry.files import storage_error
from ci_registry.source.walk import ContextEntry, EntryType, unreadable


def pack_entries(context: Path, entries: Iterable[ContextEntry], target: Path) -> None:
    """Write the entries, in their order, to a tar at `target`; no owner, no time, no device.

    Raises:
        SetupError: an entry can't be read, or changed its size meanwhile.
        StorageError: the tar can't be written.
    """
    try:
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
            for entry in entries:
                _add(tar, context, entry)
    except OSError as error:
        raise storage_error(error, target, "write") from error


def _add(tar: tarfile.TarFile, context: Path, entry: ContextEntry) -> None:
    info = tarfile.TarInfo(entry.name)
    info.mode = entry.mode
    if entry.type is EntryType.LINK:
        info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(entry.link)
        tar.addfile(info)
    elif entry.type is EntryType.DIRECTORY:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    else:
        info.size = entry.size_bytes
        try:
            file = (context / entry.name).open("rb")
        except OSError as error:
            raise unreadable(context, entry.path, error) from error
        with file:
            if os.fstat(file.fileno()).st_size != entry.size_bytes:
                raise SetupError(f"{entry.name} in the build context changed while it was read")
            tar.addfile(info, file)

"""One sha256 over everything in a build context that can reach an image."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from ci_registry.errors import SetupError
from ci_registry.source.walk import ContextEntry, EntryType, unreadable

_CHUNK_BYTES = 1 << 20
_VERSION = b"ci-registry context 1\n"


def hash_entries(
    context: Path, entries: Iterable[ContextEntry], extra: Iterable[tuple[str, bytes]] = ()
) -> str:
    """Return the sha256, hexadecimal, of entries with their contents and of `extra` named bytes.

    Path, type, mode bits, size, content and link text count; owner and times do not: no builder
    looks at them. `entries` must be sorted.

    Raises:
        SetupError: a file can't be read, or changed its size meanwhile.
    """
    total = hashlib.sha256(_VERSION)
    root = os.open(context, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for entry in entries:
            content = _content(context, root, entry)
            total.update(
                b"%b\0%b\0%o\0%d\0%b\n"
                % (entry.type.encode(), entry.path, entry.mode, entry.size_bytes, content)
            )
    finally:
        os.close(root)
    for name, data in extra:
        total.update(b"extra\0%b\0%b\n" % (name.encode(), hashlib.sha256(data).digest()))
    return total.hexdigest()


def _content(context: Path, root: int, entry: ContextEntry) -> bytes:
    if entry.type == EntryType.LINK:
        return entry.link
    if entry.type == EntryType.DIRECTORY:
        return b""
    try:
        file = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except OSError as error:
        raise unreadable(context, entry.path, error) from error
    try:
        hasher, size_bytes = hashlib.sha256(), 0
        while data := os.read(file, _CHUNK_BYTES):
            hasher.update(data)
            size_bytes += len(data)
    except OSError as error:
        raise unreadable(context, entry.path, error) from error
    finally:
        os.close(file)
    if size_bytes != entry.size_bytes:
        raise SetupError(
            f"the build context changed while it was read: {entry.name} has another size now",
            hint="nothing may write into the context during a build",
        )
    return hasher.digest()

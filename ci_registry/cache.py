"""The cache on disk: entries that are whole or absent, bounded in size, safe for several runs at once.

What comes out is never trusted more than what it is compared with: an entry carries its own checksum
against damage, a blob is hashed against its digest by whoever takes it.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ci_registry.errors import StorageError
from ci_registry.files import hash_file, locked, storage_error, write_atomic

_MAGIC = b"ci-registry cache 1 "
_HEADER_BYTES = len(_MAGIC) + 64 + 1
_LOCK = ".trim.lock"
_STALE_S = 3600.0
"""A temporary file as old as this belongs to a run that died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCache:
    """One tree of the cache: `<folder>/<kind>/<key>`; every run of equal trust may share it."""

    folder: Path
    max_bytes: int
    """Of the whole tree, see `trim`."""

    def path(self, kind: str, key: str) -> Path:
        """Return where an entry is, or would be; `key` is made a file name."""
        return self.folder / kind / hashlib.sha256(key.encode()).hexdigest()

    def get(self, kind: str, key: str, *, max_bytes: int) -> bytes | None:
        """Return an entry; None when it is absent, damaged, cut short or larger than `max_bytes`."""
        path = self.path(kind, key)
        try:
            with path.open("rb") as file:
                data = file.read(max_bytes + _HEADER_BYTES + 1)
        except OSError:
            return None
        header, body = data[:_HEADER_BYTES], data[_HEADER_BYTES:]
        if header != _header(body) or len(body) > max_bytes:
            return None
        _touch(path)
        return body

    def put(self, kind: str, key: str, body: bytes) -> bool:
        """Store an entry, the rename last; whether it worked: a cache that can't be written stops no run."""
        try:
            write_atomic(self.path(kind, key), _header(body) + body, mode=0o600)
        except StorageError:
            return False
        return True

    def keep_file(self, kind: str, key: str, source: Path) -> bool:
        """Store a finished file as it is, linked where that works; whether it is there now."""
        path = self.path(kind, key)
        try:
            if path.exists():
                _touch(path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(source, path)
                _touch(path)
        except FileExistsError:
            return True  # another run was quicker
        except OSError:
            return False
        return True

    def drop(self, kind: str, key: str) -> None:
        """Forget an entry, for example a blob that turned out to be damaged."""
        with contextlib.suppress(OSError):
            self.path(kind, key).unlink(missing_ok=True)

    def trim(self, now_s: float) -> None:
        """Remove the entries that were not used for longest until the tree fits.

        Left-overs of writers that died go too. When another run is at it, nothing is done.
        """
        with contextlib.suppress(StorageError), locked(self.folder / _LOCK, wait=False):
            self._trim(now_s - _STALE_S)

    def _trim(self, stale: float) -> None:
        files = sorted(_files_below(self.folder), key=lambda file: file.used_at)
        left = sum(file.size_bytes for file in files)
        for file in files:
            is_left_over = file.path.name.startswith(".") and file.used_at < stale
            if left <= self.max_bytes and not is_left_over:
                continue
            with contextlib.suppress(OSError):
                file.path.unlink()
                left -= file.size_bytes


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` another name of a file, or a copy of it on another file system; never half of one.

    Raises:
        FileExistsError: `target` is there already.
        OSError: neither works.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
        os.close(handle)
        try:
            shutil.copyfile(source, temporary)
            Path(temporary).replace(target)
        finally:
            Path(temporary).unlink(missing_ok=True)


def remembered(cache: DiskCache | None, file: Path, what: str, find: Callable[[], str]) -> str:
    """Return a fact about a file, found out again only when the file is another one than then.

    Args:
        cache: None remembers nothing.
        file: identified by its real path, device, inode, size, and times of change of content and inode.
        what: the name of the fact; name the way of finding out in it.
        find: finds it out.

    Raises:
        StorageError: the file can't be looked at.
    """
    if cache is None:
        return find()
    try:
        real = file.resolve()
        status = real.stat()
    except OSError as error:
        raise storage_error(error, file, "read") from error
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    key = f"{what}\0{real}\0{identity}\0{status.st_ctime_ns}"
    known = cache.get("programs", key, max_bytes=1024)
    if known is not None:
        return known.decode(errors="replace")
    fact = find()
    cache.put("programs", key, fact.encode())
    return fact


def remembered_sha256(cache: DiskCache | None, file: Path) -> str:
    """Return the sha256 of a large program, hexadecimal; hashed again when the file is another one.

    Raises:
        StorageError: it can't be read.
    """

    def find() -> str:
        try:
            return hash_file(file)
        except OSError as error:
            raise storage_error(error, file, "read") from error

    return remembered(cache, file, "sha256", find)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    size_bytes: int
    used_at: float


def _files_below(folder: Path) -> Iterator[_File]:
    """Yield every file of the tree but its lock; what vanishes meanwhile is left out."""
    try:
        with os.scandir(folder) as kinds:
            folders = [kind.path for kind in kinds if kind.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for kind in folders:
        with contextlib.suppress(OSError), os.scandir(kind) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        used_at = max(status.st_atime, status.st_mtime)
                        yield _File(Path(entry.path), status.st_size, used_at)


def _header(body: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n"


def _touch(path: Path) -> None:
    """Mark an entry as just used; the time of its content stays, which tells others that it did not change."""
    with contextlib.suppress(OSError):
        now, changed = time.time_ns(), path.stat().st_mtime_ns
        os.utime(path, ns=(now, changed))

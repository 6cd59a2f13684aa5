"""Files written so that nobody ever sees half of one: atomic writes, private folders, locks, the cache root."""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ci_registry.errors import StorageError

_RUN_PREFIX = "ci-registry-run-"
_LOCK = ".lock"
_MNT_DETACH = 2
"""Of Linux' `umount2`: gone from the tree at once, also when something in it is still in use."""


def storage_error(error: OSError, path: Path | str, doing: str) -> StorageError:
    """Turn an `OSError` into a clear `StorageError`; `doing` is for example `write`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"no space left to {doing} {path}", hint="free some space, then run again"
        )
    return StorageError(f"cannot {doing} {path}: {error.strerror or error}")


def write_atomic(path: Path, data: bytes | str, *, mode: int = 0o644, sync: bool = True) -> None:
    """Write a whole file under a temporary name, fsync it, and rename it into place.

    Raises:
        StorageError: the folder is missing or full, or may not be written.
    """
    raw = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if sync:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = ""
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path, "write") from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):  # the reason stands in the error that is on its way
                Path(temporary).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_file(path: Path, *, max_bytes: int) -> bytes:
    """Read a whole small file.

    Raises:
        StorageError: it can't be read or is larger than `max_bytes`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    if len(data) > max_bytes:
        raise StorageError(f"{path} is larger than {max_bytes} bytes")
    return data


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on `path` (made when missing) against other processes and threads.

    Raises:
        StorageError: `path` can't be made, or `wait` is false and somebody else holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+b"))
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise StorageError(f"{path} is in use by another process") from error
        except OSError as error:
            raise storage_error(error, path, "lock") from error
        yield


def cache_folder(env: Mapping[str, str]) -> Path:
    """Return `$CIREG_CACHE_DIR`, else the XDG cache folder of ci-registry; not created."""
    if env.get("CIREG_CACHE_DIR"):
        return Path(env["CIREG_CACHE_DIR"])
    base = env.get("XDG_CACHE_HOME") or str(Path(env.get("HOME", "/tmp")) / ".cache")  # noqa: S108 - only without HOME
    return Path(base) / "ci-registry"


def work_root(env: Mapping[str, str]) -> Path:
    """Return the folder that work folders are made in: `$CIREG_WORK_DIR`, `$RUNNER_TEMP`, or the system's."""
    return Path(env.get("CIREG_WORK_DIR") or env.get("RUNNER_TEMP") or tempfile.gettempdir())


@contextlib.contextmanager
def work_folder(root: Path) -> Iterator[Path]:
    """Make a 0700 folder for one run and remove it at exit; left-overs of dead processes go first.

    A run holds a lock in its folder, so a folder whose lock is free belongs to nobody.

    Raises:
        StorageError: `root` can't be made or written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        remove_left_overs(root)
        folder, lock = _locked_folder(root)
    except OSError as error:
        raise storage_error(error, root, "make a work folder in") from error
    try:
        yield folder
    finally:
        try:
            remove_tree(folder)
        finally:
            os.close(lock)


def _locked_folder(root: Path) -> tuple[Path, int]:
    """Make a folder and lock it; another run that clears up may be quicker, then make the next."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_RUN_PREFIX, dir=root))
        try:
            lock = _try_lock(folder, create=True)
        except OSError:
            remove_tree(folder)
            raise
        if lock is not None:
            return folder, lock


def _try_lock(folder: Path, *, create: bool) -> int | None:
    """Lock a work folder; None when somebody else has it or it is being removed."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    try:
        lock = os.open(folder / _LOCK, flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (folder / _LOCK).stat().st_ino == os.fstat(lock).st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass  # held, or removed between opening and locking
    except OSError:
        os.close(lock)
        raise
    os.close(lock)
    return None


def remove_left_overs(root: Path) -> tuple[Path, ...]:
    """Remove the work folders of runs that died; returns what was removed.

    Folders of other users, and those that can't be looked at, are left alone.
    """
    removed = []
    for folder in sorted(root.glob(f"{_RUN_PREFIX}*")):
        with contextlib.suppress(OSError):  # it went away, or is somebody's whom we can't look at
            if _remove_if_dead(folder):
                removed.append(folder)
    return tuple(removed)


def _remove_if_dead(folder: Path) -> bool:
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        return False
    lock = _try_lock(folder, create=False)
    if lock is None:
        return False
    try:
        remove_tree(folder)
    finally:
        os.close(lock)
    return not folder.exists()


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it, read-only folders included; a missing one is fine.

    What still can't be removed (files of another user) stays. Nothing is removed through a mount:
    what a killed builder left mounted is detached first, and everything stays where that fails.
    """
    if not _detach_mounts(folder):
        return
    with contextlib.suppress(OSError):  # made writable below, then tried again
        shutil.rmtree(folder)
    if not folder.exists() or folder.is_symlink():
        return
    _make_writable(folder)
    for path, folders, _ in os.walk(folder):
        for name in folders:
            _make_writable(Path(path) / name)
    shutil.rmtree(folder, ignore_errors=True)


def _make_writable(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not ours: the second try leaves it
        if not folder.is_symlink():
            folder.chmod(0o700)


def _detach_mounts(folder: Path) -> bool:
    """Unmount what is mounted below `folder`; returns whether nothing is left."""
    mounts = _mounts_below(folder)
    if not mounts:
        return True
    import ctypes  # noqa: PLC0415 - hardly ever needed

    for point in reversed(mounts):  # the last one mounted first
        ctypes.CDLL(None).umount2(os.fsencode(point), _MNT_DETACH)
    return not _mounts_below(folder)


def _mounts_below(folder: Path) -> list[str]:
    """Return the mount points below `folder` in the order in which they were mounted; none without /proc."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    top = f"{folder.resolve()}/"
    points = (
        re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split(" ")[4])
        for line in lines
    )
    return [point for point in points if point.startswith(top)]


def free_bytes(folder: Path) -> int:
    """Return how many bytes an ordinary user may still write below `folder`."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal.

    Raises:
        StorageError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise storage_error(error, path, "read") from error

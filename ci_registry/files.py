"""Files written so that nobody ever sees half of one: atomic writes, private folders, locks, the cache root."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ci_registry.errors import StorageError

_RUN_PREFIX = "ci-registry-run-"


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
    raw = data.encode() if isinstance(data, str) else data
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
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise storage_error(error, path, "write") from error


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
        StorageError: `wait` is false and somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise StorageError(f"{path} is in use by another process") from error
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
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        remove_left_overs(root)
        folder = Path(tempfile.mkdtemp(prefix=_RUN_PREFIX, dir=root))
    except OSError as error:
        raise storage_error(error, root, "make a work folder in") from error
    try:
        with locked(folder / ".lock"):
            yield folder
    finally:
        remove_tree(folder)


def remove_left_overs(root: Path) -> tuple[Path, ...]:
    """Remove the work folders of runs that died; returns what was removed."""
    removed = []
    for folder in sorted(root.glob(f"{_RUN_PREFIX}*")):
        if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
            continue
        try:
            with locked(folder / ".lock", wait=False):
                remove_tree(folder)
                removed.append(folder)
        except (StorageError, OSError):
            continue  # somebody is using it, or is removing it at this moment
    return tuple(removed)


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it, read-only folders included; a missing one is fine."""

    def make_writable(_function: object, path: str, _info: object) -> None:
        parent = Path(path).parent
        with contextlib.suppress(OSError):
            parent.chmod(0o700)
            Path(path).chmod(0o700)
            Path(path).unlink() if not Path(path).is_dir() else shutil.rmtree(path)

    shutil.rmtree(folder, onerror=make_writable)


def free_bytes(folder: Path) -> int:
    """Return how many bytes an ordinary user may still write below `folder`."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

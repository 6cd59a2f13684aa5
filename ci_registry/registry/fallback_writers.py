"""Lets one writer at a time change a list of referrers: among the threads of a run and the runs of a machine."""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ci_registry.errors import StorageError
from ci_registry.files import locked

_LOCKS = 64
"""So many locks for all lists of all registries: the folder stays small."""
_ATTEMPTS = 60


class FallbackWriters:
    """Gives out the locks. Writers on other machines are not kept out: they are found by reading back."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is for the lock files; without it only the threads of this process wait for each other."""
        self._folder = folder
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))

    @contextlib.contextmanager
    def alone(self, name: str, *, pause: Callable[[], None]) -> Iterator[bool]:
        """Hold the lock of one list; gives false when another process would not let go of it.

        Args:
            name: of the list: repository and subject.
            pause: waits a second or so, and raises when the run is cancelled.
        """
        number = hashlib.sha256(name.encode()).digest()[0] % _LOCKS
        with self._locks[number], contextlib.ExitStack() as stack:
            yield self._folder is None or self._lock_file(
                self._folder / f"{number:02}.lock", stack, pause
            )

    @staticmethod
    def _lock_file(path: Path, stack: contextlib.ExitStack, pause: Callable[[], None]) -> bool:
        for attempt in range(_ATTEMPTS):
            if attempt:
                pause()
            try:
                stack.enter_context(locked(path, wait=False))
            except StorageError:
                if not path.exists():  # the folder can't be written: waiting would not help
                    return False
                continue
            return True
        return False

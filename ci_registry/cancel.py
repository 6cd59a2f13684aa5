"""One `Cancel` reaches every wait, transfer chunk and child process of a run."""

import threading
from collections.abc import Callable

from ci_registry.errors import CancelledError


class Cancel:
    """A flag that is set once, by a signal or by a failing sibling, and never cleared."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next = 0
        self.reason = ""

    def set(self, reason: str) -> None:
        """Cancel the run; the first reason stays. Callbacks run once, in the calling thread.

        Never call it inside a signal handler: it takes locks that the interrupted code may hold.
        A callback that raises does not keep the others from being called.
        """
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
            callbacks = tuple(self._callbacks.values())
        failures: list[Exception] = []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - raised below, when all were told
                failures.append(error)
        if failures:
            raise failures[0]

    @property
    def is_set(self) -> bool:
        """Whether the run is cancelled."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `CancelledError` when the run is cancelled; call it between chunks of work."""
        if self._event.is_set():
            raise CancelledError(f"interrupted: {self.reason}")

    def sleep(self, duration_s: float) -> None:
        """Wait for `duration_s`, or raise `CancelledError` as soon as the run is cancelled."""
        if self._event.wait(duration_s):
            self.check()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called at cancellation (at once when already cancelled); returns a remover."""
        with self._lock:
            key, self._next = self._next, self._next + 1
            self._callbacks[key] = callback
            already = self._event.is_set()
        if already:
            callback()

        def remove() -> None:
            with self._lock:
                self._callbacks.pop(key, None)

        return remove

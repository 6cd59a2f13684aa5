"""How many requests may be on their way to one host: halved when it says "too many", growing back slowly."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from ci_registry.cancel import Cancel

MOST_AT_ONCE = 64
"""Above this nothing is limited any more."""
LONGEST_WAIT_S = 60.0
"""Nobody waits longer for a place: threads may wait for each other in ways that are not seen here."""
_LOOK_S = 0.2


class HostPace:
    """Counts the requests under way to one host; all threads share one back-off after a 429.

    A request holds its place until the head of its answer (a small answer: until its end). A thread that
    holds a place gets another without waiting, since a body that is sent may be read from the same host.
    """

    def __init__(self, cancel: Cancel, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._cancel = cancel
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._in_flight = 0
        self._limit = 0
        """0: none."""
        self._good = 0
        self._generation = 0
        self._back_off_end: float | None = None
        """When the back-off that goes on is to end, None when there is none."""
        self._held = threading.local()

    @property
    def limit(self) -> int:
        """How many requests may be under way; 0 = as many as there are."""
        return self._limit

    @contextlib.contextmanager
    def place(self) -> Iterator[int]:
        """Wait for a place and hold it; gives the number of the period between two 429s that it belongs to.

        Raises:
            CancelledError: the run was cancelled meanwhile.
        """
        depth: int = getattr(self._held, "depth", 0)
        with self._changed:
            if depth == 0:
                self._wait_for_place()
            self._in_flight += 1
            generation = self._generation
        self._held.depth = depth + 1
        try:
            yield generation
        finally:
            self._held.depth = depth
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def _wait_for_place(self) -> None:
        """Wait, with the lock held; a back-off lasts as long as it lasts, a place is waited for only so long."""
        patience_end = self._monotonic() + LONGEST_WAIT_S
        while True:
            if self._back_off_end is not None:
                patience_end = self._monotonic() + LONGEST_WAIT_S
            elif self._has_room() or self._monotonic() > patience_end:
                return
            self._changed.wait(_LOOK_S)
            self._cancel.check()

    def _has_room(self) -> bool:
        return not self._limit or self._in_flight < self._limit

    def succeeded(self) -> None:
        """Count an answer that was no 429: after as many as the limit there may be one more."""
        if not self._limit:
            return
        with self._changed:
            self._good += 1
            if self._limit and self._good >= self._limit:
                self._good = 0
                self._limit = self._limit + 1 if self._limit < MOST_AT_ONCE else 0
                self._changed.notify_all()

    def refused(self, generation: int) -> None:
        """Halve what may be under way, once for all requests of one period."""
        with self._changed:
            if generation != self._generation:
                return
            self._generation += 1
            at_once = self._in_flight + 1  # the refused one has given its place back
            self._limit = max(1, min(self._limit or at_once, at_once) // 2)
            self._good = 0

    def back_off(self, duration_s: float) -> None:
        """Sleep, and let everybody else wait; whoever comes while it goes on joins, and may prolong it.

        Raises:
            CancelledError: the run was cancelled meanwhile.
        """
        end = self._monotonic() + duration_s
        with self._changed:
            if self._back_off_end is not None:
                self._back_off_end = max(self._back_off_end, end)
                while not self._changed.wait_for(self._is_over, _LOOK_S):
                    self._cancel.check()
                return
            self._back_off_end = end
        try:
            self._sleep(duration_s, end)
        finally:
            with self._changed:
                self._back_off_end = None
                self._changed.notify_all()

    def _is_over(self) -> bool:
        return self._back_off_end is None

    def _sleep(self, duration_s: float, end: float) -> None:
        """Sleep, and on while others have prolonged it meanwhile."""
        while duration_s > 0:
            self._cancel.sleep(duration_s)
            with self._changed:
                later = self._back_off_end or end
                duration_s, end = later - end, later


class Paces:
    """The pace of each host, by `netloc`."""

    def __init__(self, cancel: Cancel, monotonic: Callable[[], float]) -> None:
        self._cancel = cancel
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._by_host: dict[str, HostPace] = {}

    def of(self, host: str) -> HostPace:
        """Return the pace of a host, always the same one."""
        with self._lock:
            if host not in self._by_host:
                self._by_host[host] = HostPace(self._cancel, self._monotonic)
            return self._by_host[host]

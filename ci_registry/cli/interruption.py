"""Turns SIGINT and SIGTERM into the cancellation of a run; a second one ends the process at once."""

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from types import FrameType

from ci_registry.cancel import Cancel
from ci_registry.errors import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ECHO_S = 0.3
"""A signal to a process and its group (a terminal, `timeout`) arrives twice within this time: once is meant."""


@contextlib.contextmanager
def cancelled_by_signals(cancel: Cancel, groups: AbstractSet[int]) -> Iterator[None]:
    """Have the first signal set `cancel`; the second kills what runs and exits with 130.

    Args:
        cancel: set by a thread of its own: a handler runs in the middle of any code of the main
            thread, which may hold the locks that `Cancel.set` takes.
        groups: process groups of the programs that run at the moment.
    """
    arrived: queue.SimpleQueue[str] = queue.SimpleQueue()  # its `put` may be called by handlers
    first: list[float] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            arrived.put(signal.Signals(number).name)
        elif time.monotonic() - first[0] > _ECHO_S:
            for group in tuple(groups):
                with contextlib.suppress(OSError):
                    os.killpg(group, signal.SIGKILL)
            os._exit(int(ExitCode.INTERRUPTED))

    def wait() -> None:
        if name := arrived.get():
            cancel.set(name)

    thread = threading.Thread(target=wait, name="signals", daemon=True)
    thread.start()
    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        arrived.put("")
        thread.join()

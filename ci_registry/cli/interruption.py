"""Turns SIGINT and SIGTERM into the cancellation of a run; a second one ends the process at once."""

import contextlib
import os
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

    A thread learns of signals through Python's wake-up descriptor. Python's own handlers are of no
    use here: they wait for the main thread, which sleeps on when the system gives the signal to
    another thread (two signals in quick succession), and they run in the middle of any code, which
    may hold the locks that `Cancel.set` takes.

    Args:
        cancel: set by that thread.
        groups: process groups of the programs that run at the moment.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = threading.Thread(
        target=_watch, args=(reader, cancel, groups), name="signals", daemon=True
    )
    thread.start()
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, _nothing) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)
        thread.join()
        os.close(reader)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Be there, so that Python takes the signal and writes it to the wake-up descriptor."""


def _watch(reader: int, cancel: Cancel, groups: AbstractSet[int]) -> None:
    """Read the numbers of signals until the other end is closed."""
    first: float | None = None
    while data := os.read(reader, 1):
        if data[0] not in _SIGNALS:
            continue
        if first is None:
            first = time.monotonic()
            cancel.set(signal.Signals(data[0]).name)
        elif time.monotonic() - first > _ECHO_S:
            for group in tuple(groups):
                with contextlib.suppress(OSError):
                    os.killpg(group, signal.SIGKILL)
            os._exit(int(ExitCode.INTERRUPTED))

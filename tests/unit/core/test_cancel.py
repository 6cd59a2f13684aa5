"""One cancellation reaches everybody, once, and never comes back."""

import threading
from collections.abc import Callable

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import CancelledError, ExitCode


def test_a_fresh_one_lets_everything_pass() -> None:
    cancel = Cancel()
    cancel.check()
    cancel.sleep(0)
    assert not cancel.is_set


def test_the_first_reason_stays() -> None:
    cancel = Cancel()
    cancel.set("SIGTERM")
    cancel.set("SIGINT")
    with pytest.raises(CancelledError, match="interrupted: SIGTERM") as caught:
        cancel.check()
    assert caught.value.exit_code is ExitCode.INTERRUPTED


def test_sleeping_threads_wake_up_at_once() -> None:
    cancel = Cancel()
    ended: list[str] = []

    def sleep() -> None:
        try:
            cancel.sleep(3600)
        except CancelledError as error:
            ended.append(error.message)

    threads = [threading.Thread(target=sleep) for _ in range(3)]
    for thread in threads:
        thread.start()
    cancel.set("SIGINT")
    for thread in threads:
        thread.join(30)
    assert ended == ["interrupted: SIGINT"] * 3


def test_callbacks_are_called_once_and_not_after_removal() -> None:
    cancel = Cancel()
    called: list[str] = []
    cancel.on_cancel(lambda: called.append("kept"))
    remove = cancel.on_cancel(lambda: called.append("removed"))
    remove()
    remove()
    cancel.set("x")
    cancel.set("y")
    assert called == ["kept"]


def test_a_callback_that_comes_late_is_called_at_once() -> None:
    cancel = Cancel()
    cancel.set("x")
    called: list[str] = []
    remove = cancel.on_cancel(lambda: called.append("late"))
    assert called == ["late"]
    remove()


def test_a_callback_may_remove_itself_and_others() -> None:
    cancel = Cancel()
    called: list[str] = []
    removers: list[Callable[[], None]] = []

    def callback() -> None:
        called.append("one")
        for remove in removers:
            remove()

    removers.append(cancel.on_cancel(callback))
    removers.append(cancel.on_cancel(lambda: None))
    cancel.set("x")
    assert called == ["one"]


def test_a_failing_callback_does_not_keep_the_others_from_hearing() -> None:
    cancel = Cancel()
    called: list[str] = []

    def fail() -> None:
        raise OSError("socket is closed")

    cancel.on_cancel(fail)
    cancel.on_cancel(lambda: called.append("second"))
    with pytest.raises(OSError, match="socket is closed"):
        cancel.set("x")
    assert called == ["second"]
    assert cancel.is_set

"""How many requests may be under way to one host."""

import threading
from collections.abc import Callable

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import CancelledError
from ci_registry.network.pace import LONGEST_WAIT_S, MOST_AT_ONCE, HostPace

PATIENCE_S = 20.0


class HeldCancel(Cancel):
    """Sleeps until it is told to wake up."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []
        self.asleep = threading.Event()
        self.wake = threading.Event()

    def sleep(self, duration_s: float) -> None:
        self.slept.append(duration_s)
        self.asleep.set()
        assert self.wake.wait(PATIENCE_S)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def refuse(pace: HostPace, at_once: int) -> None:
    """Have one of so many requests under way refused."""
    if at_once > 1:
        with pace.place():
            refuse(pace, at_once - 1)
        return
    with pace.place() as generation:
        pass
    pace.refused(generation)


def test_nothing_is_limited_before_a_refusal() -> None:
    pace = HostPace(Cancel())
    pace.succeeded()
    assert pace.limit == 0


@pytest.mark.parametrize(("at_once", "limit"), [(1, 1), (2, 1), (16, 8), (33, 16)])
def test_a_refusal_halves_what_is_under_way(at_once: int, limit: int) -> None:
    pace = HostPace(Cancel())
    refuse(pace, at_once)
    assert pace.limit == limit


def test_all_refusals_of_one_period_halve_once() -> None:
    pace = HostPace(Cancel())
    with pace.place() as first, pace.place() as second, pace.place():
        pace.refused(first)
        limit = pace.limit
        pace.refused(second)
        assert pace.limit == limit
    refuse(pace, 1)
    assert pace.limit == 1


def test_the_limit_grows_by_one_for_each_round_of_good_answers_and_ends() -> None:
    pace = HostPace(Cancel())
    refuse(pace, 4)
    limits = []
    for _ in range(MOST_AT_ONCE * MOST_AT_ONCE):
        pace.succeeded()
        limits.append(pace.limit)
        if not pace.limit:
            break
    assert limits[:6] == [2, 3, 3, 3, 4, 4]
    assert limits[-1] == 0
    assert max(limits) == MOST_AT_ONCE


def test_who_comes_over_the_limit_waits_for_a_place() -> None:
    pace = HostPace(Cancel())
    refuse(pace, 1)
    entered = threading.Event()

    def enter() -> None:
        with pace.place():
            entered.set()

    with pace.place():
        thread = in_thread(enter)
        assert not entered.wait(0.05)
    thread.join(PATIENCE_S)
    assert entered.is_set()


def test_a_thread_that_holds_a_place_never_waits_for_itself() -> None:
    pace = HostPace(Cancel())
    refuse(pace, 1)
    with pace.place(), pace.place():
        pass
    assert pace.limit == 1


def test_nobody_waits_for_ever() -> None:
    clock = [0.0]

    def monotonic() -> float:
        clock[0] += LONGEST_WAIT_S / 2
        return clock[0]

    pace = HostPace(Cancel(), monotonic)
    refuse(pace, 1)
    entered = threading.Event()

    def enter() -> None:
        with pace.place():
            entered.set()

    with pace.place():
        in_thread(enter).join(PATIENCE_S)
        assert entered.is_set()


def test_one_back_off_holds_everybody_and_the_longest_counts() -> None:
    cancel = HeldCancel()
    pace = HostPace(cancel, lambda: 100.0)
    entered = threading.Event()

    def enter() -> None:
        with pace.place():
            entered.set()

    first = in_thread(lambda: pace.back_off(7.0))
    assert cancel.asleep.wait(PATIENCE_S)
    others = [in_thread(lambda: pace.back_off(9.0)), in_thread(enter)]
    while pace._back_off_end != 109.0:
        assert not entered.wait(0.01)
    cancel.wake.set()
    for thread in (first, *others):
        thread.join(PATIENCE_S)
    assert entered.is_set()
    assert cancel.slept == [7.0, 2.0]


def test_waiting_for_a_place_ends_with_the_run() -> None:
    cancel = Cancel()
    pace = HostPace(cancel)
    refuse(pace, 1)
    ended: list[BaseException] = []

    def enter() -> None:
        try:
            with pace.place():
                pass
        except CancelledError as error:
            ended.append(error)

    with pace.place():
        thread = in_thread(enter)
        cancel.set("stop")
        thread.join(PATIENCE_S)
    assert len(ended) == 1

"""Work begun ahead is done once, and its outcome reaches everybody who asks."""

import threading

import pytest

from ci_registry.errors import SetupError
from ci_registry.wiring.ahead import Ahead


def test_work_that_nobody_began_is_done_by_the_first_who_asks() -> None:
    done: list[str] = []
    ahead = Ahead(lambda: done.append(threading.current_thread().name))
    assert done == []
    ahead()
    ahead()
    assert done == [threading.current_thread().name]


def test_started_work_runs_in_its_own_thread_and_is_waited_for() -> None:
    go = threading.Event()
    asked: list[int] = []

    def work() -> int:
        assert go.wait(10)
        asked.append(1)
        return 7

    ahead = Ahead(work)
    ahead.start()
    ahead.start()
    assert asked == []
    go.set()
    assert [ahead(), ahead()] == [7, 7]
    assert asked == [1]


@pytest.mark.parametrize("started", [True, False])
def test_an_error_is_raised_for_everybody_who_asks(*, started: bool) -> None:
    def work() -> None:
        raise SetupError("the key can't be read")

    ahead = Ahead(work)
    if started:
        ahead.start()
    for _ in range(2):
        with pytest.raises(SetupError, match="the key"):
            ahead()


def test_several_who_ask_at_once_share_one_result() -> None:
    done: list[object] = []
    barrier = threading.Barrier(4)

    def make() -> object:
        made = object()
        done.append(made)
        return made

    ahead, got = Ahead(make), list[object]()

    def ask() -> None:
        barrier.wait(10)
        got.append(ahead())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert got == done * 4

import threading
from collections.abc import Callable

import pytest

from ci_registry.pipeline.engine import Task, run_graph


def task(
    name: str, *needs: str, action: Callable[[], str] | None = None, limit: str = ""
) -> Task[str]:
    return Task(
        id=name,
        needs=needs,
        action=action or (lambda: "ok"),
        skip=lambda need: f"skipped:{need}",
        limit=limit,
    )


def run(*tasks: Task[str], limits: dict[str, int] | None = None) -> dict[str, str]:
    return run_graph(tasks, went_well=lambda r: r == "ok", limits=limits or {}, workers=4)


def test_failure_skips_everything_behind_it_with_the_reason_and_nothing_else() -> None:
    results = run(
        task("a/scan", action=lambda: "bad"),
        task("a/judge", "a/scan"),
        task("a/tag", "a/judge"),
        task("b/scan"),
        task("b/judge", "b/scan"),
    )

    assert results == {
        "a/scan": "bad",
        "a/judge": "skipped:a/scan",
        "a/tag": "skipped:a/judge",
        "b/scan": "ok",
        "b/judge": "ok",
    }


def test_independent_tasks_run_at_once() -> None:
    barrier = threading.Barrier(2, timeout=10)

    def meet() -> str:
        barrier.wait()
        return "ok"

    assert run(task("scan", action=meet), task("upload", action=meet)) == {
        "scan": "ok",
        "upload": "ok",
    }


def test_limit_bounds_how_many_run_at_once() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def count() -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1
        return "ok"

    run(*(task(str(i), action=count, limit="build") for i in range(6)), limits={"build": 2})

    assert most == 2


def test_bug_in_a_task_is_raised() -> None:
    def broken() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(task("a", action=broken))

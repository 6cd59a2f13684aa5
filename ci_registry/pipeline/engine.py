"""Runs any graph of tasks in threads; knows nothing of images.

A task starts when everything it needs has ended well. When something it needs has not, the task is
skipped with that reason, and so are the tasks behind it; independent tasks go on.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Generic, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[Result]):
    """One node of the graph."""

    id: str
    needs: tuple[str, ...]
    action: Callable[[], Result]
    """Returns the result; it turns its own errors into results and raises only for bugs."""
    skip: Callable[[str], Result]
    """Makes the result of a task that can't start, from the reason."""
    limit: str = ""
    """Name of the semaphore that bounds how many tasks of this kind run at once."""


def run_graph(
    tasks: tuple[Task[Result], ...],
    *,
    went_well: Callable[[Result], bool],
    limits: Mapping[str, int],
    workers: int,
) -> dict[str, Result]:
    """Run all tasks and return their results by id, in the order of `tasks`.

    Args:
        tasks: every id that a task needs must be among them; cycles raise `graphlib.CycleError`.
        went_well: whether tasks that need this result may start.
        limits: how many tasks may run at once per `Task.limit`.
        workers: how many threads there are.
    """
    by_id = {task.id: task for task in tasks}
    sorter = TopologicalSorter({task.id: task.needs for task in tasks})
    sorter.prepare()
    semaphores = {name: threading.Semaphore(number) for name, number in limits.items()}
    results: dict[str, Result] = {}
    running: dict[Future[Result], str] = {}

    def limited(task: Task[Result]) -> Result:
        if task.limit not in semaphores:
            return task.action()
        with semaphores[task.limit]:
            return task.action()

    with ThreadPoolExecutor(max_workers=workers) as pool:
        while sorter.is_active():
            for ready in sorter.get_ready():
                task = by_id[ready]
                failed = [need for need in task.needs if not went_well(results[need])]
                if failed:
                    results[ready] = task.skip(failed[0])
                    sorter.done(ready)
                else:
                    running[pool.submit(limited, task)] = ready
            if not running:
                continue
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                results[name] = future.result()
                sorter.done(name)
    return {task.id: results[task.id] for task in tasks}

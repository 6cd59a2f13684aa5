"""Runs many small requests at once, with the answers in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

LOOKUPS_AT_ONCE = 32
"""Requests in flight towards one side; small ones, so the wait for answers is what costs."""

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


def in_parallel(
    function: Callable[[_Item], _Answer],
    items: Iterable[_Item],
    *,
    pool: ThreadPoolExecutor,
    ahead: int = 4 * LOOKUPS_AT_ONCE,
) -> Iterator[_Answer]:
    """Yield `function(item)` for each item, in order; at most `ahead` answers wait to be taken.

    An error is raised where its answer would stand; what has not begun then never begins.
    """
    waiting: deque[Future[_Answer]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def lookup_pool() -> ThreadPoolExecutor:
    """Return threads for requests that wait for nothing but their answer."""
    return ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="lookup")

"""Work that is begun before anybody asks for its result, in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Ahead(Generic[Result]):
    """A function without arguments that runs at most once; everybody who calls gets the one result.

    What it raises is raised in every caller. A thread that nobody waits for ends with the process.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._future: Future[Result] = Future()
        self._lock = threading.Lock()
        self._begun = False

    def start(self) -> None:
        """Begin now, unless it has begun."""
        if self._is_first():
            threading.Thread(target=self._run, name="ahead", daemon=True).start()

    def __call__(self) -> Result:
        """Return the result; does the work here when it has not begun."""
        if self._is_first():
            self._run()
        return self._future.result()

    def _is_first(self) -> bool:
        with self._lock:
            first, self._begun = not self._begun, True
            return first

    def _run(self) -> None:
        try:
            self._future.set_result(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever asks for the result
            self._future.set_exception(error)

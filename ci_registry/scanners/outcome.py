"""Tells a scanner's whole report from trouble with the program; the exit code alone says neither."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ci_registry.errors import IntegrityError, ToolError
from ci_registry.process import Completed

Report = TypeVar("Report")


def read_outcome(
    name: str,
    done: Completed,
    files: tuple[Path, ...],
    parse: Callable[[], Report],
    *,
    timeout_s: float,
) -> Report:
    """Return the report of a program that ended, whatever its exit code.

    Args:
        name: of the program, for messages.
        done: how it ended.
        files: what it should have written.
        parse: reads them; raises `IntegrityError` about half a report.
        timeout_s: what it had, for messages.

    Raises:
        ToolError: it ran out of time, was killed, or left no whole report.
    """
    if done.timed_out:
        raise ToolError(
            f"{name} did not finish within {timeout_s:g} s", hint="raise scan.timeout, or retry"
        )
    if done.exit_code < 0:
        raise ToolError(f"{name} was killed by signal {-done.exit_code}\n{done.error_tail()}")
    if not all(path.is_file() for path in files):
        raise ToolError(
            f"{name} ended with exit code {done.exit_code} and wrote no report\n{done.error_tail()}",
            hint="see its last lines; retry, or use the built-in scanner: scanner: osv",
        )
    try:
        return parse()
    except IntegrityError as error:
        raise ToolError(
            f"{name} ended with exit code {done.exit_code} and half a report: {error.message}"
            f"\n{done.error_tail()}"
        ) from error

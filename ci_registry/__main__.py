"""Starts the command line; an error while importing it is a bug of ours (exit 70), never Python's own 1."""

import gc
import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run `ci-registry` and exit with the code of the design's table."""
    gc.set_threshold(20_000, 20, 100)  # imports leave no garbage, and looking for it takes time
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, from here on
        code = _run()
    except KeyboardInterrupt:
        code = 130
    _end_with(code)


def _run() -> int:
    try:
        from ci_registry.cli.main import run_command_line  # noqa: PLC0415 - inside the guard
        from ci_registry.cli.workflow_commands import guard_streams  # noqa: PLC0415 - as above
    except Exception as error:  # noqa: BLE001 - whatever it is, it is ours
        sys.stderr.write(f"ci-registry: cannot start: {type(error).__name__}: {error}\n")
        return 70
    guard_streams(os.environ)
    return run_command_line(sys.argv[1:])


def _end_with(code: int) -> None:
    """Exit; a signal that comes too late to change anything does not change the exit code either."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        os._exit(code)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            pass  # the reader has what it wanted
        except (OSError, ValueError):
            code = code or 4
    os._exit(code)  # taking the interpreter apart first would let a signal end it with its own code


if __name__ == "__main__":
    main()

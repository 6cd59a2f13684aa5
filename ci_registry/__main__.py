"""Starts the command line; an error while importing it is a bug of ours (exit 70), never Python's own 1."""

import os
import sys


def main() -> None:
    """Run `ci-registry` and exit with the code of the design's table."""
    try:
        from ci_registry.cli.main import run_command_line  # noqa: PLC0415 - inside the guard
        from ci_registry.cli.workflow_commands import guard_streams  # noqa: PLC0415 - as above
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is ours
        sys.stderr.write(f"ci-registry: cannot start: {type(error).__name__}: {error}\n")
        sys.exit(70)
    guard_streams(os.environ)
    sys.exit(run_command_line(sys.argv[1:]))


if __name__ == "__main__":
    main()

"""What a command gets from the process that runs it: environment, clock, randomness, signals, console."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ci_registry.cancel import Cancel
from ci_registry.cli.console import open_console
from ci_registry.cli.interruption import cancelled_by_signals
from ci_registry.cli.options import given_options, log_level
from ci_registry.cli.workflow_commands import write_command
from ci_registry.secret import Masker
from ci_registry.wiring.basis import Caller
from ci_registry.wiring.known_secrets import known_secrets


def utc_now() -> datetime:
    """Return the time; the only clock of the program."""
    return datetime.now(UTC)


@contextlib.contextmanager
def open_caller(values: Mapping[str, Any]) -> Iterator[Caller]:
    """Make the `Caller` of a command; SIGINT and SIGTERM cancel it, a second one exits at once."""
    cancel, masker = Cancel(), Masker(known_secrets(os.environ))
    level = log_level(verbose=bool(values.get("verbose")), quiet=bool(values.get("quiet")))
    console = open_console(
        os.environ, masker, log_format=values.get("log_format", "text"), level=level
    )

    groups: set[int] = set()
    with contextlib.closing(console), cancelled_by_signals(cancel, groups):
        yield Caller(
            env=dict(os.environ),
            options=given_options(values),
            folder=Path.cwd(),
            cancel=cancel,
            masker=masker,
            on_event=console,
            now=utc_now,
            random=os.urandom,
            print_command=_print_command,
            groups=groups,
        )


def _print_command(line: str) -> None:
    write_command(sys.stdout, line)

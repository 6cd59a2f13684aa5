"""The streams of this process: text that they can't encode and readers that go away change no outcome."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TextIO


def accept_any_text() -> None:
    """Escape what the encoding of a stream lacks, such as a check mark in Latin-1, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_out(text: str) -> None:
    """Write a result to stdout; when its reader went away (`| head`), the exit code still counts."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        to_nowhere(sys.stdout)


def to_nowhere(stream: TextIO) -> None:
    """Let whatever is still in a stream vanish, so that the end of the process does not fail on it."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


class Lines:
    """Writes lines to a stream until its reader goes away; then there is nobody left to tell."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._is_gone = False

    def write(self, line: str) -> None:
        """Write one line, now; never raises, as event sinks must not."""
        if self._is_gone:
            return
        try:
            self.stream.write(line + "\n")
            self.stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            self._is_gone = True
            to_nowhere(self.stream)

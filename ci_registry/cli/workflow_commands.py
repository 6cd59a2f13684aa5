"""The only door for GitHub's workflow commands: whatever else is printed can't be one.

The runner obeys `::command::` at the start of any line and, in its old form, `##[command]` anywhere
in a line; names of packages, branches and files are printed too, and strangers choose them.
"""

import io
import re
import sys
from collections.abc import Mapping
from typing import TextIO

_LINE_START = re.compile(r"(\A|[\r\n])(\s*)::")


def defused(text: str) -> str:
    """Return text in which the runner finds no command; all else stays as it is."""
    return _LINE_START.sub(r"\1\2: :", text).replace("##[", "# #[")


class GuardedStream(io.TextIOWrapper):
    """A text stream whose lines are defused; only `write_command` writes commands."""

    _held = ""
    """An unfinished line: what it is shows only at its end."""

    def write(self, text: str, /) -> int:
        """Write whole lines; the rest waits for its end or for `flush`."""
        lines, newline, rest = (self._held + text).rpartition("\n")
        self._held = rest
        if newline:
            super().write(defused(lines + newline))
            if self.line_buffering:
                super().flush()
        return len(text)

    def flush(self) -> None:
        """Write an unfinished line too."""
        if self._held and not self.closed:
            held, self._held = self._held, ""
            super().write(defused(held))
        super().flush()

    def write_command(self, line: str) -> None:
        """Write one workflow command; its parts are escaped by the caller."""
        self.flush()
        super().write(line + "\n")
        super().flush()


def guard_streams(env: Mapping[str, str]) -> None:
    """Guard stdout and stderr of this process when GitHub reads them; called once, at the start."""
    if env.get("GITHUB_ACTIONS") == "true":
        sys.stdout = _guarded(sys.stdout)
        sys.stderr = _guarded(sys.stderr)


def _guarded(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    errors, encoding = stream.errors or "strict", stream.encoding
    line_buffering = stream.line_buffering
    return GuardedStream(
        stream.detach(), encoding=encoding, errors=errors, line_buffering=line_buffering
    )


def write_command(stream: TextIO, line: str) -> None:
    """Write a workflow command to a stream, guarded or not."""
    if isinstance(stream, GuardedStream):
        stream.write_command(line)
        return
    stream.write(line + "\n")
    stream.flush()

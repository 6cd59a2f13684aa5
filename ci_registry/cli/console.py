"""Draws the event stream: live lines on a terminal, folded groups in CI, JSON lines for machines."""

import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TextIO

from ci_registry.cli.streams import Lines
from ci_registry.cli.workflow_commands import defused, write_command
from ci_registry.events import Event, Level, Log, Progress, StepEnded, StepStarted
from ci_registry.reports.escape import command_data
from ci_registry.secret import Masker

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_MARKS = {"passed": "✓", "failed": "✗", "error": "✗", "skipped": "-"}


def clean(text: str) -> str:
    """Return one line of foreign text without control characters, so that it can't drive a terminal."""
    return "".join(c if c.isprintable() else " " for c in text.replace("\n", " ⏎ "))


def _is_shown(level: Level, wanted: Level) -> bool:
    return list(Level).index(level) >= list(Level).index(wanted)


def _level_of(event: Event) -> Level:
    """Return how important an event is to somebody who asked for warnings only."""
    if isinstance(event, Log):
        return event.level
    is_bad = isinstance(event, StepEnded) and event.status not in ("passed", "skipped")
    return Level.ERROR if is_bad else Level.INFO


def _section(event: StepEnded) -> str:
    """Return the name of a section in the characters that GitLab takes."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", f"{event.image}_{event.step}")


class PlainConsole:
    """Plain lines on stderr; in CI the lines of one step stand together in a folded group."""

    def __init__(
        self,
        stream: TextIO,
        masker: Masker,
        *,
        level: Level,
        groups: str,
        clock: Callable[[], float],
    ) -> None:
        """`groups` is `github`, `gitlab` or empty."""
        self._lines = Lines(stream)
        self._masker = masker
        self._level = level
        self._quiet = level in (Level.WARNING, Level.ERROR)
        self._groups = groups
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], list[str]] = {}

    def __call__(self, event: Event, /) -> None:
        """Print one event."""
        match event:
            case Log():
                self._log(event)
            case StepStarted():
                with self._lock:
                    self._held[(event.image, event.step)] = []
            case StepEnded():
                self._ended(event)
            case Progress():
                return

    def _log(self, event: Log) -> None:
        if not _is_shown(event.level, self._level):
            return
        prefix = f"{clean(event.image)}: " if event.image else ""
        word = f"{event.level}: " if event.level in (Level.WARNING, Level.ERROR) else ""
        line = f"{word}{prefix}{clean(event.message)}"
        with self._lock:
            held = self._held.get((event.image, event.step))
            if self._groups and held is not None:
                held.append(line)
            else:
                self._print(line)

    def _ended(self, event: StepEnded) -> None:
        with self._lock:
            held = self._held.pop((event.image, event.step), [])
            reason = f": {clean(event.reason)}" if event.reason else ""
            mark = _MARKS.get(event.status, "?")
            line = f"{mark} {clean(event.image)} {event.step} {event.duration_s:.1f}s{reason}"
            if not self._groups or not held:
                if not (self._quiet and event.status in ("passed", "skipped")):
                    self._print(line)
                return
            self._open_group(event, line)
            for text in held:
                self._print(text)
            self._close_group(event)

    def _open_group(self, event: StepEnded, title: str) -> None:
        if self._groups == "github":
            self._command(f"::group::{command_data(title)}")
        else:
            start = f"section_start:{int(self._clock())}:{_section(event)}[collapsed=true]"
            self._print(f"\x1b[0K{start}\r\x1b[0K{title}")

    def _close_group(self, event: StepEnded) -> None:
        if self._groups == "github":
            self._command("::endgroup::")
        else:
            self._print(f"\x1b[0Ksection_end:{int(self._clock())}:{_section(event)}\r\x1b[0K")

    def _command(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            write_command(self._lines.stream, self._masker.mask(line))

    def _print(self, line: str) -> None:
        text = self._masker.mask(line)
        self._lines.write(defused(text) if self._groups == "github" else text)

    def close(self) -> None:
        """Print what is still held, for steps that never ended."""
        with self._lock:
            for lines in self._held.values():
                for line in lines:
                    self._print(line)
            self._held.clear()


class JsonConsole:
    """One JSON object a line on stderr."""

    def __init__(
        self, stream: TextIO, masker: Masker, *, level: Level, clock: Callable[[], float]
    ) -> None:
        self._lines = Lines(stream)
        self._masker = masker
        self._level = level
        self._clock = clock
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        """Print one event."""
        kind = {Log: "log", StepStarted: "step-started", StepEnded: "step-ended"}.get(type(event))
        if kind is None or not _is_shown(_level_of(event), self._level):
            return
        event = self._masker.mask_value(event)
        names = tuple(type(event).__dataclass_fields__)
        record = {"time": round(self._clock(), 3), "event": kind}
        record |= {name: getattr(event, name) for name in names}
        with self._lock:
            self._lines.write(json.dumps(record, default=str))

    def close(self) -> None:
        """Nothing is held."""


class TerminalConsole:
    """Live progress bars above plain lines, on a terminal."""

    def __init__(self, make_plain: Callable[[TextIO], PlainConsole]) -> None:
        """`make_plain` gets the stream that prints above the bars."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._lock = threading.Lock()
        self._bars: dict[tuple[str, str], TaskID] = {}
        self._done: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
        self._progress: RichProgress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._plain = make_plain(sys.stderr)  # rich has put its proxy there

    def __call__(self, event: Event, /) -> None:
        """Draw one event."""
        with self._lock:
            self._draw(event)
        self._plain(event)

    def _draw(self, event: Event) -> None:
        if isinstance(event, StepStarted):
            key = (event.image, event.step)
            name = f"{clean(event.image)} {event.step}"
            self._bars[key] = self._progress.add_task(name, total=None, detail="")
        elif isinstance(event, StepEnded) and (event.image, event.step) in self._bars:
            self._progress.remove_task(self._bars.pop((event.image, event.step)))
        elif isinstance(event, Progress) and (event.image, event.step) in self._bars:
            key = (event.image, event.step)
            pieces = self._done.setdefault(key, {})
            pieces[event.what] = (event.done, event.total)
            done = sum(piece[0] for piece in pieces.values())
            total = sum(piece[1] for piece in pieces.values())
            detail = f"{done / 1e6:.1f} MB" if event.unit == "bytes" else clean(event.what)[:50]
            self._progress.update(
                self._bars[key], completed=done, total=total or None, detail=detail
            )

    def close(self) -> None:
        """Remove the bars."""
        self._progress.stop()
        self._plain.close()


Console = PlainConsole | JsonConsole | TerminalConsole


def open_console(
    env: Mapping[str, str], masker: Masker, *, log_format: str, level: Level
) -> Console:
    """Choose how events are drawn: JSON when asked, bars on a terminal, groups in CI, else lines."""
    if log_format == "json":
        return JsonConsole(sys.stderr, masker, level=level, clock=time.time)
    groups = ""
    if env.get("GITHUB_ACTIONS") == "true":
        groups = "github"
    elif env.get("GITLAB_CI") and env.get("CI_JOB_ID"):
        groups = "gitlab"

    def make_plain(stream: TextIO) -> PlainConsole:
        return PlainConsole(stream, masker, level=level, groups=groups, clock=time.time)

    if groups or level in (Level.WARNING, Level.ERROR) or not sys.stderr.isatty():
        return make_plain(sys.stderr)
    return TerminalConsole(make_plain)

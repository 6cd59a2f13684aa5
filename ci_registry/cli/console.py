"""Draws the event stream: live lines on a terminal, folded groups in CI, JSON lines for machines."""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TextIO

from ci_registry.cli.workflow_commands import defused, write_command
from ci_registry.events import Event, Level, Log, Progress, StepEnded, StepStarted
from ci_registry.secret import Masker

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_MARKS = {"passed": "✓", "failed": "✗", "error": "✗", "skipped": "-"}


def clean(text: str) -> str:
    """Return one line of foreign text without control characters, so that it can't drive a terminal."""
    return "".join(c if c.isprintable() else " " for c in text.replace("\n", " ⏎ "))


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
        self._stream = stream
        self._masker = masker
        self._verbose = level is Level.DEBUG
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
        important = event.level in (Level.WARNING, Level.ERROR)
        if not important and (self._quiet or (event.level is Level.DEBUG and not self._verbose)):
            return
        prefix = f"{event.image}: " if event.image else ""
        word = f"{event.level}: " if important else ""
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
            line = f"{mark} {event.image} {event.step} {event.duration_s:.1f}s{reason}"
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
            self._command(f"::group::{title}")
        else:
            name = f"{event.image}_{event.step}".replace(" ", "_")
            self._print(
                f"\x1b[0Ksection_start:{int(self._clock())}:{name}[collapsed=true]\r\x1b[0K{title}"
            )

    def _close_group(self, event: StepEnded) -> None:
        if self._groups == "github":
            self._command("::endgroup::")
        else:
            name = f"{event.image}_{event.step}".replace(" ", "_")
            self._print(f"\x1b[0Ksection_end:{int(self._clock())}:{name}\r\x1b[0K")

    def _command(self, line: str) -> None:
        write_command(self._stream, self._masker.mask(line))

    def _print(self, line: str) -> None:
        text = self._masker.mask(line)
        self._stream.write((defused(text) if self._groups == "github" else text) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Print what is still held, for steps that never ended."""
        with self._lock:
            for lines in self._held.values():
                for line in lines:
                    self._print(line)
            self._held.clear()


class JsonConsole:
    """One JSON object a line on stderr."""

    def __init__(self, stream: TextIO, masker: Masker, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._masker = masker
        self._clock = clock
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        """Print one event."""
        kind = {Log: "log", StepStarted: "step-started", StepEnded: "step-ended"}.get(type(event))
        if kind is None:
            return
        names = tuple(type(event).__dataclass_fields__)
        record = {"time": round(self._clock(), 3), "event": kind}
        record |= {name: getattr(event, name) for name in names}
        with self._lock:
            self._stream.write(self._masker.mask(json.dumps(record, default=str)) + "\n")
            self._stream.flush()

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
        return JsonConsole(sys.stderr, masker, time.time)
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

"""Runs programs in turns, bounded in time, and keeps what each needed: time, memory, requests."""

import contextlib
import fcntl
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.tools import Argv, Tool

LIMIT_S = 120.0
"""How long one command may take."""
TOO_SLOW = 8.0
"""Whoever takes so many times as long as ours runs once only."""


class Side(Protocol):
    """A registry that counts."""

    def total(self) -> int:
        """Return how many requests it has answered so far."""


@dataclass(slots=True)
class Rows:
    """What one tool needed for one task, run by run."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    requests: list[tuple[int, int]] = field(default_factory=list)
    """Of the source and of the target."""
    trouble: str = ""
    last_name: str = ""
    """The name that its last run was given."""

    @property
    def wall(self) -> float:
        """Median wall time in seconds."""
        return statistics.median(self.wall_s)

    @property
    def peak(self) -> float:
        """The highest peak of memory in MB."""
        return max(self.peak_mb, default=0.0)

    def asked(self, side: int) -> int:
        """Median number of requests: 0 = source, 1 = target."""
        return int(statistics.median(pair[side] for pair in self.requests))


Results = dict[str, Rows]


def run(argv: Argv, env: dict[str, str], rows: Rows) -> None:
    """Run a program to its end and add what it took; one that fails is noted."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(argv, env=env, stdout=output, stderr=output)
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process, ended, rows.peak_mb))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        ended.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            text = output.read()[-300:].decode(errors="replace").strip()
            rows.trouble = f"ended with {process.returncode} after {wall_s:.0f} s: {text}"
            return
    rows.wall_s.append(wall_s)
    rows.cpu_s.append(usage.ru_utime + usage.ru_stime)


def _watch(
    process: "subprocess.Popen[bytes]", ended: threading.Event, peaks_mb: list[float]
) -> None:
    """Note the peak of the memory of a program (`ru_maxrss` holds what this process had), and end it in time."""
    until = time.monotonic() + LIMIT_S
    while not ended.wait(0.02):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            line = next(line for line in lines if line.startswith("VmHWM"))
            peaks_mb.append(int(line.split()[1]) / 1024)
        if time.monotonic() > until:
            process.kill()
            return


def show(title: str, results: Results) -> None:
    """Print one task; ratios are to the first tool, which is ours."""
    rounds = max(len(rows.wall_s) for rows in results.values())
    print(f"\n{title} ({rounds} rounds)")
    ours = next(iter(results.values())).wall
    for name, rows in results.items():
        if rows.trouble:
            print(f"  {name:<18}{rows.trouble}")
            continue
        counted = ""
        if rows.requests:
            counted = f"   requests {rows.asked(0):4} / {rows.asked(1):4}"
        once = "   (once)" if len(rows.wall_s) == 1 < rounds else ""
        print(
            f"  {name:<18}{rows.wall:7.2f} s  x{rows.wall / ours:5.2f}  best {min(rows.wall_s):5.2f} s"
            f"  CPU {statistics.median(rows.cpu_s):6.2f} s"
            f"  peak {rows.peak:5.0f} MB{counted}{once}",
            flush=True,
        )


class Bench:
    """The tools, and how long there is for each task."""

    def __init__(
        self,
        tools: Sequence[Tool],
        env: dict[str, str],
        *,
        runs: int,
        phase_s: float,
        lock: Path | None,
    ) -> None:
        self._tools = tools
        self._env = env
        self._runs = runs
        self._phase_s = phase_s
        self._lock = lock
        self._number = 0

    def compare(
        self,
        title: str,
        task: Callable[[Tool, str], Argv | None],
        *,
        sides: tuple[Side, Side] | None = None,
        once: tuple[str, ...] = (),
        after: Callable[[], None] = lambda: None,
    ) -> Results:
        """Run a task with every tool in turn; it gets the tool and a name that was never used before.

        Those named by `once` are in the first round only. Rounds alternate the order. No round begins when the time of a task is over.
        """
        able = [tool for tool in self._tools if task(tool, "x") is not None]
        results = {tool.name: Rows() for tool in able}
        with self.alone():
            until = 0.0
            for number in range(self._runs):
                if number > 1 and time.monotonic() > until:
                    break
                if number == 1:  # the first round has those too that are too slow for another
                    until = time.monotonic() + self._phase_s
                for tool in able if number % 2 == 0 else reversed(able):
                    if number and (tool.name in once or _is_out(results, tool.name)):
                        continue
                    self._one(tool, task, results[tool.name], sides)
                    after()
        ours = next(iter(results.values()))
        if ours.trouble:
            raise SystemExit(f"{title}: ours {ours.trouble}")
        show(title, results)
        return results

    def _one(
        self,
        tool: Tool,
        task: Callable[[Tool, str], Argv | None],
        rows: Rows,
        sides: tuple[Side, Side] | None,
    ) -> None:
        self._number += 1
        rows.last_name = f"n{self._number}"
        argv = task(tool, rows.last_name)
        assert argv is not None
        before = [side.total() for side in sides or ()]
        run(argv, self._env, rows)
        now = [side.total() for side in sides or ()]
        if sides is not None and not rows.trouble:
            rows.requests.append((now[0] - before[0], now[1] - before[1]))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock that other benchmarks hold too, when one was named."""
        if self._lock is None:
            yield
            return
        with self._lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_out(results: Results, name: str) -> bool:
    rows = results[name]
    ours = next(iter(results.values()))
    slow = not rows.trouble and rows.wall_s[0] > max(5.0, TOO_SLOW * ours.wall_s[0])
    return slow or bool(rows.trouble)


class Aims:
    """What was promised, and whether it was kept."""

    def __init__(self) -> None:
        self._lines: list[tuple[bool, str]] = []

    def at_most(self, what: str, value: float, limit: float, unit: str = "") -> None:
        """Note one comparison."""
        met = round(value, 2) <= limit
        self._lines.append((met, f"{what}: {value:.2f}{unit} (aim: at most {limit:g}{unit})"))

    def show(self) -> None:
        """Print all of them."""
        print("\nAims")
        for met, line in self._lines:
            print(f"  {'met   ' if met else 'MISSED'}  {line}")

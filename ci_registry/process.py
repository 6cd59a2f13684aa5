"""The one door to other programs: argv lists, an allow-listed environment, bounded output, cancellation.

Both pipes are read by threads of their own, so a chatty program never blocks. A program runs in
its own process group; at cancellation or time-out the group gets TERM and, five seconds later, KILL.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from ci_registry.cancel import Cancel
from ci_registry.errors import ToolError
from ci_registry.files import hash_file
from ci_registry.secret import Masker

MAX_OUTPUT_BYTES = 64 * 1024 * 1024
GRACE_S = 5.0
_ALLOWED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One program to run. No secret may stand in `argv`."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment of the program: start from `allowed_environment`."""
    cwd: Path | None = None
    stdin: bytes | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a program did; output beyond 64 MiB a stream is cut at the front and `truncated` is set."""

    argv: tuple[str, ...]
    exit_code: int
    """Negative: killed by that signal."""
    stdout: bytes
    stderr: bytes
    duration_s: float
    timed_out: bool = False
    truncated: bool = False

    def error_tail(self, lines: int = 12) -> str:
        """Return the last lines of stderr (or stdout when stderr is empty), for people."""
        text = (self.stderr or self.stdout).decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-lines:])


class Runner(Protocol):
    """Runs a program; adapters get one as an argument, tests give them a fake."""

    def __call__(
        self, command: Command, *, on_stderr_line: Callable[[str], None] | None = None
    ) -> Completed:
        """Run to the end; `on_stderr_line` gets each line of stderr as it comes.

        Raises:
            ToolError: the program can't be started.
            CancelledError: the run was cancelled meanwhile; the program is gone.
        """


def allowed_environment(
    env: Mapping[str, str], *names: str, home: Path, proxies: bool = False
) -> dict[str, str]:
    """Return the allow-listed part of `env`, with `HOME` replaced and `names` added when set.

    Args:
        env: the environment of this process.
        names: further variables this one program may see.
        home: its HOME; give an empty private folder unless the program needs the user's.
        proxies: whether it talks to the network and so may see the proxy settings.
    """
    keep = (*_ALLOWED, *names, *(_PROXIES if proxies else ()))
    result = {name: env[name] for name in keep if env.get(name)}
    result.setdefault("PATH", os.defpath)
    return result | {"HOME": str(home)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program found on PATH, for the record."""

    path: Path
    sha256: str


def find_program(name: str, env: Mapping[str, str]) -> Path | None:
    """Return the absolute path of a program on the PATH of `env`, or None."""
    found = shutil.which(name, path=env.get("PATH", os.defpath))
    return Path(found).resolve() if found else None


def describe_program(path: Path) -> Program:
    """Return path and sha256 of a program."""
    return Program(path=path, sha256=hash_file(path))


class _Reader(threading.Thread):
    """Keeps the last `MAX_OUTPUT_BYTES` of a pipe and hands out its lines."""

    def __init__(self, pipe: IO[bytes], on_line: Callable[[str], None] | None) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._on_line = on_line
        self._chunks: list[bytes] = []
        self._size = 0
        self.truncated = False
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Read until the pipe closes."""
        rest = b""
        with self._pipe:
            while chunk := self._pipe.read1(1 << 16):  # type: ignore[attr-defined]  # a BufferedReader
                self._keep(chunk)
                if self._on_line is None or self.failure is not None:
                    continue
                *lines, rest = (rest + chunk).split(b"\n")
                self._hand_out(lines)
        if rest:
            self._hand_out([rest])

    def _hand_out(self, lines: list[bytes]) -> None:
        try:
            for line in lines:
                if self._on_line is not None:
                    self._on_line(line.decode(errors="replace"))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self.failure = error

    def _keep(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._size > MAX_OUTPUT_BYTES and len(self._chunks) > 1:
            self._size -= len(self._chunks.pop(0))
            self.truncated = True

    @property
    def data(self) -> bytes:
        """Everything kept."""
        return b"".join(self._chunks)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process group: TERM, then KILL after `GRACE_S`."""
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _write_stdin(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None  # noqa: S101 - Popen was told to make a pipe
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRunner:
    """The real `Runner`: one per run, so that its cancellation and masker reach every child."""

    cancel: Cancel
    masker: Masker = field(default_factory=Masker)

    def __call__(
        self, command: Command, *, on_stderr_line: Callable[[str], None] | None = None
    ) -> Completed:
        """Run `command`; see `Runner`."""
        self.cancel.check()
        started = time.monotonic()
        process = self._start(command)
        stdout = _Reader(process.stdout, None) if process.stdout else None
        masked = self._masked(on_stderr_line)
        stderr = _Reader(process.stderr, masked) if process.stderr else None
        assert stdout is not None and stderr is not None  # noqa: S101, PT018 - both are pipes
        feeder = threading.Thread(
            target=_write_stdin, args=(process, command.stdin or b""), daemon=True
        )
        feeder.start()
        timed_out = self._wait(process, command.timeout_s, started)
        for thread in (stdout, stderr, feeder):
            thread.join(GRACE_S)
        self.cancel.check()
        if stderr.failure is not None:
            raise stderr.failure
        return Completed(
            argv=command.argv,
            exit_code=process.returncode,
            duration_s=time.monotonic() - started,
            stdout=stdout.data,
            stderr=stderr.data,
            timed_out=timed_out,
            truncated=stdout.truncated or stderr.truncated,
        )

    def _masked(self, on_line: Callable[[str], None] | None) -> Callable[[str], None] | None:
        if on_line is None:
            return None
        return lambda line: on_line(self.masker.mask(line))

    def _start(self, command: Command) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command.argv,
                env=dict(command.env),
                cwd=command.cwd,
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            name = Path(command.argv[0]).name
            raise ToolError(f"cannot start {name}: {error.strerror or error}") from error

    def _wait(
        self, process: subprocess.Popen[bytes], timeout_s: float | None, started: float
    ) -> bool:
        """Wait for the end; returns whether the time ran out."""
        while True:
            try:
                process.wait(0.05 if time.monotonic() - started < 2 else 0.2)
            except subprocess.TimeoutExpired:
                if self.cancel.is_set:
                    _stop(process)
                    return False
                if timeout_s is not None and time.monotonic() - started > timeout_s:
                    _stop(process)
                    return True
                continue
            _signal_group(process, signal.SIGKILL)  # whatever it left running
            return False

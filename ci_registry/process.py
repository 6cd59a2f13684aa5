"""The one door to other programs: argv lists, an allow-listed environment, bounded output, cancellation.

Both pipes are read by threads of their own, so a chatty program never blocks. A program runs in
its own process group; at cancellation or time-out the group gets TERM and, five seconds later, KILL.
What a program leaves running in its group when it ends is killed too.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from ci_registry.cancel import Cancel
from ci_registry.errors import SetupError, ToolError
from ci_registry.files import hash_file
from ci_registry.secret import Masker

MAX_OUTPUT_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024
"""Longer lines are handed out in pieces."""
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
    return Path(found).absolute() if found else None  # a link stays: its name may choose what runs


def describe_program(path: Path) -> Program:
    """Return path and sha256 of a program."""
    return Program(path=path, sha256=hash_file(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPrograms:
    """The only programs that may be started, by their name and content."""

    allowed: Mapping[str, tuple[str, ...]]
    """Name → sha256 of each file that may go by it."""
    _known: dict[tuple[int, ...], str] = field(default_factory=dict, compare=False, repr=False)

    @contextlib.contextmanager
    def opened(self, command: Command) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Give the file to execute and the descriptors that it needs; it is the very file that was hashed.

        A script is refused: its content says nothing about the program that it starts. A file that was
        written while it was hashed and started is another one, and what was started of it must end.

        Raises:
            SetupError: it is not on the list, or a script.
            ToolError: it can't be read, or changed meanwhile.
        """
        name = Path(command.argv[0]).name
        found = shutil.which(command.argv[0], path=command.env.get("PATH", os.defpath))
        try:
            with Path(found or command.argv[0]).open("rb") as file:
                before = _identity(file)
                sha256 = self._known.get(before) or _sha256(file)
                self._check(name, found or command.argv[0], sha256, file)
                self._known[before] = sha256
                number = file.fileno()
                path = f"/proc/self/fd/{number}"
                has_proc = Path(path).exists()
                yield (path, (number,)) if has_proc else (found or command.argv[0], ())
                changed = _identity(file) != before
        except OSError as error:
            raise ToolError(
                f"cannot start {name}: {error.strerror or error}",
                hint=f"install {name}, or put it on PATH",
            ) from error
        if changed:
            raise ToolError(f"{name} was changed while it was started: {found}")

    def check(self, path: Path) -> None:
        """Make sure that a program may be started, without starting it; raises as `opened` does."""
        with self.opened(Command(argv=(str(path),))):
            pass

    def _check(self, name: str, path: str, sha256: str, file: IO[bytes]) -> None:
        file.seek(0)
        if sha256 not in self.allowed.get(name, ()):
            listed = "another sha256 than those" if name in self.allowed else "not"
            raise SetupError(
                f"{name} is {listed} on the list of programs that may be started: {path} has {sha256}",
                hint=f"when it is the one you trust, add it: tools.programs: {{{name}: [{sha256}]}}",
            )
        if file.read(2) == b"#!":
            raise SetupError(
                f"{path} is a script: its sha256 says nothing about the program that it starts",
                hint="put that program itself on PATH",
            )


def _identity(file: IO[bytes]) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _sha256(file: IO[bytes]) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a file opened to read bytes


class _Reader(threading.Thread):
    """Keeps the last `MAX_OUTPUT_BYTES` of a pipe and hands out its lines."""

    def __init__(self, pipe: IO[bytes], on_line: Callable[[str], None] | None) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._on_line = on_line
        self._kept = bytearray()
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
                if len(rest) > MAX_LINE_BYTES:
                    self._hand_out([rest])
                    rest = b""
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
        self._kept += chunk
        if len(self._kept) > MAX_OUTPUT_BYTES:
            del self._kept[: len(self._kept) - MAX_OUTPUT_BYTES]
            self.truncated = True

    @property
    def data(self) -> bytes:
        """Everything kept."""
        return bytes(self._kept)


class _End(threading.Thread):
    """Waits for the end of a process without reaping it, so that its pid stays ours until then."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self._process = process
        self.reached = False
        self.lost = False
        """Somebody else took the exit code: `SIGCHLD` is ignored in this process."""
        self.wake = threading.Event()
        """Set at the end, and by whoever wants the waiting thread to look up."""
        self.start()

    def run(self) -> None:
        """Wait, however long it takes."""
        try:
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            self.lost = True
        self.reached = True
        self.wake.set()

    def signal_group(self, number: int) -> None:
        """Send a signal to the whole process group; one without living members is fine."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """End the process group: TERM, then KILL after `GRACE_S`."""
        self.signal_group(signal.SIGTERM)
        self.join(GRACE_S)

    def reap(self) -> None:
        """Kill whatever is left of the group and take the exit code.

        Raises:
            ToolError: there is none, which must never be taken for success.
        """
        self.signal_group(signal.SIGKILL)
        self.join()  # or else it could find the exit code gone that is taken here
        self._process.wait()
        if self.lost:
            name = Path(str(self._process.args[0])).name  # type: ignore[index]  # argv is a tuple
            raise ToolError(f"the exit code of {name} was lost", hint="do not ignore SIGCHLD")


def _write_stdin(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None  # noqa: S101 - Popen was told to make a pipe
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRunner:
    """The real `Runner`: one per run, so that its cancellation and masker reach every child."""

    cancel: Cancel
    masker: Masker = field(default_factory=Masker)
    groups: set[int] = field(default_factory=set, compare=False)
    """The process groups that run at the moment, for whoever has to end them at once."""
    locked: LockedPrograms | None = None
    """Refuses every other program; None: any may be started."""

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
        timed_out = self._wait(process, command.timeout_s)
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
        if self.locked is None:
            return self._open(command)
        process = None
        try:
            with self.locked.opened(command) as (executable, descriptors):
                process = self._open(command, executable, descriptors)
        except ToolError:
            if process is not None:
                with process:  # closes its pipes
                    _End(process).reap()
            raise
        return process

    def _open(
        self, command: Command, executable: str | None = None, descriptors: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command.argv,
                executable=executable,
                pass_fds=descriptors,
                env=dict(command.env),
                cwd=command.cwd,
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            name = Path(command.argv[0]).name
            if error.filename is not None and error.filename == command.cwd:
                raise ToolError(
                    f"cannot start {name} in {command.cwd}: {error.strerror}"
                ) from error
            raise ToolError(
                f"cannot start {name}: {error.strerror or error}",
                hint=f"install {name}, or put it on PATH",
            ) from error
        except ValueError as error:  # a zero byte in an argument or variable
            raise ToolError(f"cannot start {Path(command.argv[0]).name}: {error}") from error

    def _wait(self, process: subprocess.Popen[bytes], timeout_s: float | None) -> bool:
        """Wait for the end; returns whether the time ran out."""
        end = _End(process)
        self.groups.add(process.pid)
        remove = self.cancel.on_cancel(end.wake.set)
        timed_out = False
        try:
            timed_out = not end.wake.wait(timeout_s)
        finally:
            remove()
            if end.reached:
                timed_out = False
            else:
                end.stop()
            self.groups.discard(process.pid)
            end.reap()
        return timed_out

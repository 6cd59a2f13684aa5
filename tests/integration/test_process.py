"""The door to other programs, with real small programs."""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from ci_registry import process
from ci_registry.cancel import Cancel
from ci_registry.errors import CancelledError, StorageError, ToolError
from ci_registry.process import (
    Command,
    Completed,
    ProcessRunner,
    allowed_environment,
    describe_program,
    find_program,
)
from ci_registry.secret import Masker, Secret

ENV = {"PATH": os.defpath}
FAR_S = 60.0
"""Far more than anything here takes: a test that hangs fails, and nothing depends on speed."""


def _python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", code, *arguments)


def _run(command: Command) -> Completed:
    return ProcessRunner(cancel=Cancel())(command)


def _is_gone(pid: int) -> bool:
    """Whether a process ended; a zombie that nobody reaps here counts as ended."""
    deadline = time.monotonic() + FAR_S
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def _pids_in(path: Path, count: int) -> list[int]:
    """Wait until a program has written its process ids, then return them."""
    deadline = time.monotonic() + FAR_S
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            words = path.read_text().split("\n")
            if len(words) > count:
                return [int(word) for word in words[:count]]
        time.sleep(0.02)
    raise AssertionError("the program did not start")


def _cancel_when_started(
    cancel: Cancel, path: Path, count: int
) -> tuple[threading.Thread, list[int]]:
    pids: list[int] = []

    def wait_and_cancel() -> None:
        pids.extend(_pids_in(path, count))
        cancel.set("SIGTERM")

    thread = threading.Thread(target=wait_and_cancel)
    thread.start()
    return thread, pids


# --- what comes back


def test_exit_code_and_both_streams_come_back() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    done = _run(Command(argv=_python(code), env=ENV))
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    assert not done.timed_out
    assert not done.truncated
    assert done.duration_s > 0


def test_a_signal_is_a_negative_exit_code() -> None:
    done = _run(Command(argv=("sh", "-c", "kill -SEGV $$"), env=ENV))
    assert done.exit_code == -signal.SIGSEGV


def test_much_text_on_both_pipes_does_not_hang() -> None:
    code = (
        "import sys\n"
        "for _ in range(300):\n"
        "    sys.stdout.write('o' * 999 + '\\n'); sys.stderr.write('e' * 999 + '\\n')\n"
    )
    done = _run(Command(argv=_python(code), env=ENV, timeout_s=FAR_S))
    assert (done.exit_code, len(done.stdout), len(done.stderr)) == (0, 300_000, 300_000)


def test_stdin_is_fed_and_closed() -> None:
    data = os.urandom(300_000)
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
    done = _run(Command(argv=_python(code), env=ENV, stdin=data, timeout_s=FAR_S))
    assert done.stdout == data[::-1]


def test_without_stdin_the_program_reads_an_empty_one() -> None:
    done = _run(Command(argv=("cat",), env=ENV, timeout_s=FAR_S))
    assert (done.exit_code, done.stdout) == (0, b"")


def test_a_program_that_does_not_read_its_stdin_is_no_error() -> None:
    done = _run(Command(argv=("true",), env=ENV, stdin=b"x" * 1_000_000, timeout_s=FAR_S))
    assert done.exit_code == 0


def test_output_is_cut_at_the_front_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_OUTPUT_BYTES", 100_000)
    code = "import sys; sys.stdout.write('a' * 150_000 + 'z' * 50_000)"
    done = _run(Command(argv=_python(code), env=ENV))
    assert done.truncated
    assert done.stdout == b"a" * 50_000 + b"z" * 50_000


def test_the_tail_of_stderr_is_for_people() -> None:
    code = "import sys; [print(n, file=sys.stderr) for n in range(50)]; print('out')"
    assert _run(Command(argv=_python(code), env=ENV)).error_tail(3) == "47\n48\n49"
    assert _run(Command(argv=("echo", "only out"), env=ENV)).error_tail() == "only out"


def test_the_program_runs_in_its_folder(tmp_path: Path) -> None:
    done = _run(Command(argv=("pwd",), env=ENV, cwd=tmp_path))
    assert done.stdout.decode().strip() == str(tmp_path.resolve())


# --- lines of stderr


def test_lines_come_one_by_one_with_secrets_masked() -> None:
    lines: list[str] = []
    runner = ProcessRunner(cancel=Cancel(), masker=Masker([Secret("hunter22")]))
    script = "printf 'login hunter22\\nhalf \\377 line\\nno end' >&2"
    done = runner(Command(argv=("sh", "-c", script), env=ENV), on_stderr_line=lines.append)
    assert lines == ["login ***", "half \ufffd line", "no end"]
    assert b"hunter22" in done.stderr, "the caller gets the bytes as they are"


def test_an_endless_line_is_handed_out_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_LINE_BYTES", 100_000)
    pieces: list[str] = []
    code = "import sys; sys.stderr.write('x' * 1_000_000)"
    ProcessRunner(cancel=Cancel())(
        Command(argv=_python(code), env=ENV), on_stderr_line=pieces.append
    )
    assert sum(len(piece) for piece in pieces) == 1_000_000
    assert max(len(piece) for piece in pieces) <= 100_000 + 65_536


def test_an_error_of_the_listener_is_raised_after_the_program_ended(tmp_path: Path) -> None:
    def fail(_line: str) -> None:
        raise ValueError("cannot read this line")

    script = f"echo one >&2; seq 1 100000 >&2; touch {tmp_path}/ended"
    with pytest.raises(ValueError, match="cannot read this line"):
        ProcessRunner(cancel=Cancel())(
            Command(argv=("sh", "-c", script), env=ENV, timeout_s=FAR_S), on_stderr_line=fail
        )
    assert (tmp_path / "ended").exists()


# --- the environment


def test_the_environment_is_exactly_what_was_given() -> None:
    env = {"PATH": os.defpath, "ONLY": "this"}
    done = _run(Command(argv=("env",), env=env))
    assert sorted(done.stdout.decode().splitlines()) == sorted(f"{k}={v}" for k, v in env.items())


def test_only_the_allow_list_passes_and_home_is_replaced() -> None:
    env = {
        "PATH": "/usr/bin",
        "LANG": "C.UTF-8",
        "TZ": "",
        "HOME": "/root",
        "COSIGN_PASSWORD": "x",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x",
        "DOCKER_HOST": "tcp://x",
        "TRIVY_IGNOREFILE": "x",
        "HTTPS_PROXY": "http://proxy",
        "LD_PRELOAD": "x",
        "PYTHONPATH": "x",
        "NAMED": "yes",
    }
    plain = {"PATH": "/usr/bin", "LANG": "C.UTF-8", "HOME": "/private"}
    home = Path("/private")
    assert allowed_environment(env, home=home) == plain
    assert allowed_environment(env, "NAMED", "ABSENT", home=home) == plain | {"NAMED": "yes"}
    assert allowed_environment(env, home=home, proxies=True) == plain | {
        "HTTPS_PROXY": "http://proxy"
    }
    assert allowed_environment({}, home=home) == {"PATH": os.defpath, "HOME": "/private"}


# --- programs that can't be started


def test_a_missing_program_is_a_tool_error_with_a_hint() -> None:
    with pytest.raises(ToolError) as caught:
        _run(Command(argv=("no-such-program-here", "--x"), env=ENV))
    assert caught.value.message == "cannot start no-such-program-here: No such file or directory"
    assert caught.value.hint == "install no-such-program-here, or put it on PATH"


def test_a_file_that_is_no_program_is_a_tool_error(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("not a program")
    with pytest.raises(ToolError, match="cannot start tool: Permission denied"):
        _run(Command(argv=(str(tmp_path / "tool"),), env=ENV))
    (tmp_path / "tool").chmod(0o755)
    with pytest.raises(ToolError, match="cannot start tool: Exec format error"):
        _run(Command(argv=(str(tmp_path / "tool"),), env=ENV))


def test_a_missing_folder_is_not_blamed_on_the_program(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"cannot start true in .*/none: No such file"):
        _run(Command(argv=("true",), env=ENV, cwd=tmp_path / "none"))


def test_a_zero_byte_in_an_argument_is_a_tool_error() -> None:
    with pytest.raises(ToolError, match="cannot start echo: embedded null byte"):
        _run(Command(argv=("echo", "a\x00b"), env=ENV))


def test_the_program_is_looked_up_on_the_path_it_was_given(tmp_path: Path) -> None:
    tool = tmp_path / "some-tool"
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.defpath}"}
    assert find_program("some-tool", env) == tool
    assert find_program("some-tool", {"PATH": os.defpath}) is None
    assert _run(Command(argv=("some-tool",), env=env)).stdout == b"mine\n"


def test_a_link_keeps_its_name_because_the_name_may_choose_what_runs(tmp_path: Path) -> None:
    (tmp_path / "many").write_text("#!/bin/sh\nbasename $0\n")
    (tmp_path / "many").chmod(0o755)
    (tmp_path / "docker").symlink_to("many")
    found = find_program("docker", {"PATH": f"{tmp_path}:{os.defpath}"})
    assert found == tmp_path / "docker"
    assert _run(Command(argv=(str(found),), env=ENV)).stdout == b"docker\n"
    assert describe_program(found).sha256 == describe_program(tmp_path / "many").sha256
    with pytest.raises(StorageError):
        describe_program(tmp_path / "none")


# --- ends


_FAMILY = """
echo $$ >> "$0"
sh -c 'echo $$ >> "$0"; sleep 600' "$0" &
sh -c 'trap "" TERM; echo $$ >> "$0"; while :; do sleep 0.1; done' "$0" &
wait
"""


def test_a_time_out_ends_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        f'{_FAMILY.replace("wait", "")} while [ $(wc -l < "$0") -lt 3 ]; do sleep 0.02; done; wait'
    )
    done = _run(Command(argv=("sh", "-c", script, str(pids)), env=ENV, timeout_s=3))
    assert done.timed_out
    assert done.exit_code == -signal.SIGTERM
    assert [pid for pid in _pids_in(pids, 3) if not _is_gone(pid)] == []


def test_cancellation_ends_the_whole_group(tmp_path: Path) -> None:
    cancel, path = Cancel(), tmp_path / "pids"
    thread, pids = _cancel_when_started(cancel, path, 3)
    with pytest.raises(CancelledError, match="SIGTERM"):
        ProcessRunner(cancel=cancel)(Command(argv=("sh", "-c", _FAMILY, str(path)), env=ENV))
    thread.join()
    assert len(pids) == 3
    assert [pid for pid in pids if not _is_gone(pid)] == []


def test_a_program_that_ignores_term_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.2)
    cancel, path = Cancel(), tmp_path / "pids"
    thread, pids = _cancel_when_started(cancel, path, 1)
    script = 'trap "" TERM INT; echo $$ > "$0"; while :; do sleep 0.05; done'
    with pytest.raises(CancelledError):
        ProcessRunner(cancel=cancel)(Command(argv=("sh", "-c", script, str(path)), env=ENV))
    thread.join()
    assert _is_gone(pids[0])


def test_a_program_may_clean_up_after_term(tmp_path: Path) -> None:
    cancel, path = Cancel(), tmp_path / "pids"
    thread, _ = _cancel_when_started(cancel, path, 1)
    script = 'trap "touch $1; exit 0" TERM; echo $$ > "$0"; while :; do sleep 0.02; done'
    cleaned = tmp_path / "cleaned"
    with pytest.raises(CancelledError):
        ProcessRunner(cancel=cancel)(
            Command(argv=("sh", "-c", script, str(path), str(cleaned)), env=ENV)
        )
    thread.join()
    assert cleaned.exists()


def test_what_a_program_leaves_running_in_its_group_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    script = (
        'sh -c \'echo $$ > "$0"; exec sleep 600\' "$0" & while [ ! -s "$0" ]; do sleep 0.02; done'
    )
    done = _run(Command(argv=("sh", "-c", script, str(path)), env=ENV, timeout_s=FAR_S))
    assert done.exit_code == 0
    assert _is_gone(_pids_in(path, 1)[0])


def test_nothing_is_started_after_cancellation(tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.set("SIGINT")
    with pytest.raises(CancelledError):
        ProcessRunner(cancel=cancel)(Command(argv=("touch", str(tmp_path / "x")), env=ENV))
    assert not (tmp_path / "x").exists()


def test_a_finished_run_leaves_no_callback_behind() -> None:
    cancel = Cancel()
    ProcessRunner(cancel=cancel)(Command(argv=("true",), env=ENV))
    assert cancel._callbacks == {}


def test_many_programs_run_at_once() -> None:
    runner = ProcessRunner(cancel=Cancel())
    results: dict[int, Completed] = {}

    def run(number: int) -> None:
        results[number] = runner(Command(argv=("sh", "-c", f"exit {number}"), env=ENV))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: done.exit_code for number, done in results.items()} == {
        number: number for number in range(16)
    }


def test_a_lost_exit_code_is_never_taken_for_success() -> None:
    code = (
        "import signal, os; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from ci_registry.cancel import Cancel\n"
        "from ci_registry.errors import ToolError\n"
        "from ci_registry.process import Command, ProcessRunner\n"
        "try:\n"
        "    ProcessRunner(cancel=Cancel())(Command(argv=('false',), env={'PATH': os.defpath}))\n"
        "except ToolError as error:\n"
        "    print(error.message)\n"
    )
    root = str(Path(__file__).parents[2])
    done = _run(Command(argv=(sys.executable, "-c", code), env=ENV, cwd=Path(root)))
    assert done.stdout == b"the exit code of false was lost\n", done.stderr.decode()

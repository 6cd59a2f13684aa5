"""The command line: usage errors, expected failures and bugs, each with its exit code and clear words."""

import io
import sys
from collections.abc import Callable

import click
import pytest

from ci_registry.cli import config, image, keys, main, policy, run, serve
from ci_registry.cli.main import run_command_line, show_error
from ci_registry.errors import (
    AccessError,
    CiRegistryError,
    ConfigError,
    ExitCode,
    Problem,
    UsageError,
)

LOADED = (config, image, keys, policy, run, serve)
"""Imported before the guards of unit tests are up."""
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


def _command(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> int:
    """Run a command that does `action` in place of the real ones."""

    @click.command()
    @click.pass_context
    def fake(ctx: click.Context) -> None:
        result = action()
        ctx.exit(result if isinstance(result, int) else 0)

    monkeypatch.setattr(main.LazyGroup, "get_command", lambda *_: fake)
    return run_command_line(["run"])


def _raise(error: BaseException) -> Callable[[], object]:
    def action() -> object:
        raise error

    return action


# --- usage


def test_help_lists_every_command_and_the_exit_codes(capsys: Capture) -> None:
    assert run_command_line(["--help"]) == 0
    text = capsys.readouterr().out
    for name in main._COMMANDS:
        assert f"  {name} " in text
    assert "130 interrupted" in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["plna"], "No such command 'plna'. Did you mean 'plan'?"),
        (["config", "shw"], "No such command 'shw'. Did you mean 'show'?"),
        (["run", "--imge", "x"], "'--image'"),
        (["scan"], "Name an image or layout"),
        (["run", "--format", "yaml"], "'yaml' is not one of 'text', 'json'"),
        (["serve", "--port", "99999"], "99999 is not in the range 0<=x<=65535"),
        (["sign", "ghcr.io/a/b", "--result", "none.json"], "'none.json' does not exist"),
        (["sign", "ghcr.io/a/b"], "Missing option '--result'"),
        (["zzzzzz"], "No such command 'zzzzzz'."),
    ],
)
def test_a_usage_error_is_2_with_a_suggestion(argv: list[str], words: str, capsys: Capture) -> None:
    assert run_command_line(argv) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_nothing_at_all_is_help_and_2(capsys: Capture) -> None:
    assert run_command_line([]) == 2
    captured = capsys.readouterr()
    assert "Usage: ci-registry" in captured.out + captured.err


@pytest.mark.parametrize("name", list(main._COMMANDS))
def test_every_command_has_help(name: str, capsys: Capture) -> None:
    assert run_command_line([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: ci-registry {name}")


# --- what a command ends with


@pytest.mark.parametrize("code", list(ExitCode))
def test_the_code_of_a_command_is_the_code_of_the_process(
    monkeypatch: pytest.MonkeyPatch, code: ExitCode
) -> None:
    assert _command(monkeypatch, lambda: int(code)) == code


def test_an_expected_failure_is_one_line_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    error = AccessError("ghcr.io/acme: push refused", hint="log in\nor ask somebody")
    assert _command(monkeypatch, _raise(error)) == 2
    assert capsys.readouterr().err.splitlines() == [
        "ci-registry: ghcr.io/acme: push refused",
        "ci-registry: hint: log in",
        "ci-registry: or ask somebody",
    ]


def test_every_problem_of_a_file_is_shown_with_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    error = ConfigError(
        (
            Problem(message="unknown key 'polcy'", file="a.yml", line=2, hint="did you mean x?"),
            Problem(message="no images", file="a.yml"),
            Problem(message="CIREG_PUSH: not 'x'"),
        ),
        hint="see the reference",
    )
    assert _command(monkeypatch, _raise(error)) == 2
    assert capsys.readouterr().err.splitlines() == [
        "ci-registry: a.yml:2: unknown key 'polcy' (did you mean x?)",
        "ci-registry: a.yml: no images",
        "ci-registry: CIREG_PUSH: not 'x'",
        "ci-registry: hint: see the reference",
    ]


def test_an_error_with_a_place_and_more_lines(capsys: Capture) -> None:
    show_error(UsageError("first\nsecond", file="Dockerfile", line=3))
    assert capsys.readouterr().err.splitlines() == [
        "ci-registry: Dockerfile:3: first",
        "ci-registry: second",
    ]


def test_a_bug_is_70_with_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert _command(monkeypatch, _raise(KeyError("oops"))) == 70
    text = capsys.readouterr().err
    assert "this is a bug in ci-registry" in text
    assert "KeyError: 'oops'" in text


def test_a_file_that_can_not_be_read_is_infrastructure_and_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    error = PermissionError(13, "Permission denied", "/some/key")
    assert _command(monkeypatch, _raise(error)) == 4
    assert capsys.readouterr().err == (
        "ci-registry: cannot read or write /some/key: Permission denied\n"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_is_130(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, error: BaseException
) -> None:
    assert _command(monkeypatch, _raise(error)) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_went_away_is_never_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Click ends with exit code 1 then, which means that policy blocks."""
    assert _command(monkeypatch, _raise(BrokenPipeError(32, "Broken pipe"))) == 4


def test_no_secret_of_the_environment_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "hunter2222")
    assert _command(monkeypatch, _raise(UsageError("no key for hunter2222"))) == 2
    assert _command(monkeypatch, _raise(ValueError("hunter2222"))) == 70
    text = capsys.readouterr().err
    assert "hunter2222" not in text
    assert "no key for ***" in text


def test_foreign_text_in_an_error_can_not_drive_the_terminal(capsys: Capture) -> None:
    show_error(UsageError("branch \x1b]0;evil\x07 name", hint="\x9bhint"))
    assert "\x1b" not in (text := capsys.readouterr().err)
    assert "\x9b" not in text


# --- annotations


def test_problems_are_annotated_on_github(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    show_error(
        ConfigError(
            (
                Problem(message="50% of\n::error::evil", file="a,b:c.yml", line=7),
                Problem(message="no place"),
            )
        )
    )
    commands = [line for line in capsys.readouterr().err.splitlines() if line.startswith("::")]
    assert commands == [
        "::error file=a%2Cb%3Ac.yml,line=7::50%25 of%0A::error::evil",
        "::error::no place",
    ]


def test_nothing_is_annotated_elsewhere(capsys: Capture) -> None:
    show_error(CiRegistryError("x", file="a", line=1))
    assert "::" not in capsys.readouterr().err


# --- streams


def test_results_in_an_encoding_without_our_marks_are_escaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))

    def action() -> int:
        sys.stdout.write("✓ → ü\n")
        return 0

    assert _command(monkeypatch, action) == 0
    sys.stdout.flush()
    assert raw.getvalue() == b"\\u2713 \\u2192 \xfc\n"

"""The event stream as people, CI systems and machines see it; foreign text drives none of them."""

import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.cli.console import JsonConsole, PlainConsole, clean, open_console
from ci_registry.cli.streams import Lines
from ci_registry.events import Event, Level, Log, Progress, StepEnded, StepStarted
from ci_registry.secret import Masker, Secret

Draw = Callable[..., str]


def _plain(
    *events: Event,
    groups: str = "",
    level: Level = Level.INFO,
    masker: Masker | None = None,
    close: bool = True,
) -> str:
    stream = io.StringIO()
    console = PlainConsole(
        stream, masker or Masker(), level=level, groups=groups, clock=lambda: 1700000000.9
    )
    for event in events:
        console(event)
    if close:
        console.close()
    return stream.getvalue()


def _json(*events: Event, level: Level = Level.INFO, masker: Masker | None = None) -> list[object]:
    stream = io.StringIO()
    console = JsonConsole(stream, masker or Masker(), level=level, clock=lambda: 12.3456)
    for event in events:
        console(event)
    console.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


STARTED = StepStarted(image="app", step="build")
ENDED = StepEnded(image="app", step="build", status="passed", duration_s=1.25)
FAILED = replace(ENDED, status="error", reason="RUN failed")


def _said(message: str, **changes: str) -> Log:
    return Log(message=message, image="app", step="build", **changes)  # type: ignore[arg-type]  # levels are texts


# --- clean


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ✓ text", "plain ✓ text"),
        ("\x1b[31mred\x1b[0m", " [31mred [0m"),
        ("a\rb", "a b"),
        ("a\nb", "a ⏎ b"),
        ("tab\there", "tab here"),
        ("\x9b31m", " 31m"),
        ("bell\x07", "bell "),
        ("\u202eevil", " evil"),
        ("zero\u200bwidth", "zero width"),
        ("half \udcff", "half  "),
    ],
)
def test_control_characters_are_neutralised(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
@settings(max_examples=100)
def test_clean_text_is_one_printable_line(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1


# --- plain lines


def test_lines_come_at_once_outside_ci() -> None:
    assert _plain(STARTED, _said("STEP 1"), close=False) == "app: STEP 1\n"
    assert _plain(STARTED, _said("STEP 1"), ENDED).splitlines() == [
        "app: STEP 1",
        "✓ app build 1.2s",
    ]


def test_a_failed_step_says_why() -> None:
    assert _plain(FAILED) == "✗ app build 1.2s: RUN failed\n"


def test_levels_are_words_in_front() -> None:
    assert _plain(_said("old", level=Level.WARNING)) == "warning: app: old\n"
    assert _plain(Log(message="bad", level=Level.ERROR)) == "error: bad\n"


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (Level.DEBUG, ["debug", "info", "warning: warning", "error: error", "✓", "✗"]),
        (Level.INFO, ["info", "warning: warning", "error: error", "✓", "✗"]),
        (Level.WARNING, ["warning: warning", "error: error", "✗"]),
    ],
)
def test_quiet_and_verbose(level: Level, shown: list[str]) -> None:
    events: list[Event] = [Log(message=item, level=item) for item in Level]
    events += [ENDED, FAILED]
    lines = _plain(*events, level=level).splitlines()
    assert len(lines) == len(shown)
    assert all(line.startswith(word) for line, word in zip(lines, shown, strict=True))


def test_progress_is_for_terminals_only() -> None:
    progress = Progress(image="app", step="build", what="x", done=1, total=2)
    assert _plain(STARTED, progress) == ""


# --- groups of CI systems


def test_github_gets_the_lines_of_a_step_in_one_group() -> None:
    assert _plain(STARTED, _said("one"), _said("two"), ENDED, groups="github").splitlines() == [
        "::group::✓ app build 1.2s",
        "app: one",
        "app: two",
        "::endgroup::",
    ]


def test_gitlab_gets_the_lines_of_a_step_in_one_section() -> None:
    assert _plain(STARTED, _said("one"), ENDED, groups="gitlab") == (
        "\x1b[0Ksection_start:1700000000:app_build[collapsed=true]\r\x1b[0K✓ app build 1.2s\n"
        "app: one\n"
        "\x1b[0Ksection_end:1700000000:app_build\r\x1b[0K\n"
    )


def test_a_section_is_named_in_the_characters_that_gitlab_takes() -> None:
    odd = (
        replace(STARTED, image="team/app ü:1"),
        Log(message="x", image="team/app ü:1", step="build"),
        replace(ENDED, image="team/app ü:1"),
    )
    text = _plain(*odd, groups="gitlab")
    assert "section_start:1700000000:team_app___1_build[" in text
    assert "section_end:1700000000:team_app___1_build\r" in text


def test_the_groups_of_two_images_do_not_mix() -> None:
    lines = _plain(
        STARTED,
        replace(STARTED, image="web"),
        _said("a1"),
        Log(message="w1", image="web", step="build"),
        _said("a2"),
        ENDED,
        replace(ENDED, image="web"),
        groups="github",
    ).splitlines()
    assert lines == [
        "::group::✓ app build 1.2s",
        "app: a1",
        "app: a2",
        "::endgroup::",
        "::group::✓ web build 1.2s",
        "web: w1",
        "::endgroup::",
    ]


def test_lines_of_a_step_that_never_ended_are_not_lost() -> None:
    assert _plain(STARTED, _said("last words"), groups="github") == "app: last words\n"


ATTACKS = [
    "::error::forged",
    "::set-output name=verdict::pass",
    "  ::warning::forged",
    "\u2003::warning::forged",
    "::group::forged",
    "::endgroup::",
    "::stop-commands::x",
    "##[error]forged",
    "text ##[set-output name=verdict]pass",
    "ok\n::error::forged",
    "ok\r::error::forged",
    "ok%0A::error::forged",
    "\x1b[0Ksection_start:1:x\r\x1b[0Kforged",
]


def _is_command(line: str) -> bool:
    return line.lstrip().startswith("::") or "##[" in line


@pytest.mark.parametrize("text", ATTACKS)
def test_foreign_text_never_becomes_a_workflow_command(text: str) -> None:
    output = _plain(
        Log(message=text),
        Log(message=text, level=Level.WARNING),
        STARTED,
        _said(text),
        Log(message=text, step="build", image="app"),
        replace(FAILED, reason=text),
        StepEnded(image=text, step="scan", status="error", duration_s=0, reason=text),
        groups="github",
    )
    commands = [line for line in output.split("\n") if _is_command(line)]
    assert [line for line in commands if not line.startswith("::group::✗ app build")] == [
        "::endgroup::"
    ]
    (title,) = [line for line in commands if line.startswith("::group::")]
    assert "\r" not in title
    assert "%0A" not in title


@pytest.mark.parametrize("text", ATTACKS)
def test_foreign_text_opens_no_section(text: str) -> None:
    output = _plain(STARTED, _said(text), replace(FAILED, reason=text), groups="gitlab")
    assert output.count("\x1b[0Ksection_start:") == 1
    assert output.count("\x1b[0Ksection_end:") == 1
    assert output.count("\r") == 2


@given(st.lists(st.text(), max_size=4))
@settings(max_examples=50)
def test_no_text_at_all_becomes_a_workflow_command(texts: list[str]) -> None:
    output = _plain(STARTED, *(Log(message=text) for text in texts), groups="github")
    assert [line for line in output.split("\n") if _is_command(line)] == []


def test_secrets_are_masked_in_lines_and_titles() -> None:
    masker = Masker([Secret("hunter22")])
    events = (STARTED, _said("x hunter22"), replace(FAILED, reason="y hunter22"))
    for groups in ("", "github", "gitlab"):
        output = _plain(*events, groups=groups, masker=masker)
        assert "hunter22" not in output
        assert output.count("***") == 2


# --- JSON


def test_every_line_is_one_json_object() -> None:
    log = Log(message='a "quoted"\nmessage \x1b[31m ✓', level=Level.WARNING, file="a", line=3)
    assert _json(STARTED, log, FAILED) == [
        {"time": 12.346, "event": "step-started", "image": "app", "step": "build"},
        {
            "time": 12.346,
            "event": "log",
            "message": 'a "quoted"\nmessage \x1b[31m ✓',
            "level": "warning",
            "image": "",
            "step": "",
            "file": "a",
            "line": 3,
        },
        {
            "time": 12.346,
            "event": "step-ended",
            "image": "app",
            "step": "build",
            "status": "error",
            "duration_s": 1.25,
            "reason": "RUN failed",
        },
    ]


def test_secrets_are_masked_and_the_line_stays_json() -> None:
    masker = Masker([Secret('hun"ter22'), Secret("level"), Secret("null")])
    (line,) = _json(Log(message='said hun"ter22, level null'), masker=masker)
    assert isinstance(line, dict)
    assert line["message"] == "said ***, *** ***"
    assert line["level"] == "info"


def test_quiet_counts_for_json_too() -> None:
    events = (STARTED, Log(message="x"), _said("y", level=Level.ERROR), ENDED, FAILED)
    assert len(_json(*events)) == 5
    assert len(_json(*events, level=Level.WARNING)) == 2
    assert _json(Log(message="x", level=Level.DEBUG)) == []


# --- readers that go away


class _Gone(io.StringIO):
    writes = 0

    def write(self, text: str, /) -> int:
        self.writes += 1
        raise BrokenPipeError


@pytest.mark.parametrize("groups", ["", "github", "gitlab"])
def test_a_reader_that_went_away_stops_no_step(groups: str) -> None:
    stream = _Gone()
    console = PlainConsole(stream, Masker(), level=Level.INFO, groups=groups, clock=lambda: 0)
    for event in (STARTED, _said("x"), ENDED, Log(message="y")):
        console(event)
    console.close()
    JsonConsole(_Gone(), Masker(), level=Level.INFO, clock=lambda: 0)(STARTED)


def test_nothing_more_is_written_to_a_reader_that_went_away() -> None:
    stream = _Gone()
    lines = Lines(stream)
    lines.write("a")
    lines.write("b")
    assert stream.writes == 1


def test_a_closed_stream_is_no_error() -> None:
    stream = io.StringIO()
    stream.close()
    Lines(stream).write("x")


def test_lines_of_many_threads_stay_whole() -> None:
    stream = io.StringIO()
    console = PlainConsole(stream, Masker(), level=Level.INFO, groups="", clock=lambda: 0)

    def talk(name: str) -> None:
        for number in range(50):
            console(Log(message=f"{number} " + name * 200, image=name))

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 200
    assert all(len(set(line.partition(" ")[2].partition(" ")[2])) == 1 for line in lines)


# --- the choice


@pytest.mark.parametrize(
    ("env", "log_format", "kind", "groups"),
    [
        ({}, "text", PlainConsole, ""),
        ({"GITHUB_ACTIONS": "true"}, "text", PlainConsole, "github"),
        ({"GITLAB_CI": "true", "CI_JOB_ID": "1"}, "text", PlainConsole, "gitlab"),
        ({"GITHUB_ACTIONS": "true"}, "json", JsonConsole, ""),
    ],
)
def test_the_console_fits_where_it_runs(
    env: dict[str, str], log_format: str, kind: type, groups: str
) -> None:
    console = open_console(env, Masker(), log_format=log_format, level=Level.INFO)
    assert isinstance(console, kind)
    if isinstance(console, PlainConsole):
        assert console._groups == groups
    console.close()

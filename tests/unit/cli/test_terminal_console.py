"""What a terminal draws of names that strangers choose."""

import io
import sys

import pytest

from ci_registry.cli.console import PlainConsole, TerminalConsole
from ci_registry.events import Level, Progress, StepEnded, StepStarted
from ci_registry.secret import Masker


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "text", ["RUN test [/b]", "[red]loud[/red]", "[link=http://evil]x", "\x1b[2J"]
)
def test_names_of_build_steps_are_text_and_no_markup(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    console = TerminalConsole(
        lambda stream: PlainConsole(
            stream, Masker(), level=Level.INFO, groups="", clock=lambda: 0.0
        )
    )
    console(StepStarted(image="app", step="build"))
    console(Progress(image="app", step="build", what=text, done=1, unit="steps"))
    console._progress.refresh()
    shown = terminal.getvalue()
    console(StepEnded(image="app", step="build", status="passed", duration_s=0.1))
    console.close()

    assert text.replace("\x1b", " ") in shown
    assert "\x1b[2J" not in shown

import io

import pytest

from ci_registry.cli.workflow_commands import GuardedStream, defused


def stream() -> tuple[GuardedStream, io.BytesIO]:
    raw = io.BytesIO()
    return GuardedStream(raw, encoding="utf-8", line_buffering=True), raw


@pytest.mark.parametrize(
    "text",
    [
        "::error::x",
        "  ::add-mask::x",
        "\u2003::error::x",  # the runner trims every kind of space
        "a\n::error::x",
        "a\r::error::x",  # a carriage return ends a line too
        "a\n\n \t::error::x",
        "##[error]x",
        "text ##[add-mask]x",
        "###[error]x",
    ],
)
def test_no_text_is_a_command(text: str) -> None:
    shown = defused(text)

    assert "##[" not in shown
    assert not [line for line in shown.splitlines() if line.lstrip().startswith("::")]


def test_harmless_text_stays_as_it_is() -> None:
    text = "std::vector in [demo] # 1\n## heading\n- pkg::name"

    assert defused(text) == text


def test_command_in_pieces_is_found() -> None:
    guarded, raw = stream()

    for piece in (" ", ":", ":", "error::x", "\n", "#", "#", "[error]y\n"):
        guarded.write(piece)

    assert raw.getvalue() == b" : :error::x\n# #[error]y\n"


def test_unfinished_line_is_written_by_flush() -> None:
    guarded, raw = stream()
    guarded.write("::error::x")
    assert raw.getvalue() == b""

    guarded.flush()

    assert raw.getvalue() == b": :error::x"


def test_own_commands_are_written_as_they_are_after_what_was_said_before() -> None:
    guarded, raw = stream()
    guarded.write("before\n")

    guarded.write_command("::error title=a::b")

    assert raw.getvalue() == b"before\n::error title=a::b\n"

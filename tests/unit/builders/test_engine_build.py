"""The pure half of classic engine builds."""

from pathlib import Path

import pytest

from ci_registry.builders.engine_build import (
    ClassicLog,
    build_parameters,
    instruction_of_step,
    refused_instruction,
)
from ci_registry.builders.interface import BuildRequest
from ci_registry.dockerfile.parse import parse_dockerfile
from ci_registry.events import Event, Log
from ci_registry.secret import Masker, Secret


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("FROM a\nRUN --mount=type=cache,target=/c x\n", "RUN --mount", 2),
        ("FROM a\nCOPY --link a b\n", "COPY --link", 2),
        ("FROM a\nCOPY --chown=1:1 a b\nRUN <<EOF\nx\nEOF\n", "RUN <<EOF", 3),
        ("FROM a\nONBUILD COPY --chmod=755 a b\n", "COPY --chmod", 2),
        ("FROM --platform=linux/amd64 a\nRUN x\nCOPY --from=0 a b\n", "", 0),
    ],
)
def test_what_only_buildkit_understands_is_found(text: str, what: str, line: int) -> None:
    assert refused_instruction(parse_dockerfile(text, file="Dockerfile")) == (what, line)


def log_of(*messages: object) -> tuple[ClassicLog, list[Event]]:
    events: list[Event] = []
    masker = Masker([Secret("hunter22")])
    log = ClassicLog(image="api", on_event=events.append, masker=masker)
    for message in messages:
        log.feed(message)
    log.close()
    return log, events


def test_stream_of_messages_is_understood() -> None:
    log, events = log_of(
        {"stream": "Step 1/2 : FROM scratch"},
        {"stream": "\n"},
        {"stream": " ---> \nStep 2/2 : COPY a /\n"},
        {"stream": " ---> Using cache\n"},
        {"aux": {"ID": "sha256:1"}},
        {"stream": "it is hunter"},
        {"stream": "22"},
        "noise",
    )
    assert (log.step, log.steps_total, log.steps_cached) == (2, 2, 1)
    assert (log.image_id, log.error) == ("sha256:1", "")
    assert [e.message for e in events if isinstance(e, Log)][-1] == "it is ***"


def test_error_and_the_output_of_its_step_are_kept() -> None:
    log, _ = log_of(
        {"stream": "Step 1/2 : RUN a\n"},
        {"stream": "old output\n"},
        {"stream": "Step 2/2 : RUN b\n"},
        {"stream": " ---> Running in 1\n"},
        {"stream": "new output\n"},
        {"errorDetail": {"code": 7}, "error": "The command returned hunter22"},
    )
    assert log.error == "The command returned ***"
    assert list(log.tail) == ["new output"]


def test_steps_count_over_stages_and_global_arguments() -> None:
    text = "ARG V=1\nFROM a AS x\nRUN one\nFROM b\nRUN two\n"
    dockerfile = parse_dockerfile(text, file="Dockerfile")
    lines = []
    for step in range(7):
        instruction = instruction_of_step(dockerfile, step)
        lines.append(instruction.first_line if instruction else 0)
    assert lines == [0, 1, 2, 3, 4, 5, 0]


def test_parameters_leave_out_what_was_not_asked_for() -> None:
    asked = BuildRequest(
        image="api",
        context=Path("/c"),
        dockerfile=Path("/c/D"),
        layout=Path("/l"),
        work=Path("/w"),
        build_args={"A": "1"},
        network="none",
        no_cache=True,
    )
    assert build_parameters(asked, "D", "t:build") == {
        "t": "t:build",
        "dockerfile": "D",
        "version": "1",
        "rm": "1",
        "forcerm": "1",
        "platform": "linux/amd64",
        "buildargs": '{"A": "1"}',
        "labels": "{}",
        "nocache": "1",
        "networkmode": "none",
    }

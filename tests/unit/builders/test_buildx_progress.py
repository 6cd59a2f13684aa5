"""The raw progress of BuildKit, in lines as dockerd 28.5 writes them."""

import base64
import json
from collections.abc import Iterable

from ci_registry.builders.buildx_progress import BuildLog
from ci_registry.events import Event, Level, Log, Progress
from ci_registry.secret import Masker, Secret

DIGEST = "sha256:" + "a" * 64


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Reading:
    """A log that was fed."""

    def __init__(self, *lines: str | dict[str, object], secrets: Iterable[str] = ()) -> None:
        self.events: list[Event] = []
        masker = Masker(Secret(value) for value in secrets)
        self.log = BuildLog(
            image="api",
            dockerfile_name="svc/Dockerfile",
            on_event=self.events.append,
            masker=masker,
        )
        for line in lines:
            self.log.feed(line if isinstance(line, str) else json.dumps(line))

    @property
    def messages(self) -> list[str]:
        return [e.message for e in self.events if isinstance(e, Log)]


def vertex(name: str, **more: object) -> dict[str, object]:
    return {"vertexes": [{"digest": name, "name": name, **more}]}


def output(step: str, text: str, stream: int = 1) -> dict[str, object]:
    return {"logs": [{"vertex": step, "stream": stream, "data": b64(text)}]}


def test_instructions_are_counted_and_from_and_internals_are_not() -> None:
    done = {"completed": "t"}
    read = Reading(
        vertex("[internal] load build context", **done),
        vertex(f"[base 1/3] FROM docker.io/library/alpine:3@{DIGEST}", cached=True, **done),
        vertex("[base 2/3] COPY a b", cached=True, **done),
        vertex("[linux/arm64 base 3/3] RUN true", **done),
        vertex("exporting to oci image format", **done),
    )
    assert (read.log.steps_total, read.log.steps_cached) == (2, 1)


def test_each_completed_vertex_is_one_progress_event() -> None:
    read = Reading(
        vertex("[1/1] RUN x"),
        vertex("[1/1] RUN x", started="t"),
        vertex("[1/1] RUN x", started="t", completed="t", cached=True),
        vertex("[1/1] RUN x", started="t", completed="t"),
    )
    found = [e for e in read.events if isinstance(e, Progress)]
    assert [(e.what, e.done, e.unit, e.detail) for e in found] == [
        ("[1/1] RUN x", 1, "steps", {"cached": "true"})
    ]
    assert read.messages == ["[1/1] RUN x"]


def test_transfers_are_progress_in_bytes() -> None:
    status = {"id": "transferring context:", "vertex": "v", "name": "transferring", "current": 23}
    read = Reading({"statuses": [status]})
    event = read.events[0]
    assert isinstance(event, Progress)
    assert (event.what, event.done, event.unit) == ("transferring context:", 23, "bytes")


def test_output_is_handed_out_in_whole_lines() -> None:
    read = Reading(
        output("v", "one\ntw"), output("v", "o\r\nthree"), vertex("v", completed="t", error="e")
    )
    assert read.messages == ["one", "two", "three"]
    assert read.log.failed_output == "one\ntwo\nthree"


def test_secret_cut_in_two_is_masked() -> None:
    read = Reading(output("v", "is hun"), output("v", "ter22!\n"), secrets=["hunter22"])
    assert read.messages == ["is ***!"]


def test_line_that_a_masker_has_cut_into_shows_nothing() -> None:
    line = json.dumps(output("v", "hunter22\n")).replace("aHVudGVyMjI", "***")
    assert "***" in line
    assert Reading(line).messages == ["***"]


def test_warning_has_file_and_line_and_is_told_once() -> None:
    warning = {
        "short": b64("FromAsCasing: 'as' and 'FROM' do not match (line 4)"),
        "range": [{"start": {"line": 4}, "end": {"line": 4}}],
    }
    read = Reading({"warnings": [warning]}, {"warnings": [warning]})
    assert read.log.warnings == ["svc/Dockerfile:4: FromAsCasing: 'as' and 'FROM' do not match"]
    (event,) = read.events
    assert isinstance(event, Log)
    assert (event.level, event.file, event.line) == (Level.WARNING, "svc/Dockerfile", 4)


def test_failing_line_comes_from_the_frame_before_the_error() -> None:
    read = Reading(
        vertex("[1/1] RUN exit 7", completed="t", error="exit code: 7"),
        "Dockerfile:4",
        "--------------------",
        "   3 |     COPY a b",
        "   4 | >>> RUN exit 7",
        "--------------------",
        'ERROR: failed to build: failed to solve: process "/bin/sh -c exit 7" did not complete',
    )
    assert read.log.source_line == 4
    assert read.log.error == 'process "/bin/sh -c exit 7" did not complete'


def test_last_error_counts_because_retried_writes_print_some_too() -> None:
    read = Reading(
        "ERROR: (*service).Write failed: rpc error: code = Unavailable desc = locked",
        "ERROR: failed to build: failed to solve: the Dockerfile cannot be empty",
    )
    assert read.log.error == "the Dockerfile cannot be empty"
    assert Reading("no error at all").log.error == ""


def test_materials_are_the_images_of_from_vertices() -> None:
    other = "sha256:" + "b" * 64
    read = Reading(
        vertex(f"[linux/amd64 1/2] FROM 127.0.0.1:5000/base:1@{DIGEST}"),
        vertex(f"[linux/arm64 1/2] FROM 127.0.0.1:5000/base:1@{DIGEST}"),
        vertex(f"[build 1/2] FROM docker.io/library/golang:1@{other}"),
        vertex("[2/2] RUN echo FROM x"),
    )
    assert read.log.materials == (
        ("127.0.0.1:5000/base:1", DIGEST),
        ("docker.io/library/golang:1", other),
    )


def test_cache_problems_are_told_and_an_absent_cache_is_none() -> None:
    read = Reading(
        vertex("importing cache manifest from r/c:1", completed="t", error="r/c:1: not found"),
        vertex("importing cache manifest from r/c:2", completed="t", error="403 Forbidden"),
        vertex("exporting cache to registry", completed="t", error="error writing layer blob"),
    )
    assert read.log.cache_problems == (
        "importing cache manifest from r/c:2 failed: 403 Forbidden",
        "the layer cache was not written: error writing layer blob",
    )


def test_broken_and_foreign_json_is_kept_as_text() -> None:
    read = Reading('{"vertexes": [', '{"vertexes": 5, "logs": [7]}', "[]")
    assert list(read.log.plain) == ['{"vertexes": [', "[]"]


def test_names_and_errors_of_vertices_are_masked() -> None:
    read = Reading(
        vertex("[1/1] RUN echo hunter22", completed="t", error="hunter22"), secrets=["hunter22"]
    )
    assert all("hunter22" not in repr(event) for event in read.events)

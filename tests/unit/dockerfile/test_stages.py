"""A target pulls in the stages and images that it needs, and no others."""

import pytest

from ci_registry.dockerfile.parse import parse_dockerfile
from ci_registry.dockerfile.stages import (
    BuildArguments,
    Role,
    bases_of,
    final_base,
    first_run,
    global_arguments,
    stages_for,
)
from ci_registry.errors import BuildError
from ci_registry.oci.platform import Platform

MULTI = """\
# syntax=docker/dockerfile:1.9
ARG GO=1.22
ARG IMAGE=golang:${GO}
FROM --platform=$BUILDPLATFORM ${IMAGE} AS build
RUN go build
FROM alpine AS unused
RUN never
FROM build AS test
RUN go test
FROM scratch AS final
COPY --from=build /a /a
COPY --from=busybox:1 /b /b
COPY --from=0 /c /c
"""


def names(text: str, target: str = "") -> list[str]:
    return [s.name or s.base for s in stages_for(parse_dockerfile(text, file="D"), target)]


def test_only_reachable_stages_are_built() -> None:
    assert names(MULTI) == ["build", "final"]
    assert names(MULTI, "TEST") == ["build", "test"]
    assert names(MULTI, "1") == ["unused"]


def test_images_are_named_after_arguments_are_put_in() -> None:
    arguments = BuildArguments(
        values={"GO": "1.23"},
        platform=Platform("linux", "arm64"),
        build_platform=Platform("linux", "amd64"),
    )
    images = bases_of(parse_dockerfile(MULTI, file="D"), "", arguments)
    assert [(i.role, i.reference, str(i.platform), i.line) for i in images] == [
        (Role.SYNTAX, "docker/dockerfile:1.9", "linux/amd64", 1),
        (Role.FROM, "golang:1.23", "linux/amd64", 4),
        (Role.COPY, "busybox:1", "linux/arm64", 12),
    ]


def test_undeclared_build_arguments_change_nothing() -> None:
    parsed = parse_dockerfile("FROM a:${T:-x}\n", file="D")
    assert bases_of(parsed, "", BuildArguments(values={"T": "y"}))[0].reference == "a:x"


def test_run_mounts_pull_in_stages_and_images() -> None:
    text = "FROM a AS s\nFROM b\nRUN --mount=from=s,target=/s --mount=from=c,target=/c x\n"
    assert names(text) == ["s", "b"]
    references = [i.reference for i in bases_of(parse_dockerfile(text, file="D"))]
    assert references == ["a", "b", "c"]


def test_first_run_ignores_stages_that_are_not_needed() -> None:
    text = "FROM a AS x\nRUN no\nFROM scratch\nCOPY a b\n"
    assert first_run(parse_dockerfile(text, file="D")) is None
    run = first_run(parse_dockerfile(text, file="D"), "x")
    assert run is not None
    assert run.first_line == 2


def test_onbuild_of_a_parent_stage_runs_in_its_child() -> None:
    text = "FROM scratch AS p\nONBUILD RUN x\nFROM p\n"
    run = first_run(parse_dockerfile(text, file="D"))
    assert run is not None
    assert run.first_line == 2
    assert first_run(parse_dockerfile(text, file="D"), "p") is None


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("ARG x\nFROM $x\n", "is empty", 2),
        ("FROM ${x:?nobase}\n", "nobase", 1),
        ("FROM --platform=x a\n", "not a platform", 1),
        ("FROM a\nCOPY --from=1 a b\n", "does not exist", 2),
        ("FROM a\nCOPY --from=0 a b\n", "not built before", 2),
        ("FROM a AS x\nCOPY --from=y a b\nFROM b AS y\nFROM x\n", "not built before", 2),
        ("FROM a\nCOPY --from=$x a b\n", "variables", 2),
    ],
)
def test_bad_references_name_their_line(text: str, message: str, line: int) -> None:
    with pytest.raises(BuildError, match=message) as caught:
        bases_of(parse_dockerfile(text, file="D"))
    assert caught.value.line == line


def test_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(BuildError, match="'nope'") as caught:
        stages_for(parse_dockerfile(MULTI, file="D"), "nope")
    assert "build, unused, test, final" in caught.value.hint


def test_automatic_arguments_can_be_overridden() -> None:
    parsed = parse_dockerfile("FROM a AS b\n", file="D")
    variables = global_arguments(parsed, BuildArguments(values={"TARGETARCH": "z"}))
    assert (variables["TARGETARCH"], variables["TARGETOS"]) == ("z", "linux")
    assert variables["TARGETSTAGE"] == "b"


@pytest.mark.parametrize(
    ("text", "target", "reference"),
    [
        ("FROM debian:12\n", "", "debian:12"),
        ("FROM golang AS build\nFROM debian\nCOPY --from=build /a /a\n", "", "debian"),
        ("FROM debian AS one\nFROM one AS two\nFROM two\n", "", "debian"),
        ("FROM debian AS one\nFROM alpine\n", "one", "debian"),
        ("ARG BASE=debian:11\nFROM $BASE\n", "", "debian:11"),
        ("FROM base-$TARGETARCH\n", "", "base-amd64"),
        ("FROM debian\nFROM scratch\n", "", None),
    ],
)
def test_final_base_is_the_image_below_the_last_stage(
    text: str, target: str, reference: str | None
) -> None:
    found = final_base(parse_dockerfile(text, file="Dockerfile"), target)
    assert (found.reference if found else None) == reference

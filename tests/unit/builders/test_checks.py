"""What a layout must hold after a build."""

import dataclasses
import json
from pathlib import Path

import pytest

from ci_registry.builders.checks import check_fixed_platform, check_layout
from ci_registry.builders.interface import BuildRequest
from ci_registry.dockerfile.parse import parse_dockerfile
from ci_registry.errors import BuildError, ToolError
from ci_registry.oci.platform import Platform
from tests.support.images import ImageSpec, make_layout, put_blob

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
ONE = ImageSpec(layers=[{"a": "b"}])
TWO = ImageSpec(layers=[{"a": "b"}], architecture="arm64")


def relabel(layout: Path, old: str, new: str) -> None:
    """Change a label in index.json, not in the config."""
    index = layout / "index.json"
    index.write_text(index.read_text().replace(old, new))


def test_requested_platforms_pass_and_the_ingest_folder_goes(tmp_path: Path) -> None:
    make_layout(tmp_path / "layout", ONE, TWO)
    (tmp_path / "layout" / "ingest").mkdir()
    check_layout(tmp_path / "layout", (ARM64, AMD64), tool="buildx")
    assert not (tmp_path / "layout" / "ingest").exists()


@pytest.mark.parametrize("asked", [(ARM64,), (AMD64, ARM64)])
def test_other_platforms_are_named(asked: tuple[Platform, ...], tmp_path: Path) -> None:
    make_layout(tmp_path / "layout", ONE)
    with pytest.raises(BuildError, match=r"asked for .*linux/arm64, but buildx built linux/amd64"):
        check_layout(tmp_path / "layout", asked, tool="buildx")


def test_label_and_config_must_agree(tmp_path: Path) -> None:
    make_layout(tmp_path / "layout", ONE)
    relabel(tmp_path / "layout", "amd64", "arm64")
    with pytest.raises(BuildError, match="as linux/arm64, but its config says linux/amd64"):
        check_layout(tmp_path / "layout", (ARM64,), tool="buildx")


def test_attestation_that_nobody_asked_for_is_told(tmp_path: Path) -> None:
    made = make_layout(tmp_path / "layout", ONE, TWO)
    index = tmp_path / "layout" / "blobs" / "sha256" / made.digest.hex
    body = json.loads(index.read_text())
    body["manifests"][1]["platform"] = {"os": "unknown", "architecture": "unknown"}
    raw = json.dumps(body).encode()
    digest = put_blob(tmp_path / "layout", raw)
    top = json.loads((tmp_path / "layout" / "index.json").read_text())
    top["manifests"][0] |= {"digest": digest, "size": len(raw)}
    (tmp_path / "layout" / "index.json").write_text(json.dumps(top))
    with pytest.raises(ToolError, match="attestation"):
        check_layout(tmp_path / "layout", (AMD64,), tool="buildx")


def test_folder_that_is_no_layout_is_a_tool_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="unusable OCI layout"):
        check_layout(tmp_path, (AMD64,), tool="buildx")


def request_for(*platforms: Platform, target: str = "") -> BuildRequest:
    return BuildRequest(
        image="api",
        context=Path("/c"),
        dockerfile=Path("/c/Dockerfile"),
        layout=Path("/l"),
        work=Path("/w"),
        platforms=platforms,
        target=target,
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("FROM --platform=linux/arm64 alpine\n", 1),
        ("FROM x AS b\nFROM --platform=linux/arm64 alpine AS a\nFROM a\n", 2),
        ("FROM --platform=$TARGETPLATFORM alpine\n", 0),
        ("FROM --platform=linux/amd64 alpine\n", 0),
        ("FROM --platform=linux/arm64 golang AS build\nFROM scratch\n", 0),
        ("FROM --platform=linux/arm64 scratch\n", 0),
    ],
)
def test_files_of_another_platform_than_the_label_are_refused(text: str, line: int) -> None:
    dockerfile = parse_dockerfile(text, file="Dockerfile")
    if not line:
        check_fixed_platform(dockerfile, request_for(AMD64))
        return
    with pytest.raises(BuildError, match="labelled linux/amd64") as caught:
        check_fixed_platform(dockerfile, request_for(AMD64))
    assert caught.value.line == line


def test_only_the_target_stage_counts() -> None:
    text = "FROM --platform=linux/arm64 alpine AS one\nFROM alpine AS two\n"
    dockerfile = parse_dockerfile(text, file="Dockerfile")
    check_fixed_platform(dockerfile, request_for(AMD64, target="two"))
    with pytest.raises(BuildError):
        check_fixed_platform(dockerfile, request_for(AMD64, target="one"))
    asked = dataclasses.replace(request_for(AMD64, ARM64), target="one")
    with pytest.raises(BuildError, match="labelled linux/amd64"):
        check_fixed_platform(dockerfile, asked)

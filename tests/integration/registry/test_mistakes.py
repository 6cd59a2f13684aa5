"""Names with typing errors: one line that says what is wrong, one that says what to do."""

import dataclasses
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.registry_server.options import Answer, Fault
from tests.integration.registry.test_commands import as_json, bad, good
from tests.support.cli import Project
from tests.support.images import ImageSpec, MadeImage, make_layout
from tests.support.registry import RunningRegistry, running_registry

SMALL = ImageSpec(layers=[{"a": "1"}])


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty folder outside of any repository."""
    for name in ("project", "home", "work", "tmp"):
        (tmp_path / name).mkdir()
    return Project(base=tmp_path)


@pytest.fixture
def image(project: Project) -> MadeImage:
    """A layout `image` in the project, for two platforms."""
    specs = (SMALL, dataclasses.replace(SMALL, architecture="arm64"))
    return make_layout(project.folder / "image", *specs)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("inspect", "{name}:v12"), ("{name}:v12 does not exist", "did you mean v1.2")),
        (("copy", "{name}", "oci:x", "--tags", "z*"), ("no tag matches z*", "it has v1.1, v1.2")),
        (("copy", "{name}s", "oci:x", "--all-tags"), ("there are no tags", "check the name")),
        (("inspect", "{name}"), ("{name}:latest does not exist", "it has v1.1, v1.2")),
        (("copy", "{name}:zzz", "oci:x"), ("{name}:zzz does not exist", "it has v1.1, v1.2")),
        (("copy", "{name}", "oci:x"), ("{name}:latest does not exist", "it has")),
        (("tag", "{name}:v1.3", "v2"), ("{name}:v1.3 does not exist", "did you mean")),
        (("untag", "{name}:v1.22"), ("{name}:v1.22 does not exist", "did you mean v1.2")),
        (("rm", "{name}:v1.22"), ("{name}:v1.22 does not exist", "did you mean v1.2")),
        (("inspect", "{name}s:v1"), ("{name}s:v1 does not exist", "{name}s has no tags")),
        (("du", "{name}", "{name}s"), ("{name}s has no tags", "check the name")),
        (("ls", "image"), ("image has no tags", "1 images without a tag")),
        (("copy", "oci:image:v1", "oci:x"), ("image:v1 does not exist", "check the path")),
        (("ls", "oci:imagee"), ("imagee does not exist", "there is")),
        (("copy", "oci-archive:cut.tar", "oci:x"), ("cut.tar is cut off", "again")),
        (("copy", "oci-archive:packed.tar.gz", "oci:x"), ("is compressed with gzip", "gunzip")),
        (("copy", "oci-archive:text", "oci:x"), ("text is no tar archive", "oci: a folder")),
        (("copy", "docker-archive:whole.tar", "oci:x"), ("whole.tar: the image archive has no", "oci-archive:")),
    ],
)  # fmt: skip
def test_what_is_mistyped_is_one_line_and_what_to_do(
    project: Project,
    registry: RunningRegistry,
    image: MadeImage,
    arguments: tuple[str, ...],
    said: tuple[str, str],
) -> None:
    name = f"{registry.host}/team/app"
    good(project.run("copy", image.layout.name, f"{name}:v1.1"))
    good(project.run("tag", f"{name}:v1.1", "v1.2"))
    good(project.run("copy", "image", "oci-archive:whole.tar:v1"))
    whole = (project.folder / "whole.tar").read_bytes()
    (project.folder / "cut.tar").write_bytes(whole[:1700])
    (project.folder / "packed.tar.gz").write_bytes(gzip.compress(whole))
    (project.folder / "text").write_text("no archive\n" * 100)
    outcome = project.run(*(text.format(name=name) for text in arguments))
    message, hint = (text.format(name=name) for text in said)
    bad(outcome, 4, message)
    assert hint in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 2


def test_an_unreadable_list_of_tags_does_not_hide_what_is_missing(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    name = f"{registry.host}/team/app"
    good(project.run("copy", "image", f"{name}:v1"))
    registry.faults.add(Fault(action=Answer(status=403), path="/tags/list", times=0))
    outcome = project.run("inspect", f"{name}:v2")
    bad(outcome, 4, f"{name}:v2 does not exist")
    assert "its tags can't be listed either" in outcome.stderr


def test_du_counts_images_of_a_layout_that_have_no_tag(project: Project, image: MadeImage) -> None:
    (row,) = as_json(project.run("du", "image", "--format", "json"))["repositories"]
    assert (row["tags"], row["manifests"]) == (0, 3)
    assert row["stored_bytes"] > 0

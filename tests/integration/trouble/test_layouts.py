"""Images whose bytes are not what they claim are refused before anything is pushed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Project, assert_stopped, has_manifests, image_files, tags_of
from tests.support.images import ImageSpec, make_layout
from tests.support.registry import RunningRegistry


def layers_of(layout: Path) -> list[Path]:
    """Return the blobs that are gzip files."""
    blobs = sorted((layout / "blobs" / "sha256").iterdir())
    return [path for path in blobs if path.read_bytes()[:2] == b"\x1f\x8b"]


def truncate(layout: Path) -> None:
    layer = layers_of(layout)[0]
    layer.write_bytes(layer.read_bytes()[:-30])


def flip(layout: Path) -> None:
    layer = layers_of(layout)[0]
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 1
    layer.write_bytes(data)


def swap(layout: Path) -> None:
    first, second = layers_of(layout)
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


def lose(layout: Path) -> None:
    layers_of(layout)[0].unlink()


def no_json(layout: Path) -> None:
    (layout / "index.json").write_text('{"schemaVersion": 2, "manifests": [')


def make_image(project: Project) -> Path:
    layout = project.folder / "layout"
    make_layout(layout, ImageSpec(layers=[image_files(), {"app/extra": "x" * 500}]))
    return layout


def test_a_sound_layout_passes(project: Project, registry: RunningRegistry) -> None:
    make_image(project)
    done = project.run("run", "--from-layout", "layout")
    assert done.exit_code == 0, done.stdout
    assert set(tags_of(registry)) == {"v1", "latest"}


@pytest.mark.parametrize("damage", [truncate, flip, swap, lose, no_json])
def test_a_damaged_layout_is_refused(
    project: Project, registry: RunningRegistry, damage: Callable[[Path], None]
) -> None:
    damage(make_image(project))
    done = project.run("run", "--from-layout", "layout")
    assert_stopped(project, done, 4, r".+")
    assert "✗ app scan" not in done.stderr
    assert tags_of(registry) == {}
    assert not has_manifests(registry)
    assert registry.count("PUT", "/blobs/") == 0


def test_a_folder_that_is_no_layout_is_said(project: Project, registry: RunningRegistry) -> None:
    done = project.run("run", "--from-layout", "rootfs")
    assert_stopped(project, done, 2, r"rootfs is no OCI layout")
    assert tags_of(registry) == {}

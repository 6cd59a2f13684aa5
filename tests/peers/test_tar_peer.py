"""Layers packed by GNU tar, in each of its formats, are read as they were written."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.images import ImageSpec, make_layout
from tests.support.inspection import inspect_layout

pytestmark = pytest.mark.peer("tar")
LONG = "/".join(["long-folder-name-" + "x" * 60] * 3)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for path in (f"{LONG}/a-1.0.dist-info", "b-1.0.dist-info", "holes", "ä-1.0.dist-info"):
        (root / path).mkdir(parents=True)
    (root / LONG / "a-1.0.dist-info/METADATA").write_text("Name: a\nVersion: 1.0\n\n")
    (root / "b-1.0.dist-info/METADATA").write_text("Name: b\nVersion: 1.0\n\n")
    os.link(root / "b-1.0.dist-info/METADATA", root / "ä-1.0.dist-info/METADATA")
    with (root / "holes/a-sparse-file").open("wb") as file:
        for number in range(40):  # more holes than fit one header of the old format
            file.seek(number * 65536)
            file.write(b"data")
        file.truncate(1 << 24)
    (root / "link").symlink_to("/" + "t" * 200)
    return root


@pytest.mark.parametrize("form", ["gnu", "pax", "oldgnu", "v7-short"])
@pytest.mark.parametrize("sparse", [(), ("--sparse",)], ids=["plain", "sparse"])
def test_archives_of_gnu_tar_are_read(
    tmp_path: Path, tree: Path, form: str, sparse: tuple[str, ...]
) -> None:
    options = ["--format=v7", f"--exclude={LONG.partition('/')[0]}", "--exclude=link"]
    options = options if form == "v7-short" else [f"--format={form}", *sparse]
    made = subprocess.run(
        ["tar", "-C", str(tree), *options, "--sort=name", "-c", "."],
        capture_output=True,
        check=True,
    )
    layout = make_layout(tmp_path / "layout", ImageSpec(layers=[made.stdout])).layout

    found = inspect_layout(layout).platforms[0].inventory

    paths = {p.path for p in found.packages}
    expected = {"b-1.0.dist-info/METADATA", "ä-1.0.dist-info/METADATA"}
    if form != "v7-short":
        expected.add(f"{LONG}/a-1.0.dist-info/METADATA")
    assert paths == expected
    assert found.files_count == len(expected) + 1

"""Paths in a tree are resolved as a kernel in a chroot would, and layers hold what changed."""

from pathlib import Path

import pytest

from ci_registry.builders.assemble_tree import (
    Node,
    NodeKind,
    Tree,
    TreeError,
    directory,
    split_path,
)
from ci_registry.registry.layout import Layout
from tests.support.assembling import Lab, file, folder, make_base, tar
from tests.support.images import ImageSpec, make_layout


def link(target: str) -> Node:
    return Node(kind=NodeKind.LINK, mode=0o777, link=target)


@pytest.fixture
def tree() -> Tree:
    tree = Tree()
    tree.make_directories(("usr", "bin"), 0o755, (0, 0))
    tree.put(("usr", "bin", "f"), Node(kind=NodeKind.FILE, mode=0o644))
    tree.put(("bin",), link("usr/bin"))
    tree.put(("abs",), link("/usr/../bin/f"))
    tree.put(("up",), link("../../../usr"))
    tree.put(("usr", "bin", "rel"), link("../bin/./f"))
    tree.put(("gone",), link("nowhere/x"))
    tree.put(("loop",), link("loop"))
    return tree


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/bin/f", "usr/bin/f"),
        ("bin", "usr/bin"),
        ("/abs", "usr/bin/f"),
        ("/up/bin", "usr/bin"),
        ("/bin/rel", "usr/bin/f"),
        ("/gone", "nowhere/x"),
        ("/gone/y", "nowhere/x/y"),
        ("/a/../bin", "usr/bin"),
        ("/../..", ""),
        ("", ""),
    ],
)
def test_path_resolves(path: str, real: str, tree: Tree) -> None:
    assert tree.resolve(path) == split_path(real)


def test_last_link_can_be_left_alone(tree: Tree) -> None:
    assert tree.resolve("/bin/rel", follow_last=False) == ("usr", "bin", "rel")


@pytest.mark.parametrize(
    ("path", "message"), [("/loop", "too many"), ("/abs/x", "not a directory")]
)
def test_path_does_not_resolve(path: str, message: str, tree: Tree) -> None:
    with pytest.raises(TreeError, match=message):
        tree.resolve(path)


def test_changes_come_with_their_parents_sorted_by_bytes_and_once(tree: Tree) -> None:
    tree.take_changes()
    tree.put(("usr", "bin", "z"), directory())
    tree.put(("a-b",), directory())
    tree.put(("a",), directory())
    tree.put(("a", "c"), directory())
    names = ["/".join(parts) for parts, _ in tree.take_changes()]
    assert names == ["a", "a-b", "a/c", "usr", "usr/bin", "usr/bin/z"]
    assert tree.take_changes() == ()


def test_copy_of_a_tree_is_independent(tree: Tree) -> None:
    copied = tree.copied()
    copied.put(("usr", "bin", "new"), directory())
    copied.set_metadata(("usr",), directory(0o700))
    assert tree.get(("usr", "bin", "new")) is None
    usr = tree.get(("usr",))
    assert usr is not None
    assert usr.mode == 0o755


def test_whiteouts_hide_lower_layers_only(tmp_path: Path) -> None:
    make_layout(
        tmp_path / "base",
        ImageSpec(
            layers=[
                tar([folder("d"), file("d/a", "1"), file("d/b", "1"), file("x/y", "1")]),
                tar([file("d/a", "2"), file("d/.wh.a"), file("d/.wh.b"), file(".wh.x")]),
                tar([file("d/.wh..wh..opq"), file("d/c", "3"), file("x", "file now")]),
            ]
        ),
    )
    lab = Lab(tmp_path, {"base": Layout(tmp_path / "base")})
    image = lab.build("FROM scratch\nCOPY --from=base / /\n").image
    assert {n: f.content for n, f in image.files.items()} == {
        "d": "",
        "d/c": "3",
        "x": "file now",
    }


def test_non_utf8_names_of_a_base_survive(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    make_layout(tmp_path / "base", ImageSpec(layers=[tar([file(f"d/{name}", "x")])]))
    lab = Lab(tmp_path, {"base": Layout(tmp_path / "base")})
    image = lab.build("FROM scratch\nCOPY --from=base /d /e\n").image
    assert [n.encode("utf-8", "surrogateescape") for n in image.files] == [b"e", b"e/caf\xe9"]


def test_one_pass_a_layer_serves_all_files_of_a_copy(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"base": make_base(tmp_path / "base")})
    image = lab.build("FROM scratch\nCOPY --from=base /usr /u\nCOPY --from=base /usr /v\n").image
    assert image.files["u/lib/old"].content == image.files["v/lib/old"].content == "new"
    links = [(m.name, m.linkname) for m in image.layers[0] if m.islnk()]
    assert links == [("u/bin/tool2", "u/bin/tool")]

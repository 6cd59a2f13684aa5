"""`ADD` unpacks archives inside the destination and nowhere else, and refuses what hides something."""

import bz2
import gzip
import lzma
import tarfile
from pathlib import Path

import pytest
import zstandard

from ci_registry.builders.assemble_archive import Archives
from ci_registry.builders.assemble_content import ContentStore
from ci_registry.builders.assemble_tree import (
    HostFile,
    InlineBytes,
    Node,
    NodeKind,
    Tree,
    TreeError,
)
from ci_registry.errors import BuildError, SetupError
from ci_registry.inventory.limits import Limits
from ci_registry.registry.layout import Layout
from tests.support.assembling import Item, Lab, file, folder, hard_link, link, make_base, tar

LIMITS = Limits(ratio_free_bytes=1 << 18, ratio=50)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, {"base": make_base(tmp_path / "base")})


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    store = ContentStore(Layout.create(tmp_path / "l"), tmp_path / "files", lambda: None)
    return Archives(store, LIMITS)


def node(data: bytes) -> Node:
    return Node(kind=NodeKind.FILE, mode=0o644, size_bytes=len(data), content=InlineBytes(data))


PLAIN = tar([file("f", "F")])
PACKED = {
    "plain": PLAIN,
    "gzip": gzip.compress(PLAIN),
    "gzip in two members": gzip.compress(PLAIN[:700]) + gzip.compress(PLAIN[700:]),
    "bzip2": bz2.compress(PLAIN),
    "bzip2 in two streams": bz2.compress(PLAIN[:700]) + bz2.compress(PLAIN[700:]),
    "xz": lzma.compress(PLAIN),
    "xz in two streams": lzma.compress(PLAIN[:700]) + lzma.compress(PLAIN[700:]),
    "zstd": zstandard.compress(PLAIN),
}


@pytest.mark.parametrize("data", PACKED.values(), ids=PACKED.keys())
def test_every_packing_is_unpacked(data: bytes, archives: Archives) -> None:
    tree = Tree()
    assert archives.is_archive(node(data))
    archives.unpack(node(data), tree, None)
    assert list(tree.root.children) == ["f"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        gzip.compress(b"no tar"),
        gzip.compress(b"x" * 2000),
        b"\x1f\x8b\x08broken",
        bytes(1024),
        b"BZhbroken",
        b"\xfd7zXZ\0broken",
    ],
    ids=["empty", "text", "short gzip", "long gzip", "bad gzip", "zeros", "bad bzip2", "bad xz"],
)
def test_what_holds_no_tar_is_copied_as_it_is(data: bytes, lab: Lab) -> None:
    image = lab.build("FROM scratch\nADD x /y/\n", {"x": data}).image
    assert list(image.files) == ["y", "y/x"]


HOSTILE: dict[str, tuple[Item, ...]] = {
    "leads out": (file("../x"),),
    "leads out later": (file("a"), file("b/../../x")),
    "whiteout": (file("d/.wh.passwd"),),
    "opaque whiteout": (file("d/.wh..wh..opq"),),
    "whiteout as folder": (file(".wh.d/x"),),
    "character device": (Item(name="null", type=tarfile.CHRTYPE),),
    "block device": (Item(name="sda", type=tarfile.BLKTYPE),),
    "FIFO": (Item(name="pipe", type=tarfile.FIFOTYPE),),
    "hard link out": (hard_link("x", file("../../etc/passwd")),),
    "hard link to nothing": (hard_link("x", file("missing")),),
    "hard link to a folder": (folder("d"), hard_link("x", file("d"))),
    "file below a file": (file("f", "F"), file("f/g", "G")),
}


@pytest.mark.parametrize("items", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_archive_fails_the_build_at_its_line(items: tuple[Item, ...], lab: Lab) -> None:
    with pytest.raises(BuildError) as caught:
        lab.build("FROM scratch\nADD x.tar /y/\n", {"x.tar": tar(items)})
    assert caught.value.line == 2


def test_links_of_an_archive_can_not_write_outside_the_destination(lab: Lab) -> None:
    evil = tar(
        [link("l", "/etc"), file("l/passwd", "evil"), link("m", "../../.."), file("m/n", "N")]
    )
    image = lab.build("FROM base\nADD x.tar /sub/\n", {"x.tar": evil}).image
    assert "evil" not in image.files["etc/passwd"].content
    assert image.files["sub/etc/passwd"].content == "evil"
    assert image.files["sub/n"].content == "N"


BOMB = tar([file("big", bytes(2 << 20))])


@pytest.mark.parametrize(
    "data",
    [gzip.compress(BOMB), bz2.compress(BOMB), lzma.compress(BOMB)],
    ids=["gzip", "bzip2", "xz"],
)
def test_bombs_are_stopped(data: bytes, archives: Archives) -> None:
    assert archives.is_archive(node(data))
    with pytest.raises(TreeError, match="inflates to more than 50 times"):
        archives.unpack(node(data), Tree(), None)


def test_archive_that_is_cut_short_or_has_data_behind_its_end_is_refused(lab: Lab) -> None:
    for data in (PLAIN[:600], gzip.compress(PLAIN)[:-9], PLAIN + b"x" * 512):
        with pytest.raises(BuildError, match="can't be unpacked"):
            lab.build("FROM scratch\nADD x.tar /y/\n", {"x.tar": data})


def test_big_files_are_spooled_and_owners_and_attributes_kept(lab: Lab) -> None:
    big = file("big", bytes(range(256)) * 1000, 0o4711, uid=7, gid=8)
    capability = {"SCHILY.xattr.security.capability": "\x01\x02"}
    items = [big, Item(name="cap", data=b"c", pax=capability), file("empty")]
    image = lab.build("FROM scratch\nADD x.tar /\n", {"x.tar": tar(items)}).image
    assert (image.files["big"].mode, image.files["big"].uid) == (0o4711, 7)
    members = {m.name: m for m in image.layers[0]}
    assert members["cap"].pax_headers["SCHILY.xattr.security.capability"] == "\x01\x02"
    assert image.files["empty"].content == ""


def test_unpack_flag_and_copy_decide_whether_an_archive_is_unpacked(lab: Lab) -> None:
    dockerfile = "FROM scratch\nADD --unpack=false x.tar /a/\nCOPY x.tar /b/\nADD x.tar /c/\n"
    image = lab.build(dockerfile, {"x.tar": PLAIN}).image
    assert {"a/x.tar", "b/x.tar", "c/f"} <= set(image.files)


def test_chmod_of_an_archive_is_refused_because_it_would_do_nothing(lab: Lab) -> None:
    with pytest.raises(BuildError, match="--chmod has no effect"):
        lab.build("FROM scratch\nADD --chmod=600 x.tar /\n", {"x.tar": PLAIN})


def test_file_that_grew_since_it_was_listed_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("longer than it was")
    listed = Node(kind=NodeKind.FILE, mode=0o644, size_bytes=3, content=HostFile(path))
    store = ContentStore(Layout.create(tmp_path / "l"), tmp_path / "files", lambda: None)
    with pytest.raises(SetupError, match="changed while it was read"):
        list(store.open(listed))
    path.unlink()
    with pytest.raises(SetupError, match="cannot read"):
        list(store.open(listed))

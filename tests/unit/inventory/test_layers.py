"""Layers are merged as a container runtime merges them."""

import io
import tarfile
from pathlib import Path

import pytest

from ci_registry.errors import IntegrityError
from ci_registry.findings import Inventory
from tests.support.images import Files, ImageSpec, debian_layer, make_layout, tar_of
from tests.support.inspection import LayoutReader, inspect_layout

BASE = debian_layer(("openssl", "3.0", ""))
SITE = "usr/lib/python3/site-packages"


def dist_info(name: str, version: str = "1.0", folder: str = SITE) -> dict[str, str]:
    path = f"{folder}/{name}-{version}.dist-info/METADATA"
    return {path: f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nText"}


def inventory(tmp_path: Path, *layers: Files | bytes, reader: list[str] | None = None) -> Inventory:
    made = make_layout(tmp_path / "layout", ImageSpec(layers=layers))
    layout = LayoutReader(made.layout)
    (image,) = inspect_layout(made.layout, reader=layout).platforms
    if reader is not None:
        reader += layout.opened
    return image.inventory


def names(found: Inventory, ecosystem: str = "pypi") -> list[str]:
    return [p.name for p in found.packages if p.ecosystem == ecosystem]


def links(*pairs: tuple[str, str], files: Files | None = None) -> bytes:
    """Return a layer with files and, behind them, hard links (path, target)."""
    buffer = io.BytesIO(tar_of(files or {}))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        for path, target in pairs:
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.LNKTYPE, target
            tar.addfile(info)
    return buffer.getvalue()


def test_a_whiteout_removes_a_package(tmp_path: Path) -> None:
    layers = (dist_info("a") | dist_info("b"), {f"{SITE}/.wh.a-1.0.dist-info": ""})
    assert names(inventory(tmp_path, *layers)) == ["b"]


def test_a_whiteout_of_one_file_removes_that_file(tmp_path: Path) -> None:
    layers = (dist_info("a"), {f"{SITE}/a-1.0.dist-info/.wh.METADATA": ""})
    assert names(inventory(tmp_path, *layers)) == []


def test_an_opaque_folder_hides_what_was_below_but_not_its_own_layer(tmp_path: Path) -> None:
    upper: dict[str, bytes | str | None] = dict(dist_info("new"))
    upper[f"{SITE}/.wh..wh..opq"] = ""
    assert names(inventory(tmp_path, dist_info("old"), upper)) == ["new"]


def test_a_whiteout_never_hides_what_its_own_layer_brings(tmp_path: Path) -> None:
    upper: dict[str, bytes | str | None] = dict(dist_info("a"))
    upper[f"{SITE}/.wh.a-1.0.dist-info"] = ""
    assert names(inventory(tmp_path, {"x": ""}, upper)) == ["a"]


def test_a_removed_package_can_come_back(tmp_path: Path) -> None:
    layers = (dist_info("a"), {f"{SITE}/.wh.a-1.0.dist-info": ""}, dist_info("a"))
    found = inventory(tmp_path, *layers)
    assert names(found) == ["a"]


def test_a_later_layer_replaces_a_file_and_is_named(tmp_path: Path) -> None:
    newer = {f"{SITE}/a-1.0.dist-info/METADATA": "Name: a\nVersion: 2.0\n\n"}
    made = make_layout(tmp_path, ImageSpec(layers=[dist_info("a"), newer]))
    (package,) = inspect_layout(made.layout).platforms[0].inventory.packages
    assert (package.version, package.layer) == ("2.0", made.diff_ids[0][1])


def test_a_file_in_place_of_a_folder_removes_the_folder(tmp_path: Path) -> None:
    assert names(inventory(tmp_path, dist_info("a"), {SITE: "now a file"})) == []


def test_a_folder_in_place_of_a_folder_keeps_what_is_in_it(tmp_path: Path) -> None:
    assert names(inventory(tmp_path, dist_info("a"), {SITE: None})) == ["a"]


def test_a_folder_in_place_of_a_link_ends_the_link(tmp_path: Path) -> None:
    lower: dict[str, str | None] = {"lib->usr/lib": None, **dist_info("a", folder="usr/lib")}
    upper: dict[str, str | None] = {"lib": None, **dist_info("b", folder="lib")}
    found = inventory(tmp_path, lower, upper)
    assert [p.path for p in found.packages] == [
        "usr/lib/a-1.0.dist-info/METADATA",
        "lib/b-1.0.dist-info/METADATA",
    ]


def test_a_path_through_a_link_is_written_behind_it(tmp_path: Path) -> None:
    lower: dict[str, str | None] = {"lib->usr/lib": None, **dist_info("a", folder="usr/lib")}
    found = inventory(tmp_path, lower, dist_info("b", folder="lib"))
    assert [p.path for p in found.packages] == [
        "usr/lib/a-1.0.dist-info/METADATA",
        "usr/lib/b-1.0.dist-info/METADATA",
    ]
    removed = inventory(tmp_path / "2", lower, {"lib/.wh.a-1.0.dist-info": ""})
    assert names(removed) == []


def test_os_release_is_found_behind_its_link(tmp_path: Path) -> None:
    base = dict(BASE)
    base["usr/lib/os-release"] = base.pop("etc/os-release")
    base["etc/os-release->../usr/lib/os-release"] = None
    found = inventory(tmp_path, base)
    assert found.distribution is not None
    assert found.distribution.id == "debian"


def test_os_release_behind_a_link_to_any_file_is_read(tmp_path: Path) -> None:
    base = dict(BASE)
    base["opt/vendor-release"] = base.pop("etc/os-release")
    base["etc/os-release->/opt/vendor-release"] = None
    found = inventory(tmp_path, base)
    assert found.distribution is not None
    assert found.distribution.version == "12"


@pytest.mark.parametrize("target", ["../../data/packages", "/data/packages"])
def test_the_dpkg_database_is_found_behind_a_link(tmp_path: Path, target: str) -> None:
    base = dict(BASE)
    base["data/packages/status"] = base.pop("var/lib/dpkg/status")
    base[f"var/lib/dpkg->{target}"] = None
    opened: list[str] = []
    assert names(inventory(tmp_path, base, reader=opened), "deb") == ["openssl"]
    assert len(opened) == 2  # a second look into the one layer, for that file


def test_a_link_that_leads_above_the_root_stays_in_the_image(tmp_path: Path) -> None:
    base = dict(BASE)
    base["data/status"] = base.pop("var/lib/dpkg/status")
    base["var/lib/dpkg->../../../../../data"] = None
    assert names(inventory(tmp_path, base), "deb") == ["openssl"]


def test_links_that_go_in_circles_end(tmp_path: Path) -> None:
    found = inventory(tmp_path, {"etc->a": None, "a->etc": None}, dist_info("x"))
    assert found.distribution is None
    assert names(found) == ["x"]


def test_a_hard_link_to_a_package_file_is_a_package(tmp_path: Path) -> None:
    store = dist_info("a", folder="cache")
    (stored,) = store
    layer = links((f"{SITE}/a-1.0.dist-info/METADATA", stored), files=store)
    found = inventory(tmp_path, layer, {".wh.cache": ""})
    assert [p.path for p in found.packages] == [f"{SITE}/a-1.0.dist-info/METADATA"]


def test_a_hard_link_gives_a_nameless_file_its_meaning(tmp_path: Path) -> None:
    store = {"store/files/00/abcdef": '{"name":"left-pad","version":"1.3.0"}'}
    layer = links(("app/node_modules/left-pad/package.json", "store/files/00/abcdef"), files=store)
    opened: list[str] = []
    assert names(inventory(tmp_path, layer, reader=opened), "npm") == ["left-pad"]
    assert len(opened) == 2


def test_a_hard_link_to_a_lower_layer_keeps_the_content_when_that_is_replaced(
    tmp_path: Path,
) -> None:
    (path,) = dist_info("a")
    other = "opt/a-1.0.dist-info/METADATA"
    found = inventory(
        tmp_path, dist_info("a"), links((other, path)), {f"{SITE}/.wh.a-1.0.dist-info": ""}
    )
    assert [p.path for p in found.packages] == [other]


def test_a_hard_link_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="hard link 'a' leads to 'b'"):
        inventory(tmp_path, links(("a", "b")))


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_a_malformed_whiteout_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(IntegrityError, match="malformed whiteout"):
        inventory(tmp_path, {"etc/x": ""}, {f"etc/{name}": ""})


def test_node_modules_behind_a_link_are_packages(tmp_path: Path) -> None:
    layer = {
        "deps/a/package.json": '{"name":"a","version":"1.0.0"}',
        "deps/@s/b/package.json": '{"name":"@s/b","version":"2.0.0"}',
        "app/node_modules->../deps": None,
    }
    assert names(inventory(tmp_path, layer), "npm") == ["@s/b", "a"]


@pytest.mark.parametrize(("padding", "times"), [(0, 1), (70_000, 2)])
def test_a_package_that_a_link_brings_into_node_modules_costs_no_second_look_unless_it_is_large(
    tmp_path: Path, padding: int, times: int
) -> None:
    opened: list[str] = []
    layer = {
        "usr/share/nodejs/a/package.json": '{"name":"a","version":"1.0.0"}' + " " * padding,
        "usr/share/node_modules/a->../nodejs/a": None,
        "srv/package.json": '{"name":"the-application-itself","version":"1.0.0"}',
    }
    assert names(inventory(tmp_path, layer, reader=opened), "npm") == ["a"]
    assert len(opened) == times


def test_a_package_linked_into_node_modules_is_counted_once(tmp_path: Path) -> None:
    layer = {
        "app/node_modules/.pnpm/a@1/node_modules/a/package.json": '{"name":"a","version":"1.0.0"}',
        "app/node_modules/a->.pnpm/a@1/node_modules/a": None,
        "store/b/package.json": '{"name":"b","version":"1.0.0"}',
        "app/node_modules/b->../../store/b": None,
        "app2/node_modules/b->../../store/b": None,
    }
    assert names(inventory(tmp_path, layer), "npm") == ["a", "b"]

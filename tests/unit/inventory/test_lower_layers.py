"""The packages of a base image: those that its layers hold by themselves."""

from collections.abc import Mapping
from pathlib import Path

from ci_registry.cancel import Cancel
from ci_registry.inventory.lower_layers import (
    inventory_of_lower_layers,
    needs_lower_layers,
    with_base,
)
from ci_registry.registry.layout import Layout
from tests.support.images import (
    DEBIAN_OS_RELEASE,
    ImageSpec,
    debian_layer,
    dpkg_status,
    make_layout,
)
from tests.support.inspection import inspect_layout

BASE = debian_layer(("libc6", "1", ""), ("tzdata", "1", ""))
Files = Mapping[str, bytes | str | None]


def _owners(folder: Path, *layers: Files, base_layers: int = 1) -> dict[str, bool | None]:
    made = make_layout(folder, ImageSpec(layers=list(layers)))
    (image,) = inspect_layout(made.layout).platforms
    layout = Layout(made.layout)
    base = None
    if needs_lower_layers(image, base_layers):
        base = inventory_of_lower_layers(
            image,
            base_layers,
            open_blob=layout.unverified,
            cancel=Cancel(),
            layer_cache=None,
            is_proven=lambda _blob: False,
        ).packages
    marked = with_base(image.inventory, base)
    return {f"{p.name} {p.version}": p.from_base for p in marked.packages}


def _dist_info(name: str) -> dict[str, str]:
    path = f"usr/lib/python3/dist-packages/{name}-1.dist-info/METADATA"
    return {path: f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"}


def test_installing_one_package_does_not_make_the_others_own(tmp_path: Path) -> None:
    status = dpkg_status(("libc6", "1", ""), ("tzdata", "1", ""), ("curl", "1", ""))
    own = {"var/lib/dpkg/status": status, **_dist_info("flask")}
    assert _owners(tmp_path, BASE, own) == {
        "libc6 1": True,
        "tzdata 1": True,
        "curl 1": False,
        "flask 1": False,
    }


def test_package_that_the_own_layers_update_is_own(tmp_path: Path) -> None:
    own = {"var/lib/dpkg/status": dpkg_status(("libc6", "2", ""), ("tzdata", "1", ""))}
    assert _owners(tmp_path, BASE, own) == {"libc6 2": False, "tzdata 1": True}


def test_file_that_is_only_written_again_stays_the_base_s(tmp_path: Path) -> None:
    base = {**BASE, **_dist_info("six")}
    assert _owners(tmp_path, base, _dist_info("six"))["six 1"] is True


def test_package_that_the_base_lost_itself_is_own(tmp_path: Path) -> None:
    """The second layer of the base removes what its first one has; the image brings it back."""
    emptied = {"var/lib/dpkg/status": dpkg_status(("libc6", "1", ""))}
    status = {"var/lib/dpkg/status": dpkg_status(("libc6", "1", ""), ("tzdata", "1", ""))}
    assert _owners(tmp_path, BASE, emptied, status, base_layers=2) == {
        "libc6 1": True,
        "tzdata 1": False,
    }


def test_layers_without_packages_leave_everything_to_the_base(tmp_path: Path) -> None:
    assert _owners(tmp_path, BASE, {"srv/app": "x"}) == {"libc6 1": True, "tzdata 1": True}


def test_without_layers_of_a_base_everything_is_own(tmp_path: Path) -> None:
    only = {"etc/os-release": DEBIAN_OS_RELEASE, **_dist_info("flask")}
    assert _owners(tmp_path, only, base_layers=0) == {"flask 1": False}

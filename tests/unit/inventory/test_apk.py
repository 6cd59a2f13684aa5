"""The apk database is read record by record; what is damaged is named."""

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.findings import Distribution, Inventory, Package
from ci_registry.inventory.apk import condense_apk, read_apk
from ci_registry.inventory.reading import ImageFile
from tests.support.images import Files, ImageSpec, make_layout
from tests.support.inspection import inspect_layout
from tests.support.os_databases import APK_RELEASE, apk_database, apk_record
from tests.support.programs import go_program

ALPINE = Distribution(id="alpine", version="3.20.3")
DATABASE = "lib/apk/db/installed"
PIP = "usr/lib/python3.12/site-packages/pip-24.0.dist-info/METADATA"
PIP_TEXT = "Name: pip\nVersion: 24.0\n\n"


def apk(text: str | bytes) -> tuple[list[Package], list[str]]:
    raw = text.encode() if isinstance(text, str) else text
    file = ImageFile(path=DATABASE, real=DATABASE, content=raw, layer=0, diff_id="sha256:0")
    packages, problems, _ = read_apk([file], ALPINE)
    return packages, [record.reason for record in problems]


def inventory(tmp_path: Path, *layers: Files) -> Inventory:
    made = make_layout(tmp_path / "layout", ImageSpec(layers=layers))
    return inspect_layout(made.layout).platforms[0].inventory


def alpine(*records: str, at: str = DATABASE) -> dict[str, bytes | str | None]:
    return {"etc/os-release": APK_RELEASE, at: apk_database(*records)}


def names(found: Inventory) -> list[str]:
    return [f"{p.ecosystem}:{p.name}:{p.owner}" for p in found.packages]


def test_a_package_has_its_origin_architecture_and_purl() -> None:
    (package,), problems = apk(
        apk_database(apk_record("libssl3", "3.3.2-r1", origin="openssl")),
    )
    assert problems == []
    assert package.purl == "pkg:apk/alpine/libssl3@3.3.2-r1?arch=x86_64&distro=alpine-3.20"
    assert (package.source_name, package.source_version) == ("openssl", "")
    assert (package.architecture, package.third_party) == ("x86_64", False)


def test_an_origin_like_the_package_is_left_out() -> None:
    (package,), _ = apk(apk_database(apk_record("musl", "1.2.5-r0", origin="musl")))
    assert package.source_name == ""


@pytest.mark.parametrize(
    ("maintainer", "third_party"),
    [
        ("Natanael Copa <ncopa@alpinelinux.org>", False),
        ("somebody <me@example.org>", False),
        ("", False),
        ("NGINX Packaging <nginx-packaging@f5.com>", True),
    ],
)
def test_only_known_vendors_are_not_the_distribution(maintainer: str, third_party: bool) -> None:
    (package,), _ = apk(apk_database(apk_record("nginx", "1.27.0-r1", maintainer=maintainer)))
    assert package.third_party is third_party


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("P:a\nV:1-r0\n\nP:b\nV:1", "cut short"),
        ("V:1-r0\n\n", "without a valid package name"),
        ("P:a\n\n", "a: no valid version"),
        ("P:a\nV:\n\n", "a: no valid version"),
        ("P:a\nV:1-r0\nnonsense\n\n", "a line without a field"),
        ("P:a\nV:1-r0\nP:b\nV:2-r0\n\n", "twice in one record"),
        ("P:../a\nV:1-r0\n\n", "without a valid package name"),
        ("P:a\nV:1-r0\no:x y\n\n", "malformed origin"),
        ("P:a\nV:1-r0\nA:x y\n\n", "malformed architecture"),
    ],
)
def test_a_damaged_database_is_named_as_unread(text: str, reason: str) -> None:
    assert any(reason in problem for problem in apk(text)[1])


def test_the_rest_of_a_damaged_database_is_still_read() -> None:
    packages, problems = apk("P:a\nV:1-r0\n\nnonsense\n\nP:b\nV:2-r0\n\n")
    assert [p.name for p in packages] == ["a", "b"]
    assert len(problems) == 1


@pytest.mark.parametrize("path", [DATABASE, "usr/lib/apk/db/installed"])
def test_the_database_is_read_at_both_of_its_places(tmp_path: Path, path: str) -> None:
    found = inventory(tmp_path, alpine(apk_record("musl", "1.2.5-r0"), at=path))
    assert (names(found), found.unread) == (["apk:musl:"], ())


def test_the_database_is_read_once_where_lib_is_a_link(tmp_path: Path) -> None:
    layer = alpine(apk_record("musl", "1.2.5-r0"), at="usr/lib/apk/db/installed")
    assert names(inventory(tmp_path, {**layer, "lib->usr/lib": ""})) == ["apk:musl:"]


def test_a_database_of_another_root_is_a_gap_and_no_package(tmp_path: Path) -> None:
    found = inventory(tmp_path, alpine(apk_record("musl", "1-r0"), at=f"srv/root/{DATABASE}"))
    assert found.packages == ()
    assert [u.kind for u in found.unread] == ["apk"]
    assert "another file system" in found.unread[0].reason


@pytest.mark.parametrize(
    ("content", "owner"), [(PIP_TEXT, "py3-pip"), ("Name: pip\nVersion: 9\n", "")]
)
def test_a_python_package_of_alpine_is_owned_while_it_is_unchanged(
    tmp_path: Path, content: str, owner: str
) -> None:
    record = apk_record("py3-pip", "24.0-r2", files={PIP: PIP_TEXT})
    found = inventory(tmp_path, {**alpine(record), PIP: content})
    assert [p.owner for p in found.packages if p.ecosystem == "pypi"] == [owner]


@pytest.mark.parametrize("algorithm", ["Q2", "X"])
def test_an_unknown_checksum_is_not_compared(tmp_path: Path, algorithm: str) -> None:
    record = apk_record("py3-pip", "24.0-r2", files={PIP: PIP_TEXT}).replace(
        "Z:Q1", f"Z:{algorithm}"
    )
    found = inventory(tmp_path, {**alpine(record), PIP: PIP_TEXT})
    assert [p.owner for p in found.packages if p.ecosystem == "pypi"] == ["py3-pip"]


def test_a_go_program_of_alpine_is_owned_and_an_overwritten_one_is_not(tmp_path: Path) -> None:
    program = go_program()
    record = apk_record("tool", "1-r0", files={"usr/bin/tool": program})
    owned = inventory(tmp_path / "a", {**alpine(record), "usr/bin/tool": program})
    assert {p.owner for p in owned.packages if p.ecosystem == "golang"} == {"tool"}
    other = go_program(version="go1.20")
    changed = inventory(tmp_path / "b", {**alpine(record), "usr/bin/tool": other})
    assert {p.owner for p in changed.packages if p.ecosystem == "golang"} == {""}


def test_a_damaged_go_program_is_no_gap_when_it_is_the_distributions(tmp_path: Path) -> None:
    program = go_program().replace(b"\xff Go buildinf:", b"\xff no buildinf:")
    record = apk_record("tool", "1-r0", files={"usr/bin/tool": program})
    assert inventory(tmp_path / "a", {**alpine(record), "usr/bin/tool": program}).unread == ()
    alone = inventory(tmp_path / "b", {"usr/bin/tool": program}).unread
    assert [u.kind for u in alone] == ["golang"]


def test_a_package_of_a_vendor_owns_nothing(tmp_path: Path) -> None:
    record = apk_record("tool", "1-r0", maintainer="x <x@docker.com>", files={PIP: PIP_TEXT})
    found = inventory(tmp_path, {**alpine(record), PIP: PIP_TEXT})
    assert [p.owner for p in found.packages if p.ecosystem == "pypi"] == [""]


def test_condensing_keeps_what_the_reader_needs_and_is_smaller() -> None:
    files: dict[str, bytes | str] = {
        PIP: PIP_TEXT,
        "usr/share/doc/pip/readme": "x",
        "usr/bin/pip": "x",
    }
    text = apk_database(apk_record("py3-pip", "24.0-r2", origin="pip", files=files)).encode()
    small = condense_apk(text)
    assert len(small) < len(text)
    assert condense_apk(small) == small
    assert apk(small) == apk(text)
    assert b"METADATA" in small
    assert b"readme" not in small


@given(
    st.binary(max_size=300) | st.text(alphabet="PVAoFRZ:\n/Q1=ab-r0.", max_size=200).map(str.encode)
)
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_packages_or_problems(raw: bytes) -> None:
    whole = apk(raw)
    condensed = apk(condense_apk(raw))
    assert [(p.name, p.version) for p in whole[0]] == [(p.name, p.version) for p in condensed[0]]


def test_a_checksum_that_is_no_base64_is_left_out() -> None:
    record = apk_record("a", "1-r0", files={"usr/bin/a": "x"})
    line = next(line for line in record.split("\n") if line.startswith("Z:"))
    packages, problems = apk(record.replace(line, "Z:Q1!!!!") + "\n\n")
    assert ([p.name for p in packages], problems) == (["a"], [])
    assert base64.b64decode(line[4:]).hex() == "11f6ad8ec52a2984abaafd7c3b516503785c2072"


def test_a_database_of_200_000_files_is_condensed_and_read() -> None:
    lines = [f"F:usr/bin/d{n}\nR:f{n}\nZ:Q1{'A' * 27}=\n" for n in range(200_000)]
    condensed = condense_apk(("P:big\nV:1-r0\n" + "".join(lines) + "\n").encode())
    file = ImageFile(path=DATABASE, real=DATABASE, content=condensed, layer=0, diff_id="sha256:0")
    packages, problems, claims = read_apk([file], ALPINE)
    assert (len(packages), problems, len(claims)) == (1, [], 200_000)

"""RPM databases of every kind give the same packages; what is damaged is named, in bounded time."""

import json
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.findings import Distribution, Inventory, Package
from ci_registry.inventory.reading import ImageFile, UnreadableError
from ci_registry.inventory.rpm import condense_rpm, read_rpm
from ci_registry.inventory.rpm_database import rpm_headers
from ci_registry.inventory.rpm_header import parse_rpm_header
from tests.support.images import Files, ImageSpec, make_layout
from tests.support.inspection import inspect_layout
from tests.support.os_databases import (
    ALMA_RELEASE,
    RPM_TAGS,
    rpm_berkeley,
    rpm_header,
    rpm_ndb,
    rpm_sqlite,
)

ALMA = Distribution(id="almalinux", version="9.4")
SQLITE = "var/lib/rpm/rpmdb.sqlite"
PIP = "usr/lib/python3.9/site-packages/pip-21.2.dist-info/METADATA"
PIP_TEXT = "Name: pip\nVersion: 21.2\n\n"
KEY = rpm_header(name="gpg-pubkey", version="3abb34f8", release="5ffd890e")
KINDS: dict[str, Callable[..., bytes]] = {
    "sqlite": rpm_sqlite,
    "ndb": rpm_ndb,
    "berkeley": rpm_berkeley,
    "big-endian": lambda *headers: rpm_berkeley(*headers, order=">"),
    "small-pages": lambda *headers: rpm_berkeley(*headers, page_bytes=512),
}


def rpm(
    data: bytes, distribution: Distribution | None = ALMA, path: str = SQLITE
) -> tuple[list[Package], list[str]]:
    file = ImageFile(path=path, real=path, content=condense_rpm(data), layer=0, diff_id="sha256:0")
    packages, problems, _ = read_rpm([file], distribution)
    return packages, [record.reason for record in problems]


def inventory(tmp_path: Path, *layers: Files) -> Inventory:
    made = make_layout(tmp_path / "layout", ImageSpec(layers=layers))
    return inspect_layout(made.layout).platforms[0].inventory


# --- packages


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_database_gives_the_same_packages(kind: str) -> None:
    long = rpm_header({f"/usr/bin/tool{n:04}": "x" for n in range(300)}, name="long")
    headers = (rpm_header(name="bash", version="5.1.8", release="6.el9"), KEY, long, rpm_header())
    packages, problems = rpm(KINDS[kind](*headers))
    assert [p.name for p in packages] == ["bash", "long", "demo"]
    assert problems == []


def test_a_package_has_epoch_source_module_and_purl() -> None:
    header = rpm_header(
        name="nodejs-libs",
        version="18.12.1",
        release="1.module_el9",
        epoch=1,
        sourcerpm="nodejs-18.12.1-1.module_el9.src.rpm",
        module="nodejs:18:9010020221118120946:rhel9",
    )
    (package,), _ = rpm(rpm_sqlite(header))
    assert package.version == "1:18.12.1-1.module_el9"
    assert package.purl == (
        "pkg:rpm/almalinux/nodejs-libs@18.12.1-1.module_el9"
        "?arch=x86_64&distro=almalinux-9.4&epoch=1"
    )
    assert (package.source_name, package.source_version) == ("nodejs", "")
    assert package.module == "nodejs:18:9010020221118120946:rhel9"
    assert package.architecture == "x86_64"


def test_the_version_of_another_source_is_kept() -> None:
    header = rpm_header(name="a", version="1", release="2", sourcerpm="b-c-3.0-4.el9.nosrc.rpm")
    (package,), _ = rpm(rpm_sqlite(header))
    assert (package.source_name, package.source_version) == ("b-c", "3.0-4.el9")


@pytest.mark.parametrize(
    ("distribution", "vendor", "release", "third_party"),
    [
        ("almalinux", "AlmaLinux", "1.el9", False),
        ("almalinux", "Fedora Project", "1.el9", True),
        ("almalinux", "", "1.el9", True),
        ("rocky", "Rocky Enterprise Software Foundation", "1.el9", False),
        ("rhel", "Red Hat, Inc.", "1.el9", False),
        ("rhel", "Docker", "1.el9", True),
        ("amzn", "", "1.amzn2023", False),
        ("amzn", "", "1.el9", True),
        ("sles", "SUSE LLC <https://www.suse.com/>", "1", False),
        ("opensuse-leap", "openSUSE", "1", False),
        ("azurelinux", "Microsoft Corporation", "1.azl3", False),
        ("photon", "VMware, Inc.", "1.ph5", False),
        ("unheard", "Somebody", "1", False),
    ],
)
def test_a_package_of_another_vendor_is_not_the_distributions(
    distribution: str, vendor: str, release: str, third_party: bool
) -> None:
    header = rpm_header(vendor=vendor, release=release)
    (package,), _ = rpm(rpm_sqlite(header), Distribution(id=distribution, version="9"))
    assert package.third_party is third_party


@pytest.mark.parametrize(
    ("distribution", "namespace"),
    [("rhel", "redhat"), ("sles", "suse"), ("opensuse-leap", "opensuse"), ("fedora", "fedora")],
)
def test_the_purl_has_the_namespace_of_the_vendor(distribution: str, namespace: str) -> None:
    (package,), _ = rpm(rpm_sqlite(rpm_header()), Distribution(id=distribution, version="9"))
    assert package.purl.startswith(f"pkg:rpm/{namespace}/demo@1.0-1.el9?")


# --- places and layers


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("var/lib/rpm/rpmdb.sqlite", "sqlite"),
        ("usr/lib/sysimage/rpm/rpmdb.sqlite", "sqlite"),
        ("usr/lib/sysimage/rpm/Packages.db", "ndb"),
        ("var/lib/rpm/Packages", "berkeley"),
    ],
)
def test_the_database_is_read_at_all_of_its_places(tmp_path: Path, path: str, kind: str) -> None:
    found = inventory(
        tmp_path, {"etc/os-release": ALMA_RELEASE, path: KINDS[kind](rpm_header(), KEY)}
    )
    assert [(p.ecosystem, p.name, p.path) for p in found.packages] == [("rpm", "demo", path)]
    assert found.unread == ()


def test_a_database_behind_a_link_is_read_once(tmp_path: Path) -> None:
    layer: Files = {"usr/lib/sysimage/rpm/rpmdb.sqlite": rpm_sqlite(rpm_header())}
    found = inventory(tmp_path, {**layer, "var/lib/rpm->../../usr/lib/sysimage/rpm": ""})
    assert [p.name for p in found.packages] == ["demo"]


def test_a_database_under_a_telling_link_is_condensed_all_the_same(tmp_path: Path) -> None:
    layer: Files = {"srv/x": rpm_sqlite(rpm_header()), "var/lib/rpm/rpmdb.sqlite->/srv/x": ""}
    assert [p.name for p in inventory(tmp_path, layer).packages] == ["demo"]


def test_a_database_of_another_root_is_a_gap(tmp_path: Path) -> None:
    found = inventory(tmp_path, {f"srv/root/{SQLITE}": rpm_sqlite(rpm_header())})
    assert (found.packages, [u.kind for u in found.unread]) == ((), ["rpm"])


def test_the_last_layer_counts(tmp_path: Path) -> None:
    old, new = (rpm_sqlite(rpm_header(version=v)) for v in ("1", "2"))
    found = inventory(tmp_path, {SQLITE: old}, {SQLITE: new})
    assert [p.version for p in found.packages] == ["2-1.el9"]


@pytest.mark.parametrize(("log", "gaps"), [(b"", 0), (b"\x37\x7f\x06\x82" + bytes(4200), 1)])
def test_changes_outside_of_the_database_are_a_gap(tmp_path: Path, log: bytes, gaps: int) -> None:
    found = inventory(tmp_path, {SQLITE: rpm_sqlite(rpm_header()), f"{SQLITE}-wal": log})
    assert len(found.packages) == 1
    assert [u.path for u in found.unread] == [f"{SQLITE}-wal"] * gaps


@pytest.mark.parametrize(
    ("content", "owner"), [(PIP_TEXT, "python3-pip"), ("Name: pip\nVersion: 9\n", "")]
)
def test_a_python_package_of_the_distribution_is_owned_while_it_is_unchanged(
    tmp_path: Path, content: str, owner: str
) -> None:
    header = rpm_header({f"/{PIP}": PIP_TEXT}, name="python3-pip")
    layer: Files = {"etc/os-release": ALMA_RELEASE, SQLITE: rpm_sqlite(header), PIP: content}
    found = inventory(tmp_path, layer)
    assert [p.owner for p in found.packages if p.ecosystem == "pypi"] == [owner]


def test_a_package_of_a_vendor_owns_nothing(tmp_path: Path) -> None:
    header = rpm_header({f"/{PIP}": PIP_TEXT}, vendor="Docker")
    layer: Files = {"etc/os-release": ALMA_RELEASE, SQLITE: rpm_sqlite(header), PIP: PIP_TEXT}
    assert [p.owner for p in inventory(tmp_path, layer).packages if p.ecosystem == "pypi"] == [""]


def test_a_file_written_after_the_last_installation_is_not_owned(tmp_path: Path) -> None:
    header = rpm_header({f"/{PIP}": PIP_TEXT}, tags={5011: 10})  # SHA-512: can't be compared
    layer: Files = {"etc/os-release": ALMA_RELEASE, SQLITE: rpm_sqlite(header), PIP: PIP_TEXT}
    same = inventory(tmp_path / "a", layer)
    later = inventory(tmp_path / "b", layer, {PIP: PIP_TEXT})
    assert [p.owner for p in same.packages if p.ecosystem == "pypi"] == ["demo"]
    assert [p.owner for p in later.packages if p.ecosystem == "pypi"] == [""]


# --- bad input


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({1116: [0, 9]}, "don't fit each other"),
        ({1116: [0]}, "don't fit each other"),
        ({1035: ["x"]}, "don't fit each other"),
        ({1000: 7}, "is no text"),
        ({1003: "seven"}, "is no number"),
    ],
)
def test_a_damaged_header_is_named_and_the_others_are_read(
    tags: dict[int, int | str | list[int] | list[str]], reason: str
) -> None:
    bad = rpm_header({"/usr/bin/a": "x", "/usr/bin/b": "y"}, tags=tags)
    packages, problems = rpm(rpm_sqlite(bad, rpm_header(name="good")))
    assert [p.name for p in packages] == ["good"]
    assert reason in problems[0]


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        bytes(7),
        struct.pack(">II", 0xFFFFFFFF, 0xFFFFFFFF),
        struct.pack(">II", 1, 4) + struct.pack(">IIiI", 1000, 6, -5, 1) + bytes(4),
        struct.pack(">II", 1, 4) + struct.pack(">IIiI", 1000, 6, 0, 0xFFFFFFFF) + b"abcd",
        struct.pack(">II", 1, 4) + struct.pack(">IIiI", 1000, 8, 0, 0xFFFFFFFF) + bytes(4),
        struct.pack(">II", 1, 4) + struct.pack(">IIiI", 1003, 4, 0, 0x7FFFFFFF) + bytes(4),
        struct.pack(">II", 0, 0),
    ],
    ids=[
        "empty",
        "short",
        "huge-counts",
        "negative",
        "no-end",
        "many-texts",
        "many-numbers",
        "none",
    ],
)
def test_a_header_that_lies_about_its_size_is_refused(blob: bytes) -> None:
    with pytest.raises(UnreadableError, match="rpm header"):
        parse_rpm_header(blob)


def test_paths_that_multiply_to_gigabytes_are_refused() -> None:
    names = ["" for _ in range(20_000)]
    blob = rpm_header(tags={1116: [0] * 20_000, 1117: names, 1118: ["x" * 10_000]})
    with pytest.raises(UnreadableError, match="too long"):
        parse_rpm_header(blob)


@pytest.mark.parametrize("field", ["name", "version", "release"])
@pytest.mark.parametrize("text", ["", "a b", "a\nb", "x" * 500])
def test_a_package_with_a_malformed_field_is_named(field: str, text: str) -> None:
    packages, problems = rpm(rpm_sqlite(rpm_header(tags={RPM_TAGS[field]: text})))
    assert (packages, len(problems)) == ([], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_database_is_never_silently_short(kind: str) -> None:
    headers = [
        rpm_header({f"/usr/bin/{n}-{i}": "x" for i in range(99)}, name=f"p{n}") for n in range(9)
    ]
    whole = KINDS[kind](*headers)
    for part in range(1, 16):
        packages, problems = rpm(whole[: len(whole) * part // 16])
        assert problems or len(packages) == len(headers)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "neither SQLite"),
        (b"x" * 5000, "neither SQLite"),
        (b"SQLite format 3\0" + bytes(100), "damaged"),
        (b"RpmP" + bytes(20), "cut short"),
        (b"RpmP" + struct.pack("<III", 0, 0, 0xFFFFFFFF) + bytes(5000), "cut short"),
        (b"RpmP" + struct.pack("<III", 9, 0, 1) + bytes(5000), "unknown version"),
    ],
)
def test_what_is_no_database_is_named(data: bytes, reason: str) -> None:
    packages, problems = rpm(data)
    assert packages == []
    assert reason in problems[0]


def _berkeley_with(page: int, offset: int, value: bytes) -> bytes:
    data = bytearray(rpm_berkeley(rpm_header({"/usr/bin/a": "x"}, vendor="v" * 9000)))
    data[page * 4096 + offset : page * 4096 + offset + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("page", "offset", "value", "reason"),
    [
        (2, 16, struct.pack("<I", 2), "circle"),
        (3, 16, struct.pack("<I", 2), "circle"),
        (2, 16, struct.pack("<I", 99), "not in the file"),
        (2, 16, struct.pack("<I", 0), "cut short"),
        (2, 22, struct.pack("<H", 65535), "damaged"),
        (2, 25, b"\x0d", "damaged"),
        (1, 20, struct.pack("<H", 65534), "damaged"),
        (1, 20, struct.pack("<H", 3), "damaged"),
        (1, 26 + 6, struct.pack("<H", 3), "leads out"),
        (0, 20, struct.pack("<I", 4097), "first page"),
        (0, 24, b"\x01", "first page"),
        (0, 32, struct.pack("<I", 0xFFFFFFFF), "cut short"),
    ],
)
def test_damaged_pages_end_the_reading(page: int, offset: int, value: bytes, reason: str) -> None:
    _, problems = rpm(_berkeley_with(page, offset, value))
    assert reason in problems[0]


def test_entries_that_share_a_chain_are_refused() -> None:
    long = rpm_header(vendor="x" * 60_000)
    data = bytearray(rpm_berkeley(long, *[rpm_header(vendor="x" * 2000) for _ in range(30)]))
    offsets = struct.unpack_from("<64H", data, 4096 + 26)
    for at in offsets[3::2]:
        struct.pack_into("<II", data, 4096 + at + 4, 2, len(long))
    with pytest.raises(UnreadableError, match="share"):
        list(rpm_headers(bytes(data)))


def test_packages_in_front_of_a_damaged_page_are_still_listed() -> None:
    whole = bytearray(rpm_sqlite(*[rpm_header(name=f"p{n}", vendor="v" * 300) for n in range(200)]))
    middle = len(whole) // 2
    whole[middle : middle + 9000] = bytes(9000)
    packages, problems = rpm(bytes(whole))
    assert 0 < len(packages) < 200
    assert "damaged" in problems[0]


def test_a_view_instead_of_a_table_is_not_asked() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(
            "CREATE VIEW Packages AS WITH RECURSIVE t(hnum, blob) AS"
            " (SELECT 1, zeroblob(9) UNION ALL SELECT hnum + 1, blob FROM t) SELECT * FROM t"
        )
        data = database.serialize()
    assert "no table of packages" in rpm(data)[1][0]


def test_text_instead_of_a_header_is_named() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
        database.execute("INSERT INTO Packages VALUES (1, 'text'), (2, NULL), (3, 7)")
        database.commit()
        data = database.serialize()
    packages, problems = rpm(data)
    assert (packages, len(problems)) == ([], 3)


def test_many_files_are_condensed_to_those_that_matter() -> None:
    files = {f"/usr/share/doc/{n}.txt": "x" for n in range(2000)} | {f"/{PIP}": PIP_TEXT}
    found = json.loads(condense_rpm(rpm_sqlite(rpm_header(files))))
    assert [path for path, _ in found["headers"][0]["files"]] == [PIP]


@given(st.sampled_from(sorted(KINDS)), st.data())
@settings(max_examples=100, deadline=None)
def test_flipped_bytes_give_packages_or_problems(kind: str, data: st.DataObject) -> None:
    whole = bytearray(KINDS[kind](rpm_header({"/usr/bin/a": "x"}), rpm_header(vendor="v" * 5000)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    packages, problems = rpm(bytes(whole))
    assert len(packages) + len(problems) >= 1


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_any_header_is_read_or_refused(blob: bytes) -> None:
    try:
        parse_rpm_header(blob)
    except UnreadableError:
        return

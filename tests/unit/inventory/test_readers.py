"""Package readers report what is installed, and name what they could not read."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.findings import Distribution, Inventory, Package, UnreadDatabase
from ci_registry.inventory.dpkg import parse_stanzas, read_dpkg
from ci_registry.inventory.node import read_node
from ci_registry.inventory.os_release import parse_os_release, release_of, with_end_of_life
from ci_registry.inventory.python import read_python
from ci_registry.inventory.reading import ImageFile
from ci_registry.inventory.vendors import is_third_party
from tests.support.images import Files, ImageSpec, debian_layer, dpkg_status, make_layout
from tests.support.inspection import inspect_layout

BASE = debian_layer(("openssl", "3.0", ""))
DEBIAN = Distribution(id="debian", version="12")


def inventory(tmp_path: Path, *layers: Files) -> Inventory:
    made = make_layout(tmp_path / "layout", ImageSpec(layers=layers))
    return inspect_layout(made.layout).platforms[0].inventory


def file(content: str | bytes, path: str = "var/lib/dpkg/status") -> ImageFile:
    raw = content.encode() if isinstance(content, str) else content
    return ImageFile(path=path, real=path, content=raw, layer=0, diff_id="sha256:0")


def dpkg(
    text: str | bytes, listed: frozenset[str] = frozenset()
) -> tuple[list[Package], list[str]]:
    reading = read_dpkg([file(text)], DEBIAN, listed)
    return list(reading.packages), [record.reason for record in reading.unread]


# --- dpkg


def test_a_debian_package_has_its_source_epoch_and_an_encoded_purl() -> None:
    (package,), problems = dpkg(
        dpkg_status(("libstdc++6", "1:12.2.0-14+b1", "gcc-12 (1:12.2.0-14)"))
    )
    assert problems == []
    assert package.purl == (
        "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bb1?arch=amd64&distro=debian-12"
    )
    assert (package.source_name, package.source_version) == ("gcc-12", "1:12.2.0-14")
    assert package.architecture == "amd64"
    assert package.purl_without_version == "pkg:deb/debian/libstdc%2B%2B6"


def test_a_source_like_the_package_is_left_out() -> None:
    (package,), _ = dpkg(dpkg_status(("zlib", "1", "zlib (1)")))
    assert (package.source_name, package.source_version) == ("", "")


@pytest.mark.parametrize(
    ("status", "there"),
    [
        ("install ok installed", True),
        ("hold ok installed", True),
        ("install ok half-configured", True),
        ("install ok unpacked", True),
        ("install ok triggers-pending", True),
        ("deinstall ok config-files", False),
        ("purge ok not-installed", False),
    ],
)
def test_only_packages_whose_files_are_there_count(status: str, there: bool) -> None:
    text = f"Package: a\nStatus: {status}\nVersion: 1\n\n"
    packages, problems = dpkg(text)
    assert (bool(packages), problems) == (there, [])


def test_a_removed_package_needs_no_version() -> None:
    assert dpkg("Package: a\nStatus: deinstall ok config-files\n\n") == ([], [])


def test_continuation_lines_belong_to_their_field() -> None:
    text = "Package: a\nVersion: 1\nDescription: x\n Package: evil\n .\n\tVersion: 2\n\n"
    (package,), problems = dpkg(text)
    assert (package.name, package.version, problems) == ("a", "1", [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Package: a\nVersion: 1\n\nPackage: b\nVers", "cut short"),
        ("Package: a\nStatus: install ok installed\n\n", "no valid version"),
        ("Version: 1\n\n", "without a valid package name"),
        ("Package: a\nVersion: 1\nnonsense\n\n", "a line without a field name"),
        ("Package: a\nStatus: installed\nVersion: 1\n\n", "malformed status"),
        ("Package: a\nVersion: 1\nVersion: 2\n\n", "twice"),
        ("Package: a\nVersion: 1\nSource: b (\n\n", "malformed source"),
        (" x\nPackage: a\nVersion: 1\n\n", "continuation line without"),
        ("Package: ../a\nVersion: 1\n\n", "without a valid package name"),
    ],
)
def test_a_damaged_status_file_is_named_as_unread(text: str, reason: str) -> None:
    _, problems = dpkg(text)
    assert reason in problems[0]


def test_the_rest_of_a_damaged_status_file_is_still_read() -> None:
    packages, problems = dpkg("Package: a\nVersion: 1\n\nnonsense\n\nPackage: b\nVersion: 2\n\n")
    assert [p.name for p in packages] == ["a", "b"]
    assert len(problems) == 1


def test_a_file_list_without_an_entry_means_that_entries_were_lost() -> None:
    packages, problems = dpkg("Package: a\nVersion: 1\n\n", frozenset({"a", "b"}))
    assert len(packages) == 1
    assert problems == ["1 packages have a file list but no entry: b"]


def test_lost_entries_are_noticed_in_an_image(tmp_path: Path) -> None:
    lists = {f"var/lib/dpkg/info/{name}.list": "/.\n" for name in ("openssl", "curl:amd64")}
    (record,) = inventory(tmp_path, BASE | lists).unread
    assert (record.kind, record.path) == ("deb", "var/lib/dpkg/status")
    assert "curl" in record.reason


def test_distroless_status_files_are_read(tmp_path: Path) -> None:
    layer = {
        "etc/os-release": "ID=debian\nVERSION_ID=12\n",
        "var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 12.4\nArchitecture: amd64",
        "var/lib/dpkg/status.d/libc6": "Package: libc6\nSource: glibc\nVersion: 2.36\n",
        "var/lib/dpkg/status.d/libc6.md5sums": "d41d8cd98f00b204e9800998ecf8427e  usr/lib/x\n",
    }
    found = inventory(tmp_path, layer)
    assert [(p.name, p.source_name, p.path) for p in found.packages] == [
        ("base-files", "", "var/lib/dpkg/status.d/base"),
        ("libc6", "glibc", "var/lib/dpkg/status.d/libc6"),
    ]
    assert found.unread == ()


def test_a_second_dpkg_database_inside_the_image_is_named(tmp_path: Path) -> None:
    chroot = {"srv/chroot/var/lib/dpkg/status": dpkg_status(("old", "1", ""))}
    found = inventory(tmp_path, BASE, chroot)
    assert [p.name for p in found.packages] == ["openssl"]
    assert found.unread == (
        UnreadDatabase(
            kind="deb",
            path="srv/chroot/var/lib/dpkg/status",
            reason="dpkg database of another file system inside the image",
        ),
    )


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300) | st.text("Package: Version\n a1.+-~", max_size=200).map(str.encode))
def test_the_dpkg_parser_never_fails_and_never_drops_a_paragraph_silently(data: bytes) -> None:
    reading = read_dpkg([file(data)], DEBIAN, frozenset())
    stanzas = [s for s in parse_stanzas(data) if s.is_on_disk or s.problem]
    assert len(reading.packages) + len(reading.unread) >= len(stanzas)


# --- Python


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib/python3/dist-packages/Foo_Bar.egg-info/PKG-INFO",
        "usr/lib/python3/dist-packages/Foo_Bar-1.0.egg-info",
        "opt/eggs/Foo_Bar-1.0.egg/EGG-INFO/PKG-INFO",
        "app/.venv/lib/python3.11/site-packages/foo_bar-1.0.dist-info/METADATA",
    ],
)
def test_wheels_and_eggs_are_read(tmp_path: Path, path: str) -> None:
    text = "Metadata-Version: 2.1\r\nName: Foo_Bar.x\r\nVersion: 1.0+local\r\n\r\nName: other\r\n"
    (package,) = inventory(tmp_path, {path: text}).packages
    assert (package.name, package.version, package.path) == ("Foo_Bar.x", "1.0+local", path)
    assert package.purl == "pkg:pypi/foo-bar.x@1.0%2Blocal"


@pytest.mark.parametrize("text", ["", "Name: a\n", "Version: 1\n", "Name: a\x07\nVersion: 1\n"])
def test_metadata_without_name_or_version_is_named_as_unread(text: str) -> None:
    reading = read_python([file(text, "a.dist-info/METADATA")])
    assert (reading.packages, len(reading.unread)) == ((), 1)


def test_a_package_without_metadata_is_named_as_unread(tmp_path: Path) -> None:
    found = inventory(tmp_path, {"site-packages/a-1.0.dist-info/RECORD": "a.py,,\n"})
    assert [(u.kind, u.path) for u in found.unread] == [
        ("pypi", "site-packages/a-1.0.dist-info/RECORD")
    ]


# --- Node


def node(text: str | bytes) -> tuple[list[tuple[str, str, str]], list[str]]:
    reading = read_node([file(text, "app/node_modules/a/package.json")])
    rows = [(p.name, p.version, p.purl) for p in reading.packages]
    return rows, [record.reason for record in reading.unread]


def test_a_scoped_node_package_has_an_encoded_purl() -> None:
    rows, problems = node('\ufeff{"name":"@babel/core","version":"7.0.0-rc.1+x"}')
    assert rows == [("@babel/core", "7.0.0-rc.1+x", "pkg:npm/%40babel/core@7.0.0-rc.1%2Bx")]
    assert problems == []


@pytest.mark.parametrize("text", ['{"type":"module"}', '{"name":"mine","private":true}'])
def test_a_package_json_that_no_registry_gave_is_no_package(text: str) -> None:
    assert node(text) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"name":"a","version":',
        "[]",
        '{"name":"a","version":1}',
        b"\xff",
        "[" * 5000,
        '{"name":"a/b/c","version":"1"}',
        '{"name":"\\ud800","version":"1"}',
    ],
)
def test_a_damaged_package_json_is_named_as_unread(text: str | bytes) -> None:
    rows, problems = node(text)
    assert (rows, len(problems)) == ([], 1)


def test_only_what_is_inside_node_modules_is_a_package(tmp_path: Path) -> None:
    def package(name: str) -> str:
        return f'{{"name":"{name}","version":"1.0.0"}}'

    layer = {
        "app/package.json": package("app"),
        "app/node_modules/a/package.json": package("a"),
        "app/node_modules/a/lib/esm/package.json": '{"type":"module"}',
        "app/node_modules/a/test/malformed/package.json": "{",
        "app/node_modules/a/vendor/old/package.json": package("vendored"),
        "app/node_modules/a/node_modules/@s/b/package.json": package("@s/b"),
        "usr/share/nodejs/c/package.json": package("c"),
    }
    found = inventory(tmp_path, layer)
    assert [p.name for p in found.packages] == ["@s/b", "a", "vendored"]
    assert found.unread == ()


# --- SBOMs that packages carry


def sbom(*purls: str) -> str:
    components = [{"type": "library", "name": "x", "purl": purl} for purl in purls]
    nested = {"type": "library", "name": "outer", "components": components}
    return json.dumps({"bomFormat": "CycloneDX", "components": [nested]})


def test_what_pip_vendored_is_read_from_the_sbom_that_it_carries(tmp_path: Path) -> None:
    path = "usr/lib/python3/site-packages/pip/_vendor/bom.cdx.json"
    text = sbom("pkg:pypi/CacheControl@0.14.4", "pkg:npm/%40a/b@1.0.0?x=y#z", "pkg:pypi/no-version")
    found = inventory(tmp_path, {path: text})
    assert [(p.ecosystem, p.name, p.version, p.purl) for p in found.packages] == [
        ("npm", "@a/b", "1.0.0", "pkg:npm/%40a/b@1.0.0"),
        ("pypi", "CacheControl", "0.14.4", "pkg:pypi/cachecontrol@0.14.4"),
    ]
    assert {p.path for p in found.packages} == {path}


@pytest.mark.parametrize("text", ["{", "[]", '{"components":{}}', sbom("npm/a@1"), sbom("pkg:@1")])
def test_a_damaged_sbom_is_named_as_unread(tmp_path: Path, text: str) -> None:
    found = inventory(tmp_path, {"app/x.cdx.json": text})
    assert (found.packages, [u.path for u in found.unread]) == ((), ["app/x.cdx.json"])


# --- ownership

PIP = "usr/lib/python3/dist-packages/pip-23.0.1.dist-info/METADATA"
PIP_TEXT = "Name: pip\nVersion: 23.0.1\n\nlong text"


def pip_of_debian(**lists: str) -> dict[str, bytes | str | None]:
    layer = debian_layer(("python3-pip", "23.0.1+dfsg-1", "python-pip"))
    layer[PIP] = PIP_TEXT
    layer |= {f"var/lib/dpkg/info/python3-pip.{kind}": text for kind, text in lists.items()}
    return layer


def owners(found: Inventory) -> list[str]:
    return [p.owner for p in found.packages if p.ecosystem != "deb"]


def test_pip_of_debian_is_owned_by_its_package(tmp_path: Path) -> None:
    assert owners(inventory(tmp_path, pip_of_debian(list=f"/.\n/{PIP}\n"))) == ["python3-pip"]


def test_ownership_is_seen_through_the_usr_merge(tmp_path: Path) -> None:
    layer = pip_of_debian(list=f"/{PIP.removeprefix('usr/')}\n")
    layer["lib->usr/lib"] = None
    assert owners(inventory(tmp_path, layer)) == ["python3-pip"]


def test_a_vendor_package_owns_nothing_because_no_advisory_speaks_for_it(tmp_path: Path) -> None:
    status = "Package: nodejs\nVersion: 20.1-1nodesource1\nMaintainer: N <n@nodesource.com>\n\n"
    npm = "usr/lib/node_modules/npm/package.json"
    layer = {
        "var/lib/dpkg/status": status,
        "var/lib/dpkg/info/nodejs.list": f"/{npm}\n",
        npm: '{"name":"npm","version":"9.0.0"}',
    }
    found = inventory(tmp_path, layer)
    assert owners(found) == [""]
    assert [p.name for p in found.packages if p.third_party] == ["nodejs"]


@pytest.mark.parametrize(
    ("maintainer", "version", "distribution", "foreign"),
    [
        ("Docker <support@docker.com>", "5:24.0-1", "debian", True),
        ("GitHub", "2.40", "debian", True),
        (
            "Debian PostgreSQL Maintainers <team@tracker.debian.org>",
            "16.1-1.pgdg120+1",
            "debian",
            True,
        ),
        ("Somebody <somebody@linux.it>", "1-1", "debian", False),
        ("Not Docker <x@notdocker.com>", "1-1", "debian", False),
        ("Debian Team <team@tracker.debian.org>", "1-1", "ubuntu", True),
        ("Ubuntu Developers <ubuntu-devel-discuss@lists.ubuntu.com>", "1-1", "ubuntu", False),
        ("", "1-1", "ubuntu", False),
    ],
)
def test_packages_of_other_vendors_are_told_apart(
    maintainer: str, version: str, distribution: str, foreign: bool
) -> None:
    made = Distribution(id=distribution, version="1")
    assert is_third_party(maintainer, version, made) is foreign


def test_a_package_that_nobody_lists_is_its_own(tmp_path: Path) -> None:
    assert owners(inventory(tmp_path, pip_of_debian(list="/usr/bin/pip3\n"))) == [""]


def test_a_file_written_again_later_is_no_longer_the_distributions(tmp_path: Path) -> None:
    later = {PIP: "Name: pip\nVersion: 19.0\n\n"}
    assert owners(inventory(tmp_path, pip_of_debian(list=f"/{PIP}\n"), later)) == [""]


@pytest.mark.parametrize(("content", "owner"), [(PIP_TEXT, "python3-pip"), ("other", "")])
def test_a_file_with_another_checksum_is_not_the_distributions(
    tmp_path: Path, content: str, owner: str
) -> None:
    sums = f"{hashlib.md5(content.encode()).hexdigest()}  {PIP}\n"
    assert owners(inventory(tmp_path, pip_of_debian(list=f"/{PIP}\n", md5sums=sums))) == [owner]


# --- databases without a reader


@pytest.mark.parametrize(
    ("kind", "path", "content"),
    [
        ("alpm", "var/lib/pacman/local/bash-5.2/desc", "x"),
        ("nix", "nix/var/nix/db/db.sqlite", "x"),
        ("npm", "app/.pnp.cjs", "x"),
        (
            "gem",
            "usr/local/bundle/ruby/3.3.0/bundler/gems/rack-0a1b2c3d4e5f/rack.gemspec",
            "Gem::Specification.new",
        ),
    ],
)
def test_a_database_without_reader_is_named(
    tmp_path: Path, kind: str, path: str, content: str | bytes
) -> None:
    found = inventory(tmp_path, BASE, {path: content})
    assert [(u.kind, u.path) for u in found.unread] == [(kind, path)]
    assert found.unread[0].reason.endswith("there is no reader for it")


@pytest.mark.parametrize(
    ("kind", "path", "content"),
    [
        ("maven", "app/service.jar", "PK"),
        ("maven", "app/service.WAR", "PK"),
        ("maven", "app/plugin.hpi", "PK"),
        ("gem", "usr/lib/ruby/gems/3.1.0/specifications/rack-2.0.gemspec", "x"),
        ("composer", "app/vendor/composer/installed.json", "{}"),
        ("nuget", "app/service.deps.json", "{}"),
        ("conda", "opt/conda/conda-meta/numpy-1.0-0.json", "{}"),
        ("pypi", "usr/lib/python3/site-packages/a-1.0-py3.11.egg", "PK"),
    ],
)
def test_a_damaged_database_is_named(tmp_path: Path, kind: str, path: str, content: str) -> None:
    found = inventory(tmp_path, BASE, {path: content})
    assert [(u.kind, u.path) for u in found.unread] == [(kind, path)]


def test_a_removed_database_is_no_gap(tmp_path: Path) -> None:
    assert inventory(tmp_path, {"app/a.jar": "PK"}, {"app/.wh.a.jar": ""}).unread == ()


def test_an_ordinary_program_and_a_text_about_go_are_no_gap(tmp_path: Path) -> None:
    layer = {"bin/sh": b"\x7fELF" + bytes(5000), "doc": b"see \xff Go buildinf:" + bytes(2000)}
    assert inventory(tmp_path, layer).unread == ()


def test_many_archives_are_summed_up(tmp_path: Path) -> None:
    found = inventory(tmp_path, {f"app/{n:03}.jar": "PK" for n in range(120)})
    assert len(found.unread) == 50
    assert found.unread[-1].reason.endswith("70 more Java archives could not be read")


def test_a_package_file_that_is_too_large_is_named(tmp_path: Path) -> None:
    huge = '{"name":"a","version":"1.0.0","x":"' + "y" * (5 << 20) + '"}'
    (record,) = inventory(tmp_path, {"node_modules/a/package.json": huge}).unread
    assert record.kind == "npm"
    assert "more than 4194304" in record.reason


def test_paths_that_are_no_utf8_can_be_reported(tmp_path: Path) -> None:
    path = b"opt/\xff/a-1.0.dist-info/METADATA".decode("utf-8", "surrogateescape")
    (package,) = inventory(tmp_path, {path: "Name: a\nVersion: 1.0\n\n"}).packages
    assert package.path.encode() == rb"opt/\xff/a-1.0.dist-info/METADATA"


# --- distribution


def test_os_release_is_read_with_quotes_and_comments() -> None:
    text = b'# c\nNAME=\'x\'\nID="Ubuntu"\nVERSION_ID="22.04"\nPRETTY_NAME="U \\"22\\""\nbroken\n'
    assert parse_os_release(text) == Distribution(
        id="ubuntu", version="22.04", pretty_name='U "22"'
    )


def test_an_os_release_without_id_names_nothing() -> None:
    assert parse_os_release(b'NAME="x"\n') is None


@pytest.mark.parametrize(
    ("id", "version", "release"),
    [
        ("debian", "12", "12"),
        ("alpine", "3.20.1", "3.20"),
        ("almalinux", "9.4", "9"),
        ("sles", "15.6", "15.6"),
    ],
)
def test_the_release_is_what_support_goes_by(id: str, version: str, release: str) -> None:  # noqa: A002
    assert release_of(Distribution(id=id, version=version)) == release


@pytest.mark.parametrize(
    ("id", "version", "over"),
    [
        ("debian", "10", True),
        ("debian", "12", False),
        ("ubuntu", "18.04", True),
        ("ubuntu", "24.04", False),
        ("alpine", "3.17.3", True),
        ("centos", "7", True),
        ("rocky", "9.3", False),
        ("fedora", "40", True),
        ("fedora", "43", False),
        ("amzn", "2018.03", True),
        ("amzn", "2023", False),
        ("ol", "7.9", True),
        ("sles", "15.6", True),
        ("sles", "15.7", False),
        ("opensuse-leap", "15.5", True),
        ("opensuse-leap", "16.0", False),
        ("photon", "3.0", True),
        ("mariner", "2.0.20240123", True),
        ("azurelinux", "3.0.20250311", False),
        ("wolfi", "20230201", False),
        ("chainguard", "20230214", False),
        ("opensuse-tumbleweed", "20250101", False),
        ("debian", "", None),
        ("fedora", "99", None),
        ("photon", "9.0", None),
        ("weirdos", "1", None),
    ],
)
def test_the_end_of_support_is_known_for_common_releases(
    id: str,  # noqa: A002
    version: str,
    over: bool | None,
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert with_end_of_life(Distribution(id=id, version=version), now).end_of_life is over


def test_support_lasts_until_the_end_of_its_last_day() -> None:
    buster = Distribution(id="debian", version="10")
    last = datetime(2024, 6, 30, 23, 59, tzinfo=UTC)
    assert with_end_of_life(buster, last).end_of_life is False
    assert with_end_of_life(buster, datetime(2024, 7, 1, tzinfo=UTC)).end_of_life is True

"""The genuine trivy finds in our database what stands in the OSV records, for each kind of bucket."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ci_registry.advisories.osv import parse_advisory
from tests.support.advisories import record
from tests.support.os_databases import apk_database, apk_record, rpm_header, rpm_sqlite
from tests.support.trivy_runs import root, sbom, trivy, write_database

pytestmark = pytest.mark.peer("trivy")
CVE = "CVE-2099-1000"


def write(cache: Path, *rows: Mapping[str, object]) -> None:
    made = write_database(
        cache, (parse_advisory(json.dumps(row).encode(), what="test") for row in rows)
    )
    assert made.left_out == ()


def update(ecosystem: str, name: str, fixed: str, identity: str, **more: Any) -> dict[str, Any]:
    """Return an update that fixes one CVE."""
    events = [{"introduced": "0"}, {"fixed": fixed}]
    return record(identity, ecosystem, name, events=events, related=[CVE], upstream=[CVE], **more)


def rpm_fields(nevr: str, source: str, vendor: str, module: str = "") -> dict[str, Any]:
    """Return the fields of a header from `name-version-release`."""
    name, version, release = nevr.rsplit("-", 2)
    fields: dict[str, Any] = {
        "name": name,
        "version": version,
        "release": release,
        "vendor": vendor,
    }
    fields["sourcerpm"] = f"{source}-{version}-{release}.src.rpm"
    return fields | ({"module": module} if module else {})


SUSE_UPDATE = update(
    "SUSE:Linux Enterprise Module for Basesystem 15 SP5", "demo", "1.2-1.1", "SUSE-SU-2099:1-1"
)
SUSE_UPDATE["affected"][0]["ecosystem_specific"] = {"binaries": [{"libdemo1": "1.2-1.1"}]}
NODE_18 = "nodejs:18:9010020221118120946:rhel9"
ALMA = 'ID="almalinux"\nVERSION_ID="9.4"\n'


@pytest.mark.parametrize(
    ("release", "fields", "row"),
    [
        (
            ALMA,
            rpm_fields("demo-libs-1.1-1.el9", "demo", "AlmaLinux"),
            update(
                "AlmaLinux:9", "demo-libs", "1.2-1.el9", "ALSA-2099:1", summary="Important: demo"
            ),
        ),
        (
            ALMA,
            rpm_fields("nodejs-1.1-1.module_el9.1.0+1", "nodejs", "AlmaLinux", NODE_18),
            update(
                "AlmaLinux:9",
                "nodejs",
                "1.2-1.module_el9.1.0+2",
                "ALSA-2099:1",
                summary="Important: nodejs:18 security update",
            ),
        ),
        (
            'ID="azurelinux"\nVERSION_ID="3.0"\nNAME="Microsoft Azure Linux"\n',
            rpm_fields("demo-libs-1.1-1.azl3", "demo", "Microsoft Corporation"),
            update("Azure Linux:3", "demo", "1.2-1.azl3", "AZL-1"),
        ),
        (
            'ID="mariner"\nVERSION_ID="2.0"\nNAME="Common Base Linux Mariner"\n',
            rpm_fields("demo-libs-1.1-1.cm2", "demo", "Microsoft Corporation"),
            update("Azure Linux:2", "demo", "1.2-1.cm2", "AZL-1"),
        ),
        (
            'ID=photon\nVERSION_ID=5.0\nNAME="VMware Photon OS"\n',
            rpm_fields("demo-libs-1.1-1.ph5", "demo", "VMware, Inc."),
            update("Photon OS:5.0", "demo", "1.2-1.ph5", "PHSA-2099-5.0-0001"),
        ),
        (
            'ID="sles"\nVERSION_ID="15.5"\nNAME="SLES"\n',
            rpm_fields("libdemo1-1.1-1.1", "demo", "SUSE LLC"),
            SUSE_UPDATE,
        ),
        (
            'ID="opensuse-leap"\nVERSION_ID="15.6"\nNAME="openSUSE Leap"\n',
            rpm_fields("demo-1.1-1.1", "demo", "openSUSE"),
            update("openSUSE:Leap 15.6", "demo", "1.2-1.1", "openSUSE-SU-2099:1-1"),
        ),
    ],
    ids=["alma", "alma-module", "azure", "mariner", "photon", "sles", "leap"],
)
def test_trivy_matches_rpm_families(
    tmp_path: Path, release: str, fields: dict[str, Any], row: dict[str, Any]
) -> None:
    write(tmp_path / "cache", row)
    database = {"var__lib__rpm__rpmdb.sqlite": rpm_sqlite(rpm_header(**fields))}
    folder = root(tmp_path / "root", release, **database)
    (found,) = trivy(tmp_path / "cache", tmp_path / "work", "rootfs", str(folder))
    assert (found["VulnerabilityID"], found["PkgName"]) == (CVE, fields["name"])
    assert found["FixedVersion"].startswith("1.2-1.")
    if "summary" in row:
        assert (found["Severity"], found["SeveritySource"]) == ("HIGH", "alma")


@pytest.mark.parametrize(
    ("release", "ecosystem", "identity"),
    [
        ("ID=alpine\nVERSION_ID=3.20.3\n", "Alpine:v3.20", "ALPINE-CVE-2099-1000"),
        ("ID=wolfi\nVERSION_ID=20230201\n", "Wolfi", "CGA-1"),
        ("ID=chainguard\nVERSION_ID=20230201\n", "Chainguard", "CGA-1"),
        ("ID=minimos\nVERSION_ID=20230201\n", "MinimOS", "MINI-1"),
    ],
)
def test_trivy_matches_apk_families(
    tmp_path: Path, release: str, ecosystem: str, identity: str
) -> None:
    write(tmp_path / "cache", update(ecosystem, "demo", "1.2-r3", identity))
    database = apk_database(apk_record("demo-libs", "1.2-r2", origin="demo")).encode()
    more = {"etc__alpine-release": b"3.20.3\n"} if ecosystem.startswith("Alpine") else {}
    folder = root(tmp_path / "root", release, lib__apk__db__installed=database, **more)
    (found,) = trivy(tmp_path / "cache", tmp_path / "work", "rootfs", str(folder))
    assert (found["VulnerabilityID"], found["PkgName"]) == (CVE, "demo-libs")
    assert found["FixedVersion"] == "1.2-r3"


_STATUS = """Package: demo-libs
Status: install ok installed
Source: demo
Version: 1.1-1
Architecture: amd64
Maintainer: Somebody <somebody@example.org>

"""


@pytest.mark.parametrize(
    ("release", "ecosystem", "files"),
    [
        ("ID=debian\nVERSION_ID=12\n", "Debian:12", {"etc__debian_version": b"12.5\n"}),
        (
            "ID=ubuntu\nVERSION_ID=22.04\n",
            "Ubuntu:22.04:LTS",
            {"etc__lsb-release": b"DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=22.04\n"},
        ),
    ],
)
def test_trivy_matches_deb_families(
    tmp_path: Path, release: str, ecosystem: str, files: dict[str, bytes]
) -> None:
    write(tmp_path / "cache", update(ecosystem, "demo", "1.1-2", f"X-{CVE}"))
    status = {"var__lib__dpkg__status": _STATUS.encode()}
    folder = root(tmp_path / "root", release, **status, **files)
    (found,) = trivy(tmp_path / "cache", tmp_path / "work", "rootfs", str(folder))
    assert (found["VulnerabilityID"], found["PkgName"]) == (CVE, "demo-libs")


LANGUAGES = [
    ("PyPI", "Demo_Tool", "pkg:pypi/demo-tool", "1.1.0", "1.2.0"),
    ("PyPI", "demo", "pkg:pypi/demo", "1.2.0rc1", "1.2.0"),
    ("npm", "@scope/demo", "pkg:npm/%40scope/demo", "1.1.0", "1.2.0"),
    ("npm", "demo", "pkg:npm/demo", "1.2.0-rc.1", "1.2.0"),
    ("Go", "example.org/demo", "pkg:golang/example.org/demo", "v1.1.0", "1.2.0"),
    (
        "Go",
        "example.org/demo",
        "pkg:golang/example.org/demo",
        "v0.0.0-20210101000000-abcdef012345",
        "0.0.0-20220101000000-abcdef012345",
    ),
    ("crates.io", "demo", "pkg:cargo/demo", "1.1.0", "1.2.0"),
    ("RubyGems", "demo", "pkg:gem/demo", "1.2.0.pre1", "1.2.0"),
    ("Maven", "org.demo:demo", "pkg:maven/org.demo/demo", "1.2.0-rc1", "1.2.0"),
    ("NuGet", "Demo.Core", "pkg:nuget/Demo.Core", "1.1.0", "1.2.0"),
    ("Packagist", "vendor/demo", "pkg:composer/vendor/demo", "1.1.0", "1.2.0"),
    ("Bitnami", "demo", "pkg:bitnami/demo", "1.1.0-3", "1.2.0"),
]


@pytest.mark.parametrize("case", LANGUAGES, ids=lambda case: f"{case[0]} {case[3]}")
def test_trivy_matches_language_packages(
    tmp_path: Path, case: tuple[str, str, str, str, str]
) -> None:
    ecosystem, name, purl, installed, fixed = case
    rows = [
        record(
            "GHSA-1",
            ecosystem,
            name,
            events=[{"introduced": "0"}, {"fixed": fixed}],
            aliases=[CVE],
            summary="A title",
            database_specific={"severity": "HIGH"},
        ),
        record("GHSA-2", ecosystem, name, events=[{"introduced": "0"}], aliases=["CVE-2099-2000"]),
        record(
            "GHSA-3",
            ecosystem,
            name,
            events=[{"introduced": fixed}],
            versions=[installed.removeprefix("v")],
            aliases=["CVE-2099-3000"],
        ),
        record(
            "GHSA-4", ecosystem, name, events=[{"introduced": fixed}], aliases=["CVE-2099-4000"]
        ),
    ]
    write(tmp_path / "cache", *rows)
    file = sbom(tmp_path / "sbom", f"{purl}@{installed}")
    found = trivy(tmp_path / "cache", tmp_path / "work", "sbom", str(file))
    by_id = {item["VulnerabilityID"]: item for item in found}
    assert sorted(by_id) == [CVE, "CVE-2099-2000", "CVE-2099-3000"]
    first = by_id[CVE]
    assert (first["FixedVersion"], first["Title"]) == (fixed, "A title")
    assert (first["Severity"], first["SeveritySource"]) == ("HIGH", "ghsa")


@pytest.mark.parametrize("case", LANGUAGES, ids=lambda case: f"{case[0]} {case[3]}")
def test_trivy_does_not_match_fixed_language_packages(
    tmp_path: Path, case: tuple[str, str, str, str, str]
) -> None:
    ecosystem, name, purl, _, fixed = case
    row = record(
        "GHSA-1",
        ecosystem,
        name,
        events=[{"introduced": "0"}, {"fixed": fixed}],
        versions=["0.9.0"],
        aliases=[CVE],
    )
    write(tmp_path / "cache", row)
    version = f"v{fixed}" if ecosystem == "Go" else fixed
    file = sbom(tmp_path / "sbom", f"{purl}@{version}")
    assert trivy(tmp_path / "cache", tmp_path / "work", "sbom", str(file)) == []

"""Our matcher and the genuine trivy on the same real advisories: the same (package, version, CVE) set."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.advisories.aliases import causes_of, is_cve, names_of
from ci_registry.advisories.database import open_osv_folder
from ci_registry.advisories.match import match_inventory
from ci_registry.advisories.osv import Advisory, parse_advisory
from ci_registry.advisories.versions import is_version
from ci_registry.findings import Distribution, FindingKind, Package
from tests.support.advisories import DATA, inventory, pypi, rpm
from tests.support.os_databases import rpm_header, rpm_sqlite
from tests.support.trivy_runs import root, sbom, trivy, write_database

pytestmark = [
    pytest.mark.peer("trivy"),
    pytest.mark.skipif(not (DATA / "osv").is_dir(), reason="../shared/data/osv is not there"),
]
ALMA = Distribution(id="almalinux", version="9.4")
Hit = tuple[str, str, str]


def advisories(folder: str) -> Iterator[Advisory]:
    for path in sorted((DATA / "osv" / folder).glob("*.json")):
        yield parse_advisory(path.read_bytes(), what=path.name)


def versions(folder: str, ecosystem: str) -> list[tuple[str, str]]:
    """Return (package, version) at, and where the record lists versions also around, every event."""
    found = set()
    for path in sorted((DATA / "osv" / folder).glob("*.json")):
        for item in json.loads(path.read_text())["affected"]:
            assert item["package"]["ecosystem"] == ecosystem
            name = item["package"]["name"]
            events = [e for r in item["ranges"] if r["type"] != "GIT" for e in r["events"]]
            listed = item.get("versions", ())
            known = [v for e in events for v in e.values()] + [*listed[:1], *listed[-1:]]
            found |= {(name, v) for v in known if v != "0" and is_version(ecosystem, v)}
    return sorted(found)


def ours(folder: str, packages: list[Package], distribution: Distribution | None) -> set[Hit]:
    """Return what we find; an update stands for each of the CVEs that it fixes, as for trivy."""
    records = {advisory.id: advisory for advisory in advisories(folder)}
    source = open_osv_folder(DATA / "osv" / folder)
    result = match_inventory(inventory(*packages, distribution=distribution), source.lookup)
    assert all(finding.kind is FindingKind.AFFECTED for finding in result.findings)
    hits = set()
    for finding in result.findings:
        ids = [i for i in (finding.id, *finding.aliases) if i in records]
        names = {n for i in ids for n in names_of(records[i]) | causes_of(records[i])}
        cves = {name for name in names if is_cve(name)} or {finding.id}
        hits |= {(finding.package.name, finding.package.version, cve) for cve in cves}
    return hits


def theirs(found: list[dict[str, str]]) -> set[Hit]:
    return {(f["PkgName"], f["InstalledVersion"], f["VulnerabilityID"]) for f in found}


def test_almalinux_packages_have_the_same_findings(tmp_path: Path) -> None:
    pairs = [
        (n, v) for n, v in versions("AlmaLinux9", "AlmaLinux:9") if not n.startswith("glibc-l")
    ]
    packages = [rpm(name, version) for name, version in pairs]
    headers = []
    for name, evr in pairs:
        match = re.fullmatch(r"(?:(\d+):)?([^-]+)-(.+)", evr)
        assert match is not None
        epoch, version, release = match.groups()
        tags = {1003: [int(epoch)]} if epoch else {}
        headers.append(rpm_header(name=name, version=version, release=release, tags=tags))
    write_database(tmp_path / "cache", advisories("AlmaLinux9"))
    release = 'ID="almalinux"\nVERSION_ID="9.4"\n'
    folder = root(
        tmp_path / "root", release, **{"var__lib__rpm__rpmdb.sqlite": rpm_sqlite(*headers)}
    )
    found = theirs(trivy(tmp_path / "cache", tmp_path / "work", "rootfs", str(folder)))
    mine = {
        (name, version.removeprefix("0:"), cve)
        for name, version, cve in ours("AlmaLinux9", packages, ALMA)
    }
    assert mine == found
    assert len(found) > 1000


def test_python_packages_have_the_same_findings(tmp_path: Path) -> None:
    packages = [pypi(name, version) for name, version in versions("PyPI", "PyPI")]
    write_database(tmp_path / "cache", advisories("PyPI"))
    file = sbom(tmp_path / "sbom", *(package.purl for package in packages))
    found = theirs(trivy(tmp_path / "cache", tmp_path / "work", "sbom", str(file)))
    mine = {(name.lower(), version, cve) for name, version, cve in ours("PyPI", packages, None)}
    assert mine == found
    assert len(found) > 1000


def test_go_modules_have_the_same_findings(tmp_path: Path) -> None:
    packages = [
        Package(
            ecosystem="golang",
            name=name,
            version=f"v{version}",
            purl=f"pkg:golang/{name}@v{version}",
        )
        for name, version in versions("Go", "Go")
    ]
    write_database(tmp_path / "cache", advisories("Go"))
    file = sbom(tmp_path / "sbom", *(package.purl for package in packages))
    found = theirs(trivy(tmp_path / "cache", tmp_path / "work", "sbom", str(file)))
    assert ours("Go", packages, None) == found
    assert len(found) > 1000

"""The genuine trivy reads the databases that we write, offline, and reports what stands in them."""

import hashlib
import json
import os
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ci_registry.advisories.trivy_db import (
    TrivyAdvisory,
    TrivyCvss,
    TrivySource,
    TrivyStatus,
    TrivyVulnerability,
    read_trivy_db,
    write_trivy_db,
)
from ci_registry.findings import Severity
from tests.support.images import ImageSpec, debian_layer, make_layout
from tests.support.inspection import inspect_layout
from tests.support.peers import find_peer

pytestmark = pytest.mark.peer("trivy")
UPDATED = datetime(2026, 11, 1, tzinfo=UTC)
SAMPLE = Path(__file__).resolve().parents[2] / "../shared/data/trivy-db-from-sample-osv.tar.gz"
FLASK_METADATA = "Metadata-Version: 2.1\nName: Flask_Thing\nVersion: 1.0.0\n\nText\n"
PIP_METADATA = "Metadata-Version: 2.1\nName: pip\nVersion: 23.0\n\n"
METADATA_PATH = "usr/lib/python3/site-packages/flask_thing-1.0.0.dist-info/METADATA"


def scan(layout: Path, cache: Path, work: Path) -> dict[str, Any]:
    """Run trivy as the adapter does and return its report."""
    report = work / "report.json"
    trivy = find_peer("trivy")
    assert trivy is not None
    argv = [str(trivy), "image", "--input", str(layout), "--format", "json", "-o", str(report)]
    argv += ["--scanners", "vuln", "--cache-dir", str(cache), "--skip-db-update"]
    argv += ["--skip-java-db-update", "--offline-scan", "--skip-version-check"]
    argv += ["--disable-telemetry", "--config", "/dev/null", "--ignorefile", "/dev/null"]
    argv += ["--cache-backend", "memory"]
    env = {"HOME": str(work), "PATH": os.defpath}
    done = subprocess.run(
        argv, env=env, cwd=work, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def findings(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    results = report.get("Results", [])
    return {v["VulnerabilityID"]: v for r in results for v in r.get("Vulnerabilities", [])}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    base = debian_layer(
        ("libssl3", "3.0.11-1~deb12u2", "openssl"),
        ("zlib1g", "1:1.2.13.dfsg-1", "zlib"),
    )
    spec = ImageSpec(layers=[base, {METADATA_PATH: FLASK_METADATA}])
    return make_layout(tmp_path / "layout", spec).layout


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_trivy_reports_debian_and_python_findings_with_severity_and_fix(
    tmp_path: Path, layout: Path, work: Path
) -> None:
    pip = "pip::Test Advisories"
    records = [
        TrivyAdvisory(
            bucket="debian 12",
            package="openssl",
            id="CVE-2099-0001",
            fixed_version="3.0.11-1~deb12u3",
            vendor_ids=("DSA-9999-1",),
        ),
        TrivyAdvisory(
            bucket="debian 12",
            package="zlib",
            id="CVE-2099-0002",
            status=TrivyStatus.WILL_NOT_FIX,
            severity=Severity.LOW,
        ),
        TrivyAdvisory(
            bucket=pip,
            package="Flask_Thing",
            id="CVE-2099-0003",
            vulnerable_versions=(">=0, <1.0.1",),
            patched_versions=("1.0.1",),
        ),
        TrivyAdvisory(bucket="debian 12", package="openssl", id="CVE-2099-0004", fixed_version="1"),
    ]
    details = [
        TrivyVulnerability(
            id="CVE-2099-0001",
            title="A title",
            severity=Severity.CRITICAL,
            vendor_severity={"debian": Severity.HIGH, "nvd": Severity.CRITICAL},
            cvss={
                "nvd": TrivyCvss(
                    v3_vector="CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", v3_score=9.0
                )
            },
            references=("https://example.org/1",),
            published_at=UPDATED,
        ),
        TrivyVulnerability(id="CVE-2099-0002", vendor_severity={"nvd": Severity.CRITICAL}),
        TrivyVulnerability(id="CVE-2099-0003", vendor_severity={"ghsa": Severity.MEDIUM}),
    ]
    source = TrivySource(id="ghsa", name="Test Advisories", url="https://example.org")
    write_trivy_db(tmp_path / "cache", records, details, updated_at=UPDATED, sources={pip: source})

    found = findings(scan(layout, tmp_path / "cache", work))

    assert sorted(found) == ["CVE-2099-0001", "CVE-2099-0002", "CVE-2099-0003"]
    openssl, zlib, flask = (found[key] for key in sorted(found))
    assert (openssl["PkgName"], openssl["FixedVersion"]) == ("libssl3", "3.0.11-1~deb12u3")
    assert (openssl["Severity"], openssl["SeveritySource"]) == ("HIGH", "debian")
    assert openssl["VendorSeverity"] == {"debian": 3, "nvd": 4}
    assert openssl["CVSS"]["nvd"]["V3Score"] == 9.0
    assert (openssl["Title"], openssl["VendorIDs"]) == ("A title", ["DSA-9999-1"])
    assert openssl["DataSource"]["ID"] == "debian"
    assert (zlib["Severity"], zlib["SeveritySource"]) == ("LOW", "debian")
    assert (zlib["Status"], zlib.get("FixedVersion")) == ("will_not_fix", None)
    assert (flask["Severity"], flask["FixedVersion"]) == ("MEDIUM", "1.0.1")
    assert flask["PkgName"] == "Flask_Thing"


def test_trivy_finds_each_package_in_a_database_of_many_pages(
    tmp_path: Path, layout: Path, work: Path
) -> None:
    records = [
        TrivyAdvisory(
            bucket="debian 12", package=f"package-{n:05}", id=f"CVE-2099-{n:05}", fixed_version="2"
        )
        for n in range(20_000)
    ]
    records += [
        TrivyAdvisory(
            bucket="debian 12", package="openssl", id=f"CVE-2098-{n:05}", fixed_version="9"
        )
        for n in range(500)
    ]
    records += [
        TrivyAdvisory(
            bucket="pip::Many", package=f"p{n}", id="CVE-2097-1", vulnerable_versions=("<2",)
        )
        for n in range(3_000)
    ]
    records.append(
        TrivyAdvisory(
            bucket="pip::Many", package="flask-thing", id="CVE-2097-1", vulnerable_versions=("<2",)
        )
    )
    details = [
        TrivyVulnerability(id=f"CVE-2098-{n:05}", description="x" * 9000, severity=Severity.HIGH)
        for n in range(500)
    ]
    write_trivy_db(tmp_path / "cache", records, details, updated_at=UPDATED)

    found = findings(scan(layout, tmp_path / "cache", work))

    assert sorted(found) == ["CVE-2097-1", *(f"CVE-2098-{n:05}" for n in range(500))]
    assert {v["Severity"] for k, v in found.items() if k != "CVE-2097-1"} == {"HIGH"}
    assert len(found["CVE-2098-00499"]["Description"]) == 9000
    assert len(read_trivy_db(tmp_path / "cache").packages_in("debian 12")) == 20_001


def test_our_inventory_lists_the_packages_that_trivy_lists(tmp_path: Path, work: Path) -> None:
    site, modules = "usr/lib/python3/dist-packages", "app/node_modules"
    base = debian_layer(("libssl3", "3.0.11-1~deb12u2", "openssl"), ("python3-pip", "23.0", ""))
    pip, pip_path = PIP_METADATA, f"{site}/pip-23.0.dist-info/METADATA"
    base |= {
        pip_path: pip,
        "var/lib/dpkg/info/python3-pip.list": f"/.\n/{pip_path}\n",
        "var/lib/dpkg/info/python3-pip.md5sums": f"{hashlib.md5(pip.encode()).hexdigest()}  {pip_path}\n",
        "var/lib/dpkg/info/libssl3.list": "/.\n",
        f"{site}/gone-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: gone\nVersion: 1.0\n\n",
    }
    app = {
        METADATA_PATH: FLASK_METADATA,
        f"{site}/.wh.gone-1.0.dist-info": "",
        f"{modules}/@s/a/package.json": '{"name":"@s/a","version":"1.0.0"}',
        f"{modules}/b/vendor/c/package.json": '{"name":"c","version":"2.0.0"}',
    }
    made = make_layout(tmp_path / "layout", ImageSpec(layers=[base, app], compression="zstd"))
    record = TrivyAdvisory(bucket="debian 12", package="x", id="CVE-2099-1", fixed_version="1")
    write_trivy_db(tmp_path / "cache", [record], [], updated_at=UPDATED)

    report = scan(made.layout, tmp_path / "cache", work)

    theirs = sorted(p["Name"] for r in report["Results"] for p in r.get("Packages", []))
    packages = inspect_layout(made.layout).platforms[0].inventory.packages
    assert sorted(p.name for p in packages if not p.owner) == theirs
    assert [p.name for p in packages if p.owner] == ["pip"]


@pytest.mark.skipif(not SAMPLE.exists(), reason="../shared/data is not there")
def test_a_database_from_another_writer_is_read_as_trivy_reads_it(
    tmp_path: Path, work: Path
) -> None:
    (tmp_path / "cache/db").mkdir(parents=True)
    with tarfile.open(SAMPLE) as tar:
        tar.extractall(tmp_path / "cache/db", filter="data")
    database = read_trivy_db(tmp_path / "cache")
    bucket = next(b for b in database.buckets if b.startswith("pip::"))

    assert database.updated_at == UPDATED
    assert "alma 9" in database.buckets
    assert "jinja2" in database.packages_in(bucket)
    metadata = "Metadata-Version: 2.1\nName: Jinja2\nVersion: 2.4\n\n"
    files = {"usr/lib/python3/site-packages/jinja2-2.4.dist-info/METADATA": metadata}
    spec = ImageSpec(layers=[debian_layer(("a", "1", "")), files])
    made = make_layout(tmp_path / "layout", spec)
    assert findings(scan(made.layout, tmp_path / "cache", work))

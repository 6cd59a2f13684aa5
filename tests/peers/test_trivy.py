"""The real trivy, offline, on images and databases made here."""

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ci_registry.advisories.database import open_osv_folder
from ci_registry.advisories.trivy_db import TrivyAdvisory
from ci_registry.errors import ToolError
from ci_registry.findings import Finding, FindingKind, Gap, ScanResult
from ci_registry.scanners.ignored import ignored_files
from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.osv import OsvScanner
from ci_registry.scanners.trivy_report import TrivyReport, parse_report
from tests.support.advisories import DATA, record, write_osv_folder
from tests.support.images import ImageSpec, debian_layer, make_layout
from tests.support.peers import find_peer
from tests.support.trivy_cases import (
    CASES,
    GOLDEN,
    NOW,
    OPENSSL,
    PIP,
    inventory_of,
    make_database,
    node_module,
    scanner_for,
    view_of,
    wheel,
)

pytestmark = pytest.mark.peer("trivy")


@pytest.fixture(name="database", scope="module")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("database"))


def _gaps(result: ScanResult) -> list[tuple[Gap, str]]:
    return [(g.gap, g.ecosystem) for g in result.coverage.gaps]


def _stable(report: TrivyReport) -> TrivyReport:
    """Leave out what depends on trivy's version and on today's date."""
    return replace(report, trivy_version="", end_of_life=False)


@pytest.mark.parametrize("case", sorted(CASES))
def test_recordings_are_what_trivy_writes(tmp_path: Path, database: Path, case: str) -> None:
    view = view_of(tmp_path, case)
    scanner_for(database).scan(view)
    fresh = parse_report((view.work / "report.json").read_bytes())
    recorded = parse_report((GOLDEN / case / "report.json").read_bytes())
    assert _stable(fresh) == _stable(recorded)


def test_probe_finds_a_usable_trivy(database: Path) -> None:
    info = scanner_for(database).probe()
    assert info.version.startswith("0.")
    assert len(info.sha256) == 64


def test_covered_image_gives_findings_and_no_gap(tmp_path: Path, database: Path) -> None:
    result = scanner_for(database).scan(view_of(tmp_path, "findings"))
    assert {f.id for f in result.findings} == {
        "CVE-2026-1000",
        "CVE-2026-1001",
        "CVE-2026-2000",
        "CVE-2026-3000",
    }
    assert result.coverage.gaps == ()
    assert result.tool_exit_code == 0


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
def test_every_compression_gives_the_same(tmp_path: Path, database: Path, compression: str) -> None:
    made = make_layout(tmp_path / "layout", replace(CASES["findings"], compression=compression))
    (tmp_path / "work").mkdir()
    view = ImageView(layout=made.layout, inventory=inventory_of(made), work=tmp_path / "work")
    result = scanner_for(database).scan(view)
    assert len(result.findings) == 4
    assert result.coverage.gaps == ()


def test_other_platform_is_scanned_as_itself(tmp_path: Path, database: Path) -> None:
    result = scanner_for(database).scan(view_of(tmp_path, "arm64"))
    assert result.platform.startswith("linux/arm64")
    assert result.coverage.gaps == ()
    assert len(result.findings) == 1


def test_files_and_variables_of_the_user_silence_nothing(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".trivyignore").write_text("CVE-2026-1000\nCVE-2026-2000\n")
    (project / "trivy.yaml").write_text("severity: [CRITICAL]\n")
    monkeypatch.chdir(project)
    env = {**os.environ, "TRIVY_SEVERITY": "CRITICAL", "TRIVY_IGNOREFILE": str(project)}
    result = scanner_for(database, env=env).scan(view_of(tmp_path, "findings"))
    assert len(result.findings) == 4
    assert ignored_files(project) == (".trivyignore", "trivy.yaml")


def test_old_database_is_stale_although_trivy_accepts_it(tmp_path: Path, database: Path) -> None:
    late = scanner_for(database, now=NOW + timedelta(days=7 * 365))
    result = late.scan(view_of(tmp_path, "clean"))
    assert (Gap.DATABASE_STALE, "") in _gaps(result)
    assert result.tool_exit_code == 0


def test_database_without_any_bucket_of_the_image_is_never_clean(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "db", (TrivyAdvisory(bucket="alpine 3.20", package="musl", id="CVE-2026-1"),)
    )
    result = scanner_for(database).scan(view_of(tmp_path, "findings"))
    assert result.findings == ()
    assert _gaps(result) == [(Gap.NO_DATA, kind) for kind in ("deb", "npm", "pypi")]


def test_scans_leave_the_database_alone_and_run_side_by_side(
    tmp_path: Path, database: Path
) -> None:
    path = database / "db" / "trivy.db"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    scanner = scanner_for(database)

    def scan(number: int) -> int:
        folder = tmp_path / str(number)
        folder.mkdir()
        return len(scanner.scan(view_of(folder, "findings")).findings)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(scan, range(4))) == [4, 4, 4, 4]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_trivy_that_takes_too_long_is_a_tool_error(tmp_path: Path, database: Path) -> None:
    with pytest.raises(ToolError, match="did not finish"):
        scanner_for(database, timeout_s=0.0).scan(view_of(tmp_path, "findings"))


def test_layer_that_trivy_cannot_unpack_is_a_tool_error(tmp_path: Path, database: Path) -> None:
    view = view_of(tmp_path, "clean")
    broken = make_layout(tmp_path / "broken", ImageSpec(layers=[b"no tar" * 200]))
    index = json.loads((broken.layout / "index.json").read_text())
    assert len(index["manifests"]) == 1
    inventory = replace(view.inventory, config_digest=str(broken.configs[0]))
    with pytest.raises(ToolError, match="wrote no report"):
        scanner_for(database).scan(
            ImageView(layout=broken.layout, inventory=inventory, work=view.work)
        )


_PANICKING = '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = --output ] && printf \'{"Sch\' > "$2"; shift; done\nexit 2\n'


def test_program_that_dies_while_writing_is_a_tool_error(tmp_path: Path, database: Path) -> None:
    program = tmp_path / "trivy"
    program.write_text(_PANICKING)
    program.chmod(0o755)
    with pytest.raises(ToolError, match="exit code 2 and half a report"):
        scanner_for(database, program=program).scan(view_of(tmp_path, "findings"))


_AGREED = (
    ("openssl", "Debian:12", "CVE-2026-1000", "3.0.12-1~deb12u1"),
    ("zlib", "Debian:12", "CVE-2026-1001", ""),
    ("epoch", "Debian:12", "CVE-2026-1002", "1:0.5"),
    ("tilde", "Debian:12", "CVE-2026-1003", "2.0"),
    ("demo-tool", "PyPI", "CVE-2026-2000", "2.2"),
    ("pre", "PyPI", "CVE-2026-2001", "2.0rc1"),
    ("zope-x", "PyPI", "CVE-2026-2002", "3.0"),
    ("@scope/left", "npm", "CVE-2026-3000", "1.2.0"),
    ("pre", "npm", "CVE-2026-3001", "1.0.0"),
)
_IMAGE = ImageSpec(
    layers=[
        debian_layer(
            OPENSSL,
            ("openssl", "3.0.12-1~deb12u1", ""),
            ("zlib1g", "1:1.2.13.dfsg-1", "zlib (1:1.2.13)"),
            ("epoch", "9.9-1", ""),
            ("epoch2", "2:0.1-1", "epoch"),
            ("tilde", "2.0~rc1", ""),
        ),
        wheel("Demo_Tool", "2.1")
        | wheel("pre", "2.0b3")
        | wheel("zope_x", "3.0.post1")
        | node_module("@scope/left", "1.1.9")
        | node_module("pre", "1.0.0-rc.9")
        | node_module("fine", "1.0.0"),
    ]
)


def _osv(tmp_path: Path) -> Path:
    records = []
    for name, ecosystem, identity, fix in _AGREED:
        events = [{"introduced": "0"}, *([{"fixed": fix}] if fix else [])]
        records.append(record(identity, ecosystem, name, events=events))
    return write_osv_folder(tmp_path / "osv", *records, built="2026-06-01T06:00:00Z")


def _trivy(tmp_path: Path) -> Path:
    advisories = []
    for name, ecosystem, identity, fix in _AGREED:
        if ecosystem == "Debian:12":
            advisories.append(
                TrivyAdvisory(bucket="debian 12", package=name, id=identity, fixed_version=fix)
            )
        else:
            bucket = PIP if ecosystem == "PyPI" else PIP.replace("pip", "npm")
            advisories.append(
                TrivyAdvisory(
                    bucket=bucket,
                    package=name,
                    id=identity,
                    vulnerable_versions=(f"<{fix}",),
                    patched_versions=(fix,),
                )
            )
    return make_database(tmp_path / "trivy", tuple(advisories))


def _facts(findings: Iterable[Finding]) -> set[tuple[str, str, str, tuple[str, ...]]]:
    return {(f.id, f.package.name, f.package.version, f.fixed_versions) for f in findings}


def test_embedded_scanner_and_trivy_agree(tmp_path: Path) -> None:
    made = make_layout(tmp_path / "layout", _IMAGE)
    (tmp_path / "work").mkdir()
    view = ImageView(layout=made.layout, inventory=inventory_of(made), work=tmp_path / "work")
    theirs = scanner_for(_trivy(tmp_path)).scan(view)
    embedded = OsvScanner(
        source=open_osv_folder(_osv(tmp_path)),
        now=lambda: NOW,
        max_db_age=timedelta(hours=48),
    )
    ours = embedded.scan(view)
    assert _facts(ours.findings) == _facts(theirs.findings)
    assert len(ours.findings) == 8
    assert ours.coverage.gaps == theirs.coverage.gaps == ()


@pytest.mark.skipif(not DATA.is_dir(), reason="no sample advisories beside the checkout")
def test_embedded_scanner_finds_all_that_trivy_finds_in_real_python_advisories(
    tmp_path: Path,
) -> None:
    folder = DATA / "osv" / "PyPI"
    versions: dict[str, set[str]] = {}
    for path in folder.glob("*.json"):
        for affected in json.loads(path.read_bytes())["affected"]:
            listed = affected.get("versions", [])[::7]
            versions.setdefault(affected["package"]["name"], set()).update(listed)
    files = {}
    for name, listed in versions.items():
        for number, version in enumerate(sorted(listed)):
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            files[f"opt/{number}/{name}-{version}.dist-info/METADATA"] = text
    made = make_layout(tmp_path / "layout", ImageSpec(layers=[files]))
    (tmp_path / "work").mkdir()
    view = ImageView(layout=made.layout, inventory=inventory_of(made), work=tmp_path / "work")
    with tarfile.open(DATA / "trivy-db-from-sample-osv.tar.gz") as archive:
        archive.extractall(tmp_path / "trivy" / "db", filter="data")
    theirs = scanner_for(tmp_path / "trivy").scan(view)
    ours = OsvScanner(
        source=open_osv_folder(folder), now=lambda: NOW, max_db_age=timedelta(hours=48)
    ).scan(view)

    def found(result: ScanResult) -> set[tuple[str, str, str]]:
        kind = FindingKind.AFFECTED
        return {
            (f.id, f.package.name, f.package.version) for f in result.findings if f.kind is kind
        }

    assert found(theirs) <= found(ours)
    # trivy goes by ranges alone; ours are versions that the record lists, legacy spellings too
    assert len(found(ours) - found(theirs)) < 10
    assert len(found(theirs)) > 5000


def test_version_is_read_from_the_program_itself() -> None:
    program = find_peer("trivy")
    assert program is not None
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("Version: ")

"""Packages that our readers found in programs and system databases meet their advisories."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from ci_registry.advisories.database import open_osv_folder
from ci_registry.findings import FindingKind, Gap, ScanResult
from ci_registry.scanners.osv import OsvScanner
from tests.support.advisories import record, write_osv_folder
from tests.support.images import Files, ImageSpec, make_layout
from tests.support.inspection import inspect_layout
from tests.support.os_databases import (
    ALMA_RELEASE,
    APK_RELEASE,
    apk_database,
    apk_record,
    rpm_header,
    rpm_sqlite,
)
from tests.support.programs import go_program

NOW = datetime(2026, 6, 2, tzinfo=UTC)
BELOW_2 = [{"introduced": "0"}, {"fixed": "2.0.0"}]
RECORDS = (
    record("GO-1", "Go", "example.com/acme/app", events=BELOW_2, range_type="SEMVER"),
    record("GO-2", "Go", "github.com/Acme/Lib", events=BELOW_2, range_type="SEMVER"),
    record("GO-3", "Go", "stdlib", events=[{"introduced": "1.22.0-0"}, {"fixed": "1.22.2"}]),
    record(
        "ALPINE-1", "Alpine:v3.20", "openssl", events=[{"introduced": "0"}, {"fixed": "3.3.2-r2"}]
    ),
    record(
        "ALSA-1", "AlmaLinux:9", "bash", events=[{"introduced": "0"}, {"fixed": "1:5.1.8-9.el9"}]
    ),
)
ECOSYSTEMS = ("Go", "Alpine:v3.20", "AlmaLinux:9", "PyPI")


def scan(tmp_path: Path, files: Files) -> ScanResult:
    made = make_layout(tmp_path / "layout", ImageSpec(layers=[files]))
    folder = write_osv_folder(tmp_path / "db", *RECORDS, ecosystems=ECOSYSTEMS)
    scanner = OsvScanner(
        source=open_osv_folder(folder), now=lambda: NOW, max_db_age=timedelta(hours=48)
    )
    return scanner.match(inspect_layout(made.layout).platforms[0].inventory)


def found(result: ScanResult) -> dict[str, FindingKind]:
    return {finding.id: finding.kind for finding in result.findings}


def test_a_module_from_a_work_tree_with_an_advisory_is_undecided(tmp_path: Path) -> None:
    result = scan(tmp_path, {"etc/os-release": ALMA_RELEASE, "app": go_program()})
    assert found(result) == {
        "GO-1": FindingKind.UNDECIDED,
        "GO-2": FindingKind.AFFECTED,
        "GO-3": FindingKind.AFFECTED,
    }
    assert (Gap.UNDECIDED, "golang") in {(g.gap, g.ecosystem) for g in result.coverage.gaps}


def test_apk_packages_meet_the_advisories_of_their_origin(tmp_path: Path) -> None:
    database = apk_database(apk_record("libssl3", "3.3.2-r1", origin="openssl"))
    files = {"etc/os-release": APK_RELEASE, "lib/apk/db/installed": database}
    assert found(scan(tmp_path, files)) == {"ALPINE-1": FindingKind.AFFECTED}


def test_rpm_packages_meet_the_advisories_of_their_name_and_epoch(tmp_path: Path) -> None:
    headers = [
        rpm_header(name="bash", version="5.1.8", release="6.el9", epoch=1),
        rpm_header(name="bash", version="5.1.8", release="9.el9", epoch=1, arch="i686"),
    ]
    files: Files = {
        "etc/os-release": ALMA_RELEASE,
        "var/lib/rpm/rpmdb.sqlite": rpm_sqlite(*headers),
    }
    result = scan(tmp_path, files)
    assert [(f.id, f.package.version) for f in result.findings] == [("ALSA-1", "1:5.1.8-6.el9")]
    assert result.coverage.gaps == ()


def test_a_program_that_the_distribution_made_meets_no_advisory_of_its_modules(
    tmp_path: Path,
) -> None:
    program = go_program()
    database = apk_database(apk_record("tool", "1-r0", files={"usr/bin/tool": program}))
    files: Files = {
        "etc/os-release": APK_RELEASE,
        "lib/apk/db/installed": database,
        "usr/bin/tool": program,
    }
    result = scan(tmp_path, files)
    assert result.findings == ()
    assert result.coverage.skipped_count == 4

"""The embedded scanner."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ci_registry.advisories.database import open_osv_folder
from ci_registry.errors import IntegrityError
from ci_registry.findings import Distribution, Gap, Package, ScanResult, ScanStatus, Severity
from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.osv import OsvScanner
from tests.support.advisories import (
    DATA,
    deb,
    inventory,
    npm,
    pypi,
    record,
    write_osv_folder,
)

NOW = datetime(2026, 6, 2, tzinfo=UTC)
RECORDS = (
    record(
        "DEBIAN-CVE-2026-1000",
        "Debian:12",
        "openssl",
        events=[{"introduced": "0"}, {"fixed": "3.0.11-2"}],
        upstream=["CVE-2026-1000"],
    ),
    record("GHSA-1", database_specific={"severity": "CRITICAL"}),
    record("GHSA-2", "npm", "left", range_type="SEMVER"),
)


def _scanner(folder: Path, now: datetime = NOW) -> OsvScanner:
    return OsvScanner(
        source=open_osv_folder(folder), now=lambda: now, max_db_age=timedelta(hours=48)
    )


def _gaps(result: ScanResult) -> list[tuple[Gap, str]]:
    return [(g.gap, g.ecosystem) for g in result.coverage.gaps]


def test_scan_gives_findings_and_coverage(tmp_path: Path) -> None:
    scanner = _scanner(write_osv_folder(tmp_path / "db", *RECORDS))
    subject = inventory(
        deb("libssl3", "3.0.11-1", "openssl"),
        pypi("demo", "1.0"),
        pypi("demo", "1.0", owner="python3-demo", path="usr/lib"),
        npm("left", "1.1.0"),
    )
    view = ImageView(layout=tmp_path, inventory=subject, work=tmp_path)
    result = scanner.scan(view)
    assert [(f.id, f.package.name) for f in result.findings] == [
        ("GHSA-1", "demo"),
        ("CVE-2026-1000", "libssl3"),
        ("GHSA-2", "left"),
    ]
    assert result.findings[0].severity is Severity.CRITICAL
    assert result.status is ScanStatus.COMPLETE
    assert result.scanner == "osv"
    assert result.coverage.gaps == ()
    assert result.coverage.skipped_count == 1
    assert result.coverage.package_counts == (("deb", 1), ("npm", 1), ("pypi", 2))
    assert result.coverage.databases[0].digest.startswith("sha256:")
    assert result.coverage.config_digest == subject.config_digest


def test_clean_image_that_is_covered_has_neither_finding_nor_gap(tmp_path: Path) -> None:
    scanner = _scanner(write_osv_folder(tmp_path, *RECORDS))
    result = scanner.match(inventory(deb("openssl", "3.0.11-2")))
    assert (result.findings, result.coverage.gaps) == ((), ())


@pytest.mark.parametrize(
    ("distribution", "gap"),
    [
        (Distribution(id="weirdos", version="1"), Gap.UNKNOWN_DISTRIBUTION),
        (Distribution(id="debian", version="99"), Gap.NO_DATA),
        (Distribution(id="debian", version="13"), Gap.NO_DATA),
        (None, Gap.UNKNOWN_DISTRIBUTION),
    ],
)
def test_release_without_data_is_never_clean(
    tmp_path: Path, distribution: Distribution | None, gap: Gap
) -> None:
    scanner = _scanner(write_osv_folder(tmp_path, *RECORDS))
    result = scanner.match(inventory(deb("openssl", "3.0.11-1"), distribution=distribution))
    assert result.findings == ()
    assert (gap, "deb") in _gaps(result)


def test_old_database_is_a_gap(tmp_path: Path) -> None:
    scanner = _scanner(write_osv_folder(tmp_path, *RECORDS), now=NOW + timedelta(days=3))
    assert _gaps(scanner.match(inventory(deb("a", "1")))) == [(Gap.DATABASE_STALE, "")]


def test_absent_database_is_a_gap(tmp_path: Path) -> None:
    scanner = _scanner(tmp_path / "none")
    assert _gaps(scanner.match(inventory(deb("a", "1")))) == [(Gap.DATABASE_ABSENT, "")]
    assert "absent" in scanner.probe().database


def test_listed_ecosystem_without_records_is_a_gap_and_a_note(tmp_path: Path) -> None:
    scanner = _scanner(write_osv_folder(tmp_path, RECORDS[0]))
    result = scanner.match(inventory(deb("a", "1"), pypi("demo", "1.0")))
    assert _gaps(result) == [(Gap.NO_DATA, "pypi")]
    assert "database.json lists PyPI, but there is no record of it" in result.notes


def test_kind_that_this_scanner_has_no_advisories_for_is_a_gap(tmp_path: Path) -> None:
    folder = write_osv_folder(tmp_path, record("HEX-1", "Hex", "a"), ecosystems=["Hex"])
    subject = inventory(Package(ecosystem="hex", name="a", version="1", purl="pkg:hex/a@1"))
    gaps = _gaps(_scanner(folder, NOW - timedelta(days=400)).match(subject))
    assert (Gap.NO_DATA, "hex") in gaps


def test_version_nobody_can_parse_is_a_gap(tmp_path: Path) -> None:
    scanner = _scanner(write_osv_folder(tmp_path, *RECORDS))
    result = scanner.match(inventory(deb("a", "1"), pypi("demo", "unknown")))
    assert _gaps(result) == [(Gap.UNDECIDED, "pypi")]


def test_damaged_database_ends_the_scan(tmp_path: Path) -> None:
    write_osv_folder(tmp_path, *RECORDS)
    (tmp_path / "records" / "GHSA-1.json").write_text("{")
    with pytest.raises(IntegrityError):
        _scanner(tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="no sample advisories beside the checkout")
def test_real_python_advisories_match_a_real_old_release() -> None:
    scanner = _scanner(DATA / "osv" / "PyPI")
    findings = scanner.match(inventory(pypi("Django", "3.2.0"), distribution=None)).findings
    ids = {f.id for f in findings}
    assert "CVE-2022-34265" in ids  # fixed in 3.2.14
    assert "CVE-2021-3281" not in ids  # fixed in 3.1.6, before 3.2

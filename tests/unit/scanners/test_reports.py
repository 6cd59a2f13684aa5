"""Reports of other scanners: what is read from each format, and what each does not say.

The reports under `tests/golden/scanners/reports` are hand-written, each with the least that its program
writes (trivy 0.76, grype 0.121, osv-scanner 2, docker scout and snyk, the last two after their
documentation). `python -m tests.unit.scanners.test_reports` writes what is read from them.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ci_registry.errors import IntegrityError, ToolError, UsageError
from ci_registry.findings import Distribution, Gap, Inventory, Package, ScanResult
from ci_registry.scanners.from_report import ReportScanner
from ci_registry.scanners.given_report import GivenReport
from ci_registry.scanners.report_formats import read_report

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "scanners" / "reports"
CASES = sorted(path.name for path in GOLDEN.iterdir())
NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
INVENTORY = Inventory(
    platform="linux/amd64",
    manifest_digest="sha256:" + "a" * 64,
    config_digest="sha256:" + "c" * 64,
    distribution=Distribution(id="debian", version="12", end_of_life=False),
    packages=(
        Package(
            ecosystem="deb",
            name="libssl3",
            version="3.0.11-1~deb12u2",
            purl="pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12",
        ),
        Package(ecosystem="pypi", name="demo-tool", version="1.0", purl="pkg:pypi/demo-tool@1.0"),
    ),
    files_count=10,
)
NOTHING = Inventory(
    platform="unknown", manifest_digest="", config_digest="", distribution=None, packages=()
)


def document(case: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GOLDEN / case / "report.json").read_text())
    return loaded


def read(case: str, change: Callable[[dict[str, Any]], object] | None = None) -> GivenReport:
    """Return the report of a case, changed in place first."""
    loaded = document(case)
    if change is not None:
        change(loaded)
    return read_report(json.dumps(loaded).encode(), what="r.json")


def scan(
    *reports: GivenReport, inventory: Inventory = INVENTORY, db_date: datetime | None = None
) -> ScanResult:
    scanner = ReportScanner(
        reports=reports,
        now=lambda: NOW,
        max_db_age=timedelta(hours=48),
        database_built_at=db_date,
    )
    scanner.probe()
    return scanner.match(inventory)


def gaps(result: ScanResult) -> set[str]:
    return {
        f"{gap.gap}{f' {gap.ecosystem}' if gap.ecosystem else ''}" for gap in result.coverage.gaps
    }


def summary(case: str) -> dict[str, Any]:
    result = scan(read(case))
    return {
        "findings": [
            {
                "id": finding.id,
                "aliases": list(finding.aliases),
                "package": finding.package.purl,
                "severity": str(finding.severity),
                "said": [list(pair) for pair in finding.severities],
                "fixed": list(finding.fixed_versions),
                "fix_state": finding.fix_state,
            }
            for finding in result.findings
        ],
        "gaps": [f"{gap.gap}: {gap.detail}" for gap in result.coverage.gaps],
        "notes": list(result.notes),
    }


@pytest.mark.parametrize("case", CASES)
def test_report_is_read_and_what_it_does_not_say_is_named(case: str) -> None:
    assert summary(case) == json.loads((GOLDEN / case / "expected.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_no_report_says_everything(case: str) -> None:
    assert scan(read(case)).coverage.gaps


def test_report_with_everything_told_has_no_gap() -> None:
    def name_both(report: dict[str, Any]) -> None:
        other = dict(report["Results"][0]["Vulnerabilities"][0])
        other |= {
            "PkgName": "demo-tool",
            "InstalledVersion": "1.0",
            "VulnerabilityID": "CVE-2026-2000",
            "PkgIdentifier": {"PURL": "pkg:pypi/demo-tool@1.0"},
        }
        report["Results"][1]["Vulnerabilities"] = [other]

    result = scan(read("trivy-json", name_both), db_date=NOW - timedelta(hours=3))
    assert gaps(result) == set()
    assert {f.id for f in result.findings} == {"CVE-2026-1000", "CVE-2026-2000"}


def test_clean_report_leaves_open_what_its_scanner_had_data_for() -> None:
    result = scan(read("clean-sarif"), db_date=NOW - timedelta(hours=3))
    assert (gaps(result), result.findings) == ({"no-data deb", "no-data pypi"}, ())


def test_finding_in_a_package_that_the_image_lacks_proves_no_data() -> None:
    def other_version(report: dict[str, Any]) -> None:
        report["matches"][0]["artifact"] |= {"version": "9", "purl": "pkg:pypi/demo-tool@9"}

    assert "no-data pypi" not in gaps(scan(read("grype-json")))
    assert "no-data pypi" in gaps(scan(read("grype-json", other_version)))


@pytest.mark.parametrize("hours", [49, -1])
def test_old_database_and_one_from_the_future_are_named(hours: int) -> None:
    def date(report: dict[str, Any]) -> None:
        built = (NOW - timedelta(hours=hours)).isoformat()
        report["descriptor"]["db"]["status"]["built"] = built

    expected = "database-stale" if hours > 0 else "database-undated"
    assert expected in gaps(scan(read("grype-json", date)))


def test_database_newer_than_the_report_is_refused() -> None:
    with pytest.raises(UsageError, match="before the database that it is said to have used"):
        scan(read("clean-sarif"), db_date=NOW - timedelta(minutes=30))


# --- which image


def test_report_about_another_image_is_the_wrong_one() -> None:
    assert "wrong-image" in gaps(scan(read("other-image-json")))


def test_manifest_digest_decides_where_no_config_digest_is_told() -> None:
    def other(report: dict[str, Any]) -> None:
        report["metadata"]["component"]["version"] = "sha256:" + "0" * 64

    assert "wrong-image" not in gaps(scan(read("other-cyclonedx")))
    assert "wrong-image" in gaps(scan(read("other-cyclonedx", other)))


def test_report_without_digest_and_without_packages_may_be_about_any_image() -> None:
    details = [
        g.detail for g in scan(read("grype-sarif")).coverage.gaps if g.gap is Gap.WRONG_IMAGE
    ]
    assert details == [
        "r.json names no digest and lists no packages: nobody knows which image it is about"
    ]


def test_report_about_another_platform_is_the_wrong_one() -> None:
    arm = replace(INVENTORY, platform="linux/arm64/v8")
    assert "wrong-image" in gaps(scan(read("trivy-json"), inventory=arm))


def test_each_platform_gets_its_own_report_and_no_other() -> None:
    def other(report: dict[str, Any]) -> None:
        report["Metadata"]["ImageID"] = "sha256:" + "d" * 64
        report["Metadata"]["ImageConfig"]["architecture"] = "arm64"
        report["Results"][0]["Vulnerabilities"] = []

    both = (read("trivy-json"), read("trivy-json", other))
    arm = replace(INVENTORY, platform="linux/arm64", config_digest="sha256:" + "d" * 64)
    assert [len(scan(*both).findings), len(scan(*both, inventory=arm).findings)] == [1, 0]
    assert "wrong-image" not in gaps(scan(*both)) | gaps(scan(*both, inventory=arm))


def test_two_reports_about_one_image_are_merged_and_the_stricter_counts() -> None:
    def critical(report: dict[str, Any]) -> None:
        report["Results"][0]["Vulnerabilities"][0]["Severity"] = "CRITICAL"

    result = scan(read("trivy-json"), read("trivy-json", critical))
    assert [str(f.severity) for f in result.findings] == ["CRITICAL"]


def test_packages_of_the_image_that_the_report_lacks_are_named() -> None:
    more = replace(
        INVENTORY,
        packages=(
            *INVENTORY.packages,
            Package(ecosystem="pypi", name="more", version="2", purl="pkg:pypi/more@2"),
        ),
    )
    assert "unscanned-packages pypi" in gaps(scan(read("trivy-json"), inventory=more))


def test_scanner_that_took_the_image_for_another_release_is_named() -> None:
    def release(report: dict[str, Any]) -> None:
        report["Metadata"]["OS"]["Name"] = "11.2"

    assert "unknown-distribution deb" in gaps(scan(read("trivy-json", release)))


@pytest.mark.parametrize("case", CASES)
def test_report_alone_is_incomplete_whatever_it_says(case: str) -> None:
    result = scan(read(case), inventory=NOTHING, db_date=NOW - timedelta(hours=3))
    assert "no-packages" in gaps(result)


# --- what is no report


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "r.json: not valid JSON"),
        (b"[]", "r.json: expected a JSON object"),
        (b"<testsuite/>", "r.json: not valid JSON"),
        (b"{}", "r.json: no report that can be read"),
        (b'{"spdxVersion": "SPDX-2.3"}', "r.json: an SPDX document lists packages and no vuln"),
        (b'{"bomFormat": "CycloneDX"}', "r.json: a CycloneDX document that lists packages and no"),
        (b'{"runs": [], "version": "2.1.0"}', "r.json: no run: nothing was scanned"),
        (b'{"runs": [{}], "version": "1.0.0"}', "r.json: SARIF '1.0.0', expected 2.1.0"),
        (b'{"runs": [{}], "version": "2.1.0"}', r"r.json: runs\[0\]: no results: nothing was"),
        (
            b'{"runs": [{"results": [{}]}], "version": "2.1.0"}',
            r"r.json: runs\[0\]: results\[0\]: it names no rule",
        ),
        (
            b'{"bomFormat": "CycloneDX", "vulnerabilities": [{"id": 1}]}',
            r"r.json: vulnerabilities\[0\]: id: expected a JSON string, found int",
        ),
        (
            b'{"SchemaVersion": 3, "ArtifactName": "x"}',
            "r.json: trivy's report: schema 3, expected 2",
        ),
        (
            b'{"matches": [], "descriptor": {}, "source": {"type": "directory"}}',
            "r.json: grype's report: it is about 'directory', not about an image",
        ),
    ],
)
def test_what_is_no_report_is_refused_with_file_and_place(data: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        read_report(data, what="r.json")


@pytest.mark.parametrize("case", CASES)
def test_cut_off_report_is_refused(case: str) -> None:
    data = (GOLDEN / case / "report.json").read_bytes()
    with pytest.raises(IntegrityError, match=r"r.json: not valid JSON"):
        read_report(data[: len(data) // 2], what="r.json")


def test_report_of_a_failed_scan_is_trouble_with_the_scanner() -> None:
    def fail(report: dict[str, Any]) -> None:
        report["runs"][0]["invocations"] = [
            {"executionSuccessful": False, "exitCodeDescription": "out of memory"}
        ]

    with pytest.raises(ToolError, match=r"r.json: its scanner failed: .* out of memory"):
        scan(read("clean-sarif", fail))


@pytest.mark.parametrize(
    ("said", "severity"),
    [
        ({"tags": ["HIGH"], "security-severity": "9.9"}, "HIGH"),
        ({"security-severity": "9.0"}, "CRITICAL"),
        ({"security-severity": "7.0"}, "HIGH"),
        ({"security-severity": "4"}, "MEDIUM"),
        ({"security-severity": "0.1"}, "LOW"),
        ({"security-severity": "0.0"}, "UNKNOWN"),
        ({}, "CRITICAL"),
    ],
)
def test_severity_of_sarif_is_the_word_then_the_score_then_the_worst_of_the_level(
    said: dict[str, object], severity: str
) -> None:
    def say(report: dict[str, Any]) -> None:
        run = report["runs"][0]
        run["tool"]["driver"]["rules"] = [{"id": "CVE-2026-1", "properties": said}]
        run["results"] = [{"ruleId": "CVE-2026-1", "level": "error", "message": {"text": "x"}}]

    assert [str(f.severity) for f in scan(read("bare-sarif", say)).findings] == [severity]


if __name__ == "__main__":
    for name in CASES:
        text = json.dumps(summary(name), indent=1, ensure_ascii=False)
        (GOLDEN / name / "expected.json").write_text(text + "\n")

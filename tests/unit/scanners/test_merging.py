"""What several scanners say about one image becomes one result, and none of their gaps is lost."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ci_registry.errors import ToolError
from ci_registry.findings import (
    AdvisoryDatabase,
    Coverage,
    CoverageGap,
    Distribution,
    Finding,
    FindingKind,
    Gap,
    Inventory,
    Package,
    ScanResult,
    ScanStatus,
    Severity,
)
from ci_registry.scanners.interface import CanMatchInventory, ImageView, ScannerInfo
from ci_registry.scanners.merging import merge_results
from ci_registry.scanners.several import SeveralScanners

OPENSSL = Package(
    ecosystem="deb",
    name="libssl3",
    version="3.0.11-1",
    purl="pkg:deb/debian/libssl3@3.0.11-1?distro=debian-12",
)
LEFT = Package(ecosystem="npm", name="left", version="1.0", purl="pkg:npm/left@1.0", path="a/left")


def _finding(identity: str, severity: Severity = Severity.LOW, **more: object) -> Finding:
    values: dict[str, object] = {"id": identity, "package": OPENSSL, "severity": severity}
    return Finding(**(values | more))  # type: ignore[arg-type]


def _gap(gap: Gap, ecosystem: str = "") -> CoverageGap:
    return CoverageGap(gap=gap, detail=f"{gap} of {ecosystem or 'all'}", ecosystem=ecosystem)


def _result(
    scanner: str,
    findings: Sequence[Finding] = (),
    gaps: Sequence[CoverageGap] = (),
    *,
    counts: tuple[tuple[str, int], ...] = (("deb", 1), ("npm", 1)),
    exit_code: int | None = None,
) -> ScanResult:
    return ScanResult(
        platform="linux/amd64",
        scanner=scanner,
        scanner_version="1",
        status=ScanStatus.COMPLETE,
        findings=tuple(findings),
        coverage=Coverage(
            platform="linux/amd64",
            manifest_digest="sha256:m",
            config_digest="sha256:c",
            distribution=Distribution(id="debian", version="12"),
            package_counts=counts,
            gaps=tuple(gaps),
            databases=(
                AdvisoryDatabase(name=f"{scanner}-db", built_at=datetime(2026, 6, 1, tzinfo=UTC)),
            ),
        ),
        tool_exit_code=exit_code,
    )


def _gaps(result: ScanResult) -> list[tuple[Gap, str]]:
    return [(gap.gap, gap.ecosystem) for gap in result.coverage.gaps]


def test_same_vulnerability_is_one_finding_of_the_stricter_with_both_names() -> None:
    merged = merge_results(
        [
            _result("osv", [_finding("CVE-1", severities=(("debian", "low"),))]),
            _result(
                "trivy",
                [
                    _finding(
                        "CVE-1",
                        Severity.HIGH,
                        severities=(("nvd", "HIGH"),),
                        fixed_versions=("3.0.12",),
                    )
                ],
            ),
        ]
    )
    (finding,) = merged.findings
    assert finding.severity is Severity.HIGH
    assert finding.found_by == ("osv", "trivy")
    assert set(finding.severities) == {("debian", "low"), ("nvd", "HIGH")}
    assert finding.fixed_versions == ("3.0.12",)


def test_order_of_the_scanners_changes_no_severity() -> None:
    low, high = _finding("CVE-1"), _finding("CVE-1", Severity.CRITICAL)
    for findings in ((low, high), (high, low)):
        merged = merge_results([_result("a", [findings[0]]), _result("b", [findings[1]])])
        assert [f.severity for f in merged.findings] == [Severity.CRITICAL]


def test_shared_alias_joins_different_names() -> None:
    merged = merge_results(
        [
            _result("osv", [_finding("CVE-1", aliases=("GHSA-a",))]),
            _result("grype", [_finding("ghsa-A", Severity.MEDIUM)]),
        ]
    )
    (finding,) = merged.findings
    assert {finding.id, *finding.aliases} == {"CVE-1", "GHSA-a", "ghsa-A"}


def test_third_name_joins_what_was_apart() -> None:
    merged = merge_results(
        [
            _result("a", [_finding("CVE-1"), _finding("GHSA-1")]),
            _result("b", [_finding("X", aliases=("CVE-1", "GHSA-1"))]),
        ]
    )
    (finding,) = merged.findings
    assert {finding.id, *finding.aliases} == {"CVE-1", "GHSA-1", "X"}


def test_different_vulnerabilities_and_packages_stay_apart() -> None:
    merged = merge_results(
        [
            _result("a", [_finding("CVE-1"), _finding("CVE-1", package=LEFT)]),
            _result("b", [_finding("CVE-2")]),
        ]
    )
    assert [(f.id, f.package.name, f.found_by) for f in merged.findings] == [
        ("CVE-1", "libssl3", ("a",)),
        ("CVE-1", "left", ("a",)),
        ("CVE-2", "libssl3", ("b",)),
    ]


def test_what_only_one_found_is_kept() -> None:
    merged = merge_results([_result("osv"), _result("trivy", [_finding("CVE-9")])])
    assert [(f.id, f.found_by) for f in merged.findings] == [("CVE-9", ("trivy",))]


def test_decided_counts_before_undecided() -> None:
    undecided = _finding("CVE-1", Severity.CRITICAL, kind=FindingKind.UNDECIDED, detail="?")
    merged = merge_results([_result("a", [undecided]), _result("b", [_finding("CVE-1")])])
    (finding,) = merged.findings
    assert finding.kind is FindingKind.AFFECTED


def test_kind_without_data_is_covered_by_the_other_and_a_note_says_so() -> None:
    merged = merge_results([_result("osv", gaps=[_gap(Gap.NO_DATA, "deb")]), _result("trivy")])
    assert merged.coverage.gaps == ()
    assert "osv: no-data of deb; covered by trivy" in merged.notes


def test_kind_without_data_anywhere_is_a_gap_of_each() -> None:
    gap = _gap(Gap.NO_DATA, "deb")
    merged = merge_results([_result("osv", gaps=[gap]), _result("trivy", gaps=[gap])])
    assert _gaps(merged) == [(Gap.NO_DATA, "deb")] * 2
    assert [g.detail.partition(":")[0] for g in merged.coverage.gaps] == ["osv", "trivy"]


@pytest.mark.parametrize(
    "bad",
    [
        _gap(Gap.DATABASE_ABSENT),
        _gap(Gap.DATABASE_STALE),
        _gap(Gap.DATABASE_UNDATED),
        _gap(Gap.WRONG_IMAGE),
        _gap(Gap.NO_PACKAGES),
        _gap(Gap.NOT_SCANNABLE),
        _gap(Gap.UNSCANNED_PACKAGES, "deb"),
        _gap(Gap.UNKNOWN_DISTRIBUTION, "deb"),
    ],
    ids=lambda gap: str(gap.gap),
)
def test_scanner_that_did_not_see_a_kind_covers_nothing_of_it(bad: CoverageGap) -> None:
    merged = merge_results(
        [_result("osv", gaps=[_gap(Gap.NO_DATA, "deb")]), _result("trivy", gaps=[bad])]
    )
    assert (Gap.NO_DATA, "deb") in _gaps(merged)
    assert (bad.gap, bad.ecosystem) in _gaps(merged)


def test_gap_about_another_kind_does_not_hinder() -> None:
    merged = merge_results(
        [
            _result("osv", gaps=[_gap(Gap.NO_DATA, "deb")]),
            _result("trivy", gaps=[_gap(Gap.NO_DATA, "npm")]),
        ]
    )
    assert merged.coverage.gaps == ()


@pytest.mark.parametrize(
    "gap", [g for g in Gap if g not in (Gap.NO_DATA, Gap.UNKNOWN_DISTRIBUTION)]
)
def test_every_other_gap_of_one_scanner_counts(gap: Gap) -> None:
    merged = merge_results([_result("osv", gaps=[_gap(gap, "deb")]), _result("trivy")])
    assert _gaps(merged) == [(gap, "deb")]


def test_failed_scanner_and_exit_code_are_not_lost() -> None:
    failed = replace(_result("trivy", exit_code=2), status=ScanStatus.FAILED)
    merged = merge_results([_result("osv"), _result("grype", exit_code=0), failed])
    assert merged.status is ScanStatus.FAILED
    assert merged.tool_exit_code == 2
    assert merged.scanner == "osv+grype+trivy"


def test_databases_and_counts_of_all_are_named() -> None:
    merged = merge_results([_result("osv", counts=(("deb", 1),)), _result("trivy")])
    assert [d.name for d in merged.coverage.databases] == ["osv-db", "trivy-db"]
    assert merged.coverage.package_counts == (("deb", 1), ("npm", 1))
    assert merged.notes == (
        "osv 1: 0 findings, no gap in coverage",
        "trivy 1: 0 findings, no gap in coverage",
    )


class _Scanner:
    def __init__(self, name: str, error: Exception | None = None) -> None:
        self._name, self._error = name, error
        self.views: list[ImageView] = []

    @property
    def name(self) -> str:
        return self._name

    def probe(self) -> ScannerInfo:
        return ScannerInfo(name=self.name, version="1", database="x")

    def scan(self, view: ImageView) -> ScanResult:
        self.views.append(view)
        if self._error:
            raise self._error
        return _result(self.name)


def _view(tmp_path: Path) -> ImageView:
    inventory = Inventory(
        platform="linux/amd64",
        manifest_digest="",
        config_digest="",
        distribution=None,
        packages=(),
    )
    return ImageView(layout=tmp_path / "layout", inventory=inventory, work=tmp_path)


def test_each_scanner_gets_a_work_folder_of_its_own(tmp_path: Path) -> None:
    first, second = _Scanner("osv"), _Scanner("trivy")
    several = SeveralScanners(scanners=(first, second))
    assert several.scan(_view(tmp_path)).scanner == several.name == "osv+trivy"
    assert [v.work for s in (first, second) for v in s.views] == [
        tmp_path / "osv",
        tmp_path / "trivy",
    ]
    assert several.probe().version == "1+1"


def test_scanner_that_fails_is_never_ignored(tmp_path: Path) -> None:
    several = SeveralScanners(
        scanners=(_Scanner("osv"), _Scanner("trivy", ToolError("trivy crashed")))
    )
    with pytest.raises(ToolError, match="crashed"):
        several.scan(_view(tmp_path))


def test_several_scanners_match_no_inventory() -> None:
    assert not isinstance(SeveralScanners(scanners=()), CanMatchInventory)

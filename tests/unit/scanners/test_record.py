"""The coverage record: every member is there, and no kind of package counts as covered that is not."""

from dataclasses import replace

import pytest

from ci_registry.findings import CoverageGap, Gap, ScanResult, ScanStatus
from ci_registry.reports.coverage_record import coverage_lines
from ci_registry.scanners.record import OWNED, with_record
from tests.support.findings import NOW, make_coverage, make_scan
from tests.support.results import passing_image

KINDS = (("deb", 80), ("npm", 3), ("pypi", 0))


def scan(*gaps: CoverageGap, **changes: object) -> ScanResult:
    coverage = make_coverage(gaps=gaps, package_counts=KINDS)
    return make_scan(coverage=replace(coverage, **changes))  # type: ignore[arg-type]


def gap(kind: Gap, ecosystem: str = "") -> CoverageGap:
    return CoverageGap(gap=kind, detail="why", ecosystem=ecosystem)


@pytest.mark.parametrize(
    ("gaps", "covered", "uncovered"),
    [
        ((), ("deb", "npm"), ()),
        ((gap(Gap.NO_DATA, "npm"),), ("deb",), ("npm",)),
        ((gap(Gap.UNKNOWN_DISTRIBUTION, "deb"),), ("npm",), ("deb",)),
        ((gap(Gap.THIRD_PARTY_PACKAGES, "deb"),), ("npm",), ("deb",)),
        ((gap(Gap.DATABASE_ABSENT),), (), ("deb", "npm")),
        ((gap(Gap.WRONG_IMAGE),), (), ("deb", "npm")),
        ((gap(Gap.END_OF_LIFE), gap(Gap.UNDECIDED, "deb")), ("deb", "npm"), ()),
    ],
)
def test_kinds_with_and_without_data(
    gaps: tuple[CoverageGap, ...], covered: tuple[str, ...], uncovered: tuple[str, ...]
) -> None:
    coverage = with_record(scan(*gaps), NOW).coverage
    assert (coverage.with_data, coverage.without_data) == (covered, uncovered)


@pytest.mark.parametrize(
    "nothing",
    [replace(scan(), status=ScanStatus.FAILED), scan(databases=())],
    ids=["failed", "no database"],
)
def test_nothing_is_covered_without_a_scan_or_a_database(nothing: ScanResult) -> None:
    assert with_record(nothing, NOW).coverage.with_data == ()


def test_record_says_who_scanned_when_and_what_was_skipped() -> None:
    coverage = with_record(scan(skipped_count=4), NOW).coverage
    assert (coverage.scanner, coverage.scanned_at) == ("osv 1", NOW)
    assert coverage.skipped == ((OWNED, 4),)


def test_reasons_that_a_scanner_gives_itself_stay() -> None:
    given = (("too large", 1),)
    assert with_record(scan(skipped_count=1, skipped=given), NOW).coverage.skipped == given


def test_lines_hold_every_member() -> None:
    found = with_record(scan(gap(Gap.NO_DATA, "npm"), skipped_count=4), NOW)
    lines = coverage_lines(found, passing_image())
    assert [line.partition(":")[0] for line in lines] == [
        "packages looked at",
        "packages skipped",
        "image",
        "platform",
        "config",
        "distribution",
        "with data",
        "without data",
        "database",
        "scanner",
        "scanned at",
        "gap",
    ]
    text = "\n".join(lines)
    for part in ("80 deb, 3 npm", f"4 {OWNED}", "without data: npm", "osv of 2026-06-15T12:00:00Z"):
        assert part in text

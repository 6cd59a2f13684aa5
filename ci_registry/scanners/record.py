"""Completes the coverage record of a scan: what was skipped and why, which kinds had data, by what and when."""

from dataclasses import replace
from datetime import datetime

from ci_registry.findings import Coverage, Gap, ScanResult, ScanStatus

OWNED = "owned by a package of the operating system"
_NO_DATA = frozenset(
    {
        Gap.NO_DATA,
        Gap.UNKNOWN_DISTRIBUTION,
        Gap.DATABASE_ABSENT,
        Gap.THIRD_PARTY_PACKAGES,
        Gap.WRONG_IMAGE,
        Gap.NOT_SCANNABLE,
        Gap.UNSCANNED_PACKAGES,
    }
)
"""Gaps after which nobody knows the advisories of what they name, or not of all of it."""


def with_record(result: ScanResult, scanned_at: datetime) -> ScanResult:
    """Return the scan with a complete record; what its scanner said itself stays."""
    coverage = result.coverage
    without = without_data(result)
    skipped = coverage.skipped
    if not skipped and coverage.skipped_count:
        skipped = ((OWNED, coverage.skipped_count),)
    return replace(
        result,
        coverage=replace(
            coverage,
            skipped=skipped,
            with_data=tuple(kind for kind in _kinds(coverage) if kind not in without),
            without_data=without,
            scanner=f"{result.scanner} {result.scanner_version}".strip(),
            scanned_at=scanned_at,
        ),
    )


def without_data(result: ScanResult) -> tuple[str, ...]:
    """Return the kinds of packages that the databases do not cover, or not whole; sorted."""
    kinds = _kinds(result.coverage)
    if result.status is not ScanStatus.COMPLETE or not result.coverage.databases:
        return kinds
    found: set[str] = set()
    for gap in result.coverage.gaps:
        if gap.gap in _NO_DATA:
            found |= {gap.ecosystem} if gap.ecosystem else set(kinds)
    return tuple(kind for kind in kinds if kind in found)


def _kinds(coverage: Coverage) -> tuple[str, ...]:
    return tuple(kind for kind, number in coverage.package_counts if number)

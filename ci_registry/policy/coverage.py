"""Judges what the scans could not see: gaps, missing scans, failed scans."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ci_registry.findings import (
    ACCEPTABLE_GAPS,
    CoverageGap,
    FindingKind,
    Gap,
    ScanResult,
    ScanStatus,
)
from ci_registry.policy.model import AcceptedGap, Policy, end_of, image_matches
from ci_registry.results import JudgedGap, Verdict

_MOST_PACKAGES = 50
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCoverage:
    """What the scans of an image covered."""

    gaps: tuple[JudgedGap, ...]
    reasons: tuple[tuple[Verdict, str], ...]
    used: tuple[AcceptedGap, ...]
    """The acceptances that the verdict leans on."""


def judge_coverage(
    policy: Policy,
    *,
    image: str,
    repositories: tuple[str, ...],
    scans: tuple[ScanResult, ...],
    platforms: tuple[str, ...],
    now: datetime,
) -> JudgedCoverage:
    """Return every gap with its verdict; a platform that was not scanned is incomplete."""
    mine = [a for a in policy.accepted_gaps if image_matches(a.images, image, repositories)]
    reasons = list(_scan_reasons(scans, platforms))
    gaps: list[JudgedGap] = []
    used: list[AcceptedGap] = []
    for scan in scans:
        for gap in (*scan.coverage.gaps, *_unnamed_gaps(scan), *_kev_gaps(policy, scan, now)):
            fitting = [a for a in mine if _fits(a, gap)]
            accepted = max(
                (a for a in fitting if now < end_of(a.expires)),
                key=lambda a: a.expires,
                default=None,
            )
            judged = _judged(gap, scan.platform, accepted)
            gaps.append(judged)
            used.extend([accepted] if accepted else [])
            expired = max((a.expires for a in fitting), default=None)
            reasons.append((judged.verdict, _gap_reason(judged, expired if not accepted else None)))
    return JudgedCoverage(gaps=tuple(gaps), reasons=tuple(reasons), used=tuple(used))


def _scan_reasons(
    scans: tuple[ScanResult, ...], platforms: tuple[str, ...]
) -> Iterator[tuple[Verdict, str]]:
    if not platforms:
        yield Verdict.INCOMPLETE, "the image has no platform that could be scanned"
    scanned = {scan.platform for scan in scans}
    for platform in platforms:
        if platform not in scanned:
            yield Verdict.INCOMPLETE, f"{platform} was not scanned"
    for scan in scans:
        if scan.status is not ScanStatus.COMPLETE:
            word = "timed out" if scan.status is ScanStatus.TIMEOUT else "failed"
            yield Verdict.INCOMPLETE, f"the scan of {scan.platform} by {scan.scanner} {word}"
        elif scan.tool_exit_code:  # none is run with an option that makes it one for findings
            said = f"{scan.scanner} wrote a whole report about {scan.platform}, but ended with"
            code = f"exit code {scan.tool_exit_code}: it says itself that something failed"
            yield Verdict.INCOMPLETE, f"{said} {code}"


def _unnamed_gaps(scan: ScanResult) -> Iterator[CoverageGap]:
    """Name the gaps that a scanner's adapter should have named and did not: silence is no pass."""
    coverage = scan.coverage
    named = {gap.gap for gap in coverage.gaps}
    if scan.status is not ScanStatus.COMPLETE:
        return
    if not sum(count for _, count in coverage.package_counts) and Gap.NO_PACKAGES not in named:
        yield CoverageGap(gap=Gap.NO_PACKAGES, detail="the scan saw no packages at all")
    elif not coverage.databases and not named & {Gap.NO_DATA, Gap.DATABASE_ABSENT}:
        detail = "the scan names no advisory database that it used"
        yield CoverageGap(gap=Gap.DATABASE_ABSENT, detail=detail)
    yield from _undecided_gaps(scan)


def _kev_gaps(policy: Policy, scan: ScanResult, now: datetime) -> Iterator[CoverageGap]:
    """Name what is wrong with the list that a rule of the policy counts by."""
    if not policy.uses_kev or scan.status is not ScanStatus.COMPLETE:
        return
    dates = [item.built_at for item in scan.coverage.lists if item.name == "kev"]
    found = dates[0] if dates else None
    if found is None:
        detail = (
            "the policy asks for known exploited vulnerabilities, but the scan had no list of them: "
            "build the advisory database with --kev"
        )
        yield CoverageGap(gap=Gap.KEV_ABSENT, detail=detail)
    elif not now - policy.max_kev_age <= found <= now + _CLOCK_SKEW:
        allowed = policy.max_kev_age.total_seconds() / 86400
        detail = (
            f"the list of known exploited vulnerabilities is of {found.isoformat()}, and may be "
            f"{allowed:g} days old"
        )
        yield CoverageGap(gap=Gap.KEV_STALE, detail=detail)


def _undecided_gaps(scan: ScanResult) -> Iterator[CoverageGap]:
    named = {gap.ecosystem for gap in scan.coverage.gaps if gap.gap is Gap.UNDECIDED}
    undecided = [f for f in scan.findings if f.kind is FindingKind.UNDECIDED]
    for ecosystem in sorted({f.package.ecosystem for f in undecided} - named):
        found = [f for f in undecided if f.package.ecosystem == ecosystem]
        example = min((f.id, f.package.name, f.package.version) for f in found)
        yield CoverageGap(
            gap=Gap.UNDECIDED,
            detail=f"{len(found)} advisories could not be decided, for example {example[0]} for "
            f"{example[1]} {example[2]}",
            ecosystem=ecosystem,
            packages=tuple(sorted({f.package.purl for f in found}))[:_MOST_PACKAGES],
        )


def _fits(accepted: AcceptedGap, gap: CoverageGap) -> bool:
    if accepted.gap is not gap.gap or gap.gap not in ACCEPTABLE_GAPS:
        return False
    return not accepted.ecosystem or accepted.ecosystem == gap.ecosystem


def _judged(gap: CoverageGap, platform: str, accepted: AcceptedGap | None) -> JudgedGap:
    warns = accepted is not None or gap.gap is Gap.END_OF_LIFE
    by = ""
    if accepted is not None:
        by = f"{accepted.owner} until {accepted.expires}: {accepted.reason}"
    verdict = Verdict.WARN if warns else Verdict.INCOMPLETE
    return JudgedGap(gap=gap, platform=platform, verdict=verdict, accepted_by=by)


def _gap_reason(judged: JudgedGap, expired_on: object | None) -> str:
    text = f"{judged.gap.gap} on {judged.platform}: {judged.gap.detail.rstrip('.')}"
    if judged.accepted_by:
        return f"{text}; accepted by {judged.accepted_by}"
    return text + (f"; its acceptance expired on {expired_on}" if expired_on else "")

"""Joins what several scanners say about one platform image: the stricter one counts, both are shown; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ci_registry.advisories.match import sort_findings
from ci_registry.findings import (
    AdvisoryDatabase,
    Coverage,
    CoverageGap,
    Finding,
    FindingKind,
    Gap,
    ScanResult,
    ScanStatus,
)

_EXCUSED = frozenset({Gap.NO_DATA, Gap.UNKNOWN_DISTRIBUTION})
"""Gaps of one scanner that do not count when another one has the data: it was asked as well."""
_UNDOING = frozenset(
    {
        *_EXCUSED,
        *(Gap.DATABASE_ABSENT, Gap.DATABASE_UNDATED, Gap.DATABASE_STALE),
        *(Gap.NO_PACKAGES, Gap.WRONG_IMAGE, Gap.NOT_SCANNABLE, Gap.UNSCANNED_PACKAGES),
    }
)
"""A scanner with one of these about the same packages covers them no better."""


def stricter(first: Finding, second: Finding) -> Finding:
    """Join two findings of one vulnerability in one package; the first one counts among equals.

    An affected package beats an undecided one, then the higher severity wins; what both know is kept.
    """
    worse, other = (second, first) if _strictness(second) > _strictness(first) else (first, second)
    return replace(
        worse,
        aliases=tuple(sorted({*first.aliases, *second.aliases, other.id} - {worse.id})),
        severities=tuple(dict.fromkeys((*worse.severities, *other.severities))),
        fixed_versions=tuple(dict.fromkeys((*worse.fixed_versions, *other.fixed_versions))),
        title=worse.title or other.title,
        url=worse.url or other.url,
        published_at=worse.published_at or other.published_at,
        known_exploited=first.known_exploited or second.known_exploited,
        epss=max((x.epss for x in (first, second) if x.epss is not None), default=None),
        fix_state="fixed"
        if "fixed" in (first.fix_state, second.fix_state)
        else worse.fix_state or other.fix_state,
        found_by=tuple(dict.fromkeys((*first.found_by, *second.found_by))),
    )


def _strictness(finding: Finding) -> tuple[bool, int]:
    return finding.kind is FindingKind.AFFECTED, finding.severity.rank


def merge_results(results: Sequence[ScanResult]) -> ScanResult:
    """Return one result for the policy to judge.

    A vulnerability that several found in the same package, under any name that they share, is one
    finding. Every gap of every scanner counts, but for one: packages that a scanner has no data for
    are covered when another one has it, and a note says so.

    Args:
        results: at least one; all of the same platform image, by different scanners.
    """
    gaps, excused = _gaps(results)
    first = results[0]
    exit_codes = [r.tool_exit_code for r in results if r.tool_exit_code is not None]
    return ScanResult(
        platform=first.platform,
        scanner="+".join(r.scanner for r in results),
        scanner_version="+".join(r.scanner_version or "?" for r in results),
        status=next(
            (r.status for r in results if r.status is not ScanStatus.COMPLETE), first.status
        ),
        findings=sort_findings(_findings(results)),
        coverage=_coverage(results, gaps),
        tool_exit_code=next(
            (code for code in exit_codes if code), exit_codes[0] if exit_codes else None
        ),
        program_sha256="+".join(r.program_sha256 or "-" for r in results),
        notes=tuple(dict.fromkeys((*map(_summary, results), *excused, *_notes(results)))),
        duration_s=max(r.duration_s for r in results),
    )


def _summary(result: ScanResult) -> str:
    gaps = len(result.coverage.gaps)
    return f"{result.scanner} {result.scanner_version}: {len(result.findings)} findings, " + (
        f"{gaps} gaps in coverage" if gaps else "no gap in coverage"
    )


def _notes(results: Iterable[ScanResult]) -> Iterable[str]:
    return (note for result in results for note in result.notes)


def _findings(results: Iterable[ScanResult]) -> list[Finding]:
    """Join the findings package by package; a name may tie together what was apart before."""
    places: dict[tuple[str, str, str], list[Finding]] = {}
    for result in results:
        for finding in result.findings:
            mine = replace(finding, found_by=finding.found_by or (result.scanner,))
            package = finding.package
            key = (
                package.purl_without_version or f"{package.ecosystem} {package.name}",
                package.version,
                package.path,
            )
            same = places.setdefault(key, [])
            apart = [known for known in same if not _names(known) & _names(mine)]
            for known in same:
                if known not in apart:
                    mine = stricter(known, mine)
            places[key] = [*apart, mine]
    return [finding for found in places.values() for finding in found]


def _names(finding: Finding) -> set[str]:
    return {finding.id.casefold(), *(alias.casefold() for alias in finding.aliases)}


def _gaps(results: Sequence[ScanResult]) -> tuple[tuple[CoverageGap, ...], list[str]]:
    """Return the gaps that count, each with the name of its scanner, and a sentence for each other."""
    counted: list[CoverageGap] = []
    excused: list[str] = []
    for result in results:
        for gap in result.coverage.gaps:
            cover = _cover(gap, [other for other in results if other is not result])
            if cover is None:
                counted.append(replace(gap, detail=f"{result.scanner}: {gap.detail}"))
            else:
                excused.append(f"{result.scanner}: {gap.detail}; covered by {cover.scanner}")
    return tuple(counted), excused


def _cover(gap: CoverageGap, others: Iterable[ScanResult]) -> ScanResult | None:
    """Return the scanner that has what this one lacks."""
    if gap.gap not in _EXCUSED or not gap.ecosystem:
        return None
    return next((other for other in others if not _lacks(other, gap.ecosystem)), None)


def _lacks(other: ScanResult, ecosystem: str) -> bool:
    if other.status is not ScanStatus.COMPLETE or not other.coverage.databases:
        return True
    return any(
        gap.gap in _UNDOING and gap.ecosystem in ("", ecosystem) for gap in other.coverage.gaps
    )


def _coverage(results: Sequence[ScanResult], gaps: tuple[CoverageGap, ...]) -> Coverage:
    first = results[0].coverage
    counted = [dict(r.coverage.package_counts) for r in results]
    kinds = sorted({kind for counts in counted for kind in counts})
    ended = [
        r.coverage.distribution.end_of_life
        for r in results
        if r.coverage.distribution is not None and r.coverage.distribution.end_of_life is not None
    ]
    distribution = first.distribution
    if distribution is not None and ended:
        distribution = replace(distribution, end_of_life=any(ended))
    return replace(
        first,
        distribution=distribution,
        package_counts=tuple((kind, max(c.get(kind, 0) for c in counted)) for kind in kinds),
        gaps=gaps,
        databases=_once(db for r in results for db in r.coverage.databases),
        skipped_count=min(r.coverage.skipped_count for r in results),
        lists=_once(item for r in results for item in r.coverage.lists),
    )


def _once(databases: Iterable[AdvisoryDatabase]) -> tuple[AdvisoryDatabase, ...]:
    return tuple(dict.fromkeys(databases))

"""Turns a decision into cases: findings, coverage, rules, waiver notes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from ci_registry.findings import FindingKind, Gap, ScanResult, ScanStatus
from ci_registry.reports.coverage_record import coverage_lines
from ci_registry.reports.totals import judged, plural
from ci_registry.reports.wording import (
    finding_body,
    finding_headline,
    gap_body,
    gap_line,
    rule_body,
    rule_headline,
    worst_first,
)
from ci_registry.results import (
    Case,
    CaseStatus,
    Decision,
    ImageResult,
    JudgedFinding,
    JudgedGap,
    Treatment,
    Verdict,
)

_WORST_CASE = (CaseStatus.FAILURE, CaseStatus.ERROR, CaseStatus.PASSED, CaseStatus.SKIPPED)
_UNDECIDED = "undecided "


def reported(image: ImageResult) -> tuple[JudgedFinding, ...]:
    """Return the findings that get a case: selected by a rule, waived, or undecided; worst first."""
    found = [
        item
        for item in judged(image)
        if item.rule_id or item.waiver_id or item.finding.kind is FindingKind.UNDECIDED
    ]
    return tuple(sorted(found, key=worst_first))


def finding_cases(image: ImageResult, limit: int) -> tuple[Case, ...]:
    """Return at most `limit` cases of findings, and one more that stands for the rest."""
    decision = image.decision
    if decision is None:
        return ()
    items = reported(image)
    shown = tuple(_finding_case(item, decision) for item in items[:limit])
    if len(items) <= limit:
        return shown
    rest = [_finding_case(item, decision) for item in items[limit:]]
    worst = min(rest, key=lambda case: _WORST_CASE.index(case.status))
    text = f"{plural(len(rest), 'more finding')}: all of them are in result.json"
    return (*shown, replace(worst, name="and more", message=text, body=text))


def _finding_case(item: JudgedFinding, decision: Decision) -> Case:
    is_undecided = item.finding.kind is FindingKind.UNDECIDED
    prefix = _UNDECIDED if is_undecided else ""
    name = f"{prefix}{item.finding.id} in {item.finding.package.name} ({item.platform})"
    sentence = next((r.sentence for r in decision.rules if r.rule_id == item.rule_id), "")
    if item.treatment is Treatment.WAIVED:
        return Case(
            name=name,
            status=CaseStatus.SKIPPED,
            message=f"{item.waiver_id} {item.reason}".strip(),
            body=finding_body(item, sentence=sentence),
        )
    today = decision.decided_at.date()
    status, kind = _status(item, decision)
    return Case(
        name=name,
        status=status,
        message=finding_headline(item) if status is not CaseStatus.PASSED else "",
        body=finding_body(item, sentence=sentence, today=_asks_for_waiver(item, today)),
        kind=kind,
    )


def _asks_for_waiver(item: JudgedFinding, today: date) -> date | None:
    return today if item.treatment in (Treatment.BLOCK, Treatment.WARN) else None


def _status(item: JudgedFinding, decision: Decision) -> tuple[CaseStatus, str]:
    if item.treatment is Treatment.BLOCK:
        return CaseStatus.FAILURE, "vulnerability"
    is_open = any(
        gap.gap.gap is Gap.UNDECIDED
        and gap.platform == item.platform
        and gap.verdict is Verdict.INCOMPLETE
        for gap in decision.gaps
    )
    if item.finding.kind is FindingKind.UNDECIDED and is_open:
        return CaseStatus.ERROR, "coverage"
    return CaseStatus.PASSED, ""


def coverage_cases(image: ImageResult) -> tuple[Case, ...]:
    """Return one case per scan, and one for every platform whose gaps are known without a scan."""
    gaps = image.decision.gaps if image.decision is not None else ()
    cases = [case for scan in image.scans for case in _coverage_cases(scan, gaps, image)]
    scanned = {scan.platform for scan in image.scans}
    others = dict.fromkeys(g.platform for g in gaps if g.platform not in scanned)
    unscanned = [
        _judged_coverage(platform, tuple(g for g in gaps if g.platform == platform))
        for platform in others
    ]
    return (*cases, *unscanned)


def _coverage_cases(
    scan: ScanResult, gaps: tuple[JudgedGap, ...], image: ImageResult
) -> Iterator[Case]:
    """Yield the case of a scan; its record stands in a passing one, apart from what went wrong."""
    name, record = f"coverage {scan.platform}", "\n".join(coverage_lines(scan, image))
    if scan.status is not ScanStatus.COMPLETE:
        text = f"the scan of {scan.platform} by {scan.scanner} ended as {scan.status}"
        yield Case(
            name=name, status=CaseStatus.ERROR, message=text, body=text, kind="infrastructure"
        )
        return
    mine = tuple(gap for gap in gaps if gap.platform == scan.platform)
    if image.decision is None and scan.coverage.gaps:
        mine = tuple(
            JudgedGap(gap=gap, platform=scan.platform, verdict=Verdict.INCOMPLETE)
            for gap in scan.coverage.gaps
        )
    case = _judged_coverage(scan.platform, mine) if mine else Case(name=name)
    if case.status is CaseStatus.PASSED:
        yield replace(case, body=f"{case.body}\n\n{record}".strip())
    else:
        yield case
        yield Case(name=f"coverage record {scan.platform}", body=record)


def _judged_coverage(platform: str, gaps: tuple[JudgedGap, ...]) -> Case:
    bad = [gap for gap in gaps if gap.verdict is Verdict.INCOMPLETE]
    name = f"coverage {platform}".strip()
    if not bad:
        return Case(name=name, body=gap_body(gaps))
    more = f" (and {plural(len(bad) - 1, 'more gap')})" if len(bad) > 1 else ""
    message = gap_line(bad[0]) + more
    return Case(
        name=name,
        status=CaseStatus.ERROR,
        message=message,
        body=gap_body((*bad, *(gap for gap in gaps if gap not in bad))),
        kind="coverage",
    )


def judge_cases(image: ImageResult) -> tuple[Case, ...]:
    """Return one case per rule, passing ones too, and one per waiver that needs attention."""
    decision = image.decision
    if decision is None:
        return ()
    cases = []
    for rule in decision.rules:
        headline = rule_headline(rule)
        status = {
            Verdict.BLOCK: CaseStatus.FAILURE,
            Verdict.INCOMPLETE: CaseStatus.ERROR,
        }.get(rule.verdict, CaseStatus.PASSED)
        bad = status is not CaseStatus.PASSED
        cases.append(
            Case(
                name=rule.rule_id,
                status=status,
                message=headline if bad else "",
                body=f"{headline}\n{rule_body(rule)}",
                kind="policy" if bad else "",
            )
        )
    notes: dict[str, list[str]] = {}
    for note in decision.waiver_notes:
        where = f" ({note.file}:{note.line})" if note.file else ""
        notes.setdefault(note.waiver_id, []).append(f"{note.message}{where}")
    cases += [
        Case(name=f"waiver {waiver}", body="\n".join(texts)) for waiver, texts in notes.items()
    ]
    return tuple(cases)

"""How findings, gaps and rules are put into words: the same in every report."""

import json
import re
from datetime import date, timedelta

from ci_registry.findings import Finding, FindingKind
from ci_registry.reports.compared import change_of, owner_of, standing
from ci_registry.reports.escape import clip, one_line, printable, web_link
from ci_registry.results import (
    ImageResult,
    JudgedFinding,
    JudgedGap,
    RuleOutcome,
    Treatment,
    Verdict,
)

_WAIVER_DAYS = 30
_SHOWN = 10


def fix_of(finding: Finding) -> str:
    """Return `fixed in 1.2.3`, or that there is no fix."""
    versions = ", ".join(one_line(v, 100) for v in finding.fixed_versions[:5])
    return f"fixed in {versions}" if versions else "no fixed version is known"


def finding_headline(item: JudgedFinding) -> str:
    """Return what, where and the remedy on one line."""
    finding = item.finding
    versions = ", ".join(item.versions[:3]) or finding.package.version
    words = f"{item.effective_severity}{', exploited' if finding.known_exploited else ''}"
    where = f"{finding.id} ({words}) in {finding.package.name} {versions}"
    if finding.kind is FindingKind.UNDECIDED:
        return one_line(f"{where}: not decided whether it is affected: {finding.detail}")
    return one_line(f"{where}: {fix_of(finding)}{standing(item)}")


def _unfixed(finding: Finding) -> str:
    if finding.fix_state == "wont-fix":
        return "no fixed version is known, and none is to come"
    return "no fixed version is known"


def finding_body(item: JudgedFinding, *, sentence: str = "", today: date | None = None) -> str:
    """Return everything about a finding, one fact a line, the headline first.

    Args:
        item: the finding.
        sentence: what the rule that decided says.
        today: with it, the text ends with a waiver to paste.
    """
    finding, package = item.finding, item.finding.package
    source = f", source package {package.source_name}" if package.source_name else ""
    severity = f"{item.effective_severity}"
    if finding.severity_source:
        severity += f", says {finding.severity_source}"
    facts = (
        ("", finding.title),
        ("Package", f"{package.name} ({package.ecosystem}{source})"),
        ("Installed", ", ".join(item.versions[:_SHOWN]) or package.version),
        ("Fixed in", ", ".join(finding.fixed_versions[:_SHOWN]) or _unfixed(finding)),
        ("Severity", severity),
        (
            "Exploited",
            "yes, it is on the list of known exploited ones" if finding.known_exploited else "",
        ),
        ("EPSS", "" if finding.epss is None else f"{finding.epss:.1%} within 30 days"),
        ("Found by", ", ".join(finding.found_by)),
        ("Platform", item.platform),
        ("Found in", ", ".join(item.paths[:_SHOWN])),
        ("Layer", package.layer),
        ("Comes from", owner_of(item)),
        ("Since the baseline", change_of(item)),
        ("Also called", ", ".join(finding.aliases[:_SHOWN])),
        ("Rule", f"{item.rule_id}: {sentence}" if sentence else item.rule_id),
        ("Waived", f"{item.waiver_id} {item.reason}" if item.waiver_id else ""),
        ("Link", web_link(finding.url)),
    )
    lines = [finding_headline(item)]
    for name, value in facts:
        if value:
            lines.append(one_line(f"{name}: {value}" if name else value))
    if today is not None:
        lines += [
            "",
            "To accept it until a day, add to the waiver file:",
            "",
            waiver_for(item, today),
        ]
    return "\n".join(lines)


def waiver_for(item: JudgedFinding, today: date) -> str:
    """Return the YAML of a waiver for one finding; owner and reason are for a person to fill in."""
    finding = item.finding
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{finding.id}-{finding.package.name}")[:64]
    purl = finding.package.purl_without_version.partition("?")[0].partition("#")[0]
    lines = [
        "waivers:",
        f"- id: {name.strip('-._') or 'waiver'}",
        f"  vulnerabilities: [{json.dumps(printable(finding.id))}]",
    ]
    if purl:
        lines.append(f"  packages: [{json.dumps(printable(purl))}]")
    expires = today + timedelta(days=_WAIVER_DAYS)
    lines += [
        '  owner: "<who answers for it>"',
        '  reason: "<why it does no harm here>"',
        f"  expires: {expires.isoformat()}",
    ]
    return "\n".join(lines)


def gap_line(item: JudgedGap) -> str:
    """Return one gap in coverage on one line, with who accepted it."""
    where = f" ({item.gap.ecosystem})" if item.gap.ecosystem else ""
    accepted = f"; accepted: {item.accepted_by}" if item.accepted_by else ""
    return one_line(f"{item.gap.gap}{where}: {item.gap.detail}{accepted}")


def gap_body(items: tuple[JudgedGap, ...]) -> str:
    """Return every gap of a platform, with the packages concerned and what can be done."""
    lines: list[str] = []
    for item in items:
        lines.append(gap_line(item))
        lines += [f"  {one_line(purl, 300)}" for purl in item.gap.packages[:_SHOWN]]
    if any(item.verdict is Verdict.INCOMPLETE for item in items):
        lines += [
            "",
            "A gap can be accepted by name and owner in the policy: spec.coverage.accept.",
        ]
    return "\n".join(lines)


def rule_body(rule: RuleOutcome) -> str:
    """Return what a rule says and the first findings that it counted."""
    lines = [one_line(rule.sentence)]
    lines += [f"  {one_line(f'{name} in {purl}', 300)}" for name, purl in rule.findings[:_SHOWN]]
    if len(rule.findings) > _SHOWN:
        lines.append(f"  and {len(rule.findings) - _SHOWN} more")
    if not rule.verdict.lets_through:
        lines += ["", "Update the packages named above, or waive findings with owner and expiry."]
    return "\n".join(lines)


def rule_headline(rule: RuleOutcome) -> str:
    """Return what a rule decided on one line."""
    word = {Verdict.BLOCK: "blocks", Verdict.WARN: "warns", Verdict.PASS: "is satisfied"}
    count = f"{rule.count} counted" + (f" on {rule.platform}" if rule.platform else "")
    if rule.max_count is not None:
        count += f", {rule.max_count} tolerated"
    return one_line(f"rule {rule.rule_id} {word.get(rule.verdict, 'could not decide')}: {count}")


def worst_first(item: JudgedFinding) -> tuple[int, int, str, str, str, str]:
    """Sort key of findings: blocking, warning, listed, waived; then by severity and name."""
    order = (Treatment.BLOCK, Treatment.WARN, Treatment.LISTED, Treatment.WAIVED)
    finding = item.finding
    return (
        order.index(item.treatment),
        -item.effective_severity.rank,
        finding.id,
        finding.package.name,
        item.platform,
        finding.package.purl,
    )


def clipped(text: str, max_chars: int) -> str:
    """Return printable text of several lines within a limit."""
    return clip(printable(clip(text, max_chars)), max_chars)


def unsaid_error(image: ImageResult) -> str:
    """Return `: ` and what stopped an image, unless the decision's reasons say it already."""
    reasons = image.decision.reasons if image.decision is not None else ()
    if any(reason in image.error for reason in reasons[:1]):
        return ""
    return f": {one_line(image.error)}"

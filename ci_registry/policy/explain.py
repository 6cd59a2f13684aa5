"""Says in English what a policy does, and how a finding would be waived."""

import json

from ci_registry.findings import Severity
from ci_registry.policy.model import AcceptedGap, Action, Mode, Policy, Rule
from ci_registry.results import JudgedFinding


def rule_sentence(rule: Rule) -> str:
    """Return the rule as one English sentence."""
    limit, word = rule.max_count, _verb(rule.action)
    if limit is None:
        return f"{word} any {_findings(rule, 1)}."
    if limit == 0:
        return f"{_verb(rule.on_exceed)} any {_findings(rule, 1)}."
    if rule.action is Action.WARN and rule.on_exceed is Action.WARN:
        return f"Warn about any {_findings(rule, 1)}, even when there are more than {limit}."
    start = "Tolerate" if rule.action is Action.BLOCK else "Warn about"
    then = "block" if rule.on_exceed is Action.BLOCK else "warn"
    return f"{start} up to {limit} {_findings(rule, limit)}, {then} from the {_ordinal(limit + 1)}."


def explain_policy(policy: Policy) -> str:
    """Return what the policy does, one sentence a line."""
    lines = [f"{rule.id}: {rule_sentence(rule)}" for rule in policy.rules]
    if policy.mode is Mode.AUDIT:
        lines.insert(0, "Audit mode: what would block only warns.")
    if policy.unknown_severity is Severity.UNKNOWN:
        lines.append("Findings of UNKNOWN severity stay UNKNOWN.")
    else:
        lines.append(f"Findings of UNKNOWN severity count as {policy.unknown_severity}.")
    if policy.uses_kev:
        days = policy.max_kev_age.total_seconds() / 86400
        lines.append(
            f"A scan without a list of known exploited vulnerabilities, or with one older than {days:g} "
            "days, is incomplete."
        )
    if policy.asks_for_new:
        lines.append(
            "Without a baseline, or with one that can't be used, every finding counts as new."
        )
    lines.append("Findings that no rule names are listed and change nothing.")
    lines.extend(f"Accepted gap {_gap_sentence(item)}" for item in policy.accepted_gaps)
    lines.append(
        "Every other gap in coverage makes the verdict incomplete, which is no pass; "
        "the end of a distribution's support alone only warns."
    )
    return "\n".join(lines) + "\n"


def waiver_snippet(judged: JudgedFinding, image: str) -> str:
    """Return an item for the waiver file; owner, reason and day are left for a person to write."""
    finding = judged.finding
    purl = finding.package.purl_without_version.partition("?")[0]
    name = f"W-{finding.id}-{finding.package.name}"[:64]
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)
    lines = [
        f"- id: {json.dumps(name)}",
        f"  vulnerabilities: [{json.dumps(finding.id)}]",
        *([f"  packages: [{json.dumps(purl)}]"] if purl else []),
        f"  images: [{json.dumps(image)}]",
        '  owner: ""    # who answers for it',
        '  reason: ""   # why it is acceptable',
        "  expires:     # last day, for example 2026-12-31; at most a year ahead",
    ]
    return "\n".join(lines) + "\n"


def _verb(action: Action) -> str:
    return "Block on" if action is Action.BLOCK else "Warn about"


def _findings(rule: Rule, count: int) -> str:
    plural = "finding" if count == 1 else "findings"
    text = f"{rule.severity} {plural}" if rule.severity is not None else plural
    if rule.severity_at_least is not None:
        text = f"{plural} of severity {rule.severity_at_least} or worse"
        if rule.severity_at_least is Severity.CRITICAL:
            text = f"CRITICAL {plural}"
    tails = []
    if rule.known_exploited:
        tails.append(f"{'is' if count == 1 else 'are'} known to be exploited")
    if rule.only_fixed:
        tails.append(f"{'has' if count == 1 else 'have'} a fix")
    if rule.only_new:
        tails.append(f"{'is' if count == 1 else 'are'} new or worse than in the baseline")
    return text + (f" that {' and '.join(tails)}" if tails else "")


def _ordinal(number: int) -> str:
    tail = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{tail or 'th'}"


def _gap_sentence(item: AcceptedGap) -> str:
    concerned = f" of {item.ecosystem} packages" if item.ecosystem else ""
    images = ", ".join(item.images)
    return (
        f"{item.gap}{concerned} in {images} until {item.expires}, "
        f"owner {item.owner}: {item.reason.rstrip('.')}."
    )

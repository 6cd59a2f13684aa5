"""Judges one image: waivers, then every rule on every platform, then coverage; the worst wins."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ci_registry.comparison import Baseline, Comparison
from ci_registry.config.model import FailOn
from ci_registry.findings import FindingKind, ScanResult, Severity
from ci_registry.policy.baseline import Standing, compare_with_baseline
from ci_registry.policy.coverage import JudgedCoverage, judge_coverage
from ci_registry.policy.explain import rule_sentence
from ci_registry.policy.groups import Group, group_findings
from ci_registry.policy.model import Action, Mode, Policy, Rule, end_of
from ci_registry.policy.reader import free_id
from ci_registry.policy.waivers import Waiver
from ci_registry.results import (
    Decision,
    JudgedFinding,
    JudgedGap,
    RuleOutcome,
    Treatment,
    Verdict,
    WaiverNote,
)

_WARN_BEFORE = timedelta(days=14)
_NAMED_IN_A_REASON = 3


def with_fail_on(policy: Policy, fail_on: FailOn) -> Policy:
    """Return the policy with one more BLOCK rule from that severity up; nothing else changes."""
    if fail_on is FailOn.NONE:
        return policy
    rule = Rule(
        id=free_id(f"fail-on-{fail_on}", {rule.id for rule in policy.rules}),
        severity_at_least=Severity(fail_on.upper()),
        action=Action.BLOCK,
    )
    return replace(policy, rules=(*policy.rules, rule))


def judge(
    policy: Policy,
    waivers: tuple[Waiver, ...],
    *,
    image: str,
    repositories: tuple[str, ...],
    scans: tuple[ScanResult, ...],
    platforms: tuple[str, ...],
    now: datetime,
    baseline: Baseline | None = None,
) -> Decision:
    """Return the verdict of one image and everything that explains it.

    Args:
        policy: the rules, and the gaps that are accepted.
        waivers: all waivers, expired ones too.
        image: its name in the settings.
        repositories: `registry/repository` of its destinations; waivers may name these instead.
        scans: one for each platform, in any order.
        platforms: the platforms that must have been scanned.
        now: an aware time.
        baseline: what findings are compared with; None when none is named.
    """
    book = _WaiverBook(waivers, image, repositories, now)
    groups = group_findings(scans)
    compared = compare_with_baseline(policy, groups, baseline, scans)
    counted = tuple(
        _Counted(group=group, waivers=book.covering(group), standing=standing)
        for group, standing in zip(groups, compared.standings, strict=True)
    )
    places = tuple(dict.fromkeys((*platforms, *sorted(scan.platform for scan in scans))))
    scans = tuple(sorted(scans, key=lambda scan: places.index(scan.platform)))
    outcomes = {
        rule.id: tuple(_outcome(policy, rule, counted, place) for place in places)
        or (_outcome(policy, rule, (), ""),)
        for rule in policy.rules
    }
    coverage = judge_coverage(
        policy,
        image=image,
        repositories=repositories,
        scans=scans,
        platforms=platforms,
        now=now,
    )
    return _decision(
        policy,
        counted=counted,
        outcomes=outcomes,
        coverage=coverage,
        book=book,
        now=now,
        comparison=compared.comparison,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A group, the waivers that cover all of it, and how it stands to the baseline."""

    group: Group
    waivers: tuple[Waiver, ...]
    standing: Standing

    def is_selected(self, policy: Policy, rule: Rule) -> bool:
        """Whether `rule` is about it, waived or not."""
        severity = policy.effective(self.group.finding.severity)
        return self.group.is_decided and rule.selects(
            severity,
            has_fix=self.group.has_fix,
            known_exploited=self.group.finding.known_exploited,
            is_new=self.standing.is_new,
        )


class _WaiverBook:
    """The waivers that are about one image."""

    def __init__(
        self,
        waivers: tuple[Waiver, ...],
        image: str,
        repositories: tuple[str, ...],
        now: datetime,
    ) -> None:
        self._image = image
        self._now = now
        mine = [w for w in waivers if w.is_about(image, repositories)]
        self._mine = sorted(mine, key=lambda w: (w.expires, w.id), reverse=True)
        self._matched: set[str] = set()

    def covering(self, group: Group) -> tuple[Waiver, ...]:
        """Return the waivers that together cover every affected member; nothing when one is left."""
        used: dict[str, Waiver] = {}
        left = False
        for member in group.members:
            if member.kind is not FindingKind.AFFECTED:
                continue
            fitting = [w for w in self._mine if w.covers(group.ids, member.package)]
            self._matched |= {w.id for w in fitting}
            active = [w for w in fitting if self._is_active(w)]
            left = left or not active
            used |= {w.id: w for w in active[:1]}
        return () if left else tuple(used.values())

    def notes(self) -> Iterator[WaiverNote]:
        """Tell about waivers that are expired, unused or about to expire, in the order of the file."""
        for waiver in sorted(self._mine, key=lambda w: (w.file, w.line, w.id)):
            if text := self._note(waiver):
                yield WaiverNote(
                    waiver_id=waiver.id, message=text, file=waiver.file, line=waiver.line
                )

    def _is_active(self, waiver: Waiver) -> bool:
        return self._now < end_of(waiver.expires)

    def _note(self, waiver: Waiver) -> str:
        if not self._is_active(waiver):
            effect = (
                "it no longer applies" if waiver.id in self._matched else "and nothing needs it"
            )
            return f"expired on {waiver.expires}, {effect}"
        if waiver.id not in self._matched:
            return f"matches nothing in image {self._image}: remove it"
        if end_of(waiver.expires) - self._now <= _WARN_BEFORE:
            return f"expires on {waiver.expires}: fix, or ask {waiver.owner} for a new decision"
        return ""


def _outcome(
    policy: Policy, rule: Rule, counted: tuple[_Counted, ...], platform: str
) -> RuleOutcome:
    """Evaluate one rule on one platform, as if in enforce mode."""
    mine = [
        c.group
        for c in counted
        if c.group.platform == platform and not c.waivers and c.is_selected(policy, rule)
    ]
    return RuleOutcome(
        rule_id=rule.id,
        sentence=rule_sentence(rule),
        verdict=_verdict_of(rule, len(mine)),
        count=len(mine),
        max_count=rule.max_count,
        platform=platform,
        findings=tuple(group.finding.key for group in mine),
    )


def _verdict_of(rule: Rule, count: int) -> Verdict:
    if count == 0:
        return Verdict.PASS
    if rule.max_count is None:
        action = rule.action
    elif count > rule.max_count:
        action = rule.on_exceed
    elif rule.action is Action.BLOCK:
        return Verdict.PASS
    else:
        action = rule.action
    return Verdict.BLOCK if action is Action.BLOCK else Verdict.WARN


def _decision(
    policy: Policy,
    *,
    counted: tuple[_Counted, ...],
    outcomes: dict[str, tuple[RuleOutcome, ...]],
    coverage: JudgedCoverage,
    book: _WaiverBook,
    now: datetime,
    comparison: Comparison | None,
) -> Decision:
    worst = [max(found, key=lambda o: (o.verdict.rank, o.count)) for found in outcomes.values()]
    verdicts = [outcome.verdict for outcome in worst] + [verdict for verdict, _ in coverage.reasons]
    enforced = max(verdicts, key=lambda v: v.rank, default=Verdict.PASS)
    findings = tuple(_judged(policy, item, outcomes) for item in counted)
    return Decision(
        verdict=_in_mode(policy, enforced),
        enforced_verdict=enforced,
        mode=str(policy.mode),
        policy_name=policy.name,
        policy_source=policy.source,
        policy_digest=policy.digest,
        decided_at=now,
        reasons=_reasons(policy, worst, coverage, findings, comparison),
        rules=tuple(replace(o, verdict=_in_mode(policy, o.verdict)) for o in worst),
        findings=findings,
        gaps=_worst_gaps_first(coverage.gaps),
        waiver_notes=tuple(book.notes()),
        not_after=_not_after(policy, counted, coverage),
        comparison=comparison,
    )


def _in_mode(policy: Policy, verdict: Verdict) -> Verdict:
    """Turn a block into a warning in audit mode; incomplete stays."""
    if policy.mode is Mode.AUDIT and verdict is Verdict.BLOCK:
        return Verdict.WARN
    return verdict


def _judged(
    policy: Policy, item: _Counted, outcomes: dict[str, tuple[RuleOutcome, ...]]
) -> JudgedFinding:
    group = item.group
    treatment, rule_id, reason = Treatment.LISTED, "", ""
    selecting = [rule for rule in policy.rules if item.is_selected(policy, rule)]
    if item.waivers:
        treatment = Treatment.WAIVED
        reason = "; ".join(f"{w.owner} until {w.expires}: {w.reason}" for w in item.waivers)
    elif selecting:
        mine = [o for r in selecting for o in outcomes[r.id] if o.platform == group.platform]
        worst = max(mine, key=lambda o: o.verdict.rank)
        rule_id = worst.rule_id
        treatment = {Verdict.BLOCK: Treatment.BLOCK, Verdict.WARN: Treatment.WARN}.get(
            _in_mode(policy, worst.verdict), Treatment.LISTED
        )
    elif not group.is_decided:
        reason = group.finding.detail
    return JudgedFinding(
        finding=group.finding,
        platform=group.platform,
        versions=group.versions,
        paths=group.paths,
        effective_severity=policy.effective(group.finding.severity),
        treatment=treatment,
        rule_id=rule_id,
        waiver_id=", ".join(w.id for w in item.waivers),
        reason=reason,
        from_base=group.from_base,
        change=item.standing.change,
        change_detail=item.standing.detail,
    )


def _reasons(
    policy: Policy,
    worst: list[RuleOutcome],
    coverage: JudgedCoverage,
    findings: tuple[JudgedFinding, ...],
    comparison: Comparison | None,
) -> tuple[str, ...]:
    found = list(coverage.reasons)
    found += [(o.verdict, _rule_reason(policy, o)) for o in worst if o.verdict is not Verdict.PASS]
    found.sort(key=lambda item: -item[0].rank)
    if comparison is not None and comparison.problem and _leans_on_new(policy, worst):
        found.append((Verdict.PASS, f"every finding counts as new: {comparison.problem}"))
    if found:
        return tuple(dict.fromkeys(text for _, text in found))
    listed = {f.finding.key for f in findings if f.treatment is Treatment.LISTED}
    waived = {f.finding.key for f in findings if f.treatment is Treatment.WAIVED}
    tail = f", {len(waived)} waived" if waived else ""
    return (f"no rule objects: 0 blocking findings, {len(listed)} listed{tail}",)


def _leans_on_new(policy: Policy, worst: list[RuleOutcome]) -> bool:
    """Whether a rule that counts only what is new objects."""
    objecting = {outcome.rule_id for outcome in worst if outcome.verdict is not Verdict.PASS}
    return any(rule.only_new and rule.id in objecting for rule in policy.rules)


def _rule_reason(policy: Policy, outcome: RuleOutcome) -> str:
    word = "blocks" if outcome.verdict is Verdict.BLOCK else "warns"
    if outcome.verdict is Verdict.BLOCK and policy.mode is Mode.AUDIT:
        word = "would block (audit mode)"
    count = f"{outcome.count} finding" + ("" if outcome.count == 1 else "s")
    limit = ""
    if outcome.max_count is not None:
        above = outcome.count > outcome.max_count
        limit = f", {'more than' if above else 'within'} the {outcome.max_count} tolerated"
    names = [f"{name} in {purl or 'an unnamed package'}" for name, purl in outcome.findings]
    shown = ", ".join(names[:_NAMED_IN_A_REASON])
    if len(names) > _NAMED_IN_A_REASON:
        shown += f" and {len(names) - _NAMED_IN_A_REASON} more"
    return f"rule {outcome.rule_id} {word}: {count} on {outcome.platform}{limit}: {shown}"


def _worst_gaps_first(gaps: tuple[JudgedGap, ...]) -> tuple[JudgedGap, ...]:
    return tuple(sorted(gaps, key=lambda g: (-g.verdict.rank, g.platform, g.gap.gap)))


def _not_after(
    policy: Policy, counted: tuple[_Counted, ...], coverage: JudgedCoverage
) -> datetime | None:
    """Return the earliest expiry among what holds the verdict up; None when nothing expires."""
    days = [accepted.expires for accepted in coverage.used]
    for item in counted:
        if any(item.is_selected(policy, rule) for rule in policy.rules):
            days.extend(waiver.expires for waiver in item.waivers)
    return end_of(min(days)) if days else None

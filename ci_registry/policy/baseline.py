"""Compares the counted findings of an image with a baseline: new, worsened, unchanged, fixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ci_registry.comparison import Baseline, Change, Comparison, KnownFinding
from ci_registry.findings import Gap, ScanResult, ScanStatus
from ci_registry.policy.groups import Group, package_identity
from ci_registry.policy.model import Policy

_HIDES_NOTHING = frozenset({Gap.END_OF_LIFE, Gap.UNDECIDED, Gap.KEV_ABSENT, Gap.KEV_STALE})
"""Gaps in spite of which a finding that is gone is gone."""
NOT_NAMED = "no baseline is named, see scan.baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one counted finding stands to the baseline."""

    change: Change | None = None
    detail: str = ""

    @property
    def is_new(self) -> bool:
        """Whether rules about new findings count it: also when nothing is known."""
        return self.change is None or self.change.is_new


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The standing of each group, in their order, and the sum."""

    standings: tuple[Standing, ...]
    comparison: Comparison | None


def known_findings(groups: Sequence[Group]) -> tuple[KnownFinding, ...]:
    """Return counted findings as a baseline keeps them."""
    return tuple(
        KnownFinding(
            platform=group.platform,
            ids=(group.finding.id, *group.finding.aliases),
            package=package_identity(group.finding),
            severity=group.finding.severity,
            is_decided=group.is_decided,
            known_exploited=group.finding.known_exploited,
        )
        for group in groups
    )


def compare_with_baseline(
    policy: Policy,
    groups: Sequence[Group],
    baseline: Baseline | None,
    scans: Sequence[ScanResult],
) -> Compared:
    """Say of each group how it stands to the baseline; what can't be compared is new.

    Without a baseline there is nothing to say, unless a rule asks for what is new: then all of it is.
    """
    if baseline is None and not policy.asks_for_new:
        return Compared(standings=tuple(Standing() for _ in groups), comparison=None)
    baseline = baseline or Baseline(source="", problem=NOT_NAMED)
    usable = not baseline.problem
    places = _by_package(baseline.findings if usable else ())
    standings = tuple(_standing(policy, group, places) for group in groups)
    changes = [standing.change for standing in standings]
    fixed, notes = _fixed(policy, groups, baseline, scans) if usable else ((), ())
    if usable:
        absent = sorted({scan.platform for scan in scans} - set(baseline.platforms))
        notes += tuple(f"it has no {place}: every finding there is new" for place in absent)
    return Compared(
        standings=standings,
        comparison=Comparison(
            source=baseline.source,
            problem=baseline.problem,
            notes=(*baseline.notes, *notes),
            new=changes.count(Change.NEW),
            worsened=changes.count(Change.WORSENED),
            unchanged=changes.count(Change.UNCHANGED),
            fixed=fixed,
        ),
    )


_Places = Mapping[tuple[str, str], Sequence[KnownFinding]]
"""(platform, package) → what was known there."""


def _by_package(findings: Sequence[KnownFinding]) -> _Places:
    places: dict[tuple[str, str], list[KnownFinding]] = {}
    for finding in findings:
        places.setdefault((finding.platform, finding.package), []).append(finding)
    return places


def _standing(policy: Policy, group: Group, places: _Places) -> Standing:
    same = places.get((group.platform, package_identity(group.finding)), ())
    known = [item for item in same if group.ids & _folded(item)]
    if not known:
        return Standing(change=Change.NEW)
    if was := _was_better(policy, group, known):
        return Standing(change=Change.WORSENED, detail=was)
    return Standing(change=Change.UNCHANGED)


def _folded(finding: KnownFinding) -> set[str]:
    return {name.casefold() for name in finding.ids}


def _was_better(policy: Policy, group: Group, known: Sequence[KnownFinding]) -> str:
    """Return what was better before; empty when nothing was."""
    if not group.is_decided:
        return ""
    decided = [item for item in known if item.is_decided]
    if not decided:
        return "it was not decided whether it is affected"
    before = max((policy.effective(item.severity) for item in decided), key=lambda s: s.rank)
    if policy.effective(group.finding.severity).rank > before.rank:
        return f"was {before}"
    if group.finding.known_exploited and not any(item.known_exploited for item in decided):
        return "was not known to be exploited"
    return ""


def _fixed(
    policy: Policy, groups: Sequence[Group], baseline: Baseline, scans: Sequence[ScanResult]
) -> tuple[tuple[KnownFinding, ...], tuple[str, ...]]:
    """Return what is gone; nothing is called fixed where the scan saw less than the baseline."""
    blind: dict[str, str] = {}
    for scan in scans:
        if reason := _sees_less(scan, baseline):
            blind[scan.platform] = reason
    seen = {scan.platform for scan in scans} - blind.keys()
    here = _names_by_package(groups)
    gone = [
        item
        for item in baseline.findings
        if item.platform in seen
        and item.is_decided
        and not _folded(item) & here.get((item.platform, item.package), set())
    ]
    gone.sort(key=lambda i: (-policy.effective(i.severity).rank, i.ids[:1], i.package, i.platform))
    notes = (f"what is fixed on {p} can't be said: {reason}" for p, reason in blind.items())
    return tuple(gone), tuple(notes)


def _sees_less(scan: ScanResult, baseline: Baseline) -> str:
    if scan.status is not ScanStatus.COMPLETE:
        return f"the scan ended as {scan.status}"
    for gap in scan.coverage.gaps:
        known = (scan.platform, str(gap.gap), gap.ecosystem) in baseline.gaps
        if gap.gap not in _HIDES_NOTHING and not known:
            return f"the scan did not cover everything ({gap.gap})"
    return ""


def _names_by_package(groups: Sequence[Group]) -> dict[tuple[str, str], set[str]]:
    names: dict[tuple[str, str], set[str]] = {}
    for group in groups:
        place = (group.platform, package_identity(group.finding))
        names.setdefault(place, set()).update(group.ids)
    return names

"""Findings against a baseline: new, worsened, unchanged, fixed; what can't be compared is new."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ci_registry.comparison import Baseline, Change, KnownFinding
from ci_registry.findings import (
    CoverageGap,
    Finding,
    FindingKind,
    Gap,
    ScanResult,
    ScanStatus,
    Severity,
)
from ci_registry.policy.baseline import NOT_NAMED, known_findings
from ci_registry.policy.evaluate import judge
from ci_registry.policy.explain import rule_sentence
from ci_registry.policy.groups import group_findings
from ci_registry.policy.model import Action, Policy, Rule
from ci_registry.results import Decision, Verdict
from tests.support.findings import AMD64, ARM64, NOW, make_finding, make_package, make_scan

NEW_HIGH = Rule(id="new", action=Action.BLOCK, severity_at_least=Severity.HIGH, only_new=True)
ANY_HIGH = replace(NEW_HIGH, id="any", only_new=False)


def policy(*rules: Rule) -> Policy:
    return Policy(name="t", rules=rules, digest="sha256:" + "0" * 64, source="policy.yml")


def baseline(*findings: Finding, platforms: Sequence[str] = (AMD64,), **more: object) -> Baseline:
    scans = tuple(make_scan(*findings, platform=place) for place in platforms)
    known = known_findings(group_findings(scans))
    made = Baseline(source="release", platforms=tuple(platforms), findings=known)
    return replace(made, **more)  # type: ignore[arg-type]


def decide(known: Baseline | None, *scans: ScanResult, rule: Rule = NEW_HIGH) -> Decision:
    places = tuple(scan.platform for scan in scans)
    return judge(
        policy(rule),
        (),
        image="api",
        repositories=(),
        scans=scans,
        platforms=places,
        now=NOW,
        baseline=known,
    )


def changes(decision: Decision) -> list[Change | None]:
    return [item.change for item in decision.findings]


def test_finding_of_the_baseline_is_unchanged_and_does_not_count() -> None:
    decision = decide(baseline(make_finding()), make_scan(make_finding()))
    assert (decision.verdict, changes(decision)) == (Verdict.PASS, [Change.UNCHANGED])
    assert decide(baseline(make_finding()), make_scan(make_finding()), rule=ANY_HIGH).verdict is (
        Verdict.BLOCK
    )


@pytest.mark.parametrize(
    "other",
    [
        make_finding("CVE-2026-0009"),
        make_finding(package=make_package("zlib")),
        make_finding(package=make_package(ecosystem="apk")),
    ],
)
def test_another_vulnerability_or_package_is_new_and_blocks(other: Finding) -> None:
    decision = decide(baseline(make_finding()), make_scan(other))
    assert (decision.verdict, changes(decision)) == (Verdict.BLOCK, [Change.NEW])
    assert decision.comparison is not None
    assert [item.ids[0] for item in decision.comparison.fixed] == ["CVE-2026-0001"]


def test_any_shared_name_and_any_version_is_the_same_finding() -> None:
    before = make_finding("GHSA-1", aliases=("CVE-2026-0001",))
    after = make_finding("cve-2026-0001", aliases=("OSV-7",), package=make_package(version="1.1"))
    assert changes(decide(baseline(before), make_scan(after))) == [Change.UNCHANGED]


def test_severity_that_rose_is_worsened_and_counts() -> None:
    before, after = make_finding(severity=Severity.MEDIUM), make_finding(severity=Severity.HIGH)
    decision = decide(baseline(before), make_scan(after))
    assert (decision.verdict, changes(decision)) == (Verdict.BLOCK, [Change.WORSENED])
    assert decision.findings[0].change_detail == "was MEDIUM"


def test_severity_is_compared_as_the_policy_sees_it() -> None:
    before = make_finding(severity=Severity.UNKNOWN)  # counts as HIGH
    decision = decide(baseline(before), make_scan(make_finding(severity=Severity.HIGH)))
    assert (decision.verdict, changes(decision)) == (Verdict.PASS, [Change.UNCHANGED])


def test_severity_that_fell_is_unchanged() -> None:
    before = make_finding(severity=Severity.CRITICAL)
    assert changes(decide(baseline(before), make_scan(make_finding()))) == [Change.UNCHANGED]


def test_what_was_undecided_or_not_exploited_is_worsened() -> None:
    undecided = make_finding(kind=FindingKind.UNDECIDED)
    decision = decide(baseline(undecided), make_scan(make_finding()))
    assert decision.findings[0].change_detail == "it was not decided whether it is affected"
    exploited = replace(make_finding(), known_exploited=True)
    decision = decide(baseline(make_finding()), make_scan(exploited))
    assert decision.findings[0].change_detail == "was not known to be exploited"
    assert decision.verdict is Verdict.BLOCK


def test_baseline_with_a_problem_makes_everything_new_and_says_why() -> None:
    broken = Baseline(source="old.json", problem="old.json can't be read")
    decision = decide(broken, make_scan(make_finding()))
    assert (decision.verdict, changes(decision)) == (Verdict.BLOCK, [Change.NEW])
    assert decision.reasons[-1] == "every finding counts as new: old.json can't be read"
    assert decision.comparison is not None
    assert decision.comparison.fixed == ()


def test_rule_about_new_findings_without_a_baseline_counts_all_of_them() -> None:
    decision = decide(None, make_scan(make_finding()))
    assert decision.verdict is Verdict.BLOCK
    assert decision.reasons[-1] == f"every finding counts as new: {NOT_NAMED}"


def test_without_baseline_and_without_such_a_rule_nothing_is_said() -> None:
    decision = decide(None, make_scan(make_finding()), rule=ANY_HIGH)
    assert (changes(decision), decision.comparison) == ([None], None)


def test_platform_that_the_baseline_lacks_is_new() -> None:
    decision = decide(
        baseline(make_finding()),
        make_scan(make_finding()),
        make_scan(make_finding(), platform=ARM64),
    )
    assert {item.platform: item.change for item in decision.findings} == {
        AMD64: Change.UNCHANGED,
        ARM64: Change.NEW,
    }
    assert decision.comparison is not None
    assert decision.comparison.notes == ("it has no linux/arm64: every finding there is new",)


@pytest.mark.parametrize(
    ("scan", "known", "fixed"),
    [
        (make_scan(), frozenset(), 1),
        (make_scan(gaps=(CoverageGap(gap=Gap.NO_DATA, detail="", ecosystem="deb"),)), (), 0),
        (
            make_scan(gaps=(CoverageGap(gap=Gap.NO_DATA, detail="", ecosystem="deb"),)),
            ((AMD64, "no-data", "deb"),),
            1,
        ),
        (make_scan(gaps=(CoverageGap(gap=Gap.END_OF_LIFE, detail=""),)), (), 1),
        (make_scan(status=ScanStatus.TIMEOUT), (), 0),
    ],
)
def test_nothing_is_called_fixed_where_the_scan_saw_less(
    scan: ScanResult, known: Sequence[tuple[str, str, str]], fixed: int
) -> None:
    decision = decide(baseline(make_finding(), gaps=frozenset(known)), scan)
    assert decision.comparison is not None
    assert len(decision.comparison.fixed) == fixed
    assert bool(decision.comparison.notes) == (not fixed)


def test_counts_are_of_all_platforms() -> None:
    gone = make_finding("CVE-2026-0005")
    worse = make_finding("CVE-2026-0002", Severity.CRITICAL)
    before = (make_finding(), replace(worse, severity=Severity.LOW), gone)
    after = (make_finding(), worse, make_finding("CVE-2026-0003"))
    decision = decide(
        baseline(*before, platforms=(AMD64, ARM64)),
        make_scan(*after),
        make_scan(*after, platform=ARM64),
    )
    found = decision.comparison
    assert found is not None
    assert (found.new, found.worsened, found.unchanged, len(found.fixed)) == (2, 2, 2, 2)


def test_undecided_finding_that_is_gone_is_not_called_fixed() -> None:
    decision = decide(baseline(make_finding(kind=FindingKind.UNDECIDED)), make_scan())
    assert decision.comparison is not None
    assert decision.comparison.fixed == ()


def test_packages_without_purl_do_not_fall_together() -> None:
    first = replace(make_package("a"), purl="")
    second = replace(make_package("b"), purl="")
    decision = decide(
        baseline(make_finding(package=first)), make_scan(make_finding(package=second))
    )
    assert changes(decision) == [Change.NEW]


def test_known_findings_keep_every_name() -> None:
    (known,) = baseline(make_finding("GHSA-1", aliases=("CVE-2026-0001",))).findings
    assert known == KnownFinding(
        platform=AMD64,
        ids=("CVE-2026-0001", "GHSA-1"),
        package="pkg:deb/debian/openssl",
        severity=Severity.HIGH,
    )


def test_rule_says_what_it_counts() -> None:
    assert rule_sentence(replace(NEW_HIGH, only_fixed=True)) == (
        "Block on any finding of severity HIGH or worse that has a fix and is new or worse than in "
        "the baseline."
    )

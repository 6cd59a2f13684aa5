"""The verdict of an image: rules, counting, waivers, gaps, and that nothing unseen passes."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.config.model import FailOn
from ci_registry.findings import CoverageGap, Finding, FindingKind, Gap, ScanStatus, Severity
from ci_registry.policy.builtin import BUILT_IN
from ci_registry.policy.evaluate import judge, with_fail_on
from ci_registry.policy.model import AcceptedGap, Action, Mode, Policy, Rule, end_of
from ci_registry.policy.waivers import Waiver
from ci_registry.results import Decision, Treatment, Verdict
from tests.support.findings import (
    AMD64,
    ARM64,
    NOW,
    make_coverage,
    make_finding,
    make_package,
    make_scan,
)

CRITICAL, HIGH, MEDIUM, LOW = Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM, Severity.LOW
UNKNOWN = Severity.UNKNOWN


def policy(*rules: Rule, **changes: object) -> Policy:
    made = Policy(name="test", rules=rules, digest="sha256:" + "0" * 64, source="policy.yml")
    return replace(made, **changes)  # type: ignore[arg-type]


def block(severity: Severity, max_count: int | None = None, **changes: object) -> Rule:
    made = Rule(id=f"{severity}-block".lower(), severity=severity, action=Action.BLOCK)
    return replace(made, max_count=max_count, **changes)  # type: ignore[arg-type]


def warn(severity: Severity, max_count: int | None = None, **changes: object) -> Rule:
    made = Rule(id=f"{severity}-warn".lower(), severity=severity, action=Action.WARN)
    return replace(made, max_count=max_count, **changes)  # type: ignore[arg-type]


def waiver(name: str = "W-1", /, **changes: object) -> Waiver:
    made = Waiver(
        id=name,
        vulnerabilities=("CVE-2026-0001",),
        owner="team-a",
        reason="not reachable",
        expires=date(2026, 12, 31),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def accept(gap: Gap, /, **changes: object) -> AcceptedGap:
    made = AcceptedGap(
        gap=gap, images=("api",), owner="ops", reason="static", expires=date(2026, 9, 1)
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def decide(
    rules: Policy,
    *scans: object,
    waivers: tuple[Waiver, ...] = (),
    platforms: tuple[str, ...] = (AMD64,),
    now: datetime = NOW,
) -> Decision:
    return judge(
        rules,
        waivers,
        image="api",
        repositories=("ghcr.io/acme/api",),
        scans=scans,  # type: ignore[arg-type]
        platforms=platforms,
        now=now,
    )


def several(count: int, severity: Severity) -> tuple[Finding, ...]:
    return tuple(make_finding(f"CVE-2026-{n:04}", severity) for n in range(1, count + 1))


@pytest.mark.parametrize(
    ("rule", "count", "expected"),
    [
        (warn(HIGH, 5), 0, Verdict.PASS),
        (warn(HIGH, 5), 1, Verdict.WARN),
        (warn(HIGH, 5), 5, Verdict.WARN),
        (warn(HIGH, 5), 6, Verdict.BLOCK),
        (warn(HIGH, 5, on_exceed=Action.WARN), 6, Verdict.WARN),
        (warn(HIGH, 0), 1, Verdict.BLOCK),
        (warn(HIGH), 100, Verdict.WARN),
        (block(HIGH, 3), 3, Verdict.PASS),
        (block(HIGH, 3), 4, Verdict.BLOCK),
        (block(HIGH), 0, Verdict.PASS),
        (block(HIGH), 1, Verdict.BLOCK),
        (block(CRITICAL), 9, Verdict.PASS),
    ],
)
def test_max_count_is_the_most_a_rule_tolerates(rule: Rule, count: int, expected: Verdict) -> None:
    decision = decide(policy(rule), make_scan(*several(count, HIGH)))

    assert decision.verdict is expected
    assert decision.enforced_verdict is expected
    assert decision.rules[0].verdict is expected


def test_tolerated_findings_are_listed_with_their_rule() -> None:
    decision = decide(policy(block(HIGH, 3)), make_scan(*several(3, HIGH)))

    assert {(f.treatment, f.rule_id) for f in decision.findings} == {
        (Treatment.LISTED, "high-block")
    }


def test_the_worst_platform_is_the_verdict_and_counts_are_not_added_up() -> None:
    two, three = several(2, HIGH), several(3, HIGH)

    fine = decide(
        policy(warn(HIGH, 3)),
        make_scan(*two),
        make_scan(*three, platform=ARM64),
        platforms=(AMD64, ARM64),
    )
    worse = decide(
        policy(warn(HIGH, 2)),
        make_scan(*two),
        make_scan(*three, platform=ARM64),
        platforms=(AMD64, ARM64),
    )

    assert fine.verdict is Verdict.WARN
    assert worse.verdict is Verdict.BLOCK
    assert (worse.rules[0].platform, worse.rules[0].count) == (ARM64, 3)
    assert {f.treatment for f in worse.findings if f.platform == AMD64} == {Treatment.WARN}
    assert {f.treatment for f in worse.findings if f.platform == ARM64} == {Treatment.BLOCK}


def test_all_rules_are_evaluated_and_the_worst_counts_for_each_finding() -> None:
    rules = policy(warn(HIGH), block(HIGH, 0), warn(CRITICAL))

    decision = decide(rules, make_scan(make_finding()))

    assert [o.verdict for o in decision.rules] == [Verdict.WARN, Verdict.BLOCK, Verdict.PASS]
    assert decision.findings[0].rule_id == "high-block"
    assert decision.reasons[0] == (
        "rule high-block blocks: 1 finding on linux/amd64, more than the 0 tolerated: "
        "CVE-2026-0001 in pkg:deb/debian/openssl"
    )
    assert decision.reasons[1].startswith("rule high-warn warns: 1 finding")


def test_one_vulnerability_counts_once_per_package_over_names_versions_and_paths() -> None:
    findings = (
        make_finding("GHSA-aaaa", LOW, make_package(version="1.0", path="a"), aliases=("CVE-1",)),
        make_finding("CVE-1", HIGH, make_package(version="2.0", path="b"), fixed=("3.0",)),
        make_finding(
            "DSA-9", MEDIUM, make_package(version="1.0", path="c"), aliases=("GHSA-aaaa",)
        ),
        make_finding("CVE-1", HIGH, make_package("libssl")),
    )

    decision = decide(policy(block(HIGH)), make_scan(*findings))

    assert decision.rules[0].count == 2
    first = next(f for f in decision.findings if f.finding.package.name == "openssl")
    assert (first.finding.id, first.finding.aliases) == ("CVE-1", ("DSA-9", "GHSA-aaaa"))
    assert (first.versions, first.paths) == (("1.0", "2.0"), ("a", "b", "c"))
    assert first.finding.severity is HIGH


def test_packages_without_a_purl_do_not_fall_together() -> None:
    one = replace(make_package("one"), purl="")
    two = replace(make_package("two"), purl="")

    decision = decide(
        policy(block(HIGH, 1)), make_scan(make_finding(package=one), make_finding(package=two))
    )

    assert decision.verdict is Verdict.BLOCK


@pytest.mark.parametrize(
    ("mapped", "expected"),
    [(HIGH, Verdict.BLOCK), (LOW, Verdict.PASS), (UNKNOWN, Verdict.PASS)],
)
def test_unknown_severity_counts_as_the_policy_says(mapped: Severity, expected: Verdict) -> None:
    rules = policy(block(HIGH), unknown_severity=mapped)

    decision = decide(rules, make_scan(make_finding(severity=UNKNOWN)))

    assert decision.verdict is expected
    assert decision.findings[0].effective_severity is mapped
    assert decision.findings[0].finding.severity is UNKNOWN


@pytest.mark.parametrize("fixed", [(), ("2.0",)])
def test_only_fixed_counts_what_can_be_fixed(fixed: tuple[str, ...]) -> None:
    decision = decide(BUILT_IN, make_scan(make_finding(severity=CRITICAL, fixed=fixed)))

    assert decision.verdict is (Verdict.BLOCK if fixed else Verdict.PASS)


def test_the_built_in_policy_warns_of_high_and_lists_the_rest() -> None:
    high = decide(BUILT_IN, make_scan(make_finding()))
    rest = decide(BUILT_IN, make_scan(*several(12, MEDIUM)))

    assert high.verdict is Verdict.WARN
    assert rest.verdict is Verdict.PASS
    assert rest.reasons == ("no rule objects: 0 blocking findings, 12 listed",)


def test_audit_turns_a_block_into_a_warning_and_says_what_it_would_have_been() -> None:
    decision = decide(policy(block(HIGH), mode=Mode.AUDIT), make_scan(make_finding()))

    assert (decision.verdict, decision.enforced_verdict) == (Verdict.WARN, Verdict.BLOCK)
    assert decision.rules[0].verdict is Verdict.WARN
    assert decision.findings[0].treatment is Treatment.WARN
    assert "would block (audit mode)" in decision.reasons[0]


def test_audit_never_lets_incomplete_through() -> None:
    decision = decide(policy(block(HIGH), mode=Mode.AUDIT))

    assert decision.verdict is Verdict.INCOMPLETE


@pytest.mark.parametrize(
    ("fail_on", "severity", "expected"),
    [
        (FailOn.HIGH, HIGH, Verdict.BLOCK),
        (FailOn.HIGH, CRITICAL, Verdict.BLOCK),
        (FailOn.HIGH, UNKNOWN, Verdict.BLOCK),
        (FailOn.HIGH, MEDIUM, Verdict.PASS),
        (FailOn.LOW, Severity.NEGLIGIBLE, Verdict.PASS),
        (FailOn.NONE, CRITICAL, Verdict.PASS),
    ],
)
def test_fail_on_adds_a_rule(fail_on: FailOn, severity: Severity, expected: Verdict) -> None:
    stricter = with_fail_on(policy(), fail_on)

    decision = decide(stricter, make_scan(make_finding(severity=severity, fixed=())))

    assert decision.verdict is expected
    assert [rule.id for rule in stricter.rules] == (
        [] if fail_on is FailOn.NONE else [f"fail-on-{fail_on}"]
    )


def test_fail_on_takes_a_free_id() -> None:
    taken = Rule(id="fail-on-high", severity=LOW, action=Action.WARN)

    assert with_fail_on(policy(taken), FailOn.HIGH).rules[1].id == "fail-on-high-2"


def test_a_waived_finding_is_listed_and_bounds_the_decision() -> None:
    decision = decide(policy(block(HIGH)), make_scan(make_finding()), waivers=(waiver(),))

    assert decision.verdict is Verdict.PASS
    judged = decision.findings[0]
    assert (judged.treatment, judged.waiver_id) == (Treatment.WAIVED, "W-1")
    assert judged.reason == "team-a until 2026-12-31: not reachable"
    assert decision.not_after == datetime(2027, 1, 1, tzinfo=UTC)
    assert decision.reasons == ("no rule objects: 0 blocking findings, 0 listed, 1 waived",)
    assert decision.waiver_notes == ()


def test_a_waiver_of_what_no_rule_names_does_not_bound_the_decision() -> None:
    decision = decide(policy(block(CRITICAL)), make_scan(make_finding()), waivers=(waiver(),))

    assert decision.not_after is None


@pytest.mark.parametrize(
    ("changes", "applies"),
    [
        ({}, True),
        ({"vulnerabilities": ("cve-2026-0001",)}, True),
        ({"vulnerabilities": ("GHSA-aaaa",)}, True),
        ({"vulnerabilities": ("CVE-2026-000",)}, False),
        ({"packages": ("pkg:deb/debian/openssl",)}, True),
        ({"packages": ("pkg:deb/debian/openssl@1.0",)}, True),
        ({"packages": ("pkg:deb/debian/openssl@2.0",)}, False),
        ({"packages": ("pkg:deb/debian/open",)}, False),
        ({"images": ("api",)}, True),
        ({"images": ("ghcr.io/acme/api",)}, True),
        ({"images": ("ghcr.io/acme/*",)}, True),
        ({"images": ("web", "quay.io/acme/api")}, False),
        ({"images": ("ap",)}, False),
    ],
)
def test_a_waiver_applies_to_what_it_names(changes: dict[str, object], *, applies: bool) -> None:
    finding = make_finding(aliases=("GHSA-aaaa",))

    decision = decide(policy(block(HIGH)), make_scan(finding), waivers=(waiver(**changes),))

    assert decision.verdict is (Verdict.PASS if applies else Verdict.BLOCK)


def test_a_waiver_for_a_scoped_npm_package_may_write_the_at_sign() -> None:
    package = replace(make_package(), purl="pkg:npm/%40babel/core@7.0.0")

    decision = decide(
        policy(block(HIGH)),
        make_scan(make_finding(package=package)),
        waivers=(waiver(packages=("pkg:npm/@babel/core@7.0.0",)),),
    )

    assert decision.verdict is Verdict.PASS


def test_a_waiver_for_one_version_does_not_waive_another() -> None:
    findings = (make_finding(), make_finding(package=make_package(version="1.1")))
    one = waiver(packages=("pkg:deb/debian/openssl@1.0",))
    other = waiver("W-2", packages=("pkg:deb/debian/openssl@1.1",), expires=date(2026, 7, 1))

    assert (
        decide(policy(block(HIGH)), make_scan(*findings), waivers=(one,)).verdict is Verdict.BLOCK
    )
    both = decide(policy(block(HIGH)), make_scan(*findings), waivers=(one, other))
    assert both.verdict is Verdict.PASS
    assert both.not_after == datetime(2026, 7, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), Verdict.PASS),
        (datetime(2027, 1, 1, tzinfo=UTC), Verdict.BLOCK),
        (datetime(2027, 1, 1, 1, tzinfo=UTC).astimezone(), Verdict.BLOCK),
    ],
)
def test_a_waiver_ends_with_its_day_in_utc(now: datetime, expected: Verdict) -> None:
    decision = decide(policy(block(HIGH)), make_scan(make_finding()), waivers=(waiver(),), now=now)

    assert decision.verdict is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"expires": date(2026, 6, 14)}, "expired on 2026-06-14, it no longer applies"),
        (
            {"expires": date(2026, 6, 14), "vulnerabilities": ("CVE-1-9",)},
            "expired on 2026-06-14, and nothing needs it",
        ),
        ({"vulnerabilities": ("CVE-1-9",)}, "matches nothing in image api: remove it"),
        ({"expires": date(2026, 6, 28)}, "expires on 2026-06-28: fix, or ask team-a for a new"),
        ({"expires": date(2026, 6, 30)}, ""),
        ({"images": ("web",), "expires": date(2026, 6, 14)}, ""),
    ],
)
def test_expired_unused_and_ending_waivers_are_told(
    changes: dict[str, object], expected: str
) -> None:
    given = waiver(file="waivers.yml", line=7, **changes)

    decision = decide(policy(block(HIGH)), make_scan(make_finding()), waivers=(given,))

    notes = [(n.waiver_id, n.file, n.line) for n in decision.waiver_notes]
    assert notes == ([("W-1", "waivers.yml", 7)] if expected else [])
    assert all(n.message.startswith(expected) for n in decision.waiver_notes)


def test_a_missing_platform_is_incomplete() -> None:
    decision = decide(BUILT_IN, make_scan(), platforms=(AMD64, ARM64))

    assert decision.verdict is Verdict.INCOMPLETE
    assert decision.reasons[0] == "linux/arm64 was not scanned"


def test_no_platform_at_all_is_incomplete() -> None:
    decision = decide(BUILT_IN, platforms=())

    assert decision.verdict is Verdict.INCOMPLETE
    assert [o.rule_id for o in decision.rules] == ["critical-block", "high-warn"]


@pytest.mark.parametrize("status", [ScanStatus.FAILED, ScanStatus.TIMEOUT])
def test_a_scan_that_did_not_end_well_is_incomplete(status: ScanStatus) -> None:
    decision = decide(BUILT_IN, make_scan(status=status))

    assert decision.verdict is Verdict.INCOMPLETE
    assert decision.reasons[0].startswith("the scan of linux/amd64 by osv ")


@pytest.mark.parametrize("gap", [g for g in Gap if g is not Gap.END_OF_LIFE])
def test_every_gap_is_incomplete_and_stands_above_blocking_findings(gap: Gap) -> None:
    gaps = (CoverageGap(gap=gap, detail="Something was not seen."),)

    decision = decide(policy(block(HIGH)), make_scan(make_finding(), gaps=gaps))

    assert decision.verdict is Verdict.INCOMPLETE
    assert decision.gaps[0].verdict is Verdict.INCOMPLETE
    assert decision.reasons[0] == f"{gap} on linux/amd64: Something was not seen"
    assert decision.reasons[1].startswith("rule high-block blocks")


def test_the_end_of_support_alone_warns() -> None:
    gaps = (CoverageGap(gap=Gap.END_OF_LIFE, detail="Debian 9 ended"),)

    decision = decide(policy(), make_scan(gaps=gaps))

    assert decision.verdict is Verdict.WARN
    assert decision.not_after is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Verdict.WARN),
        ({"images": ("ghcr.io/acme/api",)}, Verdict.WARN),
        ({"images": ("web",)}, Verdict.INCOMPLETE),
        ({"ecosystem": "deb"}, Verdict.WARN),
        ({"ecosystem": "npm"}, Verdict.INCOMPLETE),
        ({"expires": date(2026, 6, 14)}, Verdict.INCOMPLETE),
        ({"expires": date(2026, 6, 15)}, Verdict.WARN),
        ({"gap": Gap.NO_PACKAGES}, Verdict.INCOMPLETE),
    ],
)
def test_a_gap_is_accepted_by_name_image_ecosystem_and_day(
    changes: dict[str, object], expected: Verdict
) -> None:
    gaps = (CoverageGap(gap=Gap.NO_DATA, detail="12 deb packages", ecosystem="deb"),)
    accepted = accept(Gap.NO_DATA, **changes)

    decision = decide(policy(accepted_gaps=(accepted,)), make_scan(gaps=gaps))

    assert decision.verdict is expected
    if expected is Verdict.WARN:
        assert decision.not_after == end_of(accepted.expires)
        assert decision.gaps[0].accepted_by == f"ops until {accepted.expires}: static"
        assert "accepted by ops until" in decision.reasons[0]


def test_an_expired_acceptance_is_named_in_the_reason() -> None:
    gaps = (CoverageGap(gap=Gap.NO_DATA, detail="12 deb packages"),)
    expired = accept(Gap.NO_DATA, expires=date(2026, 1, 2))

    decision = decide(policy(accepted_gaps=(expired,)), make_scan(gaps=gaps))

    assert decision.reasons[0].endswith("its acceptance expired on 2026-01-02")


def test_a_gap_that_may_not_be_accepted_is_not_even_when_the_policy_value_says_so() -> None:
    gaps = (CoverageGap(gap=Gap.DATABASE_STALE, detail="3 months old"),)

    decision = decide(policy(accepted_gaps=(accept(Gap.DATABASE_STALE),)), make_scan(gaps=gaps))

    assert decision.verdict is Verdict.INCOMPLETE


def test_a_scan_that_saw_no_package_is_incomplete_though_nobody_named_the_gap() -> None:
    scan = make_scan(coverage=make_coverage(package_counts=()))

    decision = decide(BUILT_IN, scan)

    assert decision.verdict is Verdict.INCOMPLETE
    assert decision.gaps[0].gap.gap is Gap.NO_PACKAGES


def test_a_scan_without_any_database_is_incomplete_though_nobody_named_the_gap() -> None:
    decision = decide(BUILT_IN, make_scan(coverage=make_coverage(databases=())))

    assert decision.gaps[0].gap.gap is Gap.DATABASE_ABSENT
    assert decision.verdict is Verdict.INCOMPLETE


def test_undecided_findings_are_a_gap_and_counted_by_no_rule() -> None:
    finding = make_finding(kind=FindingKind.UNDECIDED, detail="version 'x' can't be compared")

    decision = decide(policy(block(HIGH)), make_scan(finding), waivers=(waiver(),))

    assert decision.verdict is Verdict.INCOMPLETE
    assert [g.gap.gap for g in decision.gaps] == [Gap.UNDECIDED]
    assert decision.rules[0].count == 0
    assert decision.findings[0].treatment is Treatment.LISTED
    assert decision.findings[0].reason == "version 'x' can't be compared"


def test_undecided_findings_that_the_scanner_named_are_one_gap() -> None:
    gaps = (CoverageGap(gap=Gap.UNDECIDED, detail="1 advisory", ecosystem="deb"),)
    finding = make_finding(kind=FindingKind.UNDECIDED)

    decision = decide(policy(block(HIGH)), make_scan(finding, gaps=gaps))

    assert len(decision.gaps) == 1


severities = st.sampled_from([LOW, MEDIUM, HIGH, CRITICAL, UNKNOWN])


@st.composite
def any_findings(draw: st.DrawFn) -> list[Finding]:
    """Findings in which two names that are the same vulnerability always say so."""
    made = []
    for number, severity in draw(st.dictionaries(st.integers(1, 6), severities)).items():
        names = [f"CVE-2026-{number:04}", f"GHSA-{number}"]
        for _ in range(draw(st.integers(1, 3))):
            name = draw(st.sampled_from(names))
            package = make_package(
                draw(st.sampled_from(["a", "b"])), draw(st.sampled_from(["1", "2"]))
            )
            aliases = tuple(other for other in names if other != name)
            fixed = draw(st.sampled_from([(), ("9",)]))
            kind = draw(st.sampled_from([FindingKind.AFFECTED] * 4 + [FindingKind.UNDECIDED]))
            made.append(
                make_finding(name, severity, package, aliases=aliases, fixed=fixed, kind=kind)
            )
    return made


@st.composite
def any_policy(draw: st.DrawFn) -> Policy:
    rules = []
    for number in range(draw(st.integers(1, 4))):
        exact = draw(st.booleans())
        severity = draw(st.sampled_from([LOW, MEDIUM, HIGH, CRITICAL]))
        action = draw(st.sampled_from(Action))
        rules.append(
            Rule(
                id=f"r{number}",
                severity=severity if exact else None,
                severity_at_least=None if exact else severity,
                action=action,
                max_count=draw(st.none() | st.integers(0, 3)),
                on_exceed=Action.BLOCK if action is Action.BLOCK else draw(st.sampled_from(Action)),
                only_fixed=draw(st.booleans()),
            )
        )
    return policy(*rules, mode=draw(st.sampled_from(Mode)))


@given(any_policy(), any_findings(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_findings_changes_nothing(
    rules: Policy, findings: list[Finding], random: object
) -> None:
    shuffled = list(findings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert decide(rules, make_scan(*shuffled)) == decide(rules, make_scan(*findings))


@given(any_policy(), any_findings(), any_findings())
@settings(max_examples=100, deadline=None)
def test_adding_a_finding_never_improves_the_verdict(
    rules: Policy, findings: list[Finding], more: list[Finding]
) -> None:
    of_their_own = [replace(f, id=f"{f.id}-x", aliases=()) for f in more]

    before = decide(rules, make_scan(*findings))
    after = decide(rules, make_scan(*findings, *of_their_own))

    assert after.verdict.rank >= before.verdict.rank
    assert after.enforced_verdict.rank >= before.enforced_verdict.rank


@given(any_policy(), any_findings(), st.sampled_from(list(Gap)))
@settings(max_examples=100, deadline=None)
def test_a_waiver_never_touches_incomplete(
    rules: Policy, findings: list[Finding], gap: Gap
) -> None:
    everything = waiver(
        vulnerabilities=tuple(name for f in findings for name in (f.id, *f.aliases)) or ("CVE-1-1",)
    )
    scan = make_scan(*findings, gaps=(CoverageGap(gap=gap, detail="unseen"),))

    without, waived = decide(rules, scan), decide(rules, scan, waivers=(everything,))

    incomplete = Verdict.INCOMPLETE
    assert (waived.verdict is incomplete) == (without.verdict is incomplete)
    assert waived.gaps == without.gaps
    assert waived.verdict.rank <= without.verdict.rank


@given(any_policy(), any_findings())
@settings(max_examples=50, deadline=None)
def test_there_is_always_a_reason_and_one_outcome_per_rule(
    rules: Policy, findings: list[Finding]
) -> None:
    decision = decide(rules, make_scan(*findings), now=NOW + timedelta(days=1))

    assert all(decision.reasons)
    assert decision.reasons
    assert [o.rule_id for o in decision.rules] == [r.id for r in rules.rules]
    blocking = any(f.treatment is Treatment.BLOCK for f in decision.findings)
    assert blocking == any(o.verdict is Verdict.BLOCK for o in decision.rules)

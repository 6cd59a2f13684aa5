"""The list of suites and cases: complete, stable, unique, honest about what failed."""

from dataclasses import replace

import pytest

from ci_registry.errors import ExitCode
from ci_registry.findings import CoverageGap, Gap, ScanStatus
from ci_registry.reports.cases import MAX_FINDING_CASES, STAGES, Suite, is_bad, suites_of
from ci_registry.results import (
    Case,
    CaseStatus,
    JudgedGap,
    Step,
    StepResult,
    StepStatus,
    Treatment,
    Verdict,
    WaiverNote,
)
from tests.support.findings import AMD64, make_scan
from tests.support.results import (
    blocked_image,
    crashed_image,
    incomplete_image,
    make_decision,
    make_judged,
    make_rule,
    make_run,
    make_steps,
    passing_image,
    sample_runs,
)


def _suite(suites: tuple[Suite, ...], stage: Step) -> Suite:
    return next(suite for suite in suites if suite.stage is stage)


def _case(suites: tuple[Suite, ...], stage: Step, name: str) -> Case:
    return next(case for case in _suite(suites, stage).cases if case.name == name)


@pytest.mark.parametrize("name", sample_runs())
def test_every_image_has_every_stage_in_order_and_no_suite_is_empty(name: str) -> None:
    run = sample_runs()[name]
    suites = suites_of(run)
    assert all(suite.cases for suite in suites)
    for image in run.images:
        assert [s.stage for s in suites if s.image == image.name] == list(STAGES)
    assert len(suites) >= 1


@pytest.mark.parametrize("name", sample_runs())
def test_something_is_bad_exactly_when_the_exit_code_says_so(name: str) -> None:
    run = sample_runs()[name]
    bad = [case for suite in suites_of(run) for case in suite.cases if is_bad(case)]
    assert bool(bad) == (run.exit_code != 0)


@pytest.mark.parametrize("name", sample_runs())
def test_every_case_is_fit_for_every_reader(name: str) -> None:
    suites = suites_of(sample_runs()[name])
    names = [(suite.classname, case.name) for suite in suites for case in suite.cases]
    assert len(names) == len(set(names))
    for suite in suites:
        assert suite.classname.count(".") == 2
        assert suite.file
        for case in suite.cases:
            assert case.duration_s >= 0.001
            if is_bad(case):
                assert case.message
                assert case.body.startswith(case.message)
                assert case.kind not in ("file", "integer", "date", "yaml", "symbol", "")


def test_names_do_not_change_with_digest_version_or_count() -> None:
    before = blocked_image()
    assert before.decision
    finding = before.decision.findings[0]
    package = replace(finding.finding.package, version="9.9", purl="pkg:deb/debian/openssl@9.9")
    changed = replace(finding, finding=replace(finding.finding, package=package), versions=("9.9",))
    decision = replace(before.decision, findings=(changed, *before.decision.findings[1:]))
    after = replace(before, decision=decision, digest=None)
    for suite, other in zip(suites_of(make_run(before)), suites_of(make_run(after)), strict=True):
        assert [c.name for c in suite.cases] == [c.name for c in other.cases]


def test_a_blocking_finding_fails_and_says_how_to_waive_it() -> None:
    suites = suites_of(make_run(blocked_image()))
    case = _case(suites, Step.SCAN, "CVE-2026-0001 in openssl (linux/amd64)")
    assert (case.status, case.kind) == (CaseStatus.FAILURE, "vulnerability")
    for text in ("3.0.11-2", "var/lib/dpkg/status", "https://example.com/CVE-2026-0001"):
        assert text in case.body
    assert "expires: 2026-07-15" in case.body


def test_the_waiver_in_the_text_is_read_by_the_policy() -> None:
    from datetime import date

    from ci_registry.policy.waivers import read_waivers

    case = _case(
        suites_of(make_run(blocked_image())), Step.SCAN, "CVE-2026-0001 in openssl (linux/amd64)"
    )
    yaml = case.body[case.body.index("waivers:\n") :]
    (waiver,) = read_waivers(yaml.encode(), file="w.yml", today=date(2026, 6, 15))
    assert waiver.vulnerabilities == ("CVE-2026-0001",)
    assert blocked_image().decision
    finding = make_judged().finding
    assert waiver.covers(frozenset({"cve-2026-0001"}), finding.package)


def test_a_warning_passes_and_a_waived_finding_is_skipped_with_owner_and_day() -> None:
    warning = _case(
        suites_of(make_run(blocked_image())), Step.SCAN, "CVE-2026-0002 in openssl (linux/amd64)"
    )
    assert (warning.status, warning.kind) == (CaseStatus.PASSED, "")
    assert "fixed in 2.0" in warning.body
    suites = suites_of(make_run(passing_image()))
    waived = _case(suites, Step.SCAN, "CVE-2026-0100 in openssl (linux/amd64)")
    assert waived.status is CaseStatus.SKIPPED
    assert waived.message == "W-12 team-a until 2026-12-31: not reachable"


def test_a_finding_that_no_rule_selected_has_no_case() -> None:
    suites = suites_of(make_run(passing_image()))
    assert not [c for c in _suite(suites, Step.SCAN).cases if "CVE-2026-0101" in c.name]


def test_a_gap_is_an_error_unless_it_is_accepted() -> None:
    suites = suites_of(make_run(incomplete_image()))
    case = _case(suites, Step.SCAN, "coverage linux/amd64")
    assert (case.status, case.kind) == (CaseStatus.ERROR, "coverage")
    assert "accepted: team-a" in case.body
    undecided = _case(suites, Step.SCAN, "undecided CVE-2026-0003 in openssl (linux/amd64)")
    assert (undecided.status, undecided.kind) == (CaseStatus.ERROR, "coverage")

    gap = CoverageGap(gap=Gap.NO_PACKAGES, detail="no packages were found")
    accepted = JudgedGap(gap=gap, platform=AMD64, verdict=Verdict.WARN, accepted_by="team-b")
    image = replace(passing_image(), decision=make_decision(Verdict.WARN, gaps=(accepted,)))
    case = _case(suites_of(make_run(image)), Step.SCAN, "coverage linux/amd64")
    assert (case.status, "team-b" in case.body) == (CaseStatus.PASSED, True)


def test_a_scan_that_was_never_judged_is_not_reported_as_covered() -> None:
    gap = CoverageGap(gap=Gap.NO_DATA, detail="no data for alpine 3.99")
    scans = (make_scan(gaps=(gap,)), make_scan(platform="linux/arm64", status=ScanStatus.TIMEOUT))
    image = replace(passing_image(), decision=None, scans=scans)
    suites = suites_of(make_run(image))
    assert _case(suites, Step.SCAN, "coverage linux/amd64").status is CaseStatus.ERROR
    timeout = _case(suites, Step.SCAN, "coverage linux/arm64")
    assert (timeout.status, timeout.kind) == (CaseStatus.ERROR, "infrastructure")


def test_a_gap_of_a_platform_without_a_scan_is_reported() -> None:
    gap = CoverageGap(gap=Gap.WRONG_IMAGE, detail="not scanned")
    judged = JudgedGap(gap=gap, platform="linux/s390x", verdict=Verdict.INCOMPLETE)
    image = replace(passing_image(), decision=make_decision(Verdict.INCOMPLETE, gaps=(judged,)))
    case = _case(suites_of(make_run(image)), Step.SCAN, "coverage linux/s390x")
    assert case.status is CaseStatus.ERROR


def test_every_rule_has_a_case_also_when_it_is_satisfied() -> None:
    suites = suites_of(make_run(blocked_image()))
    block = _case(suites, Step.JUDGE, "critical-block")
    assert (block.status, block.kind) == (CaseStatus.FAILURE, "policy")
    assert _case(suites, Step.JUDGE, "high-warn").status is CaseStatus.PASSED
    passing = suites_of(make_run(passing_image()))
    names = [case.name for case in _suite(passing, Step.JUDGE).cases]
    assert names == ["critical-block", "high-warn", "waiver W-3"]
    assert "waivers.yml:9" in _case(passing, Step.JUDGE, "waiver W-3").body


def test_findings_are_capped_and_the_last_case_carries_the_worst_action() -> None:
    many = tuple(
        make_judged(f"CVE-2026-{n:05}", treatment=Treatment.WARN, rule_id="high-warn")
        for n in range(MAX_FINDING_CASES)
    )
    blocking = tuple(make_judged(f"CVE-2025-{n:05}") for n in range(5))
    image = replace(
        blocked_image(), decision=make_decision(Verdict.BLOCK, findings=many + blocking)
    )
    cases = _suite(suites_of(make_run(image)), Step.SCAN).cases
    found = [case for case in cases if case.name.startswith("CVE-")]
    assert len(found) == MAX_FINDING_CASES
    assert [case.status for case in found[:6]] == [CaseStatus.FAILURE] * 5 + [CaseStatus.PASSED]
    (more,) = [case for case in cases if case.name == "and more"]
    assert (more.status, "5 more findings" in more.body) == (CaseStatus.PASSED, True)

    all_blocking = tuple(make_judged(f"CVE-2025-{n:05}") for n in range(MAX_FINDING_CASES + 1))
    image = replace(image, decision=make_decision(Verdict.BLOCK, findings=all_blocking))
    cases = _suite(suites_of(make_run(image)), Step.SCAN).cases
    (more,) = [case for case in cases if case.name == "and more"]
    assert (more.status, more.kind) == (CaseStatus.FAILURE, "vulnerability")


def test_the_cap_is_shared_by_the_images_of_a_run() -> None:
    many = tuple(make_judged(f"CVE-2025-{n:05}") for n in range(3000))
    big = replace(blocked_image("big"), decision=make_decision(Verdict.BLOCK, findings=many))
    suites = suites_of(make_run(big, replace(big, name="large"), blocked_image("small")))
    counts = {
        suite.image: sum(c.name.startswith("CVE-") for c in suite.cases)
        for suite in suites
        if suite.stage is Step.SCAN
    }
    assert counts["small"] == 3
    assert counts["big"] + counts["large"] == MAX_FINDING_CASES - 3
    assert abs(counts["big"] - counts["large"]) <= 1


def test_a_failed_step_without_cases_gets_one_and_later_steps_are_skipped_with_the_reason() -> None:
    stopped = StepResult(
        step=Step.UPLOAD,
        status=StepStatus.ERROR,
        exit_code=ExitCode.INFRASTRUCTURE,
        reason="ghcr.io answered 503 four times",
        hint="retry the job",
    )
    image = replace(
        passing_image(),
        steps=make_steps(until=Step.UPLOAD, last=stopped),
        decision=None,
        exit_code=ExitCode.INFRASTRUCTURE,
    )
    suites = suites_of(make_run(image))
    case = _case(suites, Step.UPLOAD, "blobs uploaded")
    assert (case.status, case.kind) == (CaseStatus.ERROR, "infrastructure")
    assert case.body == "ghcr.io answered 503 four times\nretry the job"
    tag = _case(suites, Step.TAG, "tags")
    assert (tag.status, tag.message) == (CaseStatus.SKIPPED, "upload did not pass")


def test_a_step_that_never_was_is_skipped_with_a_reason() -> None:
    image = replace(crashed_image(), steps=crashed_image().steps[:2])
    suites = suites_of(make_run(image))
    case = _case(suites, Step.SIGN, "signature")
    assert (case.status, case.message) == (
        CaseStatus.SKIPPED,
        "not reached: RUN make: exit code 2",
    )


def test_trouble_before_the_first_stage_is_reported_in_preflight() -> None:
    early = StepResult(
        step=Step.GATHER, status=StepStatus.ERROR, exit_code=ExitCode.CONFIG, reason="no base"
    )
    image = replace(passing_image(), steps=(early,), exit_code=ExitCode.CONFIG)
    case = _case(suites_of(make_run(image)), Step.PREFLIGHT, "gather")
    assert (case.status, case.message) == (CaseStatus.ERROR, "no base")


def test_an_exit_code_without_any_bad_step_is_still_visible() -> None:
    image = replace(passing_image(), exit_code=ExitCode.BUG, error="KeyError: x", failed_step="tag")
    case = _case(suites_of(make_run(image)), Step.TAG, "outcome")
    assert (case.status, case.kind, case.message) == (CaseStatus.ERROR, "bug", "KeyError: x")
    run = make_run(passing_image(), exit_code=ExitCode.INTERRUPTED)
    assert any(is_bad(case) for suite in suites_of(run) for case in suite.cases)


def test_a_run_that_could_not_start_has_one_suite() -> None:
    (suite,) = suites_of(sample_runs()["config-error"])
    (case,) = suite.cases
    assert (suite.classname, case.status) == ("ci-registry.run.gather", CaseStatus.ERROR)
    assert case.body == "policy.yml:3: unknown key 'sevrity'\ndid you mean 'severity'?"


def test_image_names_that_look_alike_do_not_share_a_class() -> None:
    suites = suites_of(make_run(passing_image("a.b"), passing_image("a_b")))
    names = list(dict.fromkeys(suite.classname.split(".")[1] for suite in suites))
    assert names == ["a_b", "a_b-2"]


def test_cases_of_one_name_are_told_apart() -> None:
    twice = (make_judged(), make_judged())
    decision = make_decision(Verdict.BLOCK, findings=twice, rules=(make_rule(),))
    image = replace(blocked_image(), decision=decision)
    names = [c.name for c in _suite(suites_of(make_run(image)), Step.SCAN).cases]
    assert "CVE-2026-0001 in openssl (linux/amd64) #2" in names


def test_several_notes_on_one_waiver_are_one_case() -> None:
    notes = tuple(WaiverNote(waiver_id="W-1", message=text) for text in ("one", "two"))
    image = replace(passing_image(), decision=make_decision(notes=notes))
    assert _case(suites_of(make_run(image)), Step.JUDGE, "waiver W-1").body == "one\ntwo"

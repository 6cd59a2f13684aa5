"""Every kind of gap in coverage with every kind of acceptance, from the policy's text to the verdict."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import pytest

from ci_registry.errors import CiRegistryError, ExitCode
from ci_registry.findings import ACCEPTABLE_GAPS, CoverageGap, Gap
from ci_registry.policy.evaluate import judge
from ci_registry.policy.model import Policy, end_of
from ci_registry.policy.reader import read_policy
from ci_registry.results import Decision, Verdict
from tests.support.findings import AMD64, NOW, make_scan

INCOMPLETE, WARN = Verdict.INCOMPLETE, Verdict.WARN
ACCEPTABLE = sorted(ACCEPTABLE_GAPS)
OTHERS = sorted(set(Gap) - ACCEPTABLE_GAPS)
ECOSYSTEM = "deb"


def policy(gap: str, *, mode: str = "enforce", **changes: str) -> Policy:
    """Read a policy that accepts one gap, as its author writes it."""
    fields = {"gap": gap, "images": "[api]", "owner": "ops", "reason": "we looked"}
    fields |= {"expires": "2026-09-01"} | changes
    accept = ", ".join(f"{key}: {value}" for key, value in fields.items())
    text = (
        "apiVersion: v1\nkind: Policy\nmetadata: {name: p}\nspec:\n"
        f"  mode: {mode}\n  rules: [{{severity: CRITICAL, action: BLOCK}}]\n"
        f"  coverage: {{accept: [{{{accept}}}]}}\n"
    )
    return read_policy(text.encode(), file="policy.yml")


def decide(rules: Policy, gap: Gap) -> Decision:
    found = CoverageGap(gap=gap, detail="Something was not seen", ecosystem=ECOSYSTEM)
    return judge(
        rules,
        (),
        image="api",
        repositories=("ghcr.io/acme/api",),
        scans=(make_scan(gaps=(found,)),),
        platforms=(AMD64,),
        now=NOW,
    )


def another(gap: Gap) -> str:
    return next(name for name in ACCEPTABLE if name != gap)


ENTRIES: Mapping[str, tuple[Mapping[str, str], bool]] = {
    "right": ({}, True),
    "audit-mode": ({"mode": "audit"}, True),
    "by-repository": ({"images": "[ghcr.io/acme/*]"}, True),
    "its-ecosystem": ({"ecosystem": ECOSYSTEM}, True),
    "its-last-day": ({"expires": NOW.date().isoformat()}, True),
    "other-image": ({"images": "[web]"}, False),
    "other-repository": ({"images": "[ghcr.io/other/api]"}, False),
    "other-ecosystem": ({"ecosystem": "npm"}, False),
    "expired": ({"expires": "2026-06-14"}, False),
    "expired-in-audit-mode": ({"expires": "2026-06-14", "mode": "audit"}, False),
}
"""What the entry says → whether it accepts."""


@pytest.mark.parametrize("gap", ACCEPTABLE)
@pytest.mark.parametrize(("entry", "accepts"), ENTRIES.values(), ids=ENTRIES)
def test_an_acceptance_counts_for_its_gap_image_kind_and_time(
    gap: Gap, entry: Mapping[str, str], accepts: bool
) -> None:
    rules = policy(gap, **entry)

    decision = decide(rules, gap)

    otherwise = WARN if gap is Gap.END_OF_LIFE else INCOMPLETE
    assert decision.verdict is (WARN if accepts else otherwise)
    assert bool(decision.gaps[0].accepted_by) == accepts
    assert "Something was not seen" in decision.reasons[0]
    expires = date.fromisoformat(entry.get("expires", "2026-09-01"))
    assert decision.not_after == (end_of(expires) if accepts else None)
    expired = f"its acceptance expired on {expires}" in decision.reasons[0]
    assert expired == (expires < NOW.date())


@pytest.mark.parametrize("gap", Gap)
@pytest.mark.parametrize("mode", ["enforce", "audit"])
def test_the_acceptance_of_another_gap_does_not_count(gap: Gap, mode: str) -> None:
    decision = decide(policy(another(gap), mode=mode), gap)

    assert decision.verdict is (WARN if gap is Gap.END_OF_LIFE else INCOMPLETE)
    assert decision.enforced_verdict is decision.verdict
    assert decision.gaps[0].accepted_by == ""


@pytest.mark.parametrize("name", [*OTHERS, "no-package", "all", '""'])
def test_no_other_name_can_be_written(name: str) -> None:
    with pytest.raises(CiRegistryError, match=r"accept\[0\]\.gap must be one of") as caught:
        policy(name)
    assert caught.value.exit_code is ExitCode.CONFIG


@pytest.mark.parametrize("missing", ["owner", "reason", "expires"])
@pytest.mark.parametrize("gap", ACCEPTABLE)
def test_no_acceptance_without_who_why_and_until_when(gap: Gap, missing: str) -> None:
    with pytest.raises(CiRegistryError, match=rf"accept\[0\]\.{missing}"):
        policy(gap, **{missing: '""'})


@pytest.mark.parametrize(("exit_code", "verdict"), [(None, "pass"), (0, "pass"), (1, "incomplete")])
@pytest.mark.parametrize("mode", ["enforce", "audit"])
def test_a_program_that_failed_after_a_whole_report_is_no_pass(
    mode: str, exit_code: int | None, verdict: str
) -> None:
    decision = judge(
        policy("no-data", mode=mode),
        (),
        image="api",
        repositories=(),
        scans=(replace(make_scan(), tool_exit_code=exit_code),),
        platforms=(AMD64,),
        now=NOW,
    )

    assert decision.verdict == verdict
    assert any("ended with exit code 1" in r for r in decision.reasons) == (exit_code == 1)


def test_all_kinds_of_gaps_are_in_these_tables() -> None:
    assert {*ACCEPTABLE, *OTHERS} == set(Gap)
    assert len(ACCEPTABLE) == 7

"""Whole policy and waiver files: what each means, and every problem of the wrong ones."""

from datetime import date
from pathlib import Path

import pytest

from ci_registry.errors import ConfigError
from ci_registry.policy.explain import explain_policy
from ci_registry.policy.reader import read_policy
from ci_registry.policy.waivers import read_waivers
from tests.support.golden import assert_golden, golden_cases

TODAY = date(2026, 6, 15)


def name(path: Path) -> str:
    return path.name


def input_of(case: Path) -> bytes:
    return (case / "input.yml").read_bytes()


@pytest.mark.parametrize("case", golden_cases("policy/positive"), ids=name)
def test_a_good_policy_is_explained_in_english(case: Path) -> None:
    policy = read_policy(input_of(case), file="policy.yml")

    head = f"{policy.name} {policy.version} {policy.mode} {policy.digest}\n"
    assert_golden(case, head + explain_policy(policy))


@pytest.mark.parametrize("case", golden_cases("policy/negative"), ids=name)
def test_a_bad_policy_is_refused_with_every_problem(case: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_policy(input_of(case), file="policy.yml")

    assert caught.value.exit_code == 2
    assert_golden(case, f"{caught.value}\n")


@pytest.mark.parametrize("case", golden_cases("policy/waivers-positive"), ids=name)
def test_a_good_waiver_file_is_read(case: Path) -> None:
    waivers = read_waivers(input_of(case), file="waivers.yml", today=TODAY)

    assert_golden(case, "".join(f"{waiver!r}\n" for waiver in waivers))


@pytest.mark.parametrize("case", golden_cases("policy/waivers-negative"), ids=name)
def test_a_bad_waiver_file_is_refused_with_every_problem(case: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_waivers(input_of(case), file="waivers.yml", today=TODAY)

    assert_golden(case, f"{caught.value}\n")

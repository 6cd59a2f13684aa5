"""The error tree: exit codes, headlines, and which code stands for several images."""

import itertools

import pytest

from ci_registry import errors
from ci_registry.errors import (
    CiRegistryError,
    ConfigError,
    ExitCode,
    Problem,
    UsageError,
    worst_exit_code,
)

ORDER = (130, 70, 2, 4, 6, 5, 3, 1, 0)


def _tree() -> list[type[CiRegistryError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, CiRegistryError)
    ]


@pytest.mark.parametrize(("worse", "milder"), list(itertools.combinations(ORDER, 2)))
def test_worst_code_wins_in_the_order_of_the_design(worse: int, milder: int) -> None:
    codes = (ExitCode(milder), ExitCode(worse), ExitCode(milder))
    assert worst_exit_code(codes) == worse


def test_every_exit_code_has_its_place_in_the_order() -> None:
    assert sorted(errors.WORST_FIRST) == sorted(ExitCode)
    assert tuple(errors.WORST_FIRST) == ORDER


def test_no_codes_at_all_mean_zero() -> None:
    assert worst_exit_code(()) is ExitCode.OK


def test_codes_of_the_tree_are_those_of_the_table_in_its_docstring() -> None:
    text = errors.__doc__ or ""
    drawn = {}
    for line in text.splitlines():
        words = line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()
        if len(words) > 1 and words[0].endswith("Error") and words[1].isdecimal():
            drawn[words[0]] = int(words[1])
    assert drawn == {e.__name__: int(e.exit_code) for e in _tree() if e is not CiRegistryError}


@pytest.mark.parametrize("kind", _tree())
def test_no_error_ends_a_run_with_success_or_with_the_code_of_a_verdict(
    kind: type[CiRegistryError],
) -> None:
    assert kind.exit_code not in (ExitCode.OK, ExitCode.BLOCK, ExitCode.BUG)


def test_headline_is_the_first_line_with_its_place() -> None:
    error = UsageError("bad value\nmore about it", file="Dockerfile", line=3, hint="look")
    assert error.headline == "Dockerfile:3: bad value"
    assert str(error) == error.message == "bad value\nmore about it"


def test_config_error_keeps_every_problem_in_its_message() -> None:
    problems = (
        Problem(message="unknown key 'polcy'", file="a.yml", line=2, hint="did you mean 'policy'?"),
        Problem(message="no images", file="a.yml"),
        Problem(message="CIREG_PUSH: 'x'"),
    )
    error = ConfigError(problems)
    assert error.message.splitlines() == [
        "a.yml:2: unknown key 'polcy' (did you mean 'policy'?)",
        "a.yml: no images",
        "CIREG_PUSH: 'x'",
    ]
    assert error.headline == "a.yml:2: unknown key 'polcy' (did you mean 'policy'?)"

"""Whether a version is affected by an entry."""

import pytest

from ci_registry.advisories.osv import Affected, Event, Range, RangeType
from ci_registry.advisories.ranges import Answer, evaluate


def _events(*pairs: tuple[str, str]) -> Range:
    return Range(type=RangeType.ECOSYSTEM, events=tuple(Event(kind=k, version=v) for k, v in pairs))


def _affected(*ranges: Range, versions: tuple[str, ...] = ()) -> Affected:
    return Affected(ecosystem="PyPI", name="demo", ranges=ranges, versions=versions)


FIXED = _events(("introduced", "1.0"), ("fixed", "1.5"))


@pytest.mark.parametrize(
    ("ranges", "version", "answer"),
    [
        ((FIXED,), "0.9", Answer.NO),
        ((FIXED,), "1.0", Answer.YES),
        ((FIXED,), "1.4.9", Answer.YES),
        ((FIXED,), "1.5", Answer.NO),
        ((FIXED,), "1.5rc1", Answer.YES),
        ((_events(("introduced", "0")),), "0.0.dev0", Answer.YES),
        ((_events(("introduced", "0")),), "not a version", Answer.YES),
        ((_events(("introduced", "1"), ("last_affected", "2")),), "2.0", Answer.YES),
        ((_events(("introduced", "1"), ("last_affected", "2")),), "2.0.1", Answer.NO),
        ((_events(("introduced", "1"), ("last_affected", "2")),), "2.0+local", Answer.YES),
        ((_events(("fixed", "2"), ("introduced", "0"), ("introduced", "3")),), "3.1", Answer.YES),
        ((_events(("fixed", "2"), ("introduced", "0"), ("introduced", "3")),), "2.5", Answer.NO),
        ((_events(("introduced", "0"), ("limit", "2")),), "2.1", Answer.NO),
        ((_events(("introduced", "0"), ("limit", "*")),), "2.1", Answer.YES),
        ((_events(("introduced", "9")), FIXED), "1.1", Answer.YES),
        ((FIXED,), "unparsable", Answer.UNDECIDED),
        ((_events(("introduced", "0"), ("fixed", "what?")),), "1.1", Answer.UNDECIDED),
        ((_events(("introduced", "0"), ("fixed", "what?")), FIXED), "1.1", Answer.YES),
    ],
)
def test_ranges(ranges: tuple[Range, ...], version: str, answer: Answer) -> None:
    assert evaluate(_affected(*ranges), "PyPI", version).answer is answer


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        ("1.0", Answer.YES),
        ("1.0.0", Answer.YES),
        ("1.1", Answer.NO),
        ("2004d-x", Answer.YES),
        ("2005e-x", Answer.UNDECIDED),
    ],
)
def test_listed_versions(version: str, answer: Answer) -> None:
    affected = _affected(versions=("1.0", "2004d-x"))
    assert evaluate(affected, "PyPI", version).answer is answer


def test_entry_with_commits_only_is_undecided() -> None:
    commits = Range(type=RangeType.GIT, events=(Event(kind="introduced", version="0"),))
    assert evaluate(_affected(commits), "PyPI", "1.0").answer is Answer.UNDECIDED
    assert evaluate(_affected(), "PyPI", "1.0").answer is Answer.UNDECIDED


def test_commits_beside_a_range_are_left_out() -> None:
    commits = Range(type=RangeType.GIT, events=(Event(kind="introduced", version="0"),))
    assert evaluate(_affected(commits, FIXED), "PyPI", "1.6").answer is Answer.NO


def test_only_fixes_above_the_installed_version_are_named() -> None:
    ranges = (
        _events(("introduced", "0"), ("fixed", "1.9.5")),
        _events(("introduced", "2.0"), ("fixed", "2.2")),
    )
    assert evaluate(_affected(*ranges), "PyPI", "2.1").fixed_versions == ("2.2",)
    assert evaluate(_affected(*ranges), "PyPI", "1.0").fixed_versions == ("1.9.5", "2.2")


def test_undecided_says_which_version_and_range() -> None:
    evaluation = evaluate(_affected(FIXED), "PyPI", "unparsable")
    assert "'unparsable'" in evaluation.reason
    assert "introduced 1.0, fixed 1.5" in evaluation.reason

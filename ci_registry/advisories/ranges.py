"""Decides whether one version is affected by one OSV entry (the schema's evaluation algorithm)."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cmp_to_key

from ci_registry.advisories.osv import Affected, Event, Range, RangeType
from ci_registry.advisories.versions import UnparsableVersionError, compare


class Answer(StrEnum):
    """Whether a version is affected."""

    YES = "yes"
    NO = "no"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The answer and what a person needs with it."""

    answer: Answer
    fixed_versions: tuple[str, ...] = ()
    """Fixes above the installed version, lowest first."""
    reason: str = ""
    """For undecided: which version could not be parsed, or what the record lacks."""


def evaluate(affected: Affected, ecosystem: str, version: str) -> Evaluation:
    """Return whether `version` is in the listed versions or ranges of `affected`.

    Ranges of git commits are left out: an installed package does not say its commit. An entry
    with nothing else can't be decided.
    """
    ranges = [item for item in affected.ranges if item.type is not RangeType.GIT]
    if not ranges and not affected.versions:
        return Evaluation(
            answer=Answer.UNDECIDED, reason="the advisory names neither versions nor a usable range"
        )
    answers, reason = [], ""
    if affected.versions:
        answers.append(_listed(affected.versions, ecosystem, version))
        if answers[0] is Answer.UNDECIDED:
            reason = f"{version[:100]!r} could not be compared with the listed versions"
    for item in ranges:
        try:
            answers.append(_in_range(item, ecosystem, version))
        except UnparsableVersionError as error:
            answers.append(Answer.UNDECIDED)
            reason = f"{error}, in the range {_show(item)}"
    if Answer.YES in answers:
        return Evaluation(answer=Answer.YES, fixed_versions=_fixes(ranges, ecosystem, version))
    if Answer.UNDECIDED in answers:
        fixes = _fixes(ranges, ecosystem, version)
        return Evaluation(answer=Answer.UNDECIDED, fixed_versions=fixes, reason=reason)
    return Evaluation(answer=Answer.NO)


def _listed(versions: tuple[str, ...], ecosystem: str, version: str) -> Answer:
    if version in versions:
        return Answer.YES
    try:
        compare(ecosystem, version, version)
    except UnparsableVersionError:
        return Answer.UNDECIDED
    return Answer.YES if any(_same(ecosystem, item, version) for item in versions) else Answer.NO


def _same(ecosystem: str, listed: str, version: str) -> bool:
    try:
        return compare(ecosystem, listed, version) == 0
    except UnparsableVersionError:
        return False  # ours can be parsed, so it is another one than this


def _is_lowest(event: Event) -> bool:
    return event.kind == "introduced" and event.version == "0"


def _compare_events(ecosystem: str, a: Event, b: Event) -> int:
    if _is_lowest(a) or _is_lowest(b):
        return _is_lowest(b) - _is_lowest(a)
    return compare(ecosystem, a.version, b.version)


def ordered_events(item: Range, ecosystem: str) -> list[Event]:
    """Return the events of a range but its limits, lowest version first.

    Raises:
        UnparsableVersionError: a version can't be ordered.
    """
    steps = [event for event in item.events if event.kind != "limit"]
    steps.sort(key=cmp_to_key(lambda a, b: _compare_events(ecosystem, a, b)))
    return steps


def _in_range(item: Range, ecosystem: str, version: str) -> Answer:
    limits = [event.version for event in item.events if event.kind == "limit"]
    if limits and not any(
        limit == "*" or compare(ecosystem, version, limit) < 0 for limit in limits
    ):
        return Answer.NO
    inside = False
    for event in ordered_events(item, ecosystem):
        if event.kind == "introduced":
            if event.version == "0" or compare(ecosystem, version, event.version) >= 0:
                inside = True
        else:
            order = compare(ecosystem, version, event.version)
            if order > 0 or (order == 0 and event.kind == "fixed"):
                inside = False
    return Answer.YES if inside else Answer.NO


def _fixes(ranges: list[Range], ecosystem: str, version: str) -> tuple[str, ...]:
    fixes = {e.version for item in ranges for e in item.events if e.kind == "fixed"}

    def order(a: str, b: str) -> int:
        return compare(ecosystem, a, b)

    try:
        return tuple(sorted((f for f in fixes if order(f, version) > 0), key=cmp_to_key(order)))
    except UnparsableVersionError:
        return tuple(sorted(fixes))


def _show(item: Range) -> str:
    return ", ".join(f"{event.kind} {event.version[:60]}" for event in item.events[:6])

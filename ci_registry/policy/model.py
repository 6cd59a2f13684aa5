"""A policy as a value: rules over findings, and the gaps in coverage that somebody answers for."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from ci_registry.findings import Gap, Severity

MAX_KEV_AGE = timedelta(days=14)
"""The list of known exploited vulnerabilities changes about once a week."""


class Action(StrEnum):
    """What a rule does."""

    BLOCK = "BLOCK"
    WARN = "WARN"


class Mode(StrEnum):
    """Whether a block stops the image."""

    ENFORCE = "enforce"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; at most one of `severity` and `severity_at_least` is set, neither only with `known_exploited`."""

    id: str
    action: Action
    severity: Severity | None = None
    severity_at_least: Severity | None = None
    max_count: int | None = None
    """The most findings that the rule tolerates; None: the action applies from the first."""
    on_exceed: Action = Action.BLOCK
    """What happens above `max_count`."""
    only_fixed: bool = False
    """Count only findings for which a fixed version exists."""
    known_exploited: bool = False
    """Count only findings that a list of known exploited vulnerabilities names."""
    only_new: bool = False
    """Count only findings that are new or worse than in the baseline; without one all are."""

    def selects(
        self,
        severity: Severity,
        *,
        has_fix: bool,
        known_exploited: bool = False,
        is_new: bool = True,
    ) -> bool:
        """Whether the rule counts a finding of this (mapped) severity."""
        if (self.only_fixed and not has_fix) or (self.only_new and not is_new):
            return False
        if self.known_exploited and not known_exploited:
            return False
        if self.severity is not None:
            return severity is self.severity
        if self.severity_at_least is not None:
            return severity.rank >= self.severity_at_least.rank
        return self.known_exploited


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedGap:
    """A gap in coverage that somebody answers for until a day."""

    gap: Gap
    images: tuple[str, ...]
    """Names of images or `registry/repository`; `*` stands for any text."""
    owner: str
    reason: str
    expires: date
    ecosystem: str = ""
    """purl type; empty: whatever the gap concerns."""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What decides the verdict of an image."""

    name: str
    rules: tuple[Rule, ...]
    digest: str
    """`sha256:…` of the exact bytes."""
    source: str
    """Where it is from, for people: `built-in`, `policy.yml (main)`, …"""
    version: int = 0
    """0 when the document has none."""
    mode: Mode = Mode.ENFORCE
    unknown_severity: Severity = Severity.HIGH
    """What UNKNOWN counts as."""
    accepted_gaps: tuple[AcceptedGap, ...] = ()
    max_kev_age: timedelta = MAX_KEV_AGE
    """Oldest list of known exploited vulnerabilities that a rule may count by."""

    @property
    def uses_kev(self) -> bool:
        """Whether a rule asks for known exploited vulnerabilities."""
        return any(rule.known_exploited for rule in self.rules)

    @property
    def asks_for_new(self) -> bool:
        """Whether a rule counts only what is new."""
        return any(rule.only_new for rule in self.rules)

    def effective(self, severity: Severity) -> Severity:
        """Return the severity that the rules see."""
        return self.unknown_severity if severity is Severity.UNKNOWN else severity


def end_of(day: date) -> datetime:
    """Return the first moment at which something that expires on `day` no longer holds (UTC)."""
    return datetime.combine(day, time(), tzinfo=UTC) + timedelta(days=1)


def image_matches(patterns: tuple[str, ...], image: str, repositories: tuple[str, ...]) -> bool:
    """Whether one of `patterns` names the image or one of its repositories."""
    return any(_matches(pattern, name) for pattern in patterns for name in (image, *repositories))


def _matches(pattern: str, name: str) -> bool:
    """Compare with `*` as any text, without building a regular expression of foreign text."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    if not name.startswith(first):
        return False
    position = len(first)
    for part in rest[:-1]:
        found = name.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(name) - position >= len(rest[-1]) and name.endswith(rest[-1])

"""Reads a policy document; whatever it does not know is an error, never ignored."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum

from ci_registry.config.conversion import read_as
from ci_registry.config.yaml_reader import read_document
from ci_registry.errors import ConfigError, Problem
from ci_registry.findings import Gap, Severity
from ci_registry.oci.digest import digest_of
from ci_registry.policy.model import MAX_KEV_AGE, AcceptedGap, Action, Mode, Policy, Rule

NOT_BLANK = r"(?=[\s\S]*\S)[\s\S]+"
ONE_LINE = r"\S(?:[^\n]*\S)?"
IMAGES = r"(?=[^\n]*[A-Za-z0-9])[A-Za-z0-9._/:*\[\]-]+"
"""A name or `registry/repository`, perhaps with `*`, but not `*` alone."""
IMAGES_HINT = (
    "the name of an image or registry/repository; * may stand for a part of it, not for all"
)


class _ApiVersion(StrEnum):
    V1 = "v1"


class _Kind(StrEnum):
    POLICY = "Policy"


class _Severity(StrEnum):
    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"
    NEGLIGIBLE = "NEGLIGIBLE"
    UNKNOWN = "UNKNOWN"


class _Gap(StrEnum):
    """The gaps that can be accepted; a test compares them with `findings.ACCEPTABLE_GAPS`."""

    NO_PACKAGES = "no-packages"
    UNKNOWN_DISTRIBUTION = "unknown-distribution"
    NO_DATA = "no-data"
    UNDECIDED = "undecided"
    THIRD_PARTY_PACKAGES = "third-party-packages"
    END_OF_LIFE = "end-of-life"
    UNREAD_DATABASE = "unread-database"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    action: Action
    id: str | None = field(
        default=None,
        metadata={
            "key": "id",
            "pattern": r"[a-z0-9][a-z0-9._-]{0,63}",
            "pattern_hint": "lower-case letters, digits, '.', '_' and '-'",
        },
    )
    severity: _Severity | None = None
    severity_at_least: _Severity | None = field(default=None, metadata={"key": "severityAtLeast"})
    max_count: int | None = field(default=None, metadata={"key": "maxCount", "minimum": 0})
    on_exceed: Action | None = field(default=None, metadata={"key": "onExceed"})
    only_fixed: bool | None = field(default=None, metadata={"key": "onlyFixed"})
    known_exploited: bool | None = field(default=None, metadata={"key": "knownExploited"})
    only_new: bool | None = field(default=None, metadata={"key": "onlyNew"})
    line: int = field(default=0, metadata={"line": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Accept:
    gap: _Gap
    images: tuple[str, ...] = field(metadata={"pattern": IMAGES, "pattern_hint": IMAGES_HINT})
    owner: str = field(
        metadata={"pattern": ONE_LINE, "pattern_hint": "the name of who answers for it"}
    )
    reason: str = field(metadata={"pattern": NOT_BLANK, "pattern_hint": "a sentence that says why"})
    expires: date
    ecosystem: str | None = field(
        default=None,
        metadata={
            "key": "ecosystem",
            "pattern": r"[a-z][a-z0-9.+-]*",
            "pattern_hint": "a purl type such as deb or npm",
        },
    )
    line: int = field(default=0, metadata={"line": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coverage:
    accept: tuple[_Accept, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Defaults:
    unknown_severity: _Severity | None = field(default=None, metadata={"key": "unknownSeverity"})
    max_kev_age: timedelta | None = field(default=None, metadata={"key": "maxKevAge"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spec:
    rules: tuple[_Rule, ...]
    mode: Mode = Mode.ENFORCE
    defaults: _Defaults = field(default_factory=_Defaults)
    coverage: _Coverage = field(default_factory=_Coverage)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metadata:
    name: str | None = field(
        default=None, metadata={"key": "name", "pattern": r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}"}
    )
    version: int | None = field(default=None, metadata={"key": "version", "minimum": 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    spec: _Spec
    api_version: _ApiVersion | None = field(default=None, metadata={"key": "apiVersion"})
    kind: _Kind | None = None
    metadata: _Metadata = field(default_factory=_Metadata)


def read_policy(data: bytes, *, file: str, first_line: int = 1) -> Policy:
    """Read a policy document, or one that stands inline in a settings file from `first_line` on.

    Raises:
        ConfigError: every problem found, each with file and line.
    """
    problems: list[Problem] = []
    node = read_document(data, file=file, first_line=first_line)
    document = read_as(node, _Document, problems)
    if document is None:
        raise ConfigError(tuple(problems))
    spec = document.spec
    unknown = Severity(spec.defaults.unknown_severity or Severity.HIGH)
    kev_age = spec.defaults.max_kev_age
    problems += [
        Problem(message=message, file=file, line=line, hint=hint)
        for message, line, hint in _contradictions(spec, unknown, node.line)
    ]
    if problems:
        raise ConfigError(tuple(problems))
    return Policy(
        name=document.metadata.name or "policy",
        version=document.metadata.version or 0,
        mode=spec.mode,
        unknown_severity=unknown,
        max_kev_age=MAX_KEV_AGE if kev_age is None else kev_age,
        rules=_rules(spec.rules),
        accepted_gaps=tuple(_accepted(item) for item in spec.coverage.accept),
        digest=digest_of(data),
        source=file,
    )


def _contradictions(
    spec: _Spec, unknown: Severity, first_line: int
) -> Iterator[tuple[str, int, str]]:
    """Name what each value alone can't show: (message, line, hint)."""
    if not spec.rules:
        hint = "leave the policy out to get the built-in one"
        yield "spec.rules is empty: it would let everything through", first_line, hint
    lines: dict[str, int] = {}
    for number, rule in enumerate(spec.rules):
        where = f"spec.rules[{number}]"
        for message, hint in _rule_contradictions(rule, unknown):
            yield f"{where}{message}", rule.line, hint
        if rule.id in lines:
            yield (
                f"{where}: duplicate id {rule.id!r}, first in line {lines[rule.id]}",
                rule.line,
                "",
            )
        elif rule.id:
            lines[rule.id] = rule.line
    for number, item in enumerate(spec.coverage.accept):
        if not item.images:
            message = f"spec.coverage.accept[{number}].images is empty: it would accept nothing"
            yield message, item.line, "name the images that it is for"


def _rule_contradictions(rule: _Rule, unknown: Severity) -> Iterator[tuple[str, str]]:
    absent = [rule.severity, rule.severity_at_least].count(None)
    if absent == 0 or (absent == 2 and not rule.known_exploited):
        yield ": one of severity and severityAtLeast is needed", "for example severity: HIGH"
    names_unknown = _Severity.UNKNOWN in (rule.severity, rule.severity_at_least)
    if names_unknown and unknown is not Severity.UNKNOWN:
        hint = "set spec.defaults.unknownSeverity to UNKNOWN, or leave the rule out"
        yield f": UNKNOWN counts as {unknown} in this policy, so no rule can name it", hint
    if rule.on_exceed is not None and rule.max_count is None:
        yield ".onExceed has no effect without maxCount", "add maxCount or leave it out"
    if rule.action is Action.BLOCK and rule.on_exceed is Action.WARN:
        yield " can never block: action BLOCK with onExceed WARN", "use action WARN"


def _rules(items: tuple[_Rule, ...]) -> tuple[Rule, ...]:
    taken = {item.id for item in items if item.id}
    rules = []
    for item in items:
        named = item.severity or item.severity_at_least
        severity = Severity(named) if named else None
        words = ["known-exploited"] if item.known_exploited else []
        words += [str(word).lower() for word in (named, item.action) if word]
        name = item.id or free_id("-".join(words), taken)
        taken.add(name)
        rules.append(
            Rule(
                id=name,
                action=item.action,
                severity=severity if item.severity else None,
                severity_at_least=severity if item.severity_at_least else None,
                max_count=item.max_count,
                on_exceed=item.on_exceed or Action.BLOCK,
                only_fixed=bool(item.only_fixed),
                known_exploited=bool(item.known_exploited),
                only_new=bool(item.only_new),
            )
        )
    return tuple(rules)


def free_id(wanted: str, taken: set[str]) -> str:
    """Return `wanted`, or with `-2`, `-3`, … when it is taken."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


def _accepted(item: _Accept) -> AcceptedGap:
    return AcceptedGap(
        gap=Gap(item.gap),
        images=item.images,
        owner=item.owner,
        reason=" ".join(item.reason.split()),
        expires=item.expires,
        ecosystem=item.ecosystem or "",
        line=item.line,
    )

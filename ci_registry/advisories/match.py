"""Matches an inventory with advisories: distribution packages by source, aliases joined."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ci_registry.advisories.aliases import causes_of, is_cve, names_of
from ci_registry.advisories.ecosystems import Query, matchable, normal_name, queries_for
from ci_registry.advisories.modularity import concerns_stream, why_undecided
from ci_registry.advisories.osv import Advisory, Affected
from ci_registry.advisories.ranges import Answer, Evaluation, evaluate
from ci_registry.advisories.severity import SeverityClaim, choose, claims_of
from ci_registry.advisories.versions import base_ecosystem
from ci_registry.findings import Finding, FindingKind, Inventory, Package

Lookup = Callable[[tuple[Query, ...]], Mapping[tuple[str, str], tuple[Advisory, ...]]]
"""Answers (ecosystem, name) → advisories that may concern it; a missing key means none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchResult:
    """Findings, and what was not matched."""

    findings: tuple[Finding, ...]
    """Worst first, then by id and purl."""
    skipped_count: int
    """Packages that an OS package owns."""
    unasked: tuple[Package, ...]
    """Packages without an ecosystem to ask about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hit:
    """One advisory that affects one package, or may."""

    advisory: Advisory
    affected: tuple[Affected, ...]
    evaluation: Evaluation


def match_inventory(inventory: Inventory, lookup: Lookup) -> MatchResult:
    """Match every package that no OS package owns; `lookup` is called once.

    Raises:
        CiRegistryError: whatever `lookup` raises.
    """
    packages = matchable(inventory)
    asked = [(package, queries_for(package, inventory.distribution)) for package in packages]
    queries = dict.fromkeys(query for _, questions in asked for query in questions)
    answers = lookup(tuple(queries)) if queries else {}
    findings: list[Finding] = []
    for package, questions in asked:
        findings += _findings_of(package, questions, answers)
    return MatchResult(
        findings=sort_findings(findings),
        skipped_count=len(inventory.packages) - len(packages),
        unasked=tuple(package for package, questions in asked if not questions),
    )


def sort_findings(findings: list[Finding]) -> tuple[Finding, ...]:
    """Return findings worst first, then by id, purl and path."""
    return tuple(
        sorted(findings, key=lambda f: (-f.severity.rank, f.id, f.package.purl, f.package.path))
    )


def _findings_of(
    package: Package,
    queries: tuple[Query, ...],
    answers: Mapping[tuple[str, str], tuple[Advisory, ...]],
) -> list[Finding]:
    advisories = {a.id: a for query in queries for a in answers.get(query.key, ())}
    hits = [hit for a in advisories.values() if (hit := _hit(a, package, queries)) is not None]
    groups = _fold_updates(_join(hits))
    return [_finding(package, group, extra) for group, extra in groups]


def _hit(advisory: Advisory, package: Package, queries: tuple[Query, ...]) -> _Hit | None:
    """Evaluate every entry of a record for the package; the worst answer counts."""
    if advisory.withdrawn:
        return None
    asked = [(item, q) for q in queries for item in advisory.affected if _concerns(item, q)]
    evaluations = [_evaluation(advisory, item, package, query) for item, query in asked]
    for answer in (Answer.YES, Answer.UNDECIDED):
        chosen = [item for item in evaluations if item.answer is answer]
        if chosen:
            fixes = tuple(dict.fromkeys(fix for item in chosen for fix in item.fixed_versions))
            evaluation = replace(chosen[0], fixed_versions=fixes)
            entries = tuple(dict.fromkeys(item for item, _ in asked))
            return _Hit(advisory=advisory, affected=entries, evaluation=evaluation)
    return None


def _evaluation(advisory: Advisory, item: Affected, package: Package, query: Query) -> Evaluation:
    evaluation = evaluate(item, query.ecosystem, query.version)
    if package.ecosystem != "rpm" or evaluation.answer is Answer.NO:
        return evaluation
    stream = concerns_stream(package, advisory, item)
    if stream is Answer.UNDECIDED:
        return replace(evaluation, answer=stream, reason=why_undecided(package))
    return evaluation if stream is Answer.YES else Evaluation(answer=Answer.NO)


def _concerns(item: Affected, query: Query) -> bool:
    """An entry without a release (`Debian`) is about every release."""
    same = item.ecosystem in (query.ecosystem, base_ecosystem(query.ecosystem))
    return same and normal_name(base_ecosystem(item.ecosystem), item.name) == query.name


def _join(hits: list[_Hit]) -> list[list[_Hit]]:
    """Group the hits that share an id, directly or through others."""
    groups: list[tuple[set[str], list[_Hit]]] = []
    for hit in hits:
        names = names_of(hit.advisory)
        members = [hit]
        rest = []
        for known, others in groups:
            if known & names:
                names |= known
                members = others + members
            else:
                rest.append((known, others))
        groups = [*rest, (names, members)]
    return [members for _, members in groups]


def _fold_updates(groups: list[list[_Hit]]) -> list[tuple[list[_Hit], list[_Hit]]]:
    """Fold an update advisory of several CVEs into those CVEs when each is a finding itself.

    Returns each remaining group with the updates that were folded into it. Nothing is folded
    into an update, nor a certain finding into an undecided one: so none can get lost.
    """
    updates = [causes_of(group[0].advisory) if len(group) == 1 else set() for group in groups]
    folded: list[list[_Hit]] = [[] for _ in groups]
    kept = []
    for number, group in enumerate(groups):
        owners = {
            cause: other
            for other, members in enumerate(groups)
            if len(updates[other]) < 2 and (_is_certain(members) or not _is_certain(group))
            for cause in updates[number] & set().union(*(names_of(hit.advisory) for hit in members))
        }
        if len(updates[number]) > 1 and set(owners) == updates[number]:
            for other in set(owners.values()):
                folded[other] += group
        else:
            kept.append(number)
    return [(groups[number], folded[number]) for number in kept]


def _is_certain(group: list[_Hit]) -> bool:
    return any(hit.evaluation.answer is Answer.YES for hit in group)


def _finding(package: Package, group: list[_Hit], folded: list[_Hit]) -> Finding:
    """Make one finding of the records of one vulnerability and of the updates that fix it."""
    affected = [hit for hit in group if hit.evaluation.answer is Answer.YES]
    hits = affected or group
    names = {hit.advisory.id for hit in folded}.union(
        *(names_of(hit.advisory) | causes_of(hit.advisory) for hit in group)
    )
    identity = _identity(group, names)
    claims = _claims(group)
    severity, source = choose(claims)
    first = min(hits, key=lambda hit: (not hit.advisory.title, hit.advisory.id)).advisory
    published = [hit.advisory.published_at for hit in group if hit.advisory.published_at]
    return Finding(
        id=identity,
        aliases=tuple(sorted(names - {identity})),
        package=package,
        severity=severity,
        severity_source=source,
        severities=tuple(dict.fromkeys((claim.source, claim.text) for claim in claims)),
        kind=FindingKind.AFFECTED if affected else FindingKind.UNDECIDED,
        fixed_versions=_fixes(hits) or _fixes(folded),
        title=first.title,
        url=f"https://osv.dev/vulnerability/{first.id}",
        published_at=min(published, default=None),
        detail="" if affected else hits[0].evaluation.reason,
    )


def _fixes(hits: list[_Hit]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fix for hit in hits for fix in hit.evaluation.fixed_versions))


def _claims(group: list[_Hit]) -> tuple[SeverityClaim, ...]:
    """Return what every record of a vulnerability says about its severity, each once."""
    claims = (
        claim for hit in group for item in hit.affected for claim in claims_of(hit.advisory, item)
    )
    return tuple(dict.fromkeys(claims))


def _identity(group: list[_Hit], names: set[str]) -> str:
    """Return the CVE when there is exactly one, else the first record's own id."""
    cves = [name for name in names if is_cve(name)]
    return cves[0] if len(cves) == 1 else min(hit.advisory.id for hit in group)

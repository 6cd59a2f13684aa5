"""Joins findings into what counts as one: an alias group in one package of one platform."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ci_registry.findings import Finding, FindingKind, ScanResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One counted finding."""

    platform: str
    finding: Finding
    """The worst member, with the name, aliases, severity and fixes of the whole group."""
    members: tuple[Finding, ...]
    """Sorted; all of one package, perhaps in several versions."""
    ids: frozenset[str]
    """Every name of the vulnerability, case-folded."""

    @property
    def is_decided(self) -> bool:
        """Whether some member is known to be affected; the others are a gap in coverage."""
        return any(m.kind is FindingKind.AFFECTED for m in self.members)

    @property
    def has_fix(self) -> bool:
        """Whether a fixed version is known."""
        return bool(self.finding.fixed_versions)

    @property
    def from_base(self) -> bool | None:
        """Whether only packages of the base image have it; None when that is not known."""
        answers = {m.package.from_base for m in self.members}
        if False in answers:
            return False
        return None if None in answers else True

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version found, sorted."""
        return tuple(sorted({m.package.version for m in self.members if m.package.version}))

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path found, sorted."""
        return tuple(sorted({m.package.path for m in self.members if m.package.path}))


def group_findings(scans: tuple[ScanResult, ...]) -> tuple[Group, ...]:
    """Return the counted findings of all platforms, worst first; the order of the input does not matter.

    Findings that share any id or alias are one vulnerability, also through a third one.
    """
    names = _join_aliases(finding for scan in scans for finding in scan.findings)
    members: dict[tuple[str, str, str], list[Finding]] = {}
    for scan in scans:
        for finding in scan.findings:
            key = (scan.platform, names[finding.id][0], package_identity(finding))
            members.setdefault(key, []).append(finding)
    groups = [_group(key[0], found, names[found[0].id]) for key, found in members.items()]
    return tuple(sorted(groups, key=lambda g: (*_order(g.finding), g.platform)))


def package_identity(finding: Finding) -> str:
    """Return the purl without version; packages without a purl must not fall together."""
    package = finding.package
    return package.purl_without_version or f"{package.ecosystem} {package.name}"


def _order(finding: Finding) -> tuple[int, str, str, str, str]:
    package = finding.package
    return (-finding.severity.rank, finding.id, package.purl, package.version, package.path)


def _group(platform: str, found: list[Finding], ids: tuple[str, ...]) -> Group:
    members = tuple(sorted(found, key=lambda f: (*_order(f), f.title, f.fixed_versions)))
    affected = [m for m in members if m.kind is FindingKind.AFFECTED]
    worst = (affected or members)[0]
    cves = [name for name in ids if name.upper().startswith("CVE-")]
    name = cves[0] if len(cves) == 1 else worst.id
    fixes = tuple(dict.fromkeys(fix for m in members for fix in m.fixed_versions))
    finding = replace(
        worst,
        id=name,
        aliases=tuple(other for other in ids if other != name),
        fixed_versions=fixes,
        known_exploited=any(m.known_exploited for m in members),
        epss=max((m.epss for m in members if m.epss is not None), default=None),
        found_by=tuple(sorted({name for m in members for name in m.found_by})),
    )
    folded = frozenset(text.casefold() for text in ids)
    return Group(platform=platform, finding=finding, members=members, ids=folded)


def _join_aliases(findings: Iterable[Finding]) -> dict[str, tuple[str, ...]]:
    """Return for each id all names of its vulnerability, sorted."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents.setdefault(name, name) != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for finding in findings:
        for alias in finding.aliases:
            parents[root(alias)] = root(finding.id)
        root(finding.id)
    together: dict[str, list[str]] = {}
    for name in sorted(parents):
        together.setdefault(root(name), []).append(name)
    return {name: tuple(group) for group in together.values() for name in group}

"""What programs report about vulnerabilities, and how it becomes findings on our own packages."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ci_registry.advisories.ecosystems import ecosystem_of, normal_name
from ci_registry.advisories.match import sort_findings
from ci_registry.advisories.versions import UnparsableVersionError, compare
from ci_registry.findings import Finding, Inventory, Package, Severity
from ci_registry.scanners.merging import stricter


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One vulnerability in one package, as a program reports it."""

    id: str
    vendor_ids: tuple[str, ...]
    kind: str
    """purl type."""
    name: str
    version: str
    path: str
    purl: str
    layer: str
    fixed_version: str
    """Several are separated by commas."""
    severity: Severity
    severity_source: str
    severities: tuple[tuple[str, str], ...]
    title: str
    url: str
    published_at: datetime | None
    known_exploited: bool = False
    epss: float | None = None
    fix_state: str = ""
    """In the words of `Finding.fix_state`."""


def findings_from(reported: Iterable[Reported], inventory: Inventory) -> tuple[Finding, ...]:
    """Make findings, on our own packages where we have them; duplicates are merged."""
    known: dict[tuple[str, str, str], list[Package]] = {}
    for package in inventory.packages:
        key = _key(package.ecosystem, package.name, package.version)
        known.setdefault(key, []).append(package)
    findings: dict[tuple[str, str, str], Finding] = {}
    for item in reported:
        for package in _packages_of(item, known.get(_key(item.kind, item.name, item.version), [])):
            finding = _finding(item, package, inventory)
            key = (finding.id, package.purl, package.path)
            findings[key] = stricter(findings[key], finding) if key in findings else finding
    return sort_findings(list(findings.values()))


def _key(kind: str, name: str, version: str) -> tuple[str, str, str]:
    return kind, normal_name("PyPI", name) if kind == "pypi" else name, version.removeprefix("0:")


def _packages_of(item: Reported, candidates: list[Package]) -> list[Package]:
    """Return our package at that path, else those of that name and version, else the program's own."""
    if exact := [package for package in candidates if item.path and package.path == item.path]:
        return exact
    if candidates:
        return candidates
    return [
        Package(
            ecosystem=item.kind,
            name=item.name,
            version=item.version,
            purl=item.purl or f"pkg:{item.kind}/{item.name}@{item.version}",
            layer=item.layer,
            path=item.path,
        )
    ]


def _finding(item: Reported, package: Package, inventory: Inventory) -> Finding:
    return Finding(
        id=item.id,
        aliases=tuple(sorted(set(item.vendor_ids) - {item.id})),
        package=package,
        severity=item.severity,
        severity_source="" if item.severity is Severity.UNKNOWN else item.severity_source,
        severities=item.severities,
        fixed_versions=_fixes(item, package, inventory),
        title=item.title,
        url=item.url,
        published_at=item.published_at,
        known_exploited=item.known_exploited,
        epss=item.epss,
        fix_state=item.fix_state,
    )


def _fixes(item: Reported, package: Package, inventory: Inventory) -> tuple[str, ...]:
    """Split a list of fixes; those below the installed version are of another branch."""
    fixes = tuple(dict.fromkeys(f for part in item.fixed_version.split(",") if (f := part.strip())))
    ecosystem = ecosystem_of(package.ecosystem, inventory.distribution)
    installed = package.source_version or package.version
    try:
        above = tuple(fix for fix in fixes if compare(ecosystem, fix, installed) > 0)
    except UnparsableVersionError:
        return fixes
    return above or fixes

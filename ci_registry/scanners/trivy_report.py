"""Reads trivy's JSON report (schema 2) and makes findings of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ci_registry.advisories.osv import parse_time
from ci_registry.advisories.severity import severity_of_word
from ci_registry.errors import IntegrityError
from ci_registry.findings import Finding, Inventory
from ci_registry.scanners.evidence import SeenPackage
from ci_registry.scanners.reported import Reported, findings_from
from ci_registry.strict import as_list, as_object, as_text, parse_json

MAX_REPORT_BYTES = 512 * 1024 * 1024
_SCHEMA = 2
_RANKS = ("UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL")
_KINDS = {
    "python-pkg": "pypi",
    "node-pkg": "npm",
    "gobinary": "golang",
    "rustbinary": "cargo",
    "jar": "maven",
    "gemspec": "gem",
    "debian": "deb",
    "ubuntu": "deb",
    "alpine": "apk",
}
_NAMED_BY_TARGET = frozenset(
    {"dotnet-core", "nuget", "packages-props", "composer-vendor", "composer"}
)
"""Types whose packages have no path of their own: the target is the file."""
_FIX_STATES = {"unknown": "", "affected": "not-fixed", "will_not_fix": "wont-fix"}
_Json = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyReport:
    """What a report says."""

    trivy_version: str
    config_digest: str
    platform: str
    diff_ids: tuple[str, ...]
    os_family: str
    """`debian`, …; `none` or empty when trivy recognised nothing."""
    os_version: str
    """As trivy read it, for example `12.5`."""
    end_of_life: bool
    packages: tuple[SeenPackage, ...]
    third_party: tuple[SeenPackage, ...]
    """Packages that trivy leaves unmatched, because the distribution did not make them."""
    reported: tuple[Reported, ...]
    server_built_at: datetime | None = None
    """When the database of the server that was asked was made; None without a server."""


def parse_report(data: bytes) -> TrivyReport:
    """Read a report.

    Raises:
        IntegrityError: it is cut off, of another schema, or not shaped like a report.
    """
    what = "trivy's report"
    document = parse_json(data, what=what, max_bytes=MAX_REPORT_BYTES, strict=False)
    report = as_object(document, what=what)
    if report.get("SchemaVersion") != _SCHEMA:
        raise IntegrityError(f"{what}: schema {report.get('SchemaVersion')!r}, expected {_SCHEMA}")
    metadata = _object(report, "Metadata", what)
    system = _object(metadata, "OS", what)
    config = _object(metadata, "ImageConfig", what)
    results = [as_object(item, what=what) for item in _list(report, "Results", what)]
    listed = [pair for result in results for pair in _packages(result, what)]
    return TrivyReport(
        trivy_version=_text(_object(report, "Trivy", what), "Version", what),
        config_digest=_text(metadata, "ImageID", what),
        platform=f"{_text(config, 'os', what)}/{_text(config, 'architecture', what)}",
        diff_ids=_texts(metadata, "DiffIDs", what),
        os_family=_text(system, "Family", what),
        os_version=_text(system, "Name", what),
        end_of_life=system.get("EOSL") is True,
        packages=tuple(package for package, _ in listed),
        third_party=tuple(package for package, own in listed if not own),
        reported=tuple(item for result in results for item in _vulnerabilities(result, what)),
        server_built_at=_server_built_at(report, what),
    )


def _server_built_at(report: _Json, what: str) -> datetime | None:
    server = _object(_object(report, "Trivy", what), "Server", what)
    text = _text(_object(server, "VulnerabilityDB", what), "UpdatedAt", what)
    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise IntegrityError(f"{what}: UpdatedAt: {text[:50]!r} is no time") from error


def _object(value: _Json, key: str, what: str) -> dict[str, object]:
    member = value.get(key)
    return {} if member is None else as_object(member, what=f"{what}: {key}")


def _list(value: _Json, key: str, what: str) -> list[object]:
    member = value.get(key)
    return [] if member is None else as_list(member, what=f"{what}: {key}")


def _text(value: _Json, key: str, what: str) -> str:
    member = value.get(key)
    return "" if member is None else as_text(member, what=f"{what}: {key}")


def _texts(value: _Json, key: str, what: str) -> tuple[str, ...]:
    return tuple(as_text(item, what=f"{what}: {key}") for item in _list(value, key, what))


def _kind(result: _Json, purl: str, what: str) -> str:
    """Return the purl type, from the purl or else from the type of the result."""
    if purl.startswith("pkg:"):
        return purl.removeprefix("pkg:").partition("/")[0]
    text = _text(result, "Type", what)
    return _KINDS.get(text, text)


def _purl(value: _Json, key: str, what: str) -> str:
    return _text(_object(value, key, what), "PURL", what)


def _packages(result: _Json, what: str) -> Iterator[tuple[SeenPackage, bool]]:
    """Yield each package with whether the distribution made it."""
    target = _text(result, "Target", what)
    file = target if _text(result, "Type", what) in _NAMED_BY_TARGET else ""
    what = f"{what}: {target[:100]}"
    for item in _list(result, "Packages", what):
        package = as_object(item, what=what)
        purl = _purl(package, "Identifier", what)
        name = as_text(package.get("Name"), what=f"{what}: Name")
        origin = _text(_object(package, "Repository", what), "Class", what)
        version = _full_version(package, what)
        seen = SeenPackage(
            ecosystem=_kind(result, purl, what),
            name=name,
            version=version,
            purl=purl or f"{name}@{version}",
            path=_text(package, "FilePath", what) or file,
        )
        yield seen, origin != "third-party"


def _full_version(package: _Json, what: str) -> str:
    """Put epoch, version and release together, as dpkg and rpm write them."""
    version = _text(package, "Version", what)
    if release := _text(package, "Release", what):
        version = f"{version}-{release}"
    epoch = package.get("Epoch")
    return f"{epoch}:{version}" if epoch else version


def _vulnerabilities(result: _Json, what: str) -> Iterator[Reported]:
    for item in _list(result, "Vulnerabilities", what):
        entry = as_object(item, what=what)
        identity = as_text(entry.get("VulnerabilityID"), what=f"{what}: VulnerabilityID")
        yield _reported(result, entry, identity, f"{what}: {identity[:100]}")


def _reported(result: _Json, entry: _Json, identity: str, what: str) -> Reported:
    purl = _purl(entry, "PkgIdentifier", what)
    lines = (_text(entry, "Title", what) or _text(entry, "Description", what)).splitlines()
    return Reported(
        id=identity,
        vendor_ids=_texts(entry, "VendorIDs", what),
        kind=_kind(result, purl, what),
        name=as_text(entry.get("PkgName"), what=f"{what}: PkgName"),
        version=as_text(entry.get("InstalledVersion"), what=f"{what}: InstalledVersion"),
        path=_text(entry, "PkgPath", what),
        purl=purl,
        layer=_text(_object(entry, "Layer", what), "DiffID", what),
        fixed_version=_text(entry, "FixedVersion", what),
        severity=severity_of_word(_text(entry, "Severity", what)),
        severity_source=_text(entry, "SeveritySource", what),
        severities=_severities(entry, what),
        title=lines[0][:200] if lines else "",
        url=_text(entry, "PrimaryURL", what),
        published_at=_published(entry, what),
        fix_state=_fix_state(_text(entry, "Status", what)),
    )


def _fix_state(word: str) -> str:
    return _FIX_STATES.get(word, word.replace("_", "-"))


def _published(entry: _Json, what: str) -> datetime | None:
    text = _text(entry, "PublishedDate", what)
    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise IntegrityError(f"{what}: PublishedDate: {text[:50]!r} is no time") from error


def _severities(entry: _Json, what: str) -> tuple[tuple[str, str], ...]:
    """Return every vendor's word and vector."""
    claims = []
    for source, rank in sorted(_object(entry, "VendorSeverity", what).items()):
        if not isinstance(rank, int) or not 0 <= rank < len(_RANKS):
            raise IntegrityError(f"{what}: VendorSeverity of {source[:50]}: {rank!r}")
        claims.append((source, _RANKS[rank]))
    for source, vectors in sorted(_object(entry, "CVSS", what).items()):
        members = as_object(vectors, what=f"{what}: CVSS")
        claims += [
            (source, vector)
            for key in ("V40Vector", "V3Vector", "V2Vector")
            if (vector := _text(members, key, what))
        ]
    return tuple(claims)


def findings_of(report: TrivyReport, inventory: Inventory) -> tuple[Finding, ...]:
    """Make findings, on our own packages where we have them; duplicates are merged."""
    return findings_from(report.reported, inventory)

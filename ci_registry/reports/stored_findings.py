"""Reads back what a saved `result.json` says of findings, for comparing a later run with it."""

from collections.abc import Iterator
from dataclasses import dataclass

from ci_registry.comparison import KnownFinding
from ci_registry.errors import IntegrityError
from ci_registry.findings import FindingKind, Package, ScanStatus, Severity
from ci_registry.reports.result_json import MAX_RESULT_BYTES, SCHEMA_VERSION
from ci_registry.results import Verdict
from ci_registry.strict import as_list, as_object, as_text, parse_json

_WHAT = "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One image of a saved result."""

    name: str
    digest: str
    destinations: tuple[str, ...]
    verdict: Verdict
    is_judged: bool
    platforms: tuple[str, ...]
    """Those whose scan came to its end."""
    findings: tuple[KnownFinding, ...]
    gaps: frozenset[tuple[str, str, str]]
    """(platform, gap, purl type)."""
    advisories: str
    """When the oldest of its databases was made; empty when nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """A saved result, as far as it is compared with."""

    started_at: str
    """RFC 3339."""
    images: tuple[StoredImage, ...]


def read_stored(data: bytes) -> StoredResult:
    """Read a saved result; unknown keys are ignored.

    Raises:
        IntegrityError: not JSON, not a result, of a newer version, or a key is missing or misshapen.
    """
    root = as_object(parse_json(data, what=_WHAT, max_bytes=MAX_RESULT_BYTES), what=_WHAT)
    version = root.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise IntegrityError(
            f"{_WHAT}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}"
        )
    images = as_list(root.get("images"), what=f"{_WHAT}: images")
    return StoredResult(
        started_at=as_text(root.get("started_at"), what=f"{_WHAT}: started_at"),
        images=tuple(_image(item, f"{_WHAT}: images[{n}]") for n, item in enumerate(images)),
    )


def _image(value: object, what: str) -> StoredImage:
    data = as_object(value, what=what)
    verdict = as_text(data.get("verdict"), what=f"{what}.verdict")
    if verdict not in set(Verdict):
        raise IntegrityError(f"{what}.verdict: {verdict[:40]!r} is no verdict")
    decision = data.get("decision")
    judged = {} if decision is None else as_object(decision, what=f"{what}.decision")
    findings = as_list(judged.get("findings", []), what=f"{what}.findings")
    gaps = as_list(judged.get("gaps", []), what=f"{what}.gaps")
    scans = [as_object(s, what=what) for s in as_list(data.get("scans"), what=f"{what}.scans")]
    return StoredImage(
        name=as_text(data.get("name"), what=f"{what}.name"),
        digest=as_text(data.get("digest"), what=f"{what}.digest"),
        destinations=_texts(data.get("destinations"), f"{what}.destinations"),
        verdict=Verdict(verdict),
        is_judged=decision is not None,
        platforms=tuple(
            as_text(scan.get("platform"), what=f"{what}.platform")
            for scan in scans
            if scan.get("status") == ScanStatus.COMPLETE
        ),
        findings=tuple(_finding(item, f"{what}.findings[{n}]") for n, item in enumerate(findings)),
        gaps=frozenset(_gap(item, f"{what}.gaps[{n}]") for n, item in enumerate(gaps)),
        advisories=min((d for scan in scans for d in _database_dates(scan, what)), default=""),
    )


def _texts(value: object, what: str) -> tuple[str, ...]:
    return tuple(as_text(item, what=what) for item in as_list(value, what=what))


def _database_dates(scan: dict[str, object], what: str) -> Iterator[str]:
    coverage = as_object(scan.get("coverage"), what=f"{what}.coverage")
    for item in as_list(coverage.get("databases"), what=f"{what}.databases"):
        built = as_object(item, what=f"{what}.databases").get("built_at")
        if built is not None:
            yield as_text(built, what=f"{what}.databases.built_at")


def _finding(value: object, what: str) -> KnownFinding:
    data = as_object(value, what=what)
    finding = as_object(data.get("finding"), what=f"{what}.finding")
    package = as_object(finding.get("package"), what=f"{what}.package")

    def text(part: dict[str, object], key: str) -> str:
        return as_text(part.get(key), what=f"{what}.{key}")

    severity = text(finding, "severity")
    if severity not in set(Severity):
        raise IntegrityError(f"{what}: {severity[:40]!r} is no severity")
    ecosystem, name = text(package, "ecosystem"), text(package, "name")
    whole = Package(ecosystem=ecosystem, name=name, version="", purl=text(package, "purl"))
    return KnownFinding(
        platform=text(data, "platform"),
        ids=(text(finding, "id"), *_texts(finding.get("aliases"), f"{what}.aliases")),
        package=whole.purl_without_version or f"{ecosystem} {name}",
        severity=Severity(severity),
        is_decided=text(finding, "kind") == FindingKind.AFFECTED,
        known_exploited=finding.get("known_exploited") is True,
    )


def _gap(value: object, what: str) -> tuple[str, str, str]:
    data = as_object(value, what=what)
    gap = as_object(data.get("gap"), what=f"{what}.gap")
    return (
        as_text(data.get("platform"), what=f"{what}.platform"),
        as_text(gap.get("gap"), what=f"{what}.gap"),
        as_text(gap.get("ecosystem"), what=f"{what}.ecosystem"),
    )

"""Reads what grype writes: its JSON report for matches, and its CycloneDX document for the packages it saw."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ci_registry.advisories.severity import (
    SeverityClaim,
    choose,
    severity_of_vector,
    severity_of_word,
)
from ci_registry.errors import IntegrityError
from ci_registry.sbom.purl import parse_purl
from ci_registry.scanners.evidence import SeenPackage
from ci_registry.scanners.reported import Reported
from ci_registry.strict import as_list, as_object, as_text, parse_json

MAX_REPORT_BYTES = 512 * 1024 * 1024
KINDS = {
    "python": "pypi",
    "go-module": "golang",
    "rust-crate": "cargo",
    "java-archive": "maven",
    "jenkins-plugin": "maven",
    "php-composer": "composer",
    "dotnet": "nuget",
}
"""What grype calls a kind of package → purl type, for packages without a purl."""
_SOURCES = {
    "github": "ghsa",
    "nvd": "nvd",
    "redhat": "redhat",
    "rhel": "redhat",
    "amazon": "amazon",
}
"""First word of a namespace → who says so; other words are names of distributions."""
_UNINVENTORIED = frozenset({"generic"})
"""Programs that grype tells by their bytes. No package database lists them, so nothing is missing where
ours does not have them; what is found in them counts."""
_Json = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrypeReport:
    """What the two documents say."""

    grype_version: str
    config_digest: str
    platform: str
    diff_ids: tuple[str, ...]
    os_name: str
    """`debian`, …; empty when grype recognised nothing."""
    os_version: str
    packages: tuple[SeenPackage, ...]
    reported: tuple[Reported, ...]
    ignored: tuple[str, ...]
    """Matches that grype left out, `CVE-… in package`; nobody told it to."""


def parse_report(matches: bytes, packages: bytes) -> GrypeReport:
    """Read the JSON report and the CycloneDX document of one run.

    Raises:
        IntegrityError: one is cut off, or not shaped as grype writes it.
    """
    what = "grype's report"
    document = parse_json(matches, what=what, max_bytes=MAX_REPORT_BYTES, strict=False)
    report = as_object(document, what=what)
    source = _object(report, "source", what)
    if source.get("type") != "image":
        raise IntegrityError(f"{what}: it is about {source.get('type')!r}, not about an image")
    image, system = _object(source, "target", what), _object(report, "distro", what)
    found = as_list(report.get("matches"), what=f"{what}: matches")
    layers = [as_object(layer, what=what) for layer in _list(image, "layers", what)]
    return GrypeReport(
        grype_version=_text(_object(report, "descriptor", what), "version", what),
        config_digest=_text(image, "imageID", what),
        platform=f"{_text(image, 'os', what)}/{_text(image, 'architecture', what)}",
        diff_ids=tuple(_text(layer, "digest", what) for layer in layers),
        os_name=_text(system, "name", what),
        os_version=_text(system, "version", what),
        packages=tuple(_packages(packages)),
        reported=tuple(_reported(as_object(item, what=what), what) for item in found),
        ignored=tuple(_ignored(report, what)),
    )


def _object(value: _Json, key: str, what: str) -> dict[str, object]:
    member = value.get(key)
    return {} if member is None else as_object(member, what=f"{what}: {key}")


def _list(value: _Json, key: str, what: str) -> list[object]:
    member = value.get(key)
    return [] if member is None else as_list(member, what=f"{what}: {key}")


def _objects(value: _Json, key: str, what: str) -> list[dict[str, object]]:
    return [as_object(item, what=f"{what}: {key}") for item in _list(value, key, what)]


def _text(value: _Json, key: str, what: str) -> str:
    member = value.get(key)
    return "" if member is None else as_text(member, what=f"{what}: {key}")


# --- the packages


def _packages(data: bytes) -> Iterator[SeenPackage]:
    """Yield what grype listed; files and the operating system are components too, but no packages."""
    what = "grype's list of packages"
    document = parse_json(data, what=what, max_bytes=MAX_REPORT_BYTES, strict=False)
    bom = as_object(document, what=what)
    if bom.get("bomFormat") != "CycloneDX":
        raise IntegrityError(f"{what}: no CycloneDX document")
    for component in _objects(bom, "components", what):
        properties = {
            _text(item, "name", what): _text(item, "value", what)
            for item in _objects(component, "properties", what)
        }
        word = properties.get("syft:package:type", "")
        if not word:
            continue
        seen = _identity(
            _text(component, "purl", what),
            word,
            _text(component, "name", what),
            _text(component, "version", what),
            properties.get("syft:location:0:path", "").lstrip("/"),
        )
        if seen.ecosystem not in _UNINVENTORIED:
            yield seen


def _identity(purl: str, word: str, name: str, version: str, path: str) -> SeenPackage:
    """Return a package as our inventory calls it: by its purl, where it has one."""
    kind = KINDS.get(word, word)
    try:
        parsed = parse_purl(purl) if purl else None
    except IntegrityError:
        parsed = None
    if parsed is not None:
        kind, name = parsed.type, parsed.package_name
        if kind == "golang":
            version = parsed.version or version  # `go1.22.1` otherwise, of the standard library
    return SeenPackage(
        ecosystem=kind,
        name=name,
        version=version,
        purl=purl or f"pkg:{kind}/{name}@{version}",
        path=path,
    )


# --- the matches


def _ignored(report: _Json, what: str) -> Iterator[str]:
    for item in _objects(report, "ignoredMatches", what):
        name = _text(_object(item, "vulnerability", what), "id", what)
        yield f"{name} in {_text(_object(item, 'artifact', what), 'name', what)}"


def _reported(match: _Json, what: str) -> Reported:
    entry = _object(match, "vulnerability", what)
    identity = as_text(entry.get("id"), what=f"{what}: vulnerability.id")
    what = f"{what}: {identity[:100]}"
    related = _objects(match, "relatedVulnerabilities", what)
    names = dict.fromkeys((identity, *(_text(item, "id", what) for item in related)))
    names.pop("", None)
    cves = [name for name in names if name.upper().startswith("CVE-")]
    claims = tuple(claim for item in (entry, *related) for claim in _claims(item, what))
    severity, source = choose(claims)
    artifact = _object(match, "artifact", what)
    places = _objects(artifact, "locations", what)
    place = places[0] if places else {}
    seen = _identity(
        _text(artifact, "purl", what),
        _text(artifact, "type", what),
        as_text(artifact.get("name"), what=f"{what}: artifact.name"),
        _text(artifact, "version", what),
        _text(place, "path", what).lstrip("/"),
    )
    fix = _object(entry, "fix", what)
    chosen = cves[0] if len(cves) == 1 else identity
    return Reported(
        id=chosen,
        vendor_ids=tuple(name for name in names if name != chosen),
        kind=seen.ecosystem,
        name=seen.name,
        version=seen.version,
        path=seen.path,
        purl=seen.purl,
        layer=_text(place, "layerID", what),
        fixed_version=", ".join(
            as_text(item, what=f"{what}: fix") for item in _list(fix, "versions", what)
        ),
        severity=severity,
        severity_source=source,
        severities=tuple(dict.fromkeys((claim.source, claim.text) for claim in claims)),
        title=_first_line(
            next((t for i in (entry, *related) if (t := _text(i, "description", what))), "")
        ),
        url=_text(entry, "dataSource", what),
        published_at=None,
        known_exploited=any(_list(item, "knownExploited", what) for item in (entry, *related)),
        epss=_epss((entry, *related), what),
        fix_state=_text(fix, "state", what).replace("unknown", ""),
    )


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:200] if lines else ""


def _claims(entry: _Json, what: str) -> Iterator[SeverityClaim]:
    """Yield what one record says: its word, and its vectors."""
    first = _text(entry, "namespace", what).partition(":")[0]
    source = _SOURCES.get(first, first) or "grype"
    word = _text(entry, "severity", what)
    if word.lower() not in ("", "unknown"):
        yield SeverityClaim(
            source=source, text=word, severity=severity_of_word(word), is_word=source != "nvd"
        )
    for item in _objects(entry, "cvss", what):
        if vector := _text(item, "vector", what):
            told = _text(item, "source", what)
            yield SeverityClaim(
                source="nvd" if "nvd" in told else source,
                text=vector,
                severity=severity_of_vector(vector),
                is_word=False,
            )


def _epss(entries: tuple[_Json, ...], what: str) -> float | None:
    scores = [
        score
        for entry in entries
        for item in _objects(entry, "epss", what)
        if isinstance(score := item.get("epss"), int | float) and 0 <= score <= 1
    ]
    return max(scores, default=None)

"""Reads the vulnerabilities of a CycloneDX document (1.4 and later): those of trivy, grype, osv-scanner and others."""

import re
from collections.abc import Iterator, Mapping

from ci_registry.advisories.severity import (
    SeverityClaim,
    choose,
    severity_of_vector,
    severity_of_word,
)
from ci_registry.errors import IntegrityError
from ci_registry.findings import Package
from ci_registry.sbom.document import MAX_COMPONENTS
from ci_registry.sbom.foreign import foreign_package
from ci_registry.scanners.evidence import SeenPackage
from ci_registry.scanners.given_report import GivenReport, digests_in, time_or_none
from ci_registry.scanners.reported import Reported
from ci_registry.strict import as_list, as_object, as_text

_UPGRADE = re.compile(r"Upgrade (\S+) to version ([^;]+)")
"""Trivy's recommendation: the only place of the format where it names a fix."""
_NOT_AFFECTED = frozenset({"not_affected", "false_positive", "resolved", "resolved_with_pedigree"})
_WORDS = {"info": "informational"}
_Json = Mapping[str, object]


def read_cyclonedx_report(root: _Json, *, what: str) -> GivenReport:
    """Read a document that was parsed.

    Raises:
        IntegrityError: it has no list of vulnerabilities, or a part has the wrong shape.
    """
    if "vulnerabilities" not in root:
        raise IntegrityError(
            f"{what}: a CycloneDX document that lists packages and no vulnerabilities",
            hint="match its packages with advisories: --from-sbom",
        )
    metadata = _object(root, "metadata", what)
    image = _object(metadata, "component", f"{what}: metadata")
    packages = dict(_packages(root, what))
    entries = list(_objects(root, "vulnerabilities", what))
    facts = _properties(image, what)
    tool, version = _tool(metadata)
    reported = tuple(
        item
        for number, entry in enumerate(entries)
        for item in _reported(entry, packages, f"{what}: vulnerabilities[{number}]")
    )
    excused = [e for e in entries if _object(e, "analysis", what).get("state") in _NOT_AFFECTED]
    note = (
        f"{what}: its own analysis excuses {len(excused)} vulnerabilities: they count all the same"
    )
    return GivenReport(
        what=what,
        format="CycloneDX",
        tool=tool,
        tool_version=version,
        reported=reported,
        packages=tuple(_seen(package) for package in packages.values() if package),
        config_digest=next(iter(digests_in(facts.get("aquasecurity:trivy:ImageID"))), ""),
        manifest_digests=digests_in(
            [str(image.get("purl", "")).replace("%3A", ":"), image.get("version")]
        ),
        made_at=time_or_none(metadata.get("timestamp"), f"{what}: metadata.timestamp"),
        says_fixes=any(item.fixed_version for item in reported),
        notes=(note,) if excused else (),
    )


def _object(value: _Json, key: str, what: str) -> _Json:
    member = value.get(key)
    return {} if member is None else as_object(member, what=f"{what}: {key}")


def _objects(value: _Json, key: str, what: str) -> Iterator[_Json]:
    member = value.get(key)
    items = [] if member is None else as_list(member, what=f"{what}: {key}")
    return (as_object(item, what=f"{what}: {key}[{n}]") for n, item in enumerate(items))


def _text(value: _Json, key: str, what: str) -> str:
    member = value.get(key)
    return "" if member is None else as_text(member, what=f"{what}: {key}")


def _properties(value: _Json, what: str) -> dict[str, str]:
    return {
        _text(item, "name", what): _text(item, "value", what)
        for item in _objects(value, "properties", what)
    }


def _tool(metadata: _Json) -> tuple[str, str]:
    """Return name and version of the first tool, of the older and the newer form of the list."""
    tools = metadata.get("tools")
    found = tools.get("components") if isinstance(tools, dict) else tools
    first = found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else {}
    return str(first.get("name") or ""), str(first.get("version") or "")


def _packages(root: _Json, what: str) -> Iterator[tuple[str, Package | None]]:
    """Yield each component by its reference; None for what is no package."""
    waiting, count = [root], 0
    while waiting:
        for item in _objects(waiting.pop(), "components", what):
            count += 1
            if count > MAX_COMPONENTS:
                raise IntegrityError(f"{what}: more than {MAX_COMPONENTS} components")
            waiting.append(item)
            name, purl = _text(item, "name", what), _text(item, "purl", what)
            found = foreign_package(name, purl, _properties(item, what)) if purl else None
            reference = _text(item, "bom-ref", what) or purl or f"component {count}"
            yield reference, found if isinstance(found, Package) else None


def _seen(package: Package) -> SeenPackage:
    return SeenPackage(
        ecosystem=package.ecosystem,
        name=package.name,
        version=package.version,
        purl=package.purl,
        path=package.path,
    )


def _reported(
    entry: _Json, packages: Mapping[str, Package | None], what: str
) -> Iterator[Reported]:
    identity = as_text(entry.get("id"), what=f"{what}: id")
    what = f"{what} {identity[:100]}"
    names = dict.fromkeys(
        (identity, *(_text(item, "id", what) for item in _objects(entry, "references", what)))
    )
    names.pop("", None)
    cves = [name for name in names if name.startswith("CVE-")]
    chosen = cves[0] if len(cves) == 1 else identity
    claims = tuple(_claims(entry, what))
    severity, source = choose(claims)
    fixes = dict(_UPGRADE.findall(_text(entry, "recommendation", what)))
    lines = _text(entry, "description", what).strip().splitlines()
    affected = list(_affected(entry, packages, what)) or [None]
    for package in affected:
        yield Reported(
            id=chosen,
            vendor_ids=tuple(name for name in names if name != chosen),
            kind=package.ecosystem if package else "",
            name=package.name if package else "",
            version=package.version if package else "",
            path=package.path if package else "",
            purl=package.purl if package else "",
            layer=package.layer if package else "",
            fixed_version=fixes.get(package.name, "").strip() if package else "",
            severity=severity,
            severity_source=source,
            severities=tuple(dict.fromkeys((c.source, c.text) for c in claims)),
            title=lines[0][:200] if lines else "",
            url=_text(_object(entry, "source", what), "url", what),
            published_at=time_or_none(entry.get("published"), f"{what}: published"),
        )


def _affected(
    entry: _Json, packages: Mapping[str, Package | None], what: str
) -> Iterator[Package | None]:
    """Yield the packages; None for a reference that leads to none."""
    for item in _objects(entry, "affects", what):
        states = [_text(v, "status", what) for v in _objects(item, "versions", what)]
        if states and all(state == "unaffected" for state in states):
            continue
        reference = _text(item, "ref", what)
        if reference.startswith("urn:cdx:"):  # a link to a component of this document
            reference = reference.partition("#")[2]
        found = packages.get(reference)
        if found is None and reference.startswith("pkg:"):
            told = foreign_package("", reference, {})
            found = told if isinstance(told, Package) else None
        yield found


def _claims(entry: _Json, what: str) -> Iterator[SeverityClaim]:
    for rating in _objects(entry, "ratings", what):
        source = _text(_object(rating, "source", what), "name", what).lower() or "cyclonedx"
        vector, word = _text(rating, "vector", what), _text(rating, "severity", what)
        if vector:
            told = severity_of_vector(vector)
            yield SeverityClaim(source=source, text=vector, severity=told, is_word=False)
        if word and word != "unknown":
            yield SeverityClaim(
                source=source,
                text=word,
                severity=severity_of_word(_WORDS.get(word, word)),
                is_word=not vector and source != "nvd",
            )

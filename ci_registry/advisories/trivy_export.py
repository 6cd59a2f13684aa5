"""Turns OSV records into the content of a trivy database."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ci_registry.advisories.aliases import causes_of, is_cve, names_of
from ci_registry.advisories.modularity import streams_of
from ci_registry.advisories.osv import Advisory, Affected
from ci_registry.advisories.ranges import Answer, evaluate
from ci_registry.advisories.severity import SeverityClaim, choose, claims_of, score_of, source_of
from ci_registry.advisories.trivy_db import (
    TrivyAdvisory,
    TrivyCvss,
    TrivySource,
    TrivyStatus,
    TrivyVulnerability,
)
from ci_registry.advisories.trivy_names import (
    LANGUAGES,
    Bucket,
    bucket_for,
    vendor_name,
    why_left_out,
)
from ci_registry.advisories.trivy_ranges import (
    constraints,
    first_affected,
    fixed_version,
    fixes_of,
    require_versions,
)
from ci_registry.advisories.versions import UnparsableVersionError, compare
from ci_registry.findings import Severity

MAX_DESCRIPTION = 10_000
_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyContent:
    """What `trivy_db.write_trivy_db` takes."""

    records: tuple[TrivyAdvisory, ...]
    vulnerabilities: tuple[TrivyVulnerability, ...]
    sources: Mapping[str, TrivySource]
    left_out: tuple[str, ...]
    """What trivy will not see, one sentence for each ecosystem, then for each entry."""


@dataclass(slots=True)
class _Details:
    """What all records say about one id."""

    title: str = ""
    description: str = ""
    claims: dict[SeverityClaim, None] = field(default_factory=dict)
    advisory: Advisory | None = None


@dataclass(slots=True)
class _Collector:
    records: dict[_Key, TrivyAdvisory] = field(default_factory=dict)
    entries: dict[_Key, list[Affected]] = field(default_factory=dict)
    """Of language packages: what the records are made of."""
    ecosystems: dict[str, str] = field(default_factory=dict)
    details: dict[str, _Details] = field(default_factory=dict)
    sources: dict[str, TrivySource] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)
    entries_left_out: dict[str, None] = field(default_factory=dict)


def trivy_content(advisories: Iterable[Advisory]) -> TrivyContent:
    """Convert records; withdrawn ones and those about commits only are left out without a word.

    An update of several CVEs becomes one record for each. Where several records say something about one
    CVE in one package, the version counts from which on all of them call it fixed.
    """
    collector = _Collector()
    for advisory in advisories:
        if not advisory.withdrawn:
            _add(collector, advisory)
    return TrivyContent(
        records=tuple(_with_real_fixes(collector, key) for key in collector.records),
        vulnerabilities=tuple(
            _vulnerability(identity, details) for identity, details in collector.details.items()
        ),
        sources=collector.sources,
        left_out=(*collector.left_out, *collector.entries_left_out),
    )


def _add(collector: _Collector, advisory: Advisory) -> None:
    identities = _identities(advisory)
    for item in advisory.affected:
        if not item.ecosystem:
            continue
        bucket = bucket_for(item.ecosystem, source_of(advisory.id))
        if bucket is None:
            collector.left_out[why_left_out(item.ecosystem)] = None
            continue
        try:
            made = _records(bucket, advisory, item)
        except UnparsableVersionError as error:
            collector.entries_left_out[f"{advisory.id}, {item.name}: {error}"] = None
            continue
        if not made:
            reason = "no range, version or module stream that trivy could read"
            collector.entries_left_out[f"{advisory.id}, {item.name}: {reason}"] = None
            continue
        collector.sources[bucket.name] = bucket.source
        collector.ecosystems[bucket.name] = item.ecosystem
        for identity in identities:
            _describe(collector, identity, advisory, item)
            for record in made:
                _merge(collector, replace(record, id=identity), item)


def _identities(advisory: Advisory) -> tuple[str, ...]:
    """Return the CVEs that trivy will show; the advisory's own id when there is none."""
    names = names_of(advisory) | causes_of(advisory)
    return tuple(sorted(name for name in names if is_cve(name))) or (advisory.id,)


def _records(bucket: Bucket, advisory: Advisory, item: Affected) -> list[TrivyAdvisory]:
    """Return the records of an entry, for an id yet to be filled in."""
    require_versions(item)
    vendor_ids = (advisory.id,)
    if item.ecosystem in LANGUAGES:
        versions = constraints(item)
        if not versions:
            return []
        record = TrivyAdvisory(
            bucket=bucket.name,
            package=item.name,
            id="",
            vulnerable_versions=versions,
            patched_versions=fixes_of(item),
            vendor_ids=vendor_ids,
        )
        return [record]
    fixed = fixed_version(item)
    if fixed is None:
        return []
    pairs = item.binaries or tuple((name, fixed) for name in _package_keys(advisory, item, fixed))
    return [
        TrivyAdvisory(
            bucket=bucket.name,
            package=name,
            id="",
            fixed_version=version,
            affected_version=first_affected(item) if bucket.name.startswith("alpine ") else "",
            status=None if version else TrivyStatus.AFFECTED,
            severity=_own_severity(advisory, item),
            vendor_ids=vendor_ids,
        )
        for name, version in pairs
    ]


def _package_keys(advisory: Advisory, item: Affected, fixed: str) -> tuple[str, ...]:
    """Return the names trivy looks a package up by: those of a module begin with its stream."""
    streams = streams_of(advisory, fixed)
    return (item.name,) if streams is None else tuple(f"{s}::{item.name}" for s in streams)


def _own_severity(advisory: Advisory, item: Affected) -> Severity | None:
    """Return what the distribution itself says of this package (Debian's urgency, for example)."""
    own = [claim for claim in claims_of(advisory, item) if claim.is_word]
    chosen, _ = choose(tuple(own))
    return None if chosen is Severity.UNKNOWN else chosen


def _merge(collector: _Collector, record: TrivyAdvisory, item: Affected) -> None:
    key = (record.bucket, record.package, record.id)
    if record.vulnerable_versions:
        collector.entries.setdefault(key, []).append(item)
    known = collector.records.get(key)
    if known is not None:
        record = _merged(known, record, collector.ecosystems[record.bucket])
    collector.records[key] = record


def _merged(a: TrivyAdvisory, b: TrivyAdvisory, ecosystem: str) -> TrivyAdvisory:
    if not a.vulnerable_versions:
        a, b = (a, b) if _is_fixed_later(a, b, ecosystem) else (b, a)
    return replace(
        a,
        affected_version=a.affected_version if a.affected_version == b.affected_version else "",
        vulnerable_versions=_union(a.vulnerable_versions, b.vulnerable_versions),
        patched_versions=_union(a.patched_versions, b.patched_versions),
        vendor_ids=tuple(sorted({*a.vendor_ids, *b.vendor_ids})),
    )


def _is_fixed_later(a: TrivyAdvisory, b: TrivyAdvisory, ecosystem: str) -> bool:
    if not a.fixed_version or not b.fixed_version:
        return not a.fixed_version
    return compare(ecosystem, a.fixed_version, b.fixed_version) >= 0


def _with_real_fixes(collector: _Collector, key: _Key) -> TrivyAdvisory:
    """Leave out the fixes of one entry that are affected by another: for trivy a patched version is safe."""
    record, entries = collector.records[key], collector.entries.get(key, ())
    if len(entries) < 2:
        return record
    kept = tuple(
        version
        for version in record.patched_versions
        if all(evaluate(e, e.ecosystem, version).answer is Answer.NO for e in entries)
    )
    return replace(record, patched_versions=kept)


def _union(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*a, *b)))


def _describe(collector: _Collector, identity: str, advisory: Advisory, item: Affected) -> None:
    details = collector.details.setdefault(identity, _Details())
    details.title = details.title or advisory.summary[:200]
    details.description = details.description or advisory.details[:MAX_DESCRIPTION]
    details.claims.update(dict.fromkeys(claims_of(advisory, item)))
    details.advisory = details.advisory or advisory


def _vulnerability(identity: str, details: _Details) -> TrivyVulnerability:
    claims = tuple(details.claims)
    severity, _ = choose(claims)
    vendors: dict[str, Severity] = {}
    for vendor in sorted({vendor_name(claim.source) for claim in claims}):
        own = tuple(claim for claim in claims if vendor_name(claim.source) == vendor)
        chosen, _ = choose(own)
        if chosen is not Severity.UNKNOWN:
            vendors[vendor] = chosen
    advisory = details.advisory
    return TrivyVulnerability(
        id=identity,
        title=details.title,
        description=details.description,
        severity=severity,
        vendor_severity=vendors,
        cvss=_cvss(claims),
        references=(f"https://osv.dev/vulnerability/{advisory.id}",) if advisory else (),
        published_at=advisory.published_at if advisory else None,
    )


def _cvss(claims: tuple[SeverityClaim, ...]) -> dict[str, TrivyCvss]:
    found: dict[str, TrivyCvss] = {}
    for claim in claims:
        scored = None if claim.is_word else score_of(claim.text)
        if scored is None:
            continue
        vendor = vendor_name(claim.source)
        known = found.get(vendor, TrivyCvss())
        version, score = scored
        if version == 4:
            known = replace(known, v40_vector=claim.text, v40_score=score)
        elif version == 3:
            known = replace(known, v3_vector=claim.text, v3_score=score)
        else:
            known = replace(known, v2_vector=claim.text, v2_score=score)
        found[vendor] = known
    return found

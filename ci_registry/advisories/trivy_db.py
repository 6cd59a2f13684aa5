"""Writes a database (schema 2) that trivy reads, and reads of one what coverage needs to know."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path

from ci_registry.advisories.bbolt import BoltFile, Bucket, dump
from ci_registry.errors import IncompleteError, IntegrityError
from ci_registry.files import read_file, write_atomic
from ci_registry.findings import Severity
from ci_registry.strict import as_object, as_text, parse_json

DATABASE_FILE, METADATA_FILE = "db/trivy.db", "db/metadata.json"
"""Below trivy's cache folder."""
_SCHEMA = 2
_VULNERABILITY, _DATA_SOURCE = b"vulnerability", b"data-source"
_SERVICE_BUCKETS = frozenset(
    {
        "vulnerability",
        "data-source",
        "trivy",
        "Red Hat CPE",
        "vulnerability-detail",
        "vulnerability-id",
    }
)
_MAX_METADATA_BYTES = 64 * 1024
_RANKS = {
    Severity.NONE: 0,
    Severity.UNKNOWN: 0,
    Severity.NEGLIGIBLE: 1,
    Severity.LOW: 1,
    Severity.MEDIUM: 2,
    Severity.HIGH: 3,
    Severity.CRITICAL: 4,
}
_WORDS = ("UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL")


class TrivyStatus(IntEnum):
    """Trivy's numbers for what a vendor says of a vulnerability without a fix."""

    UNKNOWN = 0
    NOT_AFFECTED = 1
    AFFECTED = 2
    FIXED = 3
    UNDER_INVESTIGATION = 4
    WILL_NOT_FIX = 5
    FIX_DEFERRED = 6
    END_OF_LIFE = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivySource:
    """Who published the advisories of a bucket."""

    id: str
    """Trivy's word: `debian`, `alma`, `ghsa`, `osv`, …; the key that `vendor_severity` is looked up by."""
    name: str
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyAdvisory:
    """One vulnerability of one package in one bucket."""

    bucket: str
    """`debian 12`, `alpine 3.20`, `ubuntu 22.04`, `alma 9`, `pip::NAME`, `npm::NAME`, `go::NAME`, …"""
    package: str
    """Source package for Debian, Ubuntu and Alpine; binary package for RPM families."""
    id: str
    """CVE where there is one: `vulnerability` is looked up by it."""
    fixed_version: str = ""
    """Of a distribution package; empty when there is no fix."""
    affected_version: str = ""
    """First affected version of a distribution package; empty: all before the fix."""
    vulnerable_versions: tuple[str, ...] = ()
    """Of a language package: ranges such as `>=1.0, <1.2.3`."""
    patched_versions: tuple[str, ...] = ()
    """Of a language package: the versions or ranges with a fix."""
    status: TrivyStatus | None = None
    """Without a fix: why there is none."""
    severity: Severity | None = None
    """The vendor's for this very package (Debian's urgency, for example)."""
    vendor_ids: tuple[str, ...] = ()
    """`DSA-5532-1`, `ALSA-2024:1234`, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyCvss:
    """CVSS of one source; empty vectors and zero scores are left out."""

    v2_vector: str = ""
    v2_score: float = 0.0
    v3_vector: str = ""
    v3_score: float = 0.0
    v40_vector: str = ""
    v40_score: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyVulnerability:
    """What is known of a vulnerability whatever the package."""

    id: str
    title: str = ""
    description: str = ""
    severity: Severity = Severity.UNKNOWN
    """Used when neither the bucket's source nor NVD has one."""
    vendor_severity: Mapping[str, Severity] | None = None
    """By source id."""
    cvss: Mapping[str, TrivyCvss] | None = None
    """By source id."""
    cwe_ids: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    published_at: datetime | None = None
    last_modified_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyDatabase:
    """A trivy database on disk: when it was made and what it has data for."""

    folder: Path
    """Trivy's cache folder."""
    updated_at: datetime
    """When the data was made; never `NextUpdate`."""
    next_update: datetime | None
    buckets: tuple[str, ...]
    """Sorted names of the buckets with advisories: `debian 12`, `pip::…`; not trivy's own ones."""

    def packages_in(self, bucket: str) -> tuple[str, ...]:
        """Return the sorted package names of a bucket; empty when there is no such bucket.

        Raises:
            IntegrityError: the database is damaged.
            StorageError: the file can't be read any more.
        """
        with BoltFile(self.folder / DATABASE_FILE) as file:
            try:
                return tuple(
                    _text(key) for key, value in file.items(bucket.encode()) if value is None
                )
            except KeyError:
                return ()

    def buckets_for(self, ecosystem: str) -> tuple[str, ...]:
        """Return the buckets of a language ecosystem, which is in trivy's words: `pip`, `npm`, `go`."""
        return tuple(name for name in self.buckets if name.startswith(f"{ecosystem}::"))


_SOURCES = {
    "debian": (
        "debian",
        "Debian Security Tracker",
        "https://salsa.debian.org/security-tracker-team",
    ),
    "ubuntu": ("ubuntu", "Ubuntu CVE Tracker", "https://git.launchpad.net/ubuntu-cve-tracker"),
    "alpine": ("alpine", "Alpine Secdb", "https://secdb.alpinelinux.org/"),
    "alma": ("alma", "AlmaLinux Product Errata", "https://errata.almalinux.org/"),
    "rocky": ("rocky", "Rocky Linux updateinfo", "https://download.rockylinux.org/"),
    "Oracle Linux": ("oracle-oval", "Oracle Linux OVAL", "https://linux.oracle.com/security/oval/"),
}


def source_of(bucket: str) -> TrivySource:
    """Return the usual source of a bucket; for languages `osv` under the bucket's own name."""
    prefix, colons, name = bucket.partition("::")
    if colons:
        return TrivySource(id="osv", name=name, url="https://osv.dev")
    known = _SOURCES.get(prefix.rpartition(" ")[0])
    if known is None:
        return TrivySource(id=prefix.partition(" ")[0].lower(), name=bucket)
    return TrivySource(id=known[0], name=known[1], url=known[2])


def write_trivy_db(
    folder: Path,
    records: Iterable[TrivyAdvisory],
    vulnerabilities: Iterable[TrivyVulnerability],
    *,
    updated_at: datetime,
    next_update: datetime | None = None,
    sources: Mapping[str, TrivySource] | None = None,
) -> None:
    """Write `db/trivy.db` and, last, `db/metadata.json` below a cache folder of trivy.

    Equal input gives equal bytes, in whatever order it comes.

    Args:
        folder: becomes trivy's `--cache-dir`.
        records: the advisories; of two with the same bucket, package and id the last one counts.
        vulnerabilities: titles, severities and references by id.
        updated_at: when the data was made (aware).
        next_update: when trivy should look for a newer one; by default a day after `updated_at`.
        sources: by bucket, where `source_of` would be wrong.

    Raises:
        StorageError: the folder can't be written.
    """
    buckets: dict[bytes, dict[bytes, dict[bytes, bytes]]] = {}
    origins: dict[bytes, bytes] = {}
    named = dict(sources or {})
    for record in records:
        key = record.bucket.encode()
        if key not in origins:
            source = named.get(record.bucket) or source_of(record.bucket)
            origins[key] = _encoded({"ID": source.id, "Name": source.name, "URL": source.url})
        packages = buckets.setdefault(key, {})
        ids = packages.setdefault(package_key(record.bucket, record.package).encode(), {})
        ids[record.id.encode()] = _encoded(_advisory_json(record))
    details = {v.id.encode(): _encoded(_vulnerability_json(v)) for v in vulnerabilities}
    root: dict[bytes, Bucket] = {**buckets, _VULNERABILITY: details, _DATA_SOURCE: origins}
    write_atomic(folder / DATABASE_FILE, dump(root))
    metadata = {
        "Version": _SCHEMA,
        "NextUpdate": _time(next_update or updated_at + timedelta(days=1)),
        "UpdatedAt": _time(updated_at),
        "DownloadedAt": _time(updated_at),
    }
    write_atomic(folder / METADATA_FILE, json.dumps(metadata))


def package_key(bucket: str, package: str) -> str:
    """Return the key under which trivy looks a package up: Python names in lower case with dashes."""
    if bucket.startswith("pip::"):
        return package.lower().replace("_", "-")
    return package.lower() if bucket.startswith("nuget::") else package


def read_trivy_db(folder: Path) -> TrivyDatabase:
    """Read when a trivy database was made and which buckets it has.

    Raises:
        IncompleteError: there is no database.
        IntegrityError: another schema, or damaged.
        StorageError: it can't be read.
    """
    if not (folder / DATABASE_FILE).is_file() or not (folder / METADATA_FILE).is_file():
        raise IncompleteError(
            f"no trivy database in {folder}", hint="fetch it with: ci-registry db pull"
        )
    what = f"{folder / METADATA_FILE}"
    body = read_file(folder / METADATA_FILE, max_bytes=_MAX_METADATA_BYTES)
    metadata = as_object(parse_json(body, what=what), what=what)
    if metadata.get("Version") != _SCHEMA:
        raise IntegrityError(f"{what}: schema {metadata.get('Version')!r}, expected {_SCHEMA}")
    with BoltFile(folder / DATABASE_FILE) as file:
        names = [_text(key) for key, value in file.items() if value is None]
    return TrivyDatabase(
        folder=folder,
        updated_at=_parse_time(metadata.get("UpdatedAt"), f"{what}: UpdatedAt"),
        next_update=(
            _parse_time(metadata["NextUpdate"], f"{what}: NextUpdate")
            if metadata.get("NextUpdate")
            else None
        ),
        buckets=tuple(name for name in names if name not in _SERVICE_BUCKETS),
    )


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


def _encoded(value: Mapping[str, object]) -> bytes:
    """Return compact JSON without empty members, as Go's `omitempty` would."""
    full = {key: item for key, item in value.items() if item not in ("", None, 0, [], {})}
    return json.dumps(full, separators=(",", ":"), ensure_ascii=False).encode()


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse_time(value: object, what: str) -> datetime:
    text = as_text(value, what=what)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise IntegrityError(f"{what}: not a time: {text[:60]!r}") from error
    if moment.tzinfo is None:
        raise IntegrityError(f"{what}: a time without zone: {text[:60]!r}")
    return moment


def _advisory_json(record: TrivyAdvisory) -> dict[str, object]:
    return {
        "VendorIDs": list(record.vendor_ids),
        "Status": int(record.status) if record.status is not None else 0,
        "Severity": _RANKS[record.severity] if record.severity is not None else 0,
        "FixedVersion": record.fixed_version,
        "AffectedVersion": record.affected_version,
        "VulnerableVersions": list(record.vulnerable_versions),
        "PatchedVersions": list(record.patched_versions),
    }


def _vulnerability_json(vulnerability: TrivyVulnerability) -> dict[str, object]:
    severities = sorted((vulnerability.vendor_severity or {}).items())
    scores = sorted((vulnerability.cvss or {}).items())
    published, modified = vulnerability.published_at, vulnerability.last_modified_at
    return {
        "Title": vulnerability.title,
        "Description": vulnerability.description,
        "Severity": _WORDS[_RANKS[vulnerability.severity]],
        "CweIDs": list(vulnerability.cwe_ids),
        "VendorSeverity": {source: _RANKS[severity] for source, severity in severities},
        "CVSS": {source: _cvss_json(cvss) for source, cvss in scores},
        "References": list(vulnerability.references),
        "PublishedDate": _time(published) if published else "",
        "LastModifiedDate": _time(modified) if modified else "",
    }


def _cvss_json(cvss: TrivyCvss) -> dict[str, object]:
    members: dict[str, object] = {
        "V2Vector": cvss.v2_vector,
        "V2Score": cvss.v2_score,
        "V3Vector": cvss.v3_vector,
        "V3Score": cvss.v3_score,
        "V40Vector": cvss.v40_vector,
        "V40Score": cvss.v40_score,
    }
    return {key: value for key, value in members.items() if value}

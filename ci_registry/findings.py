"""What a scan finds and what it could see: severities, packages, inventories, findings and coverage."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Severity(StrEnum):
    """The canonical severities, mildest first; `rank` orders them."""

    NONE = "NONE"
    UNKNOWN = "UNKNOWN"
    NEGLIGIBLE = "NEGLIGIBLE"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"

    @property
    def rank(self) -> int:
        """0 for NONE up to 6 for CRITICAL; UNKNOWN ranks below NEGLIGIBLE until a policy maps it."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One installed package of a platform image."""

    ecosystem: str
    """The purl type: `deb`, `apk`, `rpm`, `pypi`, `npm`, `golang`, …"""
    name: str
    version: str
    purl: str
    """With version, per the purl specification; `pkg:deb/debian/openssl@3.0.11-1?arch=amd64&distro=debian-12`."""
    source_name: str = ""
    """Distribution source package; empty when it has the binary's name or there is none."""
    source_version: str = ""
    """Version of the source package; empty when equal to `version`."""
    architecture: str = ""
    owner: str = ""
    """Name of the OS package that owns these files: such a package is not matched a second time."""
    layer: str = ""
    """Diff id of the layer that last wrote it."""
    path: str = ""
    """Path in the image of the file it was read from, without leading slash."""
    third_party: bool = False
    """An OS package that the distribution did not make: its advisories say nothing about it."""
    module: str = ""
    """Of an RPM that a module stream built: its modularity label, `nodejs:18:9010020221118120946:rhel9`."""
    from_base: bool | None = None
    """Whether the layer that wrote it belongs to the base image; None when the base is not known."""

    @property
    def purl_without_version(self) -> str:
        """Identity of the package over versions: what counting and waivers go by."""
        return self.purl.partition("@")[0] if "%40" in self.purl or "@" in self.purl else self.purl


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The operating system of an image, from `os-release`."""

    id: str
    """`ID`: `debian`, `alpine`, …"""
    version: str
    """`VERSION_ID`; may be empty (Debian testing)."""
    pretty_name: str = ""
    end_of_life: bool | None = None
    """Whether its vendor's support has ended at the time of the scan; None when we don't know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadDatabase:
    """A package database that is in the image and that we can't read: a named gap."""

    kind: str
    """The purl type that its packages would have."""
    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The packages of one platform image, read from verified layers."""

    platform: str
    manifest_digest: str
    config_digest: str
    distribution: Distribution | None
    packages: tuple[Package, ...]
    """Sorted by (ecosystem, name, version, path)."""
    unread: tuple[UnreadDatabase, ...] = ()
    files_count: int = 0

    def counts(self) -> tuple[tuple[str, int], ...]:
        """Return (ecosystem, number of packages), sorted by ecosystem."""
        kinds = [p.ecosystem for p in self.packages]
        return tuple((kind, kinds.count(kind)) for kind in sorted(set(kinds)))


class FindingKind(StrEnum):
    """Whether a package is known to be affected, or its version could not be compared."""

    AFFECTED = "affected"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One vulnerability in one package of one platform image."""

    id: str
    """The name people know: the CVE when there is exactly one, else the advisory's id."""
    aliases: tuple[str, ...] = ()
    """Every other id of the same vulnerability, sorted; the alias group is `{id} | aliases`."""
    package: Package
    severity: Severity
    severity_source: str = ""
    """Who said so: `debian`, `ghsa`, `nvd`, `cvss`, …; empty for UNKNOWN."""
    severities: tuple[tuple[str, str], ...] = ()
    """(source, word or vector) of every vendor, as given."""
    kind: FindingKind = FindingKind.AFFECTED
    fixed_versions: tuple[str, ...] = ()
    title: str = ""
    url: str = ""
    published_at: datetime | None = None
    detail: str = ""
    """For undecided findings: which version could not be parsed, in which range."""
    known_exploited: bool = False
    """A list of known exploited vulnerabilities names it; False also when there is no list, see
    `Coverage.lists`."""
    epss: float | None = None
    """Probability of use within 30 days, 0 to 1; None when nobody says."""
    fix_state: str = ""
    """What a scanner says about a fix: `fixed`, `not-fixed`, `wont-fix`, …; empty when it says nothing."""
    found_by: tuple[str, ...] = ()
    """The scanners that found it, when several were asked."""

    @property
    def key(self) -> tuple[str, str]:
        """What counts as one finding: (id, purl without version)."""
        return (self.id, self.package.purl_without_version)


class Gap(StrEnum):
    """The ways in which a scan may not have covered an image; the first seven can be accepted by name."""

    NO_PACKAGES = "no-packages"
    UNKNOWN_DISTRIBUTION = "unknown-distribution"
    NO_DATA = "no-data"
    UNDECIDED = "undecided"
    THIRD_PARTY_PACKAGES = "third-party-packages"
    END_OF_LIFE = "end-of-life"
    UNREAD_DATABASE = "unread-database"
    DATABASE_ABSENT = "database-absent"
    DATABASE_UNDATED = "database-undated"
    DATABASE_STALE = "database-stale"
    UNSCANNED_PACKAGES = "unscanned-packages"
    """In our inventory, not in the scanner's package list."""
    UNINVENTORIED_PACKAGES = "uninventoried-packages"
    """In the scanner's package list, not in our inventory."""
    WRONG_IMAGE = "wrong-image"
    """The scanner's report is about another image or platform."""
    NOT_SCANNABLE = "not-scannable"
    """The scanner says that it can't scan this image: unsupported, too large, archived, expired."""
    KEV_ABSENT = "kev-absent"
    """The policy asks for known exploited vulnerabilities, and the scan had no list of them."""
    KEV_STALE = "kev-stale"
    """The policy asks for them, and the list is too old, or from the future."""


ACCEPTABLE_GAPS = frozenset(list(Gap)[:7])
"""Gaps that `spec.coverage.accept` of a policy may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageGap:
    """One named gap in what a scan could see."""

    gap: Gap
    detail: str
    """One sentence for people: what was not covered and why."""
    ecosystem: str = ""
    """The purl type it concerns; empty when it concerns the whole image."""
    packages: tuple[str, ...] = ()
    """purls concerned, at most 50; the sentence has the total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisoryDatabase:
    """Where advisories came from and how old they are."""

    name: str
    """`osv`, `osv.dev`, `trivy-db`, …"""
    location: str = ""
    """Path or host; relative to the project where possible."""
    built_at: datetime | None = None
    """When the data was made (trivy: `UpdatedAt`, never `NextUpdate`); None when unknown."""
    digest: str = ""
    ecosystems: tuple[str, ...] = ()
    """What it holds data for, in its own words: `Debian:12`, `PyPI`, `debian 12`, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What one scan of one platform image could and could not see."""

    platform: str
    manifest_digest: str
    config_digest: str
    distribution: Distribution | None
    package_counts: tuple[tuple[str, int], ...]
    gaps: tuple[CoverageGap, ...]
    databases: tuple[AdvisoryDatabase, ...]
    skipped_count: int = 0
    """Packages left out on purpose: language packages owned by an OS package."""
    lists: tuple[AdvisoryDatabase, ...] = ()
    """What was known of the use of vulnerabilities: `kev` and `epss`, each with its own age."""
    skipped: tuple[tuple[str, int], ...] = ()
    """(reason, number) of the packages left out; the sum is `skipped_count`."""
    with_data: tuple[str, ...] = ()
    """purl types of the image that the databases cover."""
    without_data: tuple[str, ...] = ()
    """purl types of the image that they do not, or not whole."""
    scanner: str = ""
    """Name and version of what scanned."""
    scanned_at: datetime | None = None


class ScanStatus(StrEnum):
    """How a scan ended; anything but COMPLETE is infrastructure trouble (exit 4)."""

    COMPLETE = "complete"
    FAILED = "failed"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """Findings **and** coverage of one platform image; one without the other means nothing."""

    platform: str
    scanner: str
    scanner_version: str
    status: ScanStatus
    findings: tuple[Finding, ...]
    """Sorted by severity (worst first), then id, then purl."""
    coverage: Coverage
    tool_exit_code: int | None = None
    """Recorded, never interpreted alone; None for the embedded scanner."""
    program_sha256: str = ""
    """Of the program that scanned; empty for the embedded scanner. Of several, joined by `+`."""
    notes: tuple[str, ...] = ()
    """Things to tell people: `.trivyignore` in the tree not applied, …"""
    duration_s: float = 0.0

"""Grype's advisory database (SQLite, schema 6): what it covers, and how it gets into a private cache folder."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from ci_registry.advisories.ecosystems import (
    OS_KINDS,
    ecosystem_of,
    matchable,
    normal_name,
    os_kind_of,
)
from ci_registry.advisories.versions import UnparsableVersionError, compare
from ci_registry.cache import DiskCache, remembered_sha256
from ci_registry.errors import IntegrityError
from ci_registry.files import storage_error
from ci_registry.findings import AdvisoryDatabase, Distribution, Inventory, Package
from ci_registry.scanners.evidence import DatabaseFacts
from ci_registry.scanners.grype_report import GrypeReport

NAME = "grype-db"
DATABASE_FILE = "vulnerability.db"
SCHEMA = "6"
"""Also the name of the folder that grype keeps a database of this schema in."""
TYPES = {
    "apk": "apk",
    "bitnami": "bitnami",
    "cargo": "rust-crate",
    "composer": "php-composer",
    "deb": "deb",
    "gem": "gem",
    "golang": "go-module",
    "hex": "hex",
    "maven": "java-archive",
    "npm": "npm",
    "nuget": "dotnet",
    "pub": "dart-pub",
    "pypi": "python",
    "rpm": "rpm",
    "swift": "swift",
}
"""purl type → what grype calls it."""
_NEVER_REHYDRATE = "6.999.0"
"""A version of the importing grype that none is newer than: or else it would change the file."""
_SYSTEMS = """
    SELECT name, release_id, major_version, minor_version, eol_date FROM operating_systems AS o
    WHERE ifnull(channel, '') = '' AND EXISTS (
        SELECT 1 FROM affected_package_handles AS a WHERE a.operating_system_id = o.id)
"""
"""Releases with something that is affected: a list of what is fixed finds nothing alone."""
_LANGUAGES = """
    SELECT DISTINCT ecosystem FROM packages AS p WHERE EXISTS (
        SELECT 1 FROM affected_package_handles AS a
        WHERE a.package_id = p.id AND a.operating_system_id IS NULL)
"""
_ALIASES = """
    SELECT alias, replacement, rolling FROM operating_system_specifier_overrides
    WHERE ifnull(version, '') = '' AND ifnull(version_pattern, '') = '' AND ifnull(codename, '') = ''
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A release that there is data for."""

    names: tuple[str, ...]
    """`ID` of os-release first, then grype's own name where it has another one."""
    major: str
    minor: str
    """Empty where data is kept by major version."""
    ends_at: datetime | None = None

    def __str__(self) -> str:
        release = ".".join(part for part in (self.major, self.minor) if part)
        return f"{self.names[0]} {release}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class GrypeDatabase:
    """What a database holds."""

    path: Path
    built_at: datetime
    systems: tuple[System, ...]
    types: frozenset[str]
    """Language types, in grype's words, that something affected is recorded of."""
    aliases: dict[str, tuple[str, bool]]
    """Name of a distribution → name its data is under, and whether it has no releases."""
    lists: tuple[AdvisoryDatabase, ...] = ()
    """`kev` and `epss`, where it has them."""

    def system_of(self, distribution: Distribution | None) -> System | None:
        """Return the release whose data grype may use for an image.

        Grype itself falls back to every release of the same major version, such as Alpine 3.20 for 3.22:
        that is data of another release, which is none.
        """
        if distribution is None:
            return None
        name, rolling = self.aliases.get(distribution.id, (distribution.id, False))
        major, _, rest = distribution.version.partition(".")
        wanted = {(_number(major), _number(rest.partition(".")[0])), (_number(major), "")}
        for system in self.systems:
            if name in system.names and (rolling or (system.major, system.minor) in wanted):
                return system
        return None

    def names(self, kind: str, names: set[str]) -> set[str]:
        """Return those of these names that the database has a package of, without regard to case."""
        found = set()
        with _opened(self.path) as connection:
            query = "SELECT 1 FROM packages WHERE ecosystem = ? COLLATE NOCASE AND name = ? COLLATE NOCASE"
            for name in sorted(names):
                if connection.execute(query, (TYPES.get(kind, kind), name)).fetchone():
                    found.add(name)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedGrype:
    """A database with its facts; `content` is None when there is none."""

    facts: AdvisoryDatabase
    content: GrypeDatabase | None


def find_file(place: Path) -> Path | None:
    """Return the database in a cache folder of grype, in a folder, or the file itself; None when there is none."""
    candidates = (place / SCHEMA / DATABASE_FILE, place / DATABASE_FILE, place)
    return next((path for path in candidates if path.is_file()), None)


def open_grype_database(
    place: Path, *, location: str = "", cache: DiskCache | None = None
) -> OpenedGrype:
    """Read what a database covers and when it was built, from itself, and hash it.

    Args:
        place: a cache folder of grype, a folder with `vulnerability.db`, or that file.
        location: what reports call it; the path when empty.
        cache: remembers the hash of a database, which has a gigabyte, while it stays.

    Raises:
        IntegrityError: it is damaged, or of another schema.
        StorageError: it can't be read.
    """
    shown = location or str(place)
    path = find_file(place)
    if path is None:
        return OpenedGrype(facts=AdvisoryDatabase(name=NAME, location=shown), content=None)
    try:
        content = _read(path)
    except (sqlite3.Error, UnicodeDecodeError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"{path}: no usable database of grype: {error}",
            hint="import it again with `grype db import`, or name another one",
        ) from error
    facts = AdvisoryDatabase(
        name=NAME,
        location=shown,
        built_at=content.built_at,
        digest=f"sha256:{remembered_sha256(cache, path)}",
        ecosystems=tuple(sorted({*map(str, content.systems), *content.types})),
    )
    return OpenedGrype(facts=facts, content=content)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading, without a journal beside it."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        yield connection


def _read(path: Path) -> GrypeDatabase:
    with _opened(path) as connection:
        built_at, model = _only(connection, "SELECT build_timestamp, model FROM db_metadata")
        if str(model) != SCHEMA:
            raise IntegrityError(
                f"{path}: a database of schema {model!r}, grype needs schema {SCHEMA}",
                hint="update the database",
            )
        aliases = {
            str(alias): (str(replacement or alias), bool(rolling))
            for alias, replacement, rolling in connection.execute(_ALIASES)
        }
        systems = tuple(
            System(
                names=tuple(dict.fromkeys(str(word) for word in (release, name) if word)),
                major=str(major),
                minor=str(minor),
                ends_at=_time(ends) if ends else None,
            )
            for name, release, major, minor, ends in connection.execute(_SYSTEMS)
        )
        types = frozenset(str(row[0]) for row in connection.execute(_LANGUAGES))
        lists = _lists(connection)
    return GrypeDatabase(
        path=path,
        built_at=_time(built_at),
        systems=systems,
        types=types,
        aliases=aliases,
        lists=lists,
    )


def _only(connection: sqlite3.Connection, query: str) -> tuple[object, ...]:
    rows: list[tuple[object, ...]] = connection.execute(query).fetchall()
    if len(rows) != 1:
        raise ValueError(f"{len(rows)} records of when it was built, where one was expected")
    return rows[0]


def _lists(connection: sqlite3.Connection) -> tuple[AdvisoryDatabase, ...]:
    query = "SELECT id, date_captured FROM providers WHERE id IN ('kev', 'epss') ORDER BY id DESC"
    return tuple(
        AdvisoryDatabase(name=str(name), location=NAME, built_at=_time(date))
        for name, date in connection.execute(query)
        if date
    )


def _time(text: object) -> datetime:
    """Read a time as grype writes it: `2026-06-01 06:00:00+00:00`, sometimes with nanoseconds."""
    head, dot, rest = str(text).partition(".")
    if dot:
        head += rest.lstrip("0123456789")
    found = datetime.fromisoformat(head)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _number(text: str) -> str:
    """Return a part of a release as grype keeps it, without zeros in front."""
    return text.lstrip("0") or text[:1]


def facts_for(opened: OpenedGrype, inventory: Inventory, report: GrypeReport) -> DatabaseFacts:
    """Say which purl types the database covers for this image, and why it does not the others."""
    content = opened.content
    if content is None:
        return DatabaseFacts(database=opened.facts, present=False)
    kinds = {package.ecosystem for package in matchable(inventory)}
    kinds |= {package.ecosystem for package in report.packages}
    reasons = {kind: _why_not(kind, content, inventory, report) for kind in kinds}
    return DatabaseFacts(
        database=opened.facts,
        covered=frozenset(kind for kind, reason in reasons.items() if not reason),
        reasons={kind: reason for kind, reason in reasons.items() if reason},
        distribution_known=content.system_of(inventory.distribution) is not None,
    )


def _why_not(kind: str, content: GrypeDatabase, inventory: Inventory, report: GrypeReport) -> str:
    """Return why there is no data for a purl type; empty when there is."""
    distribution = inventory.distribution
    if kind not in OS_KINDS:
        word = TYPES.get(kind)
        return "" if word in content.types else f"{NAME} has no data for {word or kind}"
    if misread := misread_distribution(inventory, report):
        return misread
    if distribution is None or content.system_of(distribution) is None:
        shown = f"{distribution.id} {distribution.version}".rstrip() if distribution else "it"
        return f"{NAME} has no data for {shown}"
    if os_kind_of(distribution) not in ("", kind):
        return f"grype does not match {kind} packages of {distribution.id}"
    return ""


_OTHER_NAMES = {
    "almalinux": "almalinux",
    "amzn": "amazonlinux",
    "arch": "archlinux",
    "ol": "oraclelinux",
    "opensuse-leap": "opensuseleap",
    "rhel": "redhat",
    "rocky": "rockylinux",
}
"""`ID` of os-release → what grype's report calls it, where they differ."""


def misread_distribution(inventory: Inventory, report: GrypeReport) -> str:
    """Say that grype took the image for another release than we did; empty when it did not."""
    distribution = inventory.distribution
    if distribution is None:
        return ""
    name = _OTHER_NAMES.get(distribution.id, distribution.id)
    if report.os_name == name and report.os_version == distribution.version:
        return ""
    # of Debian it reads the point release too, such as 12.5 for 12
    if report.os_name == name and report.os_version.startswith(f"{distribution.version}."):
        return ""
    read = f"{report.os_name} {report.os_version}" if report.os_name else "none that it knows"
    return (
        f"os-release says {distribution.id} {distribution.version}".rstrip()
        + f", but grype took the image for {read}"
    )


def end_of_life(
    content: GrypeDatabase, distribution: Distribution | None, now: datetime
) -> bool | None:
    """Return whether the support of a release has ended by what the database says; None when it says nothing."""
    system = content.system_of(distribution)
    if system is None or system.ends_at is None:
        return None
    return system.ends_at <= now


def unparsed_versions(content: GrypeDatabase, inventory: Inventory) -> tuple[str, ...]:
    """Name our packages that have advisories and a version that can't be ordered; grype passes over them."""
    odd: dict[str, list[Package]] = {}
    for package in matchable(inventory):
        if _is_odd(package, inventory):
            odd.setdefault(package.ecosystem, []).append(package)
    lines = []
    for kind, packages in odd.items():
        known = content.names(kind, {name for package in packages for name in _names(package)})
        lines += [
            f"{package.name} {package.version!r} is no version that can be compared"
            for package in packages
            if known & set(_names(package))
        ]
    return tuple(lines)


def _names(package: Package) -> tuple[str, ...]:
    if package.ecosystem == "pypi":
        return package.name, normal_name("PyPI", package.name)
    return package.name, package.source_name or package.name


def _is_odd(package: Package, inventory: Inventory) -> bool:
    ecosystem = ecosystem_of(package.ecosystem, inventory.distribution)
    version = package.source_version or package.version
    try:
        compare(ecosystem, version, version)
    except UnparsableVersionError:
        return bool(ecosystem)
    return False


def make_private_cache(cache: Path, database: Path) -> None:
    """Make a cache folder for one run of grype that holds nothing but the database.

    The database is linked: grype opens it for reading only, as long as it believes that nothing is to be
    added to it, so scans may share it. Its checksum was taken by us, and its age is judged by us.

    Raises:
        StorageError: the folder can't be written.
    """
    try:
        folder = cache / SCHEMA
        folder.mkdir(parents=True)
        (folder / DATABASE_FILE).symlink_to(database.resolve())
        about = {"digest": "xxh64:0", "source": "", "client_version": _NEVER_REHYDRATE}
        (folder / "import.json").write_text(json.dumps(about))
    except OSError as error:
        raise storage_error(error, cache, "prepare") from error

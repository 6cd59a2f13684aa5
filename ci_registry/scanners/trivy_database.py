"""Trivy's advisory database: what it covers, and how it gets into a private cache folder."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ci_registry.advisories.ecosystems import OS_KINDS, ecosystem_of, matchable, os_kind_of
from ci_registry.advisories.trivy_db import (
    DATABASE_FILE,
    METADATA_FILE,
    TrivyDatabase,
    package_key,
    read_trivy_db,
)
from ci_registry.advisories.versions import UnparsableVersionError, compare
from ci_registry.cache import DiskCache, remembered_sha256
from ci_registry.errors import IncompleteError
from ci_registry.files import storage_error
from ci_registry.findings import AdvisoryDatabase, Distribution, Inventory, Package
from ci_registry.scanners.evidence import DatabaseFacts
from ci_registry.scanners.trivy_report import TrivyReport

LANGUAGE_BUCKETS = {
    "pypi": "pip",
    "npm": "npm",
    "golang": "go",
    "cargo": "cargo",
    "maven": "maven",
    "gem": "rubygems",
    "composer": "composer",
    "nuget": "nuget",
    "conan": "conan",
    "hex": "erlang",
    "pub": "pub",
    "swift": "swift",
    "cocoapods": "cocoapods",
    "bitnami": "bitnami",
}
"""purl type → trivy's word in front of `::` in a bucket's name."""

_FAMILIES = {"almalinux": "alma"}
"""`ID` of os-release → trivy's family, where they differ."""
_RELEASE_PARTS = {"debian": 1, "alma": 1, "rocky": 1, "alpine": 2, "ubuntu": 2}
"""How many numbers of the release stand in the name of a bucket."""
_FAR_FUTURE = "2999-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedDatabase:
    """A trivy database with its facts; `content` is None when there is none."""

    facts: AdvisoryDatabase
    content: TrivyDatabase | None


def open_database(
    folder: Path, *, location: str = "", cache: DiskCache | None = None
) -> OpenedDatabase:
    """Read a cache folder of trivy (`db/trivy.db` and `db/metadata.json` in it) and hash it.

    Args:
        folder: the cache folder of trivy.
        location: what reports call it; the folder when empty.
        cache: remembers the hash of a database, which has hundreds of megabytes, while it stays.

    Raises:
        IntegrityError: the database is damaged or of another schema.
        StorageError: it can't be read.
    """
    place = location or str(folder)
    try:
        content = read_trivy_db(folder)
    except IncompleteError:
        return OpenedDatabase(facts=AdvisoryDatabase(name="trivy-db", location=place), content=None)
    digest = f"sha256:{remembered_sha256(cache, folder / DATABASE_FILE)}"
    facts = AdvisoryDatabase(
        name="trivy-db",
        location=place,
        built_at=content.updated_at,
        digest=digest,
        ecosystems=content.buckets,
    )
    return OpenedDatabase(facts=facts, content=content)


def bucket_of(family: str, release: str) -> str:
    """Return the bucket of a distribution release, such as `debian 12`; empty for an unknown family."""
    parts = _RELEASE_PARTS.get(family)
    numbers = release.split(".")
    if parts is None or len(numbers) < parts or not all(numbers[:parts]):
        return ""
    return f"{family} {'.'.join(numbers[:parts])}"


def our_bucket(distribution: Distribution | None) -> str:
    """Return the bucket that an image of this distribution needs."""
    if distribution is None:
        return ""
    return bucket_of(_FAMILIES.get(distribution.id, distribution.id), distribution.version)


def misread_distribution(inventory: Inventory, report: TrivyReport) -> str:
    """Say that trivy took the image for another release than we did; empty when it did not.

    Trivy reads `/etc/debian_version` and the like, we read `os-release`: an image in which they
    differ would be scanned with another release's advisories.
    """
    ours, distribution = our_bucket(inventory.distribution), inventory.distribution
    seen = bucket_of(report.os_family, report.os_version)
    if distribution is None or (ours and ours == seen):
        return ""
    family = _FAMILIES.get(distribution.id, distribution.id)
    if not ours and report.os_family == family:
        return ""
    known = report.os_family not in ("", "none")
    read = f"{report.os_family} {report.os_version}" if known else "none that it knows"
    return (
        f"os-release says {distribution.id} {distribution.version}".rstrip()
        + f", but trivy took the image for {read}"
    )


def facts_for(opened: OpenedDatabase, inventory: Inventory, report: TrivyReport) -> DatabaseFacts:
    """Say which purl types the database covers for this image, and why it does not the others."""
    content = opened.content
    if content is None:
        return DatabaseFacts(database=opened.facts, present=False)
    kinds = {package.ecosystem for package in matchable(inventory)}
    kinds |= {package.ecosystem for package in report.packages}
    covered, reasons = set(), {}
    for kind in kinds:
        reason = _why_not(kind, content, inventory, report)
        if reason:
            reasons[kind] = reason
        else:
            covered.add(kind)
    return DatabaseFacts(
        database=opened.facts,
        covered=frozenset(covered),
        reasons=reasons,
        distribution_known=our_bucket(inventory.distribution) in content.buckets,
    )


def _why_not(kind: str, content: TrivyDatabase, inventory: Inventory, report: TrivyReport) -> str:
    """Return why there is no data for a purl type; empty when there is."""
    if kind not in OS_KINDS:
        word = LANGUAGE_BUCKETS.get(kind)
        buckets = content.buckets_for(word) if word else ()
        if any(content.packages_in(bucket) for bucket in buckets):
            return ""
        return f"trivy-db has no bucket for {word or kind}"
    bucket = our_bucket(inventory.distribution)
    if misread := misread_distribution(inventory, report):
        return misread
    if not bucket:
        return "trivy-db has no bucket for this distribution"
    if os_kind_of(inventory.distribution) not in ("", kind):
        return f"trivy does not match {kind} packages of {bucket}"
    return "" if content.packages_in(bucket) else f"trivy-db has no bucket {bucket!r}"


def unparsed_versions(opened: OpenedDatabase, inventory: Inventory) -> tuple[str, ...]:
    """Name our packages that have advisories and a version that can't be ordered.

    Trivy says so on stderr only, and for some kinds only with `--debug`: it is not relied on.
    """
    odd = [p for p in matchable(inventory) if _is_odd(p, inventory)]
    content = opened.content
    if content is None or not odd:
        return ()
    with_advisories: dict[str, frozenset[str]] = {}
    for kind in {package.ecosystem for package in odd}:
        word = LANGUAGE_BUCKETS.get(kind)
        buckets: Iterable[str] = (
            content.buckets_for(word) if word else (our_bucket(inventory.distribution),)
        )
        with_advisories[kind] = frozenset(
            name for bucket in buckets for name in content.packages_in(bucket)
        )
    return tuple(
        f"{package.name} {package.version!r} is no version that can be compared"
        for package in odd
        if _key(package) in with_advisories[package.ecosystem]
    )


def _is_odd(package: Package, inventory: Inventory) -> bool:
    ecosystem = ecosystem_of(package.ecosystem, inventory.distribution)
    version = package.source_version or package.version
    try:
        compare(ecosystem, version, version)
    except UnparsableVersionError:
        return bool(ecosystem)
    return False


def _key(package: Package) -> str:
    if package.ecosystem in OS_KINDS:
        return package.source_name or package.name
    return package_key(f"{LANGUAGE_BUCKETS.get(package.ecosystem, '')}::", package.name)


def make_private_cache(cache: Path, database: Path) -> None:
    """Make a cache folder for one run of trivy that holds nothing but the database.

    The database is linked: trivy opens it for reading only, so scans may share it. Layer results
    of other runs can't get in. An empty Java index keeps trivy from stopping at the first jar;
    jars without a name of their own stay unnamed, which the inventory reports as a gap.

    Raises:
        StorageError: the folder can't be written.
    """
    try:
        (cache / "db").mkdir(parents=True)
        for name in (DATABASE_FILE, METADATA_FILE):
            (cache / name).symlink_to((database / name).resolve())
    except OSError as error:
        raise storage_error(error, cache, "prepare") from error
    make_java_index(cache)


def make_java_index(cache: Path) -> None:
    """Make an empty Java index in a cache folder of trivy.

    Raises:
        StorageError: it can't be written.
    """
    try:
        _write_empty_java_index(cache / "java-db")
    except (OSError, sqlite3.Error) as error:
        cause = error if isinstance(error, OSError) else OSError(str(error))
        raise storage_error(cause, cache, "prepare") from error


def _write_empty_java_index(folder: Path) -> None:
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "trivy-java.db")) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # gone after this run in any case
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute(
            "CREATE TABLE artifacts (id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT)"
        )
        connection.execute(
            "CREATE TABLE indices (artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT)"
        )
        connection.commit()
    dates = dict.fromkeys(("NextUpdate", "UpdatedAt", "DownloadedAt"), _FAR_FUTURE)
    (folder / "metadata.json").write_text(json.dumps({"Version": 1, **dates}))

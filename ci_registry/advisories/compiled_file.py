"""The compiled advisory database: one SQLite file that says itself what it is, and proves that it is whole.

Tables: `checksum` (of the whole file, with the value itself as zeros), `meta`, `ecosystems`, `records`
(compressed OSV records by number), `packages` ((ecosystem, name) → numbers of records), `exploited`, `epss`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ci_registry.advisories.osv import parse_time
from ci_registry.advisories.source import filed_under
from ci_registry.errors import IntegrityError
from ci_registry.files import storage_error
from ci_registry.strict import as_list, as_object, as_size, as_text, parse_json

DATABASE_FILE = "advisories.sqlite"
SCHEMA = 1
APPLICATION_ID = 0x43495244
"""In the header of the file, "CIRD"."""
MAX_DATABASE_BYTES = 4 * 1024 * 1024 * 1024
PAGE_BYTES = 4096
CHECKSUM_MARK = b"sha256:"
NO_CHECKSUM = CHECKSUM_MARK + b"0" * 64
TABLES = (
    "CREATE TABLE checksum (value TEXT)",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    "CREATE TABLE ecosystems (name TEXT PRIMARY KEY, records INTEGER, packages INTEGER) WITHOUT ROWID",
    "CREATE TABLE records (number INTEGER PRIMARY KEY, id TEXT, body BLOB)",
    "CREATE TABLE packages (ecosystem TEXT, name TEXT, records TEXT, PRIMARY KEY (ecosystem, name)) WITHOUT ROWID",
    "CREATE TABLE exploited (id TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE epss (id TEXT PRIMARY KEY, score REAL) WITHOUT ROWID",
)
"""Nothing else may be in the file."""
_CHUNK_BYTES = 1024 * 1024
_SAMPLE_NAMES = ("Foo_Bar.baz--Qux", "@Scope/Name", "github.com/Mixed/Case", "vendor/Name:part")


@dataclass(frozen=True, slots=True, kw_only=True)
class EcosystemCount:
    """How much a database holds of one ecosystem."""

    name: str
    records: int
    packages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseInfo:
    """What a compiled database says about itself."""

    built_at: datetime
    """When the data was made: the oldest of its sources."""
    listed: tuple[str, ...]
    """What is promised to be complete."""
    ecosystems: tuple[EcosystemCount, ...]
    records_count: int
    digest: str = ""
    """`sha256:…` of the file with its own value as zeros."""
    kev_at: datetime | None = None
    kev_count: int = 0
    epss_at: datetime | None = None
    epss_count: int = 0

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values; `info_from` reads them."""
        document: dict[str, object] = {
            "schema": SCHEMA,
            "built": self.built_at.isoformat(),
            "digest": self.digest,
            "listed": list(self.listed),
            "records": self.records_count,
            "ecosystems": [
                {"name": e.name, "records": e.records, "packages": e.packages}
                for e in self.ecosystems
            ],
        }
        for name, at, count in (
            ("kev", self.kev_at, self.kev_count),
            ("epss", self.epss_at, self.epss_count),
        ):
            if at is not None:
                document[name] = {"date": at.isoformat(), "count": count}
        return document


def info_from(value: object, *, what: str) -> DatabaseInfo:
    """Read what `DatabaseInfo.to_json` wrote; unknown members are left alone.

    Raises:
        IntegrityError: another schema, or a member is missing or has the wrong shape.
    """
    document = as_object(value, what=what)
    if document.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{what}: schema {document.get('schema')!r:.20}, this version reads {SCHEMA}",
            hint="build the database again with this version: ci-registry db build",
        )
    kev_at, kev_count = _dated(document.get("kev"), f"{what}: kev")
    epss_at, epss_count = _dated(document.get("epss"), f"{what}: epss")
    return DatabaseInfo(
        built_at=read_time(document.get("built"), f"{what}: built"),
        listed=tuple(
            as_text(item, what=f"{what}: listed")
            for item in as_list(document.get("listed"), what=f"{what}: listed")
        ),
        ecosystems=tuple(
            _ecosystem(item, f"{what}: ecosystems")
            for item in as_list(document.get("ecosystems"), what=f"{what}: ecosystems")
        ),
        records_count=as_size(document.get("records"), what=f"{what}: records"),
        digest=as_text(document.get("digest"), what=f"{what}: digest"),
        kev_at=kev_at,
        kev_count=kev_count,
        epss_at=epss_at,
        epss_count=epss_count,
    )


def _ecosystem(value: object, what: str) -> EcosystemCount:
    item = as_object(value, what=what)
    return EcosystemCount(
        name=as_text(item.get("name"), what=what),
        records=as_size(item.get("records"), what=what),
        packages=as_size(item.get("packages"), what=what),
    )


def _dated(value: object, what: str) -> tuple[datetime | None, int]:
    if value is None:
        return None, 0
    item = as_object(value, what=what)
    return read_time(item.get("date"), what), as_size(item.get("count"), what=what)


def read_time(value: object, what: str) -> datetime:
    """Read a time with its zone.

    Raises:
        IntegrityError: it is none.
    """
    text = as_text(value, what=what)
    try:
        return parse_time(text)
    except ValueError as error:
        raise IntegrityError(f"{what}: {text[:50]!r} is no time with a zone") from error


def naming_of(ecosystems: Iterable[str]) -> str:
    """Return a fingerprint of how names of these ecosystems are normalised.

    A database whose names were filed in another way would silently answer "nothing known".
    """
    rows = [[e, *(filed_under(e, name)[1] for name in _SAMPLE_NAMES)] for e in sorted(ecosystems)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def checksum_of(path: Path) -> tuple[str, str, int]:
    """Hash a database.

    Returns:
        The checksum that the file has, the one that it claims, and where the claim stands in it.

    Raises:
        IntegrityError: it is too small or too large, or claims none.
        StorageError: it can't be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, 2)
            if not 2 * PAGE_BYTES <= size_bytes <= MAX_DATABASE_BYTES:
                raise IntegrityError(f"{path}: {size_bytes} bytes are no advisory database")
            file.seek(0)
            head = file.read(2 * PAGE_BYTES)
            at = head.find(CHECKSUM_MARK, PAGE_BYTES)
            end = at + len(NO_CHECKSUM)
            if at < 0 or end > len(head):
                raise IntegrityError(f"{path}: no compiled advisory database: it has no checksum")
            digest.update(head[:at] + NO_CHECKSUM + head[end:])
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    return f"sha256:{digest.hexdigest()}", head[at:end].decode("ascii", "replace"), at


def meta_documents(info: DatabaseInfo) -> Mapping[str, str]:
    """Return the rows of `meta`."""
    document = {k: v for k, v in info.to_json().items() if k not in ("ecosystems", "digest")}
    rows = {"info": json.dumps(document, sort_keys=True)}
    return rows | {"names": naming_of(e.name for e in info.ecosystems)}


def parse_meta(text: str, ecosystems: list[EcosystemCount], digest: str, what: str) -> DatabaseInfo:
    """Join the row `info` of `meta` with the table of ecosystems.

    Raises:
        IntegrityError: another schema, or malformed.
    """
    document = as_object(parse_json(text.encode(), what=what), what=what)
    rows = [{"name": e.name, "records": e.records, "packages": e.packages} for e in ecosystems]
    return info_from({**document, "ecosystems": rows, "digest": digest}, what=what)

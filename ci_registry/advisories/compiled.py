"""Opens a compiled advisory database, strictly and for reading only, and answers from it."""

import contextlib
import sqlite3
import threading
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ci_registry.advisories.compiled_file import (
    APPLICATION_ID,
    DATABASE_FILE,
    SCHEMA,
    TABLES,
    DatabaseInfo,
    EcosystemCount,
    checksum_of,
    naming_of,
    parse_meta,
)
from ci_registry.advisories.ecosystems import Query
from ci_registry.advisories.exploitation import Exploitation
from ci_registry.advisories.osv import MAX_RECORD_BYTES, Advisory, parse_advisory
from ci_registry.advisories.source import SourceFacts, covered_ecosystems, keys_of
from ci_registry.cache import DiskCache, remembered
from ci_registry.errors import IntegrityError
from ci_registry.findings import AdvisoryDatabase

_REBUILD = "build it again: ci-registry db build, or fetch it again: ci-registry db pull"
_MAX_LENGTH = 64 * 1024 * 1024
"""The largest value that is read from the file."""
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledDatabase:
    """An `AdvisorySource` and `ExploitationSource`; made by `open_compiled`."""

    path: Path
    location: str
    info: DatabaseInfo
    notes: tuple[str, ...]
    _connection: sqlite3.Connection = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _known: dict[int, Advisory] = field(default_factory=dict, repr=False)

    def close(self) -> None:
        """Close the file; nothing can be asked any more."""
        with self._lock:
            self._connection.close()

    def facts(self) -> SourceFacts:
        """Return what is promised **and** has records; a promised `Debian` covers its releases found."""
        names = (ecosystem.name for ecosystem in self.info.ecosystems)
        database = AdvisoryDatabase(
            name="osv",
            location=self.location,
            built_at=self.info.built_at,
            digest=self.info.digest,
            ecosystems=covered_ecosystems(names, self.info.listed),
        )
        return SourceFacts(database=database, present=self.info.records_count > 0, notes=self.notes)

    def lookup(self, queries: tuple[Query, ...]) -> Mapping[_Key, tuple[Advisory, ...]]:
        """Read the records of each (ecosystem, name).

        Raises:
            IntegrityError: the file is damaged.
        """
        with self._lock, _reading(self.path):
            return {
                query.key: tuple(self._advisory(number) for number in self._numbers(query))
                for query in queries
            }

    def _numbers(self, query: Query) -> tuple[int, ...]:
        found: dict[int, None] = {}
        for key in keys_of(query):
            row = self._connection.execute(
                "SELECT records FROM packages WHERE ecosystem = ? AND name = ?", key
            ).fetchone()
            if row is not None:
                found.update(dict.fromkeys(map(int, str(row[0]).split(","))))
        return tuple(found)

    def _advisory(self, number: int) -> Advisory:
        if number not in self._known:
            row = self._connection.execute(
                "SELECT id, body FROM records WHERE number = ?", (number,)
            ).fetchone()
            if row is None:
                raise IntegrityError(f"{self.path}: record {number} is missing", hint=_REBUILD)
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(row[1], MAX_RECORD_BYTES + 1)
            if not unpacker.eof:
                raise IntegrityError(f"{self.path}: {row[0]} is cut short or too large")
            self._known[number] = parse_advisory(data, what=f"{self.path}: {row[0]}", strict=False)
        return self._known[number]

    def lists(self) -> tuple[AdvisoryDatabase, ...]:
        """Return `kev` and `epss` where the database has them."""
        return tuple(
            AdvisoryDatabase(name=name, location=self.location, built_at=date)
            for name, date in (("kev", self.info.kev_at), ("epss", self.info.epss_at))
            if date is not None
        )

    def exploitation(self, ids: Iterable[str]) -> Mapping[str, Exploitation]:
        """Return what the lists say about each id.

        Raises:
            IntegrityError: the file is damaged.
        """
        found = {}
        with self._lock, _reading(self.path):
            for name in dict.fromkeys(ids):
                query = "SELECT 1 FROM exploited WHERE id = ?"
                exploited = self._connection.execute(query, (name,)).fetchone() is not None
                query = "SELECT score FROM epss WHERE id = ?"
                row = self._connection.execute(query, (name,)).fetchone()
                if exploited or row is not None:
                    score = None if row is None else float(row[0])
                    found[name] = Exploitation(known_exploited=exploited, epss=score)
        return found


def open_compiled(
    path: Path,
    *,
    location: str = "",
    notes: tuple[str, ...] = (),
    cache: DiskCache | None = None,
) -> CompiledDatabase:
    """Open a compiled database, or the one in a folder.

    Args:
        path: the file, or the folder that holds `advisories.sqlite`.
        location: what reports call its place; the path when empty.
        notes: what people should know about where it came from.
        cache: remembers that the checksum of this very file was right.

    Raises:
        IntegrityError: it is damaged, of another schema, or holds more than it should.
        StorageError: it can't be read.
    """
    file = path / DATABASE_FILE if path.is_dir() else path
    digest = remembered(cache, file, "checksum of an advisory database", lambda: _checked(file))
    with _reading(file):
        uri = f"file:{urllib.parse.quote(str(file.resolve()))}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        try:
            info = _read_info(connection, file, digest)
        except BaseException:
            connection.close()
            raise
    return CompiledDatabase(
        path=file, location=location or str(path), info=info, notes=notes, _connection=connection
    )


def is_compiled(path: Path) -> bool:
    """Whether a path is a compiled database, or a folder with one."""
    if path.is_dir():
        return (path / DATABASE_FILE).is_file()
    return path.is_file() and path.suffix == ".sqlite"


def _checked(file: Path) -> str:
    found, claimed, _ = checksum_of(file)
    if found != claimed:
        raise IntegrityError(f"{file} is damaged: its content is not what was built", hint=_REBUILD)
    return found


def _read_info(connection: sqlite3.Connection, file: Path, digest: str) -> DatabaseInfo:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_LENGTH)
    for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {pragma}")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise IntegrityError(f"{file} is no compiled advisory database")
    if version != SCHEMA:
        raise IntegrityError(
            f"{file} has schema {version}, this version reads {SCHEMA}", hint=_REBUILD
        )
    tables = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid")]
    if tables != list(TABLES):
        raise IntegrityError(f"{file} has other tables than schema {SCHEMA}", hint=_REBUILD)
    rows = dict(connection.execute("SELECT key, value FROM meta"))
    counts = [
        EcosystemCount(name=name, records=records, packages=packages)
        for name, records, packages in connection.execute("SELECT * FROM ecosystems ORDER BY name")
    ]
    info = parse_meta(rows.get("info", ""), counts, digest, f"{file}: meta")
    if rows.get("names") != naming_of(count.name for count in counts):
        raise IntegrityError(
            f"{file} files packages under other names than this version looks for", hint=_REBUILD
        )
    return info


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn whatever a damaged file leads to into one clear error."""
    try:
        yield
    except (sqlite3.Error, zlib.error, ValueError, TypeError, OverflowError) as error:
        raise IntegrityError(
            f"{file} is no readable advisory database: {error}", hint=_REBUILD
        ) from error

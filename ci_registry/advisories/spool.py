"""Collects the records of several sources on disk, each id once, before a database is made of them."""

import contextlib
import hashlib
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from ci_registry.advisories.osv import MAX_RECORD_BYTES, advisory_from, affected_keys, parse_time
from ci_registry.advisories.records import RecordPlace, records_in
from ci_registry.advisories.source import filed_under
from ci_registry.errors import IntegrityError, StorageError
from ci_registry.strict import as_object, as_text, parse_json

_TABLES = """
CREATE TABLE records (id TEXT PRIMARY KEY, modified TEXT, hash BLOB, place TEXT, body BLOB) WITHOUT ROWID;
CREATE TABLE packages (ecosystem TEXT, name TEXT, id TEXT, PRIMARY KEY (ecosystem, name, id)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledRecord:
    """One record as its publisher wrote it."""

    id: str
    document: dict[str, object]


class Spool:
    """A temporary file of records; a context manager, which removes it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.newest_record: datetime | None = None
        """The latest `modified` of all records: no source can be older."""
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        with _storage(self._file):
            self._connection = sqlite3.connect(self._file)
            self._db.execute("PRAGMA journal_mode = OFF")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(_TABLES)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()
        self._file.unlink(missing_ok=True)

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise AssertionError("not opened")
        return self._connection

    def add(self, source: Path) -> int:
        """Read every record of a folder or archive; returns how many there were.

        Every record is parsed as a scan would parse it, so that a malformed one ends the build and
        is never just missing. Of two records with one id the one that was modified later counts.

        Raises:
            IntegrityError: a record is malformed, or two of one id and one time differ; names both.
            StorageError: something can't be read or written.
        """
        count = 0
        for place, data in records_in(source):
            count += 1
            self._add_record(place, data)
        return count

    def _add_record(self, place: RecordPlace, data: bytes) -> None:
        what = str(place)
        document = parse_json(data, what=what, max_bytes=MAX_RECORD_BYTES, strict=False)
        identity = advisory_from(document, what=what).id
        modified = _modified(document, what)
        self.newest_record = max(filter(None, (self.newest_record, modified)))
        moment, digest = modified.isoformat(), hashlib.sha256(data).digest()
        with _storage(self._file):
            known = self._db.execute(
                "SELECT modified, hash, place FROM records WHERE id = ?", (identity,)
            ).fetchone()
        if known is not None:
            if known[1] == digest or known[0] > moment:
                return
            if known[0] == moment:
                raise IntegrityError(
                    f"{what} and {known[2]} are both {identity}, modified at the same time, and differ",
                    hint="leave one of the sources out",
                )
        self._put(identity, (moment, digest, what, zlib.compress(data, 1)))
        _, pairs = affected_keys(document, what=what)
        keys = dict.fromkeys(filed_under(*pair) for pair in pairs)
        with _storage(self._file):
            if known is not None:
                self._db.execute("DELETE FROM packages WHERE id = ?", (identity,))
            self._db.executemany(
                "INSERT INTO packages VALUES (?, ?, ?)", [(*key, identity) for key in keys]
            )

    def _put(self, identity: str, columns: tuple[object, ...]) -> None:
        with _storage(self._file):
            self._db.execute(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", (identity, *columns)
            )

    def records(self) -> Iterator[SpooledRecord]:
        """Yield all records in the order of their ids."""
        with _storage(self._file):
            for identity, body in self._db.execute("SELECT id, body FROM records ORDER BY id"):
                data = zlib.decompress(body)
                document = parse_json(data, what=identity, max_bytes=MAX_RECORD_BYTES, strict=False)
                yield SpooledRecord(id=identity, document=as_object(document, what=identity))

    def packages(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield (ecosystem, name, ids of its records) in the order of ecosystem and name."""
        query = "SELECT ecosystem, name, id FROM packages ORDER BY ecosystem, name, id"
        key: tuple[str, str] | None = None
        ids: list[str] = []
        with _storage(self._file):
            for ecosystem, name, identity in self._db.execute(query):
                if key != (ecosystem, name):
                    if key is not None:
                        yield (*key, tuple(ids))
                    key, ids = (ecosystem, name), []
                ids.append(identity)
        if key is not None:
            yield (*key, tuple(ids))


@contextlib.contextmanager
def _storage(file: Path) -> Iterator[None]:
    """Turn trouble with the temporary file into an error of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"cannot write {file}: {error}") from error


def _modified(document: object, what: str) -> datetime:
    text = as_text(as_object(document, what=what).get("modified"), what=f"{what}: modified")
    try:
        return parse_time(text)
    except ValueError as error:
        raise IntegrityError(f"{what}: modified: {text[:50]!r} is no time") from error

"""Takes the package headers out of an RPM database: SQLite, ndb (SUSE) and Berkeley DB (before RHEL 9)."""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing

from ci_registry.inventory.berkeley import hash_values
from ci_registry.inventory.reading import UnreadableError
from ci_registry.inventory.rpm_header import MAX_HEADER_BYTES

_SQLITE_MAGIC = b"SQLite format 3\0"
_NDB_MAGIC = b"RpmP"
_MOST_PACKAGES = 100_000
_COUNTER_BYTES = 4
"""Under key 0 stands the highest number in use, which is no package."""
_MOST_STEPS = 100_000
"""Of 1,000 instructions of SQLite's machine; a large honest database needs some hundred."""


def rpm_headers(data: bytes) -> Iterator[bytes]:
    """Yield the header of each installed package.

    Raises:
        UnreadableError: the database is damaged, or of a kind that we don't know. Headers before the
            damage have been yielded by then.
    """
    left_bytes = len(data)
    for header in _of_any_kind(data):
        left_bytes -= len(header)
        if left_bytes < 0:
            raise UnreadableError("rpm database: several packages share their bytes")
        yield header


def _of_any_kind(data: bytes) -> Iterator[bytes]:
    if data.startswith(_SQLITE_MAGIC):
        return _sqlite(data)
    return _ndb(data) if data.startswith(_NDB_MAGIC) else _berkeley(data)


def _berkeley(data: bytes) -> Iterator[bytes]:
    for value in hash_values(data, most_bytes=MAX_HEADER_BYTES, most_count=_MOST_PACKAGES):
        if len(value) != _COUNTER_BYTES:
            yield value


def _sqlite(data: bytes) -> Iterator[bytes]:
    # In WAL mode SQLite would want files beside the database; what those hold is looked at elsewhere.
    image = data[:18] + b"\1\1" + data[20:]
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as database:
        steps = 0

        def too_long() -> bool:
            nonlocal steps
            steps += 1
            return steps > _MOST_STEPS

        try:
            database.deserialize(image)
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_HEADER_BYTES)
            database.set_progress_handler(too_long, 1000)
            database.execute("PRAGMA trusted_schema=OFF")
            database.execute("PRAGMA cell_size_check=ON")
            yield from _rows(database)
        except (sqlite3.Error, OverflowError, ValueError) as error:
            raise UnreadableError(f"rpm database: damaged (SQLite: {error})") from error


def _rows(database: sqlite3.Connection) -> Iterator[bytes]:
    kind = database.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchall()
    if kind != [("table",)]:
        raise UnreadableError("rpm database: it has no table of packages")
    rows = database.execute(
        "SELECT blob FROM Packages ORDER BY hnum LIMIT ?", (_MOST_PACKAGES + 1,)
    )
    for count, (blob,) in enumerate(rows):
        if count == _MOST_PACKAGES:
            raise UnreadableError(f"rpm database: more than {_MOST_PACKAGES} packages")
        yield blob if isinstance(blob, bytes) else b""
    health = database.execute("PRAGMA quick_check('Packages')").fetchone()
    if health != ("ok",):
        raise UnreadableError(f"rpm database: damaged (SQLite: {str(health)[:200]})")


_NDB_PAGE_BYTES = 4096
_NDB_BLOCK_BYTES = 16
_NDB_SLOT = struct.Struct("<4sIII")
_MOST_SLOT_PAGES = 2048


def _ndb(data: bytes) -> Iterator[bytes]:
    if len(data) < 32:
        raise UnreadableError("rpm database (ndb): cut short")
    version, _generation, pages = struct.unpack_from("<III", data, 4)
    if version != 0 or not 0 < pages <= _MOST_SLOT_PAGES or len(data) < pages * _NDB_PAGE_BYTES:
        raise UnreadableError("rpm database (ndb): cut short, or of an unknown version")
    seen: set[int] = set()
    for offset in range(32, pages * _NDB_PAGE_BYTES, _NDB_SLOT.size):
        magic, package, block, blocks = _NDB_SLOT.unpack_from(data, offset)
        if magic != b"Slot":
            raise UnreadableError("rpm database (ndb): damaged list of packages")
        if package == 0:
            continue
        if package in seen:
            raise UnreadableError(f"rpm database (ndb): package {package} twice")
        seen.add(package)
        yield _ndb_blob(data, package, block * _NDB_BLOCK_BYTES, blocks * _NDB_BLOCK_BYTES)


def _ndb_blob(data: bytes, package: int, start: int, size: int) -> bytes:
    head = data[start : start + _NDB_SLOT.size]
    if len(head) < _NDB_SLOT.size:
        raise UnreadableError(f"rpm database (ndb): package {package} is behind the end")
    magic, number, _sum, length = _NDB_SLOT.unpack(head)
    body = start + _NDB_SLOT.size
    if magic != b"BlbS" or number != package or length > size or body + length > len(data):
        raise UnreadableError(f"rpm database (ndb): package {package} is damaged")
    return data[body : body + length]

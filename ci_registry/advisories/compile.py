"""Compiles OSV records into one SQLite file: the same input gives the same bytes, whole or not at all."""

import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ci_registry.advisories.compiled_file import (
    APPLICATION_ID,
    NO_CHECKSUM,
    PAGE_BYTES,
    SCHEMA,
    TABLES,
    DatabaseInfo,
    EcosystemCount,
    checksum_of,
    meta_documents,
)
from ci_registry.advisories.exploitation import EpssScores, KnownExploited
from ci_registry.advisories.source import covered_ecosystems
from ci_registry.advisories.spool import Spool
from ci_registry.errors import IntegrityError, StorageError
from ci_registry.files import storage_error, sync_folder

_LEFT_OUT = frozenset({"references", "credits", "schema_version"})
"""Members that no match looks at; they are half of a record."""
_LEVEL = 9
_MAX_TITLE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What somebody answers for, and the lists that go into the same file."""

    built_at: datetime
    listed: tuple[str, ...]
    """Ecosystems that are complete: `PyPI`, `Debian:12`, or `Debian` for all its releases."""
    kev: KnownExploited | None = None
    epss: EpssScores | None = None


def write_compiled(spool: Spool, file: Path, promise: Promise) -> DatabaseInfo:
    """Write a database under a temporary name, fsync it, and rename it to `file`.

    Raises:
        IntegrityError: something is promised that there is no record of.
        StorageError: the file can't be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        info = _write(spool, temporary, promise)
        digest = _seal(temporary)
        temporary.replace(file)
        sync_folder(file.parent)
    except sqlite3.Error as error:
        raise StorageError(f"cannot write {temporary}: {error}") from error
    except OSError as error:
        raise storage_error(error, temporary, "write") from error
    finally:
        temporary.unlink(missing_ok=True)
    return replace(info, digest=digest)


def _write(spool: Spool, file: Path, promise: Promise) -> DatabaseInfo:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for pragma in (
            f"page_size = {PAGE_BYTES}",
            "journal_mode = OFF",
            "synchronous = OFF",
            f"application_id = {APPLICATION_ID}",
            f"user_version = {SCHEMA}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        for table in TABLES:
            connection.execute(table)
        connection.execute("INSERT INTO checksum VALUES (?)", (NO_CHECKSUM.decode(),))
        numbers = _write_records(connection, spool)
        counts = _write_packages(connection, spool, numbers)
        _check_promise(promise, counts)
        info = _info(promise, counts, len(numbers))
        _write_lists(connection, promise)
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?)", sorted(meta_documents(info).items())
        )
        rows = [(e.name, e.records, e.packages) for e in counts]
        connection.executemany("INSERT INTO ecosystems VALUES (?, ?, ?)", rows)
        connection.commit()
    return info


def _write_records(connection: sqlite3.Connection, spool: Spool) -> dict[str, int]:
    numbers: dict[str, int] = {}

    def rows() -> Iterator[tuple[int, str, bytes]]:
        for number, record in enumerate(spool.records(), 1):
            numbers[record.id] = number
            yield number, record.id, pack_record(record.document)

    connection.executemany("INSERT INTO records VALUES (?, ?, ?)", rows())
    return numbers


def pack_record(document: dict[str, object]) -> bytes:
    """Return a record as it is stored: compressed, without what no match looks at.

    Of the details the first line stays when there is no summary: the title is made of it.
    """
    kept = {key: value for key, value in document.items() if key not in _LEFT_OUT}
    details = kept.pop("details", "")
    if isinstance(details, str) and details.strip() and not document.get("summary"):
        kept["details"] = details.strip().splitlines()[0][:_MAX_TITLE]
    return zlib.compress(
        json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(), _LEVEL
    )


def _write_packages(
    connection: sqlite3.Connection, spool: Spool, numbers: dict[str, int]
) -> tuple[EcosystemCount, ...]:
    packages: dict[str, int] = {}
    records: dict[str, set[int]] = {}

    def rows() -> Iterator[tuple[str, str, str]]:
        for ecosystem, name, ids in spool.packages():
            found = [numbers[identity] for identity in ids]
            packages[ecosystem] = packages.get(ecosystem, 0) + 1
            records.setdefault(ecosystem, set()).update(found)
            yield ecosystem, name, ",".join(map(str, found))

    connection.executemany("INSERT INTO packages VALUES (?, ?, ?)", rows())
    return tuple(
        EcosystemCount(name=name, records=len(records[name]), packages=packages[name])
        for name in sorted(packages)
    )


def _check_promise(promise: Promise, counts: tuple[EcosystemCount, ...]) -> None:
    names = [count.name for count in counts]
    for listed in promise.listed:
        if not covered_ecosystems(names, (listed,)):
            found = ", ".join(names[:10]) or "none"
            raise IntegrityError(
                f"{listed} is promised to be complete, but there is no record of it",
                hint=f"records were found of: {found}",
            )


def _info(promise: Promise, counts: tuple[EcosystemCount, ...], records: int) -> DatabaseInfo:
    kev, epss = promise.kev, promise.epss
    return DatabaseInfo(
        built_at=promise.built_at,
        listed=tuple(sorted(set(promise.listed))),
        ecosystems=counts,
        records_count=records,
        kev_at=kev.released_at if kev else None,
        kev_count=len(kev.ids) if kev else 0,
        epss_at=epss.scored_at if epss else None,
        epss_count=len(epss.scores) if epss else 0,
    )


def _write_lists(connection: sqlite3.Connection, promise: Promise) -> None:
    if promise.kev is not None:
        connection.executemany("INSERT INTO exploited VALUES (?)", [(i,) for i in promise.kev.ids])
    if promise.epss is not None:
        rows = sorted(promise.epss.scores.items())
        connection.executemany("INSERT INTO epss VALUES (?, ?)", rows)


def _seal(file: Path) -> str:
    """Write the checksum into the file and make all of it durable."""
    digest, _, position = checksum_of(file)
    with file.open("r+b") as handle:
        handle.seek(position)
        handle.write(digest.encode())
        handle.flush()
        os.fsync(handle.fileno())
    return digest

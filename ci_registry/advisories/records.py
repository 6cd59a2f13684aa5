"""Reads OSV records from folders and from `all.zip` archives of them, in a fixed order, bounded."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ci_registry.advisories.osv import MAX_RECORD_BYTES, parse_time
from ci_registry.errors import IntegrityError
from ci_registry.files import read_file, storage_error
from ci_registry.strict import as_list, as_object, as_text, parse_json

FACTS_FILE = "database.json"
MAX_RECORDS = 2_000_000
MAX_FACTS_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where one record stands: a file, or a member of an archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """What `database.json` says about the records beside it."""

    built_at: datetime | None = None
    ecosystems: tuple[str, ...] = ()
    """Those that are complete."""
    notes: tuple[str, ...] = ()


def records_in(source: Path) -> Iterator[tuple[RecordPlace, bytes]]:
    """Yield every record of a folder (`*.json` and `all.zip` anywhere below it) or of one archive.

    Raises:
        IntegrityError: an archive is damaged, or there are more records than `MAX_RECORDS`.
        StorageError: a folder can't be listed, or a file can't be read.
    """
    found = archive_records(source, None) if source.is_file() else _folder_records(source)
    for number, item in enumerate(found, 1):
        if number > MAX_RECORDS:
            raise IntegrityError(f"{source} holds more than {MAX_RECORDS} advisories")
        yield item


def _folder_records(folder: Path) -> Iterator[tuple[RecordPlace, bytes]]:
    for path in _files(folder):
        if path.name == "all.zip":
            yield from archive_records(path, None)
        elif path.suffix == ".json" and path != folder / FACTS_FILE:
            yield RecordPlace(path), read_file(path, max_bytes=MAX_RECORD_BYTES)


def _files(folder: Path) -> Iterator[Path]:
    """Walk a folder; one that can't be listed is an error, not an empty one."""

    def fail(error: OSError) -> None:
        raise storage_error(error, error.filename or folder, "list")

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders.sort()
        for name in sorted(names):
            yield Path(parent, name)


def read_places(places: set[RecordPlace]) -> Iterator[tuple[RecordPlace, bytes]]:
    """Read records again; each archive is opened once."""
    archives: dict[Path, set[str]] = {}
    for place in places:
        if place.member:
            archives.setdefault(place.path, set()).add(place.member)
        else:
            yield place, read_file(place.path, max_bytes=MAX_RECORD_BYTES)
    for path, members in archives.items():
        yield from archive_records(path, members)


def archive_records(path: Path, wanted: set[str] | None) -> Iterator[tuple[RecordPlace, bytes]]:
    """Yield the records of an archive, all of them when `wanted` is None."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = wanted or {item for item in archive.namelist() if item.endswith(".json")}
            for name in sorted(names):
                yield RecordPlace(path, name), _member(archive, path, name)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise IntegrityError(f"{path}: not a readable zip archive: {error}") from error
    except OSError as error:
        raise storage_error(error, path, "read") from error


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    """Read one member, bounded by what comes out, whatever the archive claims."""
    try:
        with archive.open(name) as file:
            data = file.read(MAX_RECORD_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
        raise IntegrityError(f"{path}:{name}: not readable: {error}") from error
    if len(data) > MAX_RECORD_BYTES:
        raise IntegrityError(f"{path}:{name}: larger than {MAX_RECORD_BYTES} bytes")
    return data


def read_facts(folder: Path) -> FolderFacts:
    """Read the build time and the listed ecosystems in `database.json`; notes say what is missing.

    Raises:
        IntegrityError: the file is malformed.
    """
    path = folder / FACTS_FILE
    if not path.exists():
        note = f"{path} is missing: nobody says how old and how complete the data is"
        return FolderFacts(notes=(note,))
    what = str(path)
    document = as_object(
        parse_json(read_file(path, max_bytes=MAX_FACTS_BYTES), what=what), what=what
    )
    listed = tuple(
        as_text(item, what=f"{what}: ecosystems")
        for item in as_list(document.get("ecosystems"), what=f"{what}: ecosystems")
    )
    built = document.get("built")
    if built is None:
        return FolderFacts(ecosystems=listed, notes=(f"{path} has no build time",))
    try:
        built_at = parse_time(as_text(built, what=f"{what}: built"))
    except ValueError as error:
        raise IntegrityError(
            f"{what}: built: {str(built)[:50]!r} is no time with a zone",
            hint='write it like "2026-01-31T06:00:00Z"',
        ) from error
    return FolderFacts(built_at=built_at, ecosystems=listed)

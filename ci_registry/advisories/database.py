"""A folder of OSV records with its `database.json`: indexed once, read per package.

Records are `*.json` files anywhere below the folder, or `all.zip` archives of them, as osv.dev
publishes one per ecosystem. `database.json` says when the data was made (`built`) and which
ecosystems are complete in it (`ecosystems`); records of others are used, but promise nothing.
"""

import hashlib
import os
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ci_registry.advisories.ecosystems import Query, normal_name
from ci_registry.advisories.osv import (
    MAX_RECORD_BYTES,
    Advisory,
    affected_keys,
    parse_advisory,
    parse_time,
)
from ci_registry.advisories.source import SourceFacts
from ci_registry.advisories.versions import base_ecosystem
from ci_registry.errors import IntegrityError
from ci_registry.files import read_file, storage_error
from ci_registry.findings import AdvisoryDatabase
from ci_registry.strict import as_list, as_object, as_text, parse_json

FACTS_FILE = "database.json"
MAX_RECORDS = 2_000_000
MAX_FACTS_BYTES = 1024 * 1024
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one record stands: a file, or a member of an archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)


@dataclass(frozen=True, slots=True)
class _Index:
    places: Mapping[_Key, tuple[_Place, ...]]
    ecosystems: frozenset[str]
    digest: str
    records_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OsvDatabase:
    """An `AdvisorySource` over a folder; made by `open_osv_folder`."""

    folder: Path
    name: str
    location: str
    present: bool
    built_at: datetime | None
    listed: tuple[str, ...]
    notes: tuple[str, ...]
    index: _Index
    _cache: dict[_Place, Advisory] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def facts(self) -> SourceFacts:
        """Return what is listed **and** has records; a listed `Debian` covers the releases found."""
        covered = {
            ecosystem
            for ecosystem in self.index.ecosystems
            if ecosystem in self.listed or base_ecosystem(ecosystem) in self.listed
        }
        database = AdvisoryDatabase(
            name=self.name,
            location=self.location,
            built_at=self.built_at,
            digest=self.index.digest,
            ecosystems=tuple(sorted(covered)),
        )
        return SourceFacts(database=database, present=self.present, notes=self.notes)

    def lookup(self, queries: tuple[Query, ...]) -> Mapping[_Key, tuple[Advisory, ...]]:
        """Read the records of each (ecosystem, name).

        Raises:
            IntegrityError: a record is malformed.
            StorageError: it can't be read.
        """
        wanted = {query.key: self._places(query) for query in queries}
        with self._lock:
            missing = {place for places in wanted.values() for place in places} - set(self._cache)
            for place, data in _read_places(missing):
                self._cache[place] = parse_advisory(data, what=str(place))
            return {
                key: tuple(self._cache[place] for place in places) for key, places in wanted.items()
            }

    def _places(self, query: Query) -> tuple[_Place, ...]:
        """Return where its records are, those without a release (`Debian`) included."""
        every_release = (base_ecosystem(query.ecosystem), query.name)
        keys = dict.fromkeys((query.key, every_release))
        return tuple(
            dict.fromkeys(place for key in keys for place in self.index.places.get(key, ()))
        )


def open_osv_folder(folder: Path, *, name: str = "osv", location: str = "") -> OsvDatabase:
    """Index a folder of OSV records; one that does not exist gives an absent database.

    Every record is parsed once, so that a malformed one is an error now and never just missing.
    At most one record is in memory at a time, besides the index.

    Args:
        folder: where the records are.
        name: what reports call the database.
        location: what reports call its place; the folder's path when empty.

    Raises:
        IntegrityError: a record, an archive or `database.json` is malformed; names the file.
        StorageError: a file can't be read.
    """
    present = folder.is_dir()
    index = _build_index(folder) if present else _Index({}, frozenset(), "", 0)
    built_at, listed, notes = _read_facts(folder) if present else (None, (), ())
    return OsvDatabase(
        folder=folder,
        name=name,
        location=location or str(folder),
        present=present and index.records_count > 0,
        built_at=built_at,
        listed=listed,
        notes=(*notes, *_disagreements(listed, index.ecosystems)),
        index=index,
    )


def _read_facts(folder: Path) -> tuple[datetime | None, tuple[str, ...], tuple[str, ...]]:
    """Return build time, listed ecosystems and notes of `database.json`."""
    path = folder / FACTS_FILE
    if not path.exists():
        return None, (), (f"{path} is missing: nobody says how old and how complete the data is",)
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
        return None, listed, (f"{path} has no build time",)
    try:
        return parse_time(as_text(built, what=f"{what}: built")), listed, ()
    except ValueError as error:
        raise IntegrityError(
            f"{what}: built: {str(built)[:50]!r} is no time with a zone",
            hint='write it like "2026-01-31T06:00:00Z"',
        ) from error


def _disagreements(listed: tuple[str, ...], found: frozenset[str]) -> tuple[str, ...]:
    """Name the ecosystems that are listed without a record, and the other way round."""
    notes = [
        f"{FACTS_FILE} lists {ecosystem}, but there is no record of it"
        for ecosystem in listed
        if not any(ecosystem in (item, base_ecosystem(item)) for item in found)
    ]
    unlisted = sorted(
        item for item in found if item not in listed and base_ecosystem(item) not in listed
    )
    if listed and unlisted:
        notes.append(
            f"records of {', '.join(unlisted[:20])} are there, but {FACTS_FILE} does not list them"
        )
    return tuple(notes)


def _build_index(folder: Path) -> _Index:
    places: dict[_Key, list[_Place]] = {}
    ecosystems: set[str] = set()
    digest = hashlib.sha256()
    count = 0
    for place, data in _records(folder):
        count += 1
        if count > MAX_RECORDS:
            raise IntegrityError(f"{folder} holds more than {MAX_RECORDS} advisories")
        what = str(place)
        document = parse_json(data, what=what, max_bytes=MAX_RECORD_BYTES, strict=False)
        _, pairs = affected_keys(document, what=what)
        for ecosystem, name in pairs:
            ecosystems.add(ecosystem)
            key = (ecosystem, normal_name(base_ecosystem(ecosystem), name))
            here = places.setdefault(key, [])
            if not here or here[-1] != place:
                here.append(place)
        relative = place.path.relative_to(folder)
        digest.update(f"{relative}\0{place.member}\0".encode(errors="surrogateescape"))
        digest.update(hashlib.sha256(data).digest())
    return _Index(
        places={key: tuple(value) for key, value in places.items()},
        ecosystems=frozenset(ecosystems),
        digest=f"sha256:{digest.hexdigest()}" if count else "",
        records_count=count,
    )


def _records(folder: Path) -> Iterator[tuple[_Place, bytes]]:
    """Yield every record in a fixed order."""
    for path in _files(folder):
        if path.name == "all.zip":
            yield from _archive_records(path, None)
        elif path.suffix == ".json" and path != folder / FACTS_FILE:
            yield _Place(path), read_file(path, max_bytes=MAX_RECORD_BYTES)


def _files(folder: Path) -> Iterator[Path]:
    """Walk a folder; one that can't be listed is an error, not an empty one."""

    def fail(error: OSError) -> None:
        raise storage_error(error, error.filename or folder, "list")

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders.sort()
        for name in sorted(names):
            yield Path(parent, name)


def _read_places(places: set[_Place]) -> Iterator[tuple[_Place, bytes]]:
    """Read records again; each archive is opened once."""
    archives: dict[Path, set[str]] = {}
    for place in places:
        if place.member:
            archives.setdefault(place.path, set()).add(place.member)
        else:
            yield place, read_file(place.path, max_bytes=MAX_RECORD_BYTES)
    for path, members in archives.items():
        yield from _archive_records(path, members)


def _archive_records(path: Path, wanted: set[str] | None) -> Iterator[tuple[_Place, bytes]]:
    """Yield the records of an archive, all of them when `wanted` is None."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = wanted or {item for item in archive.namelist() if item.endswith(".json")}
            for name in sorted(names):
                yield _Place(path, name), _member(archive, path, name)
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

"""A folder of OSV records with its `database.json`: indexed once, read per package.

Records are `*.json` files anywhere below the folder, or `all.zip` archives of them, as osv.dev
publishes one per ecosystem. `database.json` says when the data was made (`built`) and which
ecosystems are complete in it (`ecosystems`); records of others are used, but promise nothing.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ci_registry.advisories.ecosystems import Query
from ci_registry.advisories.osv import (
    MAX_RECORD_BYTES,
    Advisory,
    affected_keys,
    parse_advisory,
)
from ci_registry.advisories.records import (
    FACTS_FILE,
    FolderFacts,
    RecordPlace,
    read_facts,
    read_places,
    records_in,
)
from ci_registry.advisories.source import SourceFacts, covered_ecosystems, filed_under, keys_of
from ci_registry.advisories.versions import base_ecosystem
from ci_registry.findings import AdvisoryDatabase
from ci_registry.strict import parse_json

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Index:
    places: Mapping[_Key, tuple[RecordPlace, ...]]
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
    _cache: dict[RecordPlace, Advisory] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def facts(self) -> SourceFacts:
        """Return what is listed **and** has records; a listed `Debian` covers the releases found."""
        database = AdvisoryDatabase(
            name=self.name,
            location=self.location,
            built_at=self.built_at,
            digest=self.index.digest,
            ecosystems=covered_ecosystems(self.index.ecosystems, self.listed),
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
            for place, data in read_places(missing):
                self._cache[place] = parse_advisory(data, what=str(place))
            return {
                key: tuple(self._cache[place] for place in places) for key, places in wanted.items()
            }

    def _places(self, query: Query) -> tuple[RecordPlace, ...]:
        """Return where its records are, those without a release (`Debian`) included."""
        return tuple(
            dict.fromkeys(
                place for key in keys_of(query) for place in self.index.places.get(key, ())
            )
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
    facts = read_facts(folder) if present else FolderFacts()
    return OsvDatabase(
        folder=folder,
        name=name,
        location=location or str(folder),
        present=present and index.records_count > 0,
        built_at=facts.built_at,
        listed=facts.ecosystems,
        notes=(*facts.notes, *_disagreements(facts.ecosystems, index.ecosystems)),
        index=index,
    )


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
    places: dict[_Key, list[RecordPlace]] = {}
    ecosystems: set[str] = set()
    digest = hashlib.sha256()
    count = 0
    for place, data in records_in(folder):
        count += 1
        what = str(place)
        document = parse_json(data, what=what, max_bytes=MAX_RECORD_BYTES, strict=False)
        _, pairs = affected_keys(document, what=what)
        for ecosystem, name in pairs:
            ecosystems.add(ecosystem)
            here = places.setdefault(filed_under(ecosystem, name), [])
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

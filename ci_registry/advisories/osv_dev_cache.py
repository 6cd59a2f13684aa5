"""Answers of osv.dev on disk: who was asked what when, and the records that came.

Lists of ids are good for an hour; a record is kept under its id and its time of modification, which
each list names, so that it can't grow old. What is damaged, cut short or too old counts as absent.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ci_registry.advisories.ecosystems import Query
from ci_registry.advisories.osv import MAX_RECORD_BYTES, parse_time
from ci_registry.cache import DiskCache
from ci_registry.errors import IntegrityError
from ci_registry.strict import as_list, as_object, as_text, parse_json

GOOD_FOR = timedelta(hours=1)
MAX_ANSWERS = 20_000
"""Of one ecosystem; the oldest go first."""
_MAX_LIST_BYTES = 64 * 1024 * 1024
_LISTS, _RECORDS = "osv-dev-lists", "osv-dev-records"

Listed = tuple[str, str]
"""An advisory's id, and when it was last modified; empty when the service did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What concerns one package, and when that was so."""

    time: datetime
    listed: tuple[Listed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCache:
    """Answers of one service in the cache of a run; several runs may share it."""

    disk: DiskCache
    url: str
    """Of the service: answers of another one are others."""

    def answers(self, ecosystem: str, now: datetime) -> dict[Query, Answer]:
        """Return the answers about an ecosystem that are still good."""
        body = self.disk.get(_LISTS, self._key(ecosystem), max_bytes=_MAX_LIST_BYTES)
        if body is None:
            return {}
        try:
            known = _parse(body, ecosystem)
        except IntegrityError:
            self.disk.drop(_LISTS, self._key(ecosystem))
            return {}
        return {q: a for q, a in known.items() if timedelta(0) <= now - a.time <= GOOD_FOR}

    def keep_answers(self, ecosystem: str, new: Mapping[Query, Answer], now: datetime) -> None:
        """Add answers; another run that does the same at this moment may win, and nothing is lost but time."""
        merged = {**self.answers(ecosystem, now), **new}
        kept = sorted(merged.items(), key=lambda item: item[1].time)[-MAX_ANSWERS:]
        rows = [[q.name, q.version, a.time.isoformat(), a.listed] for q, a in kept]
        self.disk.put(_LISTS, self._key(ecosystem), json.dumps(rows).encode())

    def record(self, listed: Listed) -> bytes | None:
        """Return a record as it was when it was modified last."""
        if not listed[1]:
            return None
        return self.disk.get(_RECORDS, self._key(*listed), max_bytes=MAX_RECORD_BYTES)

    def keep_record(self, listed: Listed, body: bytes) -> None:
        """Store a record whose time of modification is the one in `listed`."""
        if listed[1]:
            self.disk.put(_RECORDS, self._key(*listed), body)

    def forget_record(self, listed: Listed) -> None:
        """Drop a record that turned out to be something else."""
        self.disk.drop(_RECORDS, self._key(*listed))

    def _key(self, *parts: str) -> str:
        return json.dumps([self.url, *parts])


def _parse(body: bytes, ecosystem: str) -> dict[Query, Answer]:
    what = "cached answers of osv.dev"
    found = {}
    for row in as_list(parse_json(body, what=what, max_bytes=_MAX_LIST_BYTES), what=what):
        parts = as_list(row, what=what)
        if len(parts) != 4:
            raise IntegrityError(f"{what}: {len(parts)} members in a row")
        name, version, time = (as_text(part, what=what) for part in parts[:3])
        query = Query(ecosystem=ecosystem, name=name, version=version)
        found[query] = Answer(time=_time(time, what), listed=tuple(_pairs(parts[3], what)))
    return found


def _time(text: str, what: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise IntegrityError(f"{what}: {text[:50]!r} is no time") from error


def _pairs(value: object, what: str) -> Iterable[Listed]:
    for item in as_list(value, what=what):
        pair = as_list(item, what=what)
        if len(pair) != 2:
            raise IntegrityError(f"{what}: {len(pair)} members in a pair")
        yield as_text(pair[0], what=what), as_text(pair[1], what=what)


def modified_of(body: bytes, *, what: str) -> str:
    """Return a record's own time of modification as it stands there; empty without one."""
    document = as_object(
        parse_json(body, what=what, max_bytes=MAX_RECORD_BYTES, strict=False), what=what
    )
    return as_text(document.get("modified", ""), what=f"{what}: modified")

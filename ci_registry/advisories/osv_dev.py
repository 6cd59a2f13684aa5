"""Client of osv.dev's API: which advisories concern these packages, and the records themselves.

https://google.github.io/osv.dev/api/ : `POST /v1/querybatch` with paging, `GET /v1/vulns/{id}`.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import quote, urlsplit

from ci_registry.advisories.ecosystems import Query
from ci_registry.advisories.osv import MAX_RECORD_BYTES, Advisory, parse_advisory
from ci_registry.advisories.source import SourceFacts
from ci_registry.advisories.versions import UnparsableVersionError, compare
from ci_registry.errors import IntegrityError
from ci_registry.findings import AdvisoryDatabase
from ci_registry.strict import as_list, as_object, as_text, parse_json

API_URL = "https://api.osv.dev"
QUERIES_PER_BATCH = 1000
MAX_PAGES = 200
MAX_ADVISORIES = 50_000
MAX_BATCH_BYTES = 64 * 1024 * 1024
PARALLEL = 8

COVERED_ECOSYSTEMS = (
    *(f"Debian:{release}" for release in (10, 11, 12, 13)),
    *(f"Ubuntu:{release}.04:LTS" for release in (16, 18, 20, 22, 24)),
    "PyPI",
    "npm",
    "Go",
)
"""What osv.dev is asked about. It answers "nothing known" for a release that it has never heard
of, so a release that is not on this list is a gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """A successful answer."""

    body: bytes
    date: str = ""
    """The `Date` header as received; empty without one."""


class HttpJson(Protocol):
    """Asks a server; called from several threads; retries, time-outs and bounds are its business."""

    def post(self, url: str, body: bytes, /, *, max_bytes: int) -> HttpAnswer:
        """Send JSON, return the body of a 2xx answer.

        Raises:
            CiRegistryError: no such answer came.
        """

    def get(self, url: str, /, *, max_bytes: int) -> HttpAnswer:
        """Return the body of a 2xx answer.

        Raises:
            CiRegistryError: no such answer came.
        """


@dataclass(slots=True)
class _Memory:
    """What one run has learned; guarded by its lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    ids: dict[Query, tuple[str, ...]] = field(default_factory=dict)
    advisories: dict[str, Advisory] = field(default_factory=dict)
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OsvDev:
    """An `AdvisorySource` that asks osv.dev; remembers every answer for the run."""

    http: HttpJson
    now: Callable[[], datetime]
    url: str = API_URL
    covered: tuple[str, ...] = COVERED_ECOSYSTEMS
    _memory: _Memory = field(default_factory=_Memory, repr=False)

    def facts(self) -> SourceFacts:
        """Return what is covered; `built_at` is the time of the oldest answer, None before any."""
        database = AdvisoryDatabase(
            name="osv.dev",
            location=urlsplit(self.url).netloc,
            built_at=self._memory.answered_at,
            ecosystems=tuple(sorted(self.covered)),
        )
        return SourceFacts(database=database)

    def lookup(self, queries: tuple[Query, ...]) -> Mapping[tuple[str, str], tuple[Advisory, ...]]:
        """Ask about the packages of covered ecosystems; others are left out.

        Raises:
            IntegrityError: an answer has not the documented shape.
            CiRegistryError: the service can't be reached or failed.
        """
        asked = [query for query in queries if query.ecosystem in self.covered]
        new = [query for query in asked if query not in self._memory.ids]
        for start in range(0, len(new), QUERIES_PER_BATCH):
            self._ask(new[start : start + QUERIES_PER_BATCH])
        wanted = {name for query in asked for name in self._memory.ids[query]}
        self._fetch(sorted(wanted - set(self._memory.advisories)))
        found: dict[tuple[str, str], dict[str, Advisory]] = {}
        for query in asked:
            records = found.setdefault(query.key, {})
            records.update(
                (name, self._memory.advisories[name]) for name in self._memory.ids[query]
            )
        return {key: tuple(records.values()) for key, records in found.items()}

    def _ask(self, queries: Sequence[Query]) -> None:
        """Collect the ids of each query over all pages."""
        ids: list[dict[str, None]] = [{} for _ in queries]
        open_pages = [(number, "") for number in range(len(queries))]
        for _ in range(MAX_PAGES):
            if not open_pages:
                break
            bodies = [_question(queries[number], token) for number, token in open_pages]
            results = self._batch(bodies)
            pages = []
            for (number, token), result in zip(open_pages, results, strict=True):
                names, next_token = _page(result)
                ids[number].update(dict.fromkeys(names))
                if next_token and next_token == token:
                    raise IntegrityError("osv.dev: a page leads to itself")
                if next_token:
                    pages.append((number, next_token))
            open_pages = pages
        if open_pages or sum(map(len, ids)) > MAX_ADVISORIES:
            raise IntegrityError("osv.dev: more advisories than can be true")
        with self._memory.lock:
            self._memory.ids.update(
                (query, tuple(names)) for query, names in zip(queries, ids, strict=True)
            )

    def _batch(self, bodies: list[dict[str, object]]) -> list[object]:
        body = json.dumps({"queries": bodies}).encode()
        answer = self.http.post(f"{self.url}/v1/querybatch", body, max_bytes=MAX_BATCH_BYTES)
        self._note_time(answer)
        what = "osv.dev: querybatch"
        document = parse_json(answer.body, what=what, max_bytes=MAX_BATCH_BYTES, strict=False)
        results = as_list(as_object(document, what=what).get("results"), what=f"{what}: results")
        if len(results) != len(bodies):
            raise IntegrityError(f"{what}: {len(results)} results for {len(bodies)} queries")
        return results

    def _fetch(self, names: list[str]) -> None:
        """Read the records, several at a time."""
        if not names:
            return
        with ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="osv.dev") as pool:
            for advisory in pool.map(self._record, names):
                with self._memory.lock:
                    self._memory.advisories[advisory.id] = advisory

    def _record(self, name: str) -> Advisory:
        url = f"{self.url}/v1/vulns/{quote(name, safe='')}"
        answer = self.http.get(url, max_bytes=MAX_RECORD_BYTES)
        self._note_time(answer)
        advisory = parse_advisory(answer.body, what=f"osv.dev: {name}", strict=False)
        if advisory.id != name:
            raise IntegrityError(f"osv.dev: asked for {name}, got {advisory.id}")
        return advisory

    def _note_time(self, answer: HttpAnswer) -> None:
        """Remember the oldest answer: a cache on the way may have kept it for long."""
        now = self.now()
        time = min(_http_time(answer.date) or now, now)
        with self._memory.lock:
            known = self._memory.answered_at
            self._memory.answered_at = time if known is None else min(known, time)


def _http_time(text: str) -> datetime | None:
    try:
        time = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    if time is None:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _question(query: Query, token: str) -> dict[str, object]:
    """Return one query.

    The version lets the server leave out what does not concern us; matching is done again here.
    A version that we can't parse is not sent: the server would silently find nothing for it.
    """
    body: dict[str, object] = {"package": {"ecosystem": query.ecosystem, "name": query.name}}
    if query.version and _is_version(query):
        body["version"] = query.version
    if token:
        body["page_token"] = token
    return body


def _is_version(query: Query) -> bool:
    try:
        compare(query.ecosystem, query.version, query.version)
    except UnparsableVersionError:
        return False
    return True


def _page(result: object) -> tuple[list[str], str]:
    what = "osv.dev: querybatch result"
    entry = as_object(result, what=what)
    vulns = as_list(entry.get("vulns", []), what=f"{what}: vulns")
    names = [
        as_text(as_object(item, what=what).get("id"), what=f"{what}: vulns.id") for item in vulns
    ]
    return names, as_text(entry.get("next_page_token", ""), what=f"{what}: next_page_token")

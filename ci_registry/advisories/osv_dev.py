"""Client of osv.dev's API: which advisories concern these packages, and the records themselves.

https://google.github.io/osv.dev/api/ : `POST /v1/querybatch` with paging, `GET /v1/vulns/{id}`.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import quote, urlsplit

from ci_registry.advisories.ecosystems import Query
from ci_registry.advisories.osv import MAX_RECORD_BYTES, Advisory, parse_advisory
from ci_registry.advisories.osv_dev_cache import Answer, AnswerCache, Listed, modified_of
from ci_registry.advisories.source import SourceFacts
from ci_registry.advisories.versions import base_ecosystem, is_version
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
    *(f"AlmaLinux:{release}" for release in (8, 9, 10)),
    *(f"Alpine:v3.{minor}" for minor in range(12, 25)),
    *(f"Azure Linux:{release}" for release in (2, 3)),
    *(f"Debian:{release}" for release in (10, 11, 12, 13)),
    "Mageia:9",
    *(f"Red Hat:enterprise_linux:{release}" for release in (8, 9, 10)),
    *(f"Rocky Linux:{release}" for release in (8, 9, 10)),
    *(f"SUSE:15.{pack}" for pack in range(2, 8)),
    *(f"Ubuntu:{release}.04:LTS" for release in (16, 18, 20, 22, 24)),
    *(f"openEuler:{release}" for release in ("22.03-LTS-SP3", "22.03-LTS-SP4", "24.03-LTS")),
    *(f"openSUSE:Leap 15.{minor}" for minor in range(3, 7)),
    "openSUSE:Tumbleweed",
    "Chainguard",
    "MinimOS",
    "Wolfi",
    "Bitnami",
    "Go",
    "Maven",
    "NuGet",
    "Packagist",
    "PyPI",
    "RubyGems",
    "crates.io",
    "npm",
)
"""What osv.dev is asked about. It answers "nothing known" for a release that it has never heard
of, so a release that is not on this list is a gap."""

_ASKED_AS_A_WHOLE = frozenset({"Red Hat", "SUSE"})
"""Asked about without a release: their releases have several names each, one for every repository or
product, and the answer is matched by release here."""


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
    answers: dict[Query, Answer] = field(default_factory=dict)
    advisories: dict[str, Advisory] = field(default_factory=dict)
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OsvDev:
    """An `AdvisorySource` that asks osv.dev; remembers every answer for the run, and in `cache`.

    Names and versions of packages of covered ecosystems are all that it sends.
    """

    http: HttpJson
    now: Callable[[], datetime]
    url: str = API_URL
    covered: tuple[str, ...] = COVERED_ECOSYSTEMS
    cache: AnswerCache | None = None
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
        self._recall(asked)
        new = [query for query in asked if query not in self._memory.answers]
        for start in range(0, len(new), QUERIES_PER_BATCH):
            self._ask(new[start : start + QUERIES_PER_BATCH])
        self._keep(new)
        answers = {query: self._memory.answers[query] for query in asked}
        self._note_times(answers.values())
        wanted = {pair[0]: pair for answer in answers.values() for pair in answer.listed}
        self._fetch([wanted[name] for name in sorted(set(wanted) - set(self._memory.advisories))])
        found: dict[tuple[str, str], dict[str, Advisory]] = {}
        for query, answer in answers.items():
            records = found.setdefault(query.key, {})
            records.update((name, self._memory.advisories[name]) for name, _ in answer.listed)
        return {key: tuple(records.values()) for key, records in found.items()}

    def _recall(self, queries: Sequence[Query]) -> None:
        """Take what the cache knows of these packages."""
        if self.cache is None:
            return
        missing = [query for query in queries if query not in self._memory.answers]
        for ecosystem in sorted({query.ecosystem for query in missing}):
            known = self.cache.answers(ecosystem, self.now())
            with self._memory.lock:
                self._memory.answers.update({q: known[q] for q in missing if q in known})

    def _keep(self, queries: Sequence[Query]) -> None:
        if self.cache is None:
            return
        for ecosystem in sorted({query.ecosystem for query in queries}):
            mine = [query for query in queries if query.ecosystem == ecosystem]
            answers = {query: self._memory.answers[query] for query in mine}
            self.cache.keep_answers(ecosystem, answers, self.now())

    def _ask(self, queries: Sequence[Query]) -> None:
        """Collect the ids of each query over all pages."""
        listed: list[dict[Listed, None]] = [{} for _ in queries]
        times = [self.now() for _ in queries]
        open_pages = [(number, "") for number in range(len(queries))]
        for _ in range(MAX_PAGES):
            if not open_pages:
                break
            bodies = [_question(queries[number], token) for number, token in open_pages]
            results, time = self._batch(bodies)
            pages = []
            for (number, token), result in zip(open_pages, results, strict=True):
                names, next_token = _page(result)
                listed[number].update(dict.fromkeys(names))
                times[number] = min(times[number], time)
                if next_token and next_token == token:
                    raise IntegrityError("osv.dev: a page leads to itself")
                if next_token:
                    pages.append((number, next_token))
            open_pages = pages
        if open_pages or sum(map(len, listed)) > MAX_ADVISORIES:
            raise IntegrityError("osv.dev: more advisories than can be true")
        with self._memory.lock:
            self._memory.answers.update(
                (query, Answer(time=time, listed=tuple(names)))
                for query, time, names in zip(queries, times, listed, strict=True)
            )

    def _batch(self, bodies: list[dict[str, object]]) -> tuple[list[object], datetime]:
        body = json.dumps({"queries": bodies}).encode()
        answer = self.http.post(f"{self.url}/v1/querybatch", body, max_bytes=MAX_BATCH_BYTES)
        what = "osv.dev: querybatch"
        document = parse_json(answer.body, what=what, max_bytes=MAX_BATCH_BYTES, strict=False)
        results = as_list(as_object(document, what=what).get("results"), what=f"{what}: results")
        if len(results) != len(bodies):
            raise IntegrityError(f"{what}: {len(results)} results for {len(bodies)} queries")
        return results, self._time_of(answer)

    def _fetch(self, listed: list[Listed]) -> None:
        """Read the records, several at a time."""
        if not listed:
            return
        with ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="osv.dev") as pool:
            for advisory in pool.map(self._record, listed):
                with self._memory.lock:
                    self._memory.advisories[advisory.id] = advisory

    def _record(self, listed: Listed) -> Advisory:
        return self._known_record(listed) or self._fetched_record(listed)

    def _known_record(self, listed: Listed) -> Advisory | None:
        body = self.cache.record(listed) if self.cache else None
        if self.cache is None or body is None:
            return None
        try:
            advisory = parse_advisory(body, what=f"osv.dev: {listed[0]}", strict=False)
        except IntegrityError:
            advisory = None
        if advisory is None or advisory.id != listed[0]:
            self.cache.forget_record(listed)
            return None
        return advisory

    def _fetched_record(self, listed: Listed) -> Advisory:
        name, what = listed[0], f"osv.dev: {listed[0]}"
        url = f"{self.url}/v1/vulns/{quote(name, safe='')}"
        body = self.http.get(url, max_bytes=MAX_RECORD_BYTES).body
        advisory = parse_advisory(body, what=what, strict=False)
        if advisory.id != name:
            raise IntegrityError(f"osv.dev: asked for {name}, got {advisory.id}")
        if self.cache is not None and modified_of(body, what=what) == listed[1]:
            self.cache.keep_record(listed, body)
        return advisory

    def _time_of(self, answer: HttpAnswer) -> datetime:
        """Return how old an answer is: a cache on the way may have kept it for long."""
        now = self.now()
        return min(_http_time(answer.date) or now, now)

    def _note_times(self, answers: Iterable[Answer]) -> None:
        """Remember the oldest answer that was used."""
        times = [answer.time for answer in answers]
        with self._memory.lock:
            known = self._memory.answered_at
            self._memory.answered_at = min([*times, known] if known else times, default=None)


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
    base = base_ecosystem(query.ecosystem)
    ecosystem = base if base in _ASKED_AS_A_WHOLE else query.ecosystem
    body: dict[str, object] = {"package": {"ecosystem": ecosystem, "name": query.name}}
    if version := _sent_version(base, query):
        body["version"] = version
    if token:
        body["page_token"] = token
    return body


def _sent_version(base: str, query: Query) -> str:
    """Return the version to send, in a form that the server can't place above ours; empty for none."""
    version = query.version
    if not version or not is_version(query.ecosystem, version):
        return ""
    if base == "PyPI":  # `2.0.0+cu117` is as vulnerable as 2.0.0
        return version.partition("+")[0]
    if base == "Bitnami":  # for the server the revision of a package would make it a pre-release
        return version.partition("-")[0]
    if base == "Go":
        return version.removeprefix("v") if re.match(r"v?\d+\.\d+\.\d+", version) else ""
    return version


def _page(result: object) -> tuple[list[Listed], str]:
    what = "osv.dev: querybatch result"
    entry = as_object(result, what=what)
    vulns = as_list(entry.get("vulns", []), what=f"{what}: vulns")
    listed = [_listed(as_object(item, what=what), what) for item in vulns]
    return listed, as_text(entry.get("next_page_token", ""), what=f"{what}: next_page_token")


def _listed(item: dict[str, object], what: str) -> Listed:
    return (
        as_text(item.get("id"), what=f"{what}: vulns.id"),
        as_text(item.get("modified", ""), what=f"{what}: vulns.modified"),
    )

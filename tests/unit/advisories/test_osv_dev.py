"""The client of osv.dev; answers are made by hand after the API's documentation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ci_registry.advisories.ecosystem_names import canonical_ecosystem
from ci_registry.advisories.ecosystems import LANGUAGE_ECOSYSTEMS, Query
from ci_registry.advisories.osv_dev import COVERED_ECOSYSTEMS, HttpAnswer, OsvDev
from ci_registry.advisories.osv_dev_cache import AnswerCache
from ci_registry.advisories.versions import can_compare
from ci_registry.cache import DiskCache
from ci_registry.errors import IntegrityError, NetworkError
from tests.support.advisories import record

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DEMO = Query(ecosystem="PyPI", name="demo", version="1.0")


@dataclass
class Service:
    """Stands for osv.dev: pages by page token, records by id."""

    pages: dict[tuple[str, str], dict[str, object]]
    records: dict[str, object] = field(default_factory=dict)
    date: str = "Mon, 01 Jun 2026 11:00:00 GMT"
    asked: list[dict[str, object]] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)

    def post(self, url: str, body: bytes, /, *, max_bytes: int) -> HttpAnswer:
        assert url == "https://api.osv.dev/v1/querybatch"
        queries = json.loads(body)["queries"]
        self.asked += queries
        results = [
            self.pages.get((q["package"]["name"], q.get("page_token", "")), {}) for q in queries
        ]
        return HttpAnswer(body=json.dumps({"results": results}).encode(), date=self.date)

    def get(self, url: str, /, *, max_bytes: int) -> HttpAnswer:
        name = url.removeprefix("https://api.osv.dev/v1/vulns/")
        self.gets.append(name)
        if name not in self.records:
            raise NetworkError(f"404 for {name}")
        return HttpAnswer(body=json.dumps(self.records[name]).encode(), date=self.date)


def _ids(*names: str, token: str = "") -> dict[str, object]:
    page: dict[str, object] = {
        "vulns": [{"id": n, "modified": "2026-01-01T00:00:00Z"} for n in names]
    }
    return page | ({"next_page_token": token} if token else {})


def _found(source: OsvDev, query: Query = DEMO) -> list[str]:
    return [advisory.id for advisory in source.lookup((query,)).get(query.key, ())]


def _source(service: Service, cache: AnswerCache | None = None, *, now: datetime = NOW) -> OsvDev:
    return OsvDev(http=service, now=lambda: now, cache=cache)


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    return AnswerCache(
        disk=DiskCache(folder=tmp_path / "cache", max_bytes=1 << 30), url="https://api.osv.dev"
    )


def _one_record() -> Service:
    """Answers with one record, whose list and body agree on when it was modified."""
    listed: dict[str, object] = {"vulns": [{"id": "A-1", "modified": "2026-01-02T00:00:00Z"}]}
    date = "Mon, 01 Jun 2026 12:00:00 GMT"
    return Service({("demo", ""): listed}, {"A-1": record("A-1")}, date=date)


def test_all_pages_are_read() -> None:
    service = Service(
        {("demo", ""): _ids("A-1", token="t1"), ("demo", "t1"): _ids("A-2")},
        {"A-1": record("A-1"), "A-2": record("A-2")},
    )
    assert _found(_source(service)) == ["A-1", "A-2"]


def test_answers_are_remembered() -> None:
    service = Service({("demo", ""): _ids("A-1")}, {"A-1": record("A-1")})
    source = _source(service)
    assert _found(source) == _found(source) == ["A-1"]
    assert len(service.asked) == len(service.gets) == 1


def test_more_queries_than_a_batch_holds_are_split() -> None:
    service = Service({})
    queries = tuple(Query(ecosystem="PyPI", name=f"p{n}", version="1") for n in range(1001))
    assert len(_source(service).lookup(queries)) == 1001
    assert len(service.asked) == 1001


def test_release_that_is_not_on_the_list_is_never_asked_about() -> None:
    service = Service({})
    query = Query(ecosystem="Debian:99", name="openssl", version="1")
    assert _source(service).lookup((query,)) == {}
    assert service.asked == []
    assert "Debian:99" not in _source(service).facts().database.ecosystems


def test_version_that_cannot_be_parsed_is_not_sent() -> None:
    service = Service({("demo", ""): _ids("A-1")}, {"A-1": record("A-1")})
    assert _found(_source(service), Query(ecosystem="PyPI", name="demo", version="odd one"))
    assert service.asked == [{"package": {"ecosystem": "PyPI", "name": "demo"}}]


def test_data_is_as_old_as_the_oldest_answer() -> None:
    service = Service({("demo", ""): _ids()}, date="Sat, 30 May 2026 12:00:00 GMT")
    source = _source(service)
    assert source.facts().database.built_at is None
    _found(source)
    assert source.facts().database.built_at == datetime(2026, 5, 30, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("date", ["", "nonsense", "Mon, 01 Jun 2027 11:00:00 GMT"])
def test_without_a_usable_date_it_is_dated_now(date: str) -> None:
    source = _source(Service({("demo", ""): _ids()}, date=date))
    _found(source)
    assert source.facts().database.built_at == NOW


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"results": []}',
        b'{"results": [{}, {}]}',
        b'{"results": [{"vulns": [{}]}]}',
        b'{"results": [{"vulns": {}}]}',
        b'{"results": [{"next_page_token": "again"}]}',
        b'{"results": [null]}',
    ],
)
def test_answer_of_another_shape_is_an_error(answer: bytes) -> None:
    class Broken(Service):
        def post(self, url: str, body: bytes, /, *, max_bytes: int) -> HttpAnswer:
            return HttpAnswer(body=answer)

    with pytest.raises(IntegrityError, match=r"osv\.dev"):
        _found(_source(Broken({})))


def test_endless_pages_are_an_error() -> None:
    class Endless(Service):
        count = 0

        def post(self, url: str, body: bytes, /, *, max_bytes: int) -> HttpAnswer:
            self.count += 1
            return HttpAnswer(body=json.dumps({"results": [_ids(token=f"t{self.count}")]}).encode())

    with pytest.raises(IntegrityError, match="more advisories than can be true"):
        _found(_source(Endless({})))


def test_record_that_is_missing_or_another_is_an_error() -> None:
    pages: Mapping[tuple[str, str], dict[str, object]] = {("demo", ""): _ids("A-1")}
    with pytest.raises(NetworkError):
        _found(_source(Service(dict(pages))))
    with pytest.raises(IntegrityError, match="asked for A-1, got B-1"):
        _found(_source(Service(dict(pages), {"A-1": record("B-1")})))


def test_next_run_asks_nobody_within_the_hour(cache: AnswerCache) -> None:
    _found(_source(_one_record(), cache))
    service = _one_record()
    source = _source(service, cache, now=NOW + timedelta(minutes=59))
    assert _found(source) == ["A-1"]
    assert (service.asked, service.gets) == ([], [])
    assert source.facts().database.built_at == NOW


@pytest.mark.parametrize("later", [timedelta(hours=2), timedelta(days=-1)])
def test_old_answer_is_asked_for_again_and_an_unchanged_record_is_not(
    cache: AnswerCache, later: timedelta
) -> None:
    _found(_source(_one_record(), cache))
    service = _one_record()
    assert _found(_source(service, cache, now=NOW + later)) == ["A-1"]
    assert len(service.asked) == 1
    assert service.gets == []


def test_changed_record_is_fetched_again(cache: AnswerCache) -> None:
    _found(_source(_one_record(), cache))
    service = _one_record()
    service.pages = {("demo", ""): {"vulns": [{"id": "A-1", "modified": "2026-05-31T00:00:00Z"}]}}
    _found(_source(service, cache, now=NOW + timedelta(hours=2)))
    assert service.gets == ["A-1"]


def test_answer_of_an_old_proxy_is_not_kept_as_new(cache: AnswerCache) -> None:
    service = _one_record()
    service.date = "Sat, 30 May 2026 12:00:00 GMT"
    _found(_source(service, cache))
    again = _one_record()
    _found(_source(again, cache))
    assert len(again.asked) == 1


@pytest.mark.parametrize("damage", [b"", b"x", b"[[", b'[["demo", "1.0", "soon", []]]', b"[[1]]"])
def test_damaged_cache_is_an_absent_one(cache: AnswerCache, damage: bytes) -> None:
    _found(_source(_one_record(), cache))
    for path in cache.disk.folder.rglob("*"):
        if path.is_file():
            path.write_bytes(damage)
    service = _one_record()
    assert _found(_source(service, cache)) == ["A-1"]
    assert len(service.asked) == len(service.gets) == 1


def test_whole_entry_with_other_content_is_an_absent_one(cache: AnswerCache) -> None:
    listed = ("A-1", "2026-01-02T00:00:00Z")
    cache.keep_record(listed, json.dumps(record("B-1")).encode())
    key = json.dumps(["https://api.osv.dev", "PyPI"])
    cache.disk.put("osv-dev-lists", key, b'[["demo", "1.0", "2026-06-01T11:59:00+00:00"]]')
    service = _one_record()
    assert _found(_source(service, cache)) == ["A-1"]
    assert len(service.asked) == len(service.gets) == 1


def test_answers_of_another_service_are_others(cache: AnswerCache) -> None:
    _found(_source(_one_record(), cache))
    other = AnswerCache(disk=cache.disk, url="https://mirror.example.org")
    service = _one_record()
    _found(_source(service, other))
    assert len(service.asked) == len(service.gets) == 1


def test_cache_that_cannot_be_written_stops_no_scan(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    disk = DiskCache(folder=tmp_path / "file" / "cache", max_bytes=1)
    assert _found(_source(_one_record(), AnswerCache(disk=disk, url="x"))) == ["A-1"]


def test_failed_answer_is_not_kept(cache: AnswerCache) -> None:
    service = _one_record()
    service.records = {}
    with pytest.raises(NetworkError):
        _found(_source(service, cache))
    assert _found(_source(_one_record(), cache)) == ["A-1"]


@pytest.mark.parametrize(
    ("ecosystem", "version", "sent"),
    [
        ("Red Hat:enterprise_linux:9", "1:3.0-1.el9", ("Red Hat", "1:3.0-1.el9")),
        ("SUSE:15.5", "3.0-150500.1", ("SUSE", "3.0-150500.1")),
        ("AlmaLinux:9", "3.0-1.el9", ("AlmaLinux:9", "3.0-1.el9")),
        ("Alpine:v3.20", "3.0-r1", ("Alpine:v3.20", "3.0-r1")),
        ("PyPI", "2.0.0+cu117", ("PyPI", "2.0.0")),
        ("Bitnami", "7.0.11-2", ("Bitnami", "7.0.11")),
        ("Go", "v1.2.3+incompatible", ("Go", "1.2.3+incompatible")),
        ("Go", "go1.22rc1", ("Go", None)),
        ("Go", "(devel)", ("Go", None)),
    ],
)
def test_what_is_sent_leaves_out_nothing_that_may_concern_us(
    ecosystem: str, version: str, sent: tuple[str, str | None]
) -> None:
    service = Service({})
    _source(service).lookup((Query(ecosystem=ecosystem, name="demo", version=version),))
    (asked,) = service.asked
    assert (asked["package"], asked.get("version")) == (
        {"ecosystem": sent[0], "name": "demo"},
        sent[1],
    )
    assert set(asked) <= {"package", "version"}


def test_red_hat_record_is_filed_under_the_release() -> None:
    row = record("RHSA-1", "Red Hat:enterprise_linux:9::baseos", "demo")
    service = Service({("demo", ""): _ids("RHSA-1")}, {"RHSA-1": row})
    query = Query(ecosystem="Red Hat:enterprise_linux:9", name="demo", version="1.0-1.el9")
    assert _found(_source(service), query) == ["RHSA-1"]


def test_everything_that_is_covered_can_be_compared_and_is_named_canonically() -> None:
    for ecosystem in COVERED_ECOSYSTEMS:
        assert can_compare(ecosystem)
        assert canonical_ecosystem(ecosystem) == ecosystem
    assert set(LANGUAGE_ECOSYSTEMS.values()) <= set(COVERED_ECOSYSTEMS)

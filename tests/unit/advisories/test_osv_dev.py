"""The client of osv.dev; answers are made by hand after the API's documentation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from ci_registry.advisories.ecosystems import Query
from ci_registry.advisories.osv_dev import HttpAnswer, OsvDev
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


def _source(service: Service) -> OsvDev:
    return OsvDev(http=service, now=lambda: NOW)


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

"""The embedded scanner asking a service like osv.dev over real sockets.

The answers are made by hand after the API's documentation.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from ci_registry.advisories.osv_dev import OsvDev
from ci_registry.advisories.osv_dev_cache import AnswerCache
from ci_registry.cache import DiskCache
from ci_registry.cancel import Cancel
from ci_registry.errors import ExitCode, IntegrityError, NetworkError
from ci_registry.findings import Gap, ScanResult
from ci_registry.network.client import HttpClient
from ci_registry.network.settings import HttpSettings
from ci_registry.scanners.osv import OsvScanner
from ci_registry.wiring.databases import _HttpJson
from tests.support.advisories import deb, inventory, pypi, record

RECORDS = {
    "DEBIAN-CVE-2026-1000": record(
        "DEBIAN-CVE-2026-1000",
        "Debian:12",
        "openssl",
        events=[{"introduced": "0"}, {"fixed": "3.0.12-1"}],
        upstream=["CVE-2026-1000"],
    ),
    "GHSA-1": record("GHSA-1", aliases=["CVE-2026-2000"]),
    "PYSEC-1": record("PYSEC-1", aliases=["CVE-2026-2000"]),
}


def _listed(identity: str) -> dict[str, object]:
    return {"id": identity, "modified": RECORDS[identity]["modified"]}


PAGES = {
    ("Debian:12", "openssl", ""): {"vulns": [_listed("DEBIAN-CVE-2026-1000")]},
    ("PyPI", "demo", ""): {"vulns": [_listed("GHSA-1")], "next_page_token": "two"},
    ("PyPI", "demo", "two"): {"vulns": [_listed("PYSEC-1")]},
}


HTTP = HttpSettings()
IMPATIENT = HttpSettings(retries=0, read_timeout_s=0.3)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    missing: frozenset[str] = frozenset()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(
            200,
            {
                "results": [
                    PAGES.get(
                        (q["package"]["ecosystem"], q["package"]["name"], q.get("page_token", "")),
                        {},
                    )
                    for q in body["queries"]
                ]
            },
        )

    def do_GET(self) -> None:
        name = self.path.removeprefix("/v1/vulns/")
        if name in self.missing or name not in RECORDS:
            self._answer(404, {"code": 5, "message": "Bug not found."})
        else:
            self._answer(200, RECORDS[name])

    def _answer(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def _service(handler: type[_Handler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _scan(
    url: str, now: datetime, *, settings: HttpSettings = HTTP, cache: AnswerCache | None = None
) -> ScanResult:
    with HttpClient(settings, Cancel()) as client:
        source = OsvDev(http=_HttpJson(client=client), now=lambda: now, url=url, cache=cache)
        scanner = OsvScanner(source=source, now=lambda: now, max_db_age=timedelta(hours=48))
        return scanner.match(
            inventory(deb("libssl3", "3.0.11-1", "openssl"), deb("fine", "1"), pypi("demo", "1.0"))
        )


def test_findings_and_coverage_come_over_the_wire() -> None:
    with _service(_Handler) as url:
        result = _scan(url, datetime.now(UTC))
    assert [(f.id, f.package.name) for f in result.findings] == [
        ("CVE-2026-1000", "libssl3"),
        ("CVE-2026-2000", "demo"),
    ]
    assert result.findings[1].aliases == ("GHSA-1", "PYSEC-1")
    assert result.coverage.gaps == ()
    assert result.coverage.databases[0].built_at is not None


def test_answer_that_is_days_old_is_stale() -> None:
    with _service(_Handler) as url:
        result = _scan(url, datetime.now(UTC) + timedelta(days=3))
    assert [g.gap for g in result.coverage.gaps] == [Gap.DATABASE_STALE]


def test_record_that_cannot_be_read_ends_the_scan() -> None:
    class Missing(_Handler):
        missing = frozenset({"GHSA-1"})

    with _service(Missing) as url, pytest.raises(NetworkError, match="404"):
        _scan(url, datetime.now(UTC))


class _Limited(_Handler):
    """Answers 429 twice, with a time to wait, before anything else."""

    refusals: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        if len(self.refusals) < 2:
            self.refusals.append(1)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(429)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_POST()


def test_service_that_limits_us_is_asked_again() -> None:
    _Limited.refusals.clear()
    with _service(_Limited) as url:
        result = _scan(url, datetime.now(UTC))
    assert len(_Limited.refusals) == 2
    assert len(result.findings) == 2


@pytest.mark.parametrize("status", [429, 500, 503, 403])
def test_service_that_goes_on_refusing_ends_the_scan_as_infrastructure(status: int) -> None:
    class Refusing(_Handler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(status, {"message": "no"})

    with _service(Refusing) as url, pytest.raises(NetworkError, match=str(status)) as caught:
        _scan(url, datetime.now(UTC), settings=IMPATIENT)
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE
    assert "--scan-db" in caught.value.hint


def test_service_that_stays_silent_ends_the_scan_as_infrastructure() -> None:
    over = threading.Event()

    class Silent(_Handler):
        def do_POST(self) -> None:
            over.wait(20)

    with _service(Silent) as url:
        with pytest.raises(NetworkError) as caught:
            _scan(url, datetime.now(UTC), settings=IMPATIENT)
        over.set()
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE


@pytest.mark.parametrize("claimed", [True, False])
def test_half_an_answer_ends_the_scan_as_infrastructure(claimed: bool) -> None:
    """Cut short on the wire, or half of the JSON as if it were all."""

    class Half(_Handler):
        def _answer(self, status: int, value: object) -> None:
            data = json.dumps(value).encode()
            half = data[: len(data) // 2]
            self.send_response(status)
            self.send_header("Content-Length", str(len(data) if claimed else len(half)))
            self.end_headers()
            self.wfile.write(half)
            self.close_connection = True

    with _service(Half) as url, pytest.raises((NetworkError, IntegrityError)) as caught:
        _scan(url, datetime.now(UTC), settings=IMPATIENT)
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE


def test_second_run_is_answered_from_the_cache(tmp_path: Path) -> None:
    disk = DiskCache(folder=tmp_path, max_bytes=1 << 30)
    now = datetime.now(UTC) + timedelta(seconds=5)
    with _service(_Handler) as url:
        cache = AnswerCache(disk=disk, url=url)
        first = _scan(url, now, cache=cache)
    assert len(first.findings) == 2
    second = _scan(url, now, cache=cache, settings=IMPATIENT)  # nobody listens there any more
    assert second.findings == first.findings
    assert second.coverage.databases == first.coverage.databases
    with pytest.raises(NetworkError):
        _scan(url, now + timedelta(hours=2), cache=cache, settings=IMPATIENT)

"""Harbor and Quay for tests: they answer as their documentation says, by a script of states.

Nothing was recorded: the answers are hand-made after Harbor's API v2.0 (swagger) and its vulnerability
report 1.1, and after Quay's API v1. `serving` puts such a scanner in front of a real registry, on one port.
"""

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Mapping[str, str], bytes]
MIME = "application/vnd.security.vulnerability.report; version=1.1"
DATABASE_DATE = "2026-06-15T06:00:00Z"
GENERATED = "2026-06-15T11:00:00Z"


def reply(document: object, status: int = 200) -> Reply:
    """Answer with JSON."""
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()


def refusal(status: int, code: str, message: str = "because") -> Reply:
    """Answer as Harbor does when it refuses."""
    return reply({"errors": [{"code": code, "message": message}]}, status)


PAGE: Reply = (200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><title>Log in</title>")


@dataclass
class FakeHarbor:
    """One Harbor; `states` are what the scan overview says, one after the other, the last one for good."""

    states: list[str | None] = field(default_factory=lambda: ["Success"])
    """None: there is no overview."""
    before: str | None = None
    """State of an earlier scan, as long as nobody asked for another one."""
    trigger: Reply = (202, {}, b"")
    vulnerabilities: list[dict[str, Any]] = field(default_factory=list)
    report: Reply | None = None
    """Instead of the list of vulnerabilities."""
    artifact: Reply | None = None
    metadata: Reply | None = None
    database_date: str = DATABASE_DATE
    digest: str = ""
    """That it answers with; empty: the one that it was asked about."""
    seen: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    looks: int = 0
    triggered: bool = False

    def __call__(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        """Answer one request below `/api/`."""
        self.seen.append((method, path, headers))
        if not path.startswith("/api/") and self.artifact is not None:
            return self.artifact
        bare, _, query = path.partition("?")
        if bare.endswith("/scanner"):
            return reply({"uuid": "u-1", "name": "Trivy"})
        if bare.endswith("/metadata"):
            key = "harbor.scanner-adapter/vulnerability-database-updated-at"
            return self.metadata or reply({"properties": {key: self.database_date}})
        if bare.endswith("/scan"):
            self.triggered = self.triggered or self.trigger[0] < 300
            return self.trigger
        assert headers["x-accept-vulnerabilities"] == MIME
        if bare.endswith("/additions/vulnerabilities"):
            return self.report or reply({MIME: self._report()})
        assert query == "with_scan_overview=true"
        return self.artifact or self._artifact(bare.rpartition("/")[2])

    def _artifact(self, digest: str) -> Reply:
        if not self.triggered:
            state, number = self.before, 0
        else:
            state = self.states[min(self.looks, len(self.states) - 1)]
            number = 1
            self.looks += 1
        document: dict[str, Any] = {"digest": self.digest or digest, "type": "IMAGE"}
        if state is not None:
            overview = {"report_id": f"r-{number}", "scan_status": state}
            document["scan_overview"] = {MIME: overview}
        return reply(document)

    def _report(self) -> dict[str, Any]:
        return {
            "generated_at": GENERATED,
            "scanner": {"name": "Trivy", "vendor": "Aqua Security", "version": "v0.60.0"},
            "severity": "High",
            "vulnerabilities": self.vulnerabilities,
        }


@dataclass
class FakeQuay:
    """One Quay; `answers` come one after the other, the last one for good."""

    answers: list[Reply]
    seen: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    def __call__(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        """Answer one request below `/api/`."""
        self.seen.append((method, path, headers))
        return self.answers[min(len(self.seen), len(self.answers)) - 1]


def quay_state(status: str) -> Reply:
    """Return Quay's answer without a report."""
    return reply({"status": status, "data": None})


def quay_report(*features: dict[str, Any]) -> Reply:
    """Return Quay's answer with a report."""
    return reply({"status": "scanned", "data": {"Layer": {"Features": list(features)}}})


@contextlib.contextmanager
def serving(api: Callable[[str, str, Mapping[str, str]], Reply], registry: str) -> Iterator[str]:
    """Serve `/api/` from `api` and the rest from the registry at `HOST:PORT`; yields the own host."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            if self.path.startswith("/api/"):
                status, given, data = api(self.command, self.path, headers)
            else:
                status, given, data = _forward(registry, self.command, self.path, headers, body)
            self.send_response(status)
            for name, value in given.items():
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name in given}:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


_HOP = frozenset({"connection", "transfer-encoding", "date", "server"})


def _forward(
    registry: str, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> Reply:
    connection = http.client.HTTPConnection(registry, timeout=20)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}
        return answer.status, kept, answer.read()
    finally:
        connection.close()

"""A change request tries to poison every cache that the default branch reads: layers, answers, databases."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.advisories import record
from tests.support.changes import OWN, commit_base, commit_change, github_change, github_event
from tests.support.cli import CRITICAL, VULNERABLE, Project, image_files, make_project
from tests.support.images import Files, ImageSpec, make_layout
from tests.support.registry import running_registry

Event = Callable[[Project], dict[str, str]]
CHANGES: dict[str, Event] = {
    "fork": github_change,
    "own-branch": lambda project: github_change(project, repository=OWN),
    "target": lambda project: github_change(project, event="pull_request_target"),
}


def push(project: Project) -> dict[str, str]:
    """Return the environment of a push to the default branch."""
    return github_event(project, "push", {"ref": "refs/heads/main"}, GITHUB_REF_PROTECTED="true")


@pytest.fixture(name="project")
def _project(tmp_path: Path) -> Project:
    """A repository with a change, and a large image whose one package is vulnerable."""
    project = make_project(tmp_path, None, version=VULNERABLE)
    commit_base(project)
    commit_change(project)
    files: Files = {
        **image_files(VULNERABLE),
        "srv/data": bytes(2 << 20),
    }  # small layers are not cached
    make_layout(project.base / "image", ImageSpec(layers=[files]))
    return project


def scan(project: Project, env: dict[str, str], *options: str) -> int:
    done = project.run("scan", str(project.base / "image"), *options, env=env)
    assert "Traceback" not in done.stderr
    return done.exit_code


def files_outside_of_changes(project: Project) -> list[Path]:
    """Return what stands in the cache where a run of the default branch may look."""
    found = (path for path in (project.base / "cache").rglob("*") if path.is_file())
    return [path for path in found if "changes" not in path.relative_to(project.base).parts]


def lie_about_layers(folder: Path) -> int:
    """Rewrite every kept layer as one in which nothing is installed; returns how many there were."""
    count = 0
    for path in (p for p in folder.rglob("*") if p.is_file()):
        body = path.read_bytes()
        if b".dist-info" in body:
            path.write_bytes(body.replace(b"demo-1.0.dist-info", b"nope-1.0.dist-data"))
            count += 1
    return count


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_layers_that_a_change_kept_are_not_read_by_the_default_branch(
    project: Project, change: Event
) -> None:
    assert scan(project, change(project)) == 1
    assert files_outside_of_changes(project) == []
    assert lie_about_layers(project.base / "cache") == 1
    assert scan(project, push(project)) == 1
    assert files_outside_of_changes(project) != []


def test_a_kept_layer_that_was_rewritten_does_not_hide_what_is_in_it(project: Project) -> None:
    """Not even a change itself is told lies by the cache: what is damaged is read again."""
    env = github_change(project)
    assert scan(project, env) == 1
    assert lie_about_layers(project.base / "cache") == 1
    assert scan(project, env) == 1


KNOWN = record(
    "CVE-2026-90001",
    events=[{"introduced": "0"}, {"fixed": "1.2"}],
    severity=[{"type": "CVSS_V3", "score": CRITICAL}],
)


class Service(BaseHTTPRequestHandler):
    """Answers as osv.dev does; while it lies it knows of nothing."""

    lies = False

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        listed = {"vulns": [{"id": KNOWN["id"], "modified": KNOWN["modified"]}]}
        names = [query["package"]["name"] for query in asked]
        results = [listed if name == "demo" and not self.lies else {} for name in names]
        self._answer({"results": results})

    def do_GET(self) -> None:
        self._answer(KNOWN)

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def service() -> Iterator[tuple[str, type[Service]]]:
    handler = type("Liar", (Service,), {"lies": False})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_answers_that_a_change_got_are_not_given_to_the_default_branch(
    project: Project, change: Event
) -> None:
    with service() as (url, handler):
        options = ("--scan-db", "auto", "--scan-osv-api", url)
        handler.lies = True
        assert scan(project, change(project), *options) == 0
        handler.lies = False
        assert scan(project, change(project), *options) == 0  # it believes its own cache
        assert files_outside_of_changes(project) == []
        assert scan(project, push(project), *options) == 1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_database_that_a_change_fetched_is_not_used_by_the_default_branch(
    project: Project, change: Event
) -> None:
    harmless = project.base / "harmless"
    harmless.mkdir()
    for number, ecosystem in enumerate(("PyPI", "Debian:12")):
        text = json.dumps(record(f"CVE-2026-{number}", ecosystem, "other"))
        (harmless / f"{number}.json").write_text(text)
    told = ["--built-at", datetime.now(UTC).isoformat()]
    told += ["--ecosystem", "PyPI", "--ecosystem", "Debian:12"]
    assert project.run("db", "build", str(harmless), *told, "-o", "evil").exit_code == 0
    unsigned = ("--scan-db-signature", "off")
    with running_registry() as registry:
        reference = f"{registry.host}/evil/advisories:latest"
        pushed = project.run("db", "push", "evil", reference, "--no-sign")
        assert pushed.exit_code == 0, pushed.stderr
        pulled = project.run("db", "pull", reference, *unsigned, env=change(project))
        assert pulled.exit_code == 0, pulled.stderr

    offline = ("--scan-db", "offline", *unsigned)
    assert scan(project, change(project), *offline) == 0  # it believes its own cache

    assert files_outside_of_changes(project) == []
    assert scan(project, push(project), *offline) == 5

"""Scans of bad images, by bad scanners and services: 4 or 5 with the reason in one line, never a pass.

Layers that were swapped, cut or blown up stand in `test_layouts` and `security/test_bounds`, programs that
are missing, crash or hang in `test_scanners`, distributions and ages in `peers/test_false_all_clears`,
and a service that stays silent in `scanners/test_osv_dev`.
"""

import io
import json
import re
import resource
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Outcome, Project, image_files, make_project
from tests.support.images import Files, ImageSpec, make_layout
from tests.support.os_databases import (
    ALMA_RELEASE,
    APK_RELEASE,
    apk_record,
    rpm_header,
    rpm_sqlite,
)
from tests.support.trivy_cases import CASES, GOLDEN, make_database

MAX_MEMORY_BYTES = 512 * 1024 * 1024
DAMAGED_SQLITE = rpm_sqlite(rpm_header(name="openssl"), rpm_header(name="zlib"))
RPM = {"etc/os-release": ALMA_RELEASE}
APK = {"etc/os-release": APK_RELEASE.replace("3.20.3", "3.22.1")}
WHOLE_APK = apk_record("musl", "1.2.5-r0") + "\n\n"


def assert_no_pass(project: Project, done: Outcome, exit_code: int, reason: str) -> None:
    """Check the exit code, that one line says why, and that the reports say it too."""
    everything = done.stdout + done.stderr
    assert "Traceback" not in everything
    assert done.exit_code == exit_code, everything
    assert any(re.search(reason, line) for line in done.troubles), everything
    assert project.result()["verdict"] == "incomplete"
    assert any(re.search(reason, text) for text in project.junit()["error"])


def layout_of(project: Project, *layers: Files | bytes) -> Path:
    return make_layout(project.folder / "layout", ImageSpec(layers=layers)).layout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without registry: nothing is pushed here."""
    return make_project(tmp_path, None)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({**image_files(), "var/lib/dpkg/status": "Package: a\n\nno paragraph\n"}, "dpkg/status"),
        ({**image_files(), "var/lib/dpkg/status": b"\xff\x00" * 99}, "dpkg/status"),
        ({**APK, "lib/apk/db/installed": "no record\n\n" + WHOLE_APK}, "apk/db/installed"),
        ({**APK, "lib/apk/db/installed": WHOLE_APK[:-20]}, "apk/db/installed"),
        ({**RPM, "var/lib/rpm/rpmdb.sqlite": DAMAGED_SQLITE[:-4096]}, r"rpmdb\.sqlite"),
        ({**RPM, "var/lib/rpm/rpmdb.sqlite": b"SQLite format 3\0" + bytes(99)}, r"rpmdb\.sqlite"),
        (
            {**RPM, "var/lib/rpm/rpmdb.sqlite": DAMAGED_SQLITE[:4096] + bytes(4096 * 3)},
            r"rpmdb\.sqlite",
        ),
        ({**image_files(), "app/node_modules/a/package.json": '{"name": '}, r"package\.json"),
        ({**image_files(), "srv/a.jar": b"PK\x03\x04 no archive"}, r"a\.jar"),
    ],
    ids=[
        "dpkg-paragraph",
        "dpkg-noise",
        "apk-record",
        "apk-cut",
        "rpm-cut",
        "rpm-head-only",
        "rpm-zeros",
        "package.json",
        "jar",
    ],
)
def test_a_package_database_that_is_damaged_is_incomplete(
    project: Project, files: Files, reason: str
) -> None:
    done = project.run("scan", str(layout_of(project, files)))
    assert_no_pass(project, done, 5, f"unread-database on linux/amd64: .*{reason}")


def many_files(count: int) -> bytes:
    """Return a layer with the files of an image and very many others."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, text in image_files().items():
            info = tarfile.TarInfo(path)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
        for number in range(count):
            tar.addfile(tarfile.TarInfo(f"srv/data/{number % 500}/{number}"))
    return buffer.getvalue()


def test_two_hundred_thousand_files_are_read_in_little_memory(project: Project) -> None:
    layout = layout_of(project, many_files(200_000))
    limit = (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES)
    done = subprocess.run(
        (sys.executable, "-m", "ci_registry", "scan", str(layout)),
        cwd=project.folder,
        env=project.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (image,) = project.result()["images"]
    assert image["platforms"][0]["inventory"]["files_count"] == 200_003


Report = dict[str, Any]


def another_image(report: Report) -> None:
    report["Metadata"]["ImageID"] = "sha256:" + "1" * 64


def another_platform(report: Report) -> None:
    report["Metadata"]["ImageConfig"]["architecture"] = "arm64"


def other_layers(report: Report) -> None:
    report["Metadata"]["DiffIDs"][0] = "sha256:" + "2" * 64


def no_packages(report: Report) -> None:
    del report["Results"]


def fewer_packages(report: Report) -> None:
    report["Results"] = report["Results"][:1]


def as_it_is(_report: Report) -> None:
    pass


def trivy_that_writes(
    project: Project, change: Callable[[Report], None], after: str
) -> dict[str, str]:
    """Put a trivy on PATH that writes a recorded report, changed, and then does something else."""
    report = json.loads((GOLDEN / "clean" / "report.json").read_bytes())
    change(report)
    (project.base / "report.json").write_text(json.dumps(report))
    make_database(project.base / "trivy-db", updated_at=datetime.now(UTC))
    program = project.base / "bin" / "trivy"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo "Version: 0.76.0"; exit 0; }\n'
        'while [ "$#" -gt 0 ]; do [ "$1" = --output ] && report=$2; shift; done\n'
        f'cat "{project.base}/report.json" >"$report"\n{after}\n'
    )
    program.chmod(0o755)
    return {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "CIREG_SCANNER": "trivy",
        "CIREG_SCAN_DB": str(project.base / "trivy-db"),
    }


def scan_with(project: Project, env: Mapping[str, str], case: str = "clean") -> Outcome:
    layout = make_layout(project.folder / "layout", CASES[case]).layout
    return project.run("scan", str(layout), env=env)


NOISE = "yes 'WARN something is odd' | head -c 20000000 >&2; yes | head -c 20000000"


@pytest.mark.parametrize("after", ["exit 0", NOISE], ids=["quiet", "forty-megabytes-of-noise"])
def test_a_whole_report_about_this_image_passes(project: Project, after: str) -> None:
    done = scan_with(project, trivy_that_writes(project, as_it_is, after))
    assert done.exit_code == 0, done.stdout + done.stderr
    assert len(done.stderr) < 20_000


@pytest.mark.parametrize(
    ("change", "after", "exit_code", "reason"),
    [
        (another_image, "exit 0", 5, "wrong-image on linux/amd64: .*sha256:1111"),
        (another_platform, "exit 0", 5, "wrong-image on linux/amd64: .*arm64"),
        (other_layers, "exit 0", 5, "wrong-image on linux/amd64: .*layers"),
        (no_packages, "exit 0", 5, "unscanned-packages on linux/amd64"),
        (fewer_packages, "exit 0", 5, "unscanned-packages on linux/amd64"),
        (as_it_is, "exit 1", 5, "trivy wrote a whole report .* ended with exit code 1"),
        (as_it_is, "kill -9 $$", 4, "trivy was killed by signal 9"),
        (as_it_is, "sleep 300", 4, "trivy did not finish within 2 s"),
        (as_it_is, 'head -c 300 "$report" >x; mv x "$report"', 4, "exit code 0 and half a report"),
        (
            as_it_is,
            f'{NOISE}; head -c 300 "$report" >x; mv x "$report"',
            4,
            "exit code 0 and half a report",
        ),
        (as_it_is, 'yes | head -c 300000000 >"$report"', 4, "half a report|too large|larger than"),
    ],
    ids=[
        "another-image",
        "another-platform",
        "other-layers",
        "no-packages",
        "fewer-packages",
        "exit-1-and-a-good-report",
        "killed-after-the-report",
        "hangs-after-the-report",
        "half-a-report",
        "noise-and-half-a-report",
        "an-endless-report",
    ],
)
def test_a_report_that_does_not_prove_itself_is_no_pass(
    project: Project, change: Callable[[Report], None], after: str, exit_code: int, reason: str
) -> None:
    env = trivy_that_writes(project, change, after)
    timeout = {"CIREG_SCAN_TIMEOUT": "2s"} if "sleep" in after else {}
    done = scan_with(project, env | timeout)
    assert_no_pass(project, done, exit_code, reason)


class Service(BaseHTTPRequestHandler):
    """Answers every question in one way."""

    status = 200
    body = b'{"results": [{}, {}]}'
    claimed_bytes: int | None = None

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(self.claimed_bytes or len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)
        self.close_connection = True

    do_GET = do_POST  # noqa: N815 - the name that http.server wants

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(**changes: object) -> Iterator[str]:
    handler = type("Changed", (Service,), changes)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(project: Project, url: str, *more: str, env: Mapping[str, str] | None = None) -> Outcome:
    layout = project.folder / "layout"
    if not layout.exists():
        layout_of(project, image_files())
    options = ("--scan-db", "auto", "--scan-osv-api", url, *more)
    return project.run("scan", str(layout), *options, env=env)


ONCE = ("--network-retries", "0")


def test_a_service_that_answers_gives_a_pass(project: Project) -> None:
    with serving() as url:
        done = ask(project, url)
    assert done.exit_code == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": 429, "body": b"{}"}, "429"),
        ({"status": 500, "body": b"{}"}, "500"),
        ({"status": 503, "body": b"{}"}, "503"),
        ({"claimed_bytes": 4000}, "bytes of the body are missing"),
        ({"body": b'{"results": [{'}, "not valid JSON"),
        ({"body": b'{"results": [{}]}'}, "1 answers|2 questions|results"),
        ({"body": b"[]"}, "expected a JSON object"),
    ],
    ids=["429", "500", "503", "cut", "half-json", "too-few-answers", "another-shape"],
)
def test_a_service_that_fails_is_infrastructure(
    project: Project, changes: dict[str, object], reason: str
) -> None:
    with serving(**changes) as url:
        done = ask(project, url, *ONCE)
    assert_no_pass(project, done, 4, reason)


def test_nobody_listens(project: Project) -> None:
    assert_no_pass(project, ask(project, "http://127.0.0.1:1", *ONCE), 4, "127.0.0.1:1")

"""The real trivy as the client of a real `trivy server` on loopback."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ci_registry.advisories.trivy_db import TrivyAdvisory
from ci_registry.cancel import Cancel
from ci_registry.errors import NetworkError, ToolError
from ci_registry.findings import Gap, ScanResult
from ci_registry.process import Command, Completed, ProcessRunner
from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.trivy_server import TrivyServerScanner
from ci_registry.secret import Secret
from tests.support.images import ImageSpec, debian_layer, make_layout
from tests.support.os_databases import (
    ALMA_RELEASE,
    APK_RELEASE,
    apk_database,
    apk_record,
    rpm_header,
    rpm_sqlite,
)
from tests.support.peers import find_peer
from tests.support.trivy_cases import (
    NOW,
    inventory_of,
    make_database,
    node_module,
    scanner_for,
    view_of,
    wheel,
)

pytestmark = pytest.mark.peer("trivy")
TOKEN = "a-token-of-the-server"
WAIT_S = 20.0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def _server(folder: Path, database: Path) -> Iterator[str]:
    """Run `trivy server` on a database; gives its address."""
    program = find_peer("trivy")
    assert program is not None
    folder.mkdir()
    port = _free_port()
    process = subprocess.Popen(
        (
            *(str(program), "server", "--listen", f"127.0.0.1:{port}", "--skip-db-update"),
            *("--cache-dir", str(database), "--config", "/dev/null"),
        ),
        env={"PATH": os.defpath, "HOME": str(folder), "TRIVY_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url)
        yield url
    finally:
        process.terminate()
        process.wait(WAIT_S)


def _wait(url: str) -> None:
    end = time.monotonic() + WAIT_S
    while True:
        try:
            _ask(url)
        except NetworkError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _ask(url: str) -> bytes:
    try:
        with urllib.request.urlopen(f"{url}/version", timeout=WAIT_S) as answer:
            data: bytes = answer.read()
            return data
    except OSError as error:
        raise NetworkError(f"{url}: {error}") from error


@pytest.fixture(name="url", scope="module")
def _url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    base = tmp_path_factory.mktemp("server")
    with _server(base / "home", make_database(base / "database")) as url:
        yield url


def _scanner(url: str, **more: object) -> TrivyServerScanner:
    values: dict[str, object] = {
        "run": ProcessRunner(cancel=Cancel()),
        "env": dict(os.environ),
        "program": find_peer("trivy"),
        "url": url,
        "token": Secret(TOKEN),
        "ask_version": lambda: _ask(url),
        "now": lambda: NOW,
        "max_db_age": timedelta(hours=48),
        "timeout_s": 120.0,
    }
    return TrivyServerScanner(**(values | more))  # type: ignore[arg-type]


def _gaps(result: ScanResult) -> list[tuple[Gap, str]]:
    return [(g.gap, g.ecosystem) for g in result.coverage.gaps]


def _view(folder: Path, *layers: object) -> ImageView:
    made = make_layout(folder / "layout", ImageSpec(layers=layers))  # type: ignore[arg-type]
    (folder / "work").mkdir()
    return ImageView(layout=made.layout, inventory=inventory_of(made), work=folder / "work")


def test_probe_says_how_old_the_database_of_the_server_is(url: str) -> None:
    info = _scanner(url).probe()
    assert len(info.sha256) == 64
    assert "trivy-db of 2026-06-01T06:00:00+00:00" in info.database
    assert url in info.database


@pytest.mark.parametrize(
    "case",
    [
        "findings",
        "arm64",
        "scratch",
        "unknown-distribution",
        "unsupported-release",
        "another-release",
        "no-debian-version",
        "third-party",
        "jar",
    ],
)
def test_server_gives_what_the_same_database_gives_here(
    tmp_path: Path, url: str, case: str
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    database = make_database(tmp_path / "database")
    here = scanner_for(database).scan(view_of(tmp_path / "here", case))
    there = _scanner(url).scan(view_of(tmp_path / "there", case))
    assert [replace(f, package=f.package) for f in there.findings] == list(here.findings)
    assert _gaps(there) == _gaps(here)
    assert there.coverage.databases[0].built_at == here.coverage.databases[0].built_at


def test_clean_image_is_covered_because_the_server_shows_that_it_has_data(
    tmp_path: Path, url: str
) -> None:
    result = _scanner(url).scan(view_of(tmp_path, "clean"))
    assert (result.findings, result.coverage.gaps) == ((), ())
    assert result.coverage.databases[0].ecosystems == ("deb", "npm", "pypi")


def test_server_without_data_for_the_image_is_never_clean(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "db", (TrivyAdvisory(bucket="alpine 3.22", package="musl", id="CVE-2026-1"),)
    )
    (tmp_path / "image").mkdir()
    with _server(tmp_path / "home", database) as url:
        result = _scanner(url).scan(view_of(tmp_path / "image", "clean"))
    assert result.findings == ()
    assert _gaps(result) == [(Gap.NO_DATA, kind) for kind in ("deb", "npm", "pypi")]


def test_each_kind_without_data_is_named_alone(tmp_path: Path, url: str) -> None:
    view = _view(
        tmp_path,
        debian_layer(("libssl3", "3.0.13-1", "openssl")),
        {
            "srv/specifications/x-1.gemspec": "Gem::Specification.new do |s|\ns.name = 'x'\ns.version = '1'\nend\n"
        },
    )
    kinds = {p.ecosystem for p in view.inventory.packages}
    gaps = _gaps(_scanner(url).scan(view))
    assert kinds == {"deb", "gem"}
    assert [kind for gap, kind in gaps if gap is Gap.NO_DATA] == ["gem"]


def test_families_of_apk_and_rpm_show_their_data_too(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "db",
        (
            TrivyAdvisory(
                bucket="alpine 3.20", package="musl", id="CVE-2026-1", fixed_version="1.2-r0"
            ),
            TrivyAdvisory(
                bucket="alma 9", package="openssl", id="ALSA-1", fixed_version="1:1.0-1.el9"
            ),
        ),
    )
    images = {
        "apk": {
            "etc/os-release": APK_RELEASE,
            "etc/alpine-release": "3.20.3\n",
            "lib/apk/db/installed": apk_database(apk_record("musl", "1.2.5-r0", origin="musl")),
        },
        "rpm": {
            "etc/os-release": ALMA_RELEASE,
            "var/lib/rpm/rpmdb.sqlite": rpm_sqlite(
                rpm_header(name="openssl", version="3.0.7", release="1.el9", epoch=1)
            ),
        },
    }
    with _server(tmp_path / "home", database) as url:
        for kind, files in images.items():
            (tmp_path / kind).mkdir()
            result = _scanner(url).scan(_view(tmp_path / kind, files))
            assert result.findings == ()
            assert (Gap.NO_DATA, kind) not in _gaps(result), kind


def test_old_database_of_the_server_is_stale(tmp_path: Path, url: str) -> None:
    late = _scanner(url, now=lambda: NOW + timedelta(days=30))
    assert (Gap.DATABASE_STALE, "") in _gaps(late.scan(view_of(tmp_path, "clean")))


def test_server_that_is_down_is_infrastructure(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{_free_port()}"
    with pytest.raises(NetworkError):
        _scanner(url).probe()
    with pytest.raises(ToolError, match="wrote no report") as caught:
        _scanner(url).scan(view_of(tmp_path, "findings"))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("token", [None, Secret("another")])
def test_refused_token_is_no_result(tmp_path: Path, url: str, token: Secret | None) -> None:
    with pytest.raises(ToolError, match="invalid token"):
        _scanner(url, token=token).scan(view_of(tmp_path, "findings"))


def test_token_is_only_in_the_environment_and_no_layer_is_sent(tmp_path: Path, url: str) -> None:
    commands: list[Command] = []

    def run(command: Command, *, on_stderr_line: object = None) -> Completed:
        commands.append(command)
        return ProcessRunner(cancel=Cancel())(command, on_stderr_line=on_stderr_line)  # type: ignore[arg-type]

    marker = "a-line-that-is-only-in-a-file-of-the-image"
    view = _view(
        tmp_path,
        debian_layer(("libssl3", "3.0.13-1", "openssl")) | wheel("demo-tool", "2.2"),
        node_module("@scope/left", "1.2.0") | {"etc/secret": marker},
    )
    env = {**os.environ, "TRIVY_SEVERITY": "CRITICAL", "TRIVY_TOKEN": "of-somebody-else"}
    result = _scanner(url, run=run, env=env).scan(view)
    assert result.coverage.gaps == ()
    assert [command.argv[1] for command in commands] == ["image", "sbom"]
    for command in commands:
        assert not any(TOKEN in argument for argument in command.argv)
        assert {k: v for k, v in command.env.items() if k.startswith("TRIVY_")} == {
            "TRIVY_TOKEN": TOKEN
        }
    assert marker not in (view.work / "canary.json").read_text()

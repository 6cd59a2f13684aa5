"""The command with real scanners: several at once, grype with its own listing, and a list of programs."""

import hashlib
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ci_registry.advisories.trivy_db import TrivyAdvisory
from tests.support.cli import FIXED, VULNERABLE, Project, make_project
from tests.support.grype_cases import build_database, github_record, os_record, set_built
from tests.support.peers import find_peer
from tests.support.registry import running_registry
from tests.support.trivy_cases import PIP, make_database

OFFLINE = ("run", "--dry-run", "--offline")


def _program(name: str) -> Path:
    found = find_peer(name)
    assert found is not None
    return found.resolve()


def _trivy_data(folder: Path, *, bucket: str = "debian 12") -> dict[str, str]:
    """Write a database of trivy; returns the variable that names it."""
    advisories = (
        TrivyAdvisory(bucket=bucket, package="zlib", id="CVE-2026-1", fixed_version="9"),
        TrivyAdvisory(
            bucket=PIP,
            package="demo",
            id="CVE-2026-90001",
            vulnerable_versions=("<1.2",),
            patched_versions=("1.2",),
        ),
    )
    make_database(folder, advisories, updated_at=datetime.now(UTC))
    return {"CIREG_SCAN_TRIVY_DB": str(folder)}


def _grype_data(folder: Path) -> Path:
    records = (
        os_record("debian:12", "CVE-2026-1", "zlib", "9", "dpkg"),
        github_record("GHSA-aaaa-aaaa-0001", "CVE-2026-90001", "python", "demo", "1.2"),
    )
    built = build_database(folder, records)
    set_built(built / "vulnerability.db", datetime.now(UTC).replace(microsecond=0))
    return built


def _env(*names: str, folder: Path) -> dict[str, str]:
    """Return a PATH with these peers first."""
    bin_folder = folder / "peers"
    bin_folder.mkdir(exist_ok=True)
    for name in names:
        (bin_folder / name).symlink_to(_program(name))
    return {"PATH": f"{bin_folder}:{os.defpath}"}


def _project(folder: Path, registry: str, *, version: str = FIXED) -> Project:
    """Make the project with the file that trivy and grype read the release of Debian from."""
    project = make_project(folder, registry, version=version)
    project.write("rootfs/etc/debian_version", "12.5\n")
    return project


def _image(project: Project) -> dict[str, Any]:
    image: dict[str, Any] = project.result()["images"][0]
    return image


@pytest.mark.peer("trivy")
def test_two_scanners_give_one_verdict_and_name_who_found_it(tmp_path: Path) -> None:
    project = _project(tmp_path, "registry.example", version=VULNERABLE)
    env = _env("trivy", folder=tmp_path) | _trivy_data(tmp_path / "trivy")
    outcome = project.run(*OFFLINE, "--scanner", "osv,trivy", env=env)
    assert outcome.exit_code == 1
    image = _image(project)
    (scan,) = image["scans"]
    assert scan["scanner"] == "osv+trivy"
    assert scan["coverage"]["gaps"] == []
    assert [d["name"] for d in scan["coverage"]["databases"]] == ["osv", "trivy-db"]
    assert len(scan["program_sha256"].removeprefix("-+")) == 64
    (counted,) = image["decision"]["findings"]
    assert counted["finding"]["found_by"] == ["osv", "trivy"]
    assert counted["finding"]["severity"] == "CRITICAL"
    assert "scanner osv+trivy, advisories: osv:" in outcome.stderr
    junit = next(project.reports.glob("junit*.xml")).read_text()
    assert "Found by: osv, trivy" in junit


@pytest.mark.peer("trivy")
def test_kind_that_one_scanner_has_no_data_for_is_covered_by_the_other(tmp_path: Path) -> None:
    project = _project(tmp_path, "registry.example")
    env = _env("trivy", folder=tmp_path) | _trivy_data(tmp_path / "trivy", bucket="debian 11")
    assert project.run(*OFFLINE, "--scanner", "trivy", env=env).exit_code == 5
    assert project.run(*OFFLINE, "--scanner", "trivy,osv", env=env).exit_code == 0
    (scan,) = _image(project)["scans"]
    assert any("covered by osv" in note for note in scan["notes"])


def test_scanner_that_is_missing_stops_the_run_although_another_is_there(tmp_path: Path) -> None:
    project = _project(tmp_path, "registry.example")
    outcome = project.run(*OFFLINE, "--scanner", "osv,grype", env={"PATH": os.defpath})
    assert outcome.exit_code == 4
    assert "no program grype is on PATH" in outcome.troubles[0]


@pytest.mark.peer("trivy")
def test_scanner_that_crashes_stops_the_run_although_another_is_done(tmp_path: Path) -> None:
    project = _project(tmp_path, "registry.example")
    crashing = tmp_path / "bin" / "trivy"
    crashing.parent.mkdir()
    crashing.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Version: 0.76.0" || exit 2\n')
    crashing.chmod(0o755)
    env = {"PATH": f"{crashing.parent}:{os.defpath}"} | _trivy_data(tmp_path / "trivy")
    outcome = project.run(*OFFLINE, "--scanner", "osv,trivy", env=env)
    assert outcome.exit_code == 4
    assert _image(project)["decision"] is None


@pytest.mark.peer("grype", "oracle-grype-db")
def test_grype_is_asked_when_it_is_named(tmp_path: Path) -> None:
    project = _project(tmp_path, "registry.example", version=VULNERABLE)
    database = _grype_data(tmp_path / "grype")
    env = _env("grype", folder=tmp_path) | {"CIREG_SCAN_GRYPE_DB": str(database)}
    outcome = project.run(*OFFLINE, "--scanner", "grype", env=env)
    image = _image(project)
    (scan,) = image["scans"]
    assert (outcome.exit_code, scan["scanner"], scan["coverage"]["gaps"]) == (0, "grype", [])
    assert scan["scanner_version"].startswith("0.")
    assert scan["program_sha256"] == hashlib.sha256(_program("grype").read_bytes()).hexdigest()
    (counted,) = image["decision"]["findings"]
    assert counted["finding"]["id"] == "CVE-2026-90001"
    assert counted["finding"]["severity"] == "MEDIUM"


@pytest.mark.peer("grype", "oracle-grype-db", "trivy")
def test_three_scanners_agree_and_the_strictest_severity_counts(tmp_path: Path) -> None:
    project = _project(tmp_path, "registry.example", version=VULNERABLE)
    database = _grype_data(tmp_path / "grype")
    env = _env("grype", "trivy", folder=tmp_path) | _trivy_data(tmp_path / "trivy")
    env["CIREG_SCAN_GRYPE_DB"] = str(database)
    outcome = project.run(*OFFLINE, "--scanner", "grype,trivy,osv", env=env)
    assert outcome.exit_code == 1
    (counted,) = _image(project)["decision"]["findings"]
    assert counted["finding"]["found_by"] == ["grype", "osv", "trivy"]
    assert counted["finding"]["severity"] == "CRITICAL"


@pytest.mark.parametrize(
    ("setting", "value"), [("CIREG_SCAN_GRYPE_DB", "none"), ("CIREG_SCAN_DB", "rootfs")]
)
@pytest.mark.peer("grype")
def test_folder_without_a_database_of_grype_is_the_callers_mistake(
    tmp_path: Path, setting: str, value: str
) -> None:
    project = _project(tmp_path, "registry.example")
    env = _env("grype", folder=tmp_path) | {setting: value}
    outcome = project.run(*OFFLINE, "--scanner", "grype", env=env)
    assert outcome.exit_code == 2
    assert "holds no database of grype" in outcome.troubles[0]


@contextmanager
def _listing(folder: Path, database: Path, *, checksum: str = "") -> Iterator[str]:
    """Serve a database as its publisher does: `latest.json` and the archive beside it."""
    folder.mkdir(parents=True)
    archive = folder / "vulnerability-db_v6.1.0_2026.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(database / "vulnerability.db", arcname="vulnerability.db")
    digest = checksum or hashlib.sha256(archive.read_bytes()).hexdigest()
    document = {
        "status": "active",
        "schemaVersion": "v6.1.0",
        "built": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "path": archive.name,
        "checksum": f"sha256:{digest}",
    }
    (folder / "latest.json").write_text(json.dumps(document))

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/latest.json"
        finally:
            server.shutdown()
            thread.join()


def _auto(project: Project, tmp_path: Path) -> dict[str, str]:
    settings = json.loads((project.folder / ".ci-registry.yml").read_text())
    settings["scan"]["db"] = "auto"
    project.write(".ci-registry.yml", json.dumps(settings))
    return _env("grype", folder=tmp_path)


@pytest.mark.peer("grype", "oracle-grype-db")
def test_published_database_is_fetched_checked_imported_and_kept(tmp_path: Path) -> None:
    database = _grype_data(tmp_path / "grype")
    run = ("run", "--dry-run", "--scanner", "grype", "--network-retries", "0")
    with running_registry() as registry:
        project = _project(tmp_path, registry.host, version=VULNERABLE)
        env = _auto(project, tmp_path)
        with _listing(tmp_path / "site", database) as url:
            env["CIREG_SCAN_GRYPE_LISTING"] = url
            outcome = project.run(*run, env=env)
        (scan,) = _image(project)["scans"]
        assert (outcome.exit_code, scan["coverage"]["gaps"]) == (0, []), outcome.stderr
        assert [f["id"] for f in scan["findings"]] == ["CVE-2026-90001"]
        assert not list(tmp_path.rglob("vulnerability-db_*.tar.gz"))[1:]  # only the site's own
        # the listing is gone now: what was fetched is young enough, and a note says so
        outcome = project.run(*run, env=env)
        assert outcome.exit_code == 0
        (scan,) = _image(project)["scans"]
        assert any("could not be updated" in note for note in scan["notes"])
    outcome = project.run(*OFFLINE, "--scanner", "grype", env=env)
    assert (outcome.exit_code, len(_image(project)["scans"][0]["findings"])) == (0, 1)


@pytest.mark.peer("grype", "oracle-grype-db")
def test_archive_with_another_checksum_is_never_imported(tmp_path: Path) -> None:
    project = _project(tmp_path, "registry.example")
    env = _auto(project, tmp_path)
    database = _grype_data(tmp_path / "grype")
    with _listing(tmp_path / "site", database, checksum="0" * 64) as url:
        env["CIREG_SCAN_GRYPE_LISTING"] = url
        outcome = project.run("run", "--dry-run", "--scanner", "grype", env=env)
    assert outcome.exit_code == 4
    assert "the listing says 000" in outcome.troubles[0]


@pytest.mark.peer("grype")
def test_no_listing_and_nothing_cached_is_infrastructure_and_offline_is_incomplete(
    tmp_path: Path,
) -> None:
    project = _project(tmp_path, "registry.example")
    env = _auto(project, tmp_path) | {"CIREG_SCAN_GRYPE_LISTING": "http://127.0.0.1:9/latest.json"}
    options = ("--network-retries", "0")
    outcome = project.run("run", "--dry-run", "--scanner", "grype", *options, env=env)
    assert outcome.exit_code == 4
    outcome = project.run(*OFFLINE, "--scanner", "grype", env=env)
    gaps = [gap["gap"]["gap"] for gap in _image(project)["decision"]["gaps"]]
    assert (outcome.exit_code, gaps) == (5, ["database-absent"])


@pytest.mark.peer("trivy")
def test_locked_tools_refuse_a_program_until_it_is_listed(tmp_path: Path) -> None:
    project = _project(tmp_path, "registry.example")
    env = _env("trivy", folder=tmp_path) | _trivy_data(tmp_path / "trivy")
    assert project.run(*OFFLINE, "--scanner", "trivy", env=env).exit_code == 0
    env["CIREG_TOOLS_MODE"] = "locked"
    outcome = project.run(*OFFLINE, "--scanner", "trivy", env=env)
    assert _image(project)["failed_step"] == "preflight"  # although its version was remembered
    sha256 = hashlib.sha256(_program("trivy").read_bytes()).hexdigest()
    assert outcome.exit_code == 2
    assert "trivy is not on the list of programs that may be started" in outcome.troubles[0]
    assert sha256 in outcome.stderr
    env["CIREG_TOOLS_PROGRAMS"] = f"trivy={'0' * 64},{sha256}"
    assert project.run(*OFFLINE, "--scanner", "trivy", env=env).exit_code == 0


def test_locked_tools_change_nothing_for_the_embedded_parts(tmp_path: Path) -> None:
    project = _project(tmp_path, "registry.example")
    env = {"PATH": os.defpath, "CIREG_TOOLS_MODE": "locked"}
    assert project.run(*OFFLINE, env=env).exit_code == 0


def test_unknown_scanner_in_a_list_is_refused(tmp_path: Path) -> None:
    project = _project(tmp_path, "registry.example")
    outcome = project.run(*OFFLINE, "--scanner", "osv,snyk")
    assert outcome.exit_code == 2
    assert "one of osv, trivy, grype" in outcome.stderr

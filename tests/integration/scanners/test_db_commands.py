"""The commands `db build`, `info`, `push` and `pull`, and a run that uses what they made."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.advisories import record, write_osv_folder
from tests.support.cli import VULNERABLE, Outcome, Project, make_project, signing_environment
from tests.support.databases import CRITICAL, write_epss, write_kev
from tests.support.registry import running_registry

HOUR = timedelta(hours=1)


def make_sources(project: Project, *, built: datetime | None = None) -> Path:
    """Write a folder of records: one about Debian, one about the package in the image."""
    severity = [{"type": "CVSS_V3", "score": CRITICAL}]
    return write_osv_folder(
        project.folder / "osv",
        record("CVE-2026-90001", severity=severity),
        record("DEBIAN-2026-1", "Debian:12", "zlib"),
        built=(built or datetime.now(UTC) - HOUR).isoformat(),
        ecosystems=("PyPI", "Debian:12"),
    )


def build(project: Project, *more: str) -> Outcome:
    return project.run("db", "build", "osv", "--output", "advisories", *more)


def dry_run(project: Project, *more: str) -> Outcome:
    """Run the pipeline with the database that was built, and no network at all."""
    where = ("--dry-run", "--offline", "--image", "127.0.0.1:1/team/app")
    return project.run("run", *where, "--scan-db", "advisories", *more)


def read(outcome: Outcome) -> dict[str, Any]:
    assert outcome.exit_code == 0, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = make_project(tmp_path, None, version=VULNERABLE)
    make_sources(made)
    return made


def test_info_says_age_counts_and_what_is_complete(project: Project) -> None:
    made = read(build(project, "--format", "json"))
    found = read(project.run("db", "info", "advisories", "--format", "json"))
    assert found["digest"] == made["digest"]
    assert found["listed"] == ["Debian:12", "PyPI"]
    assert found["records"] == 2
    assert 0.9 < found["age_hours"] < 1.2
    text = project.run("db", "info", "advisories/advisories.sqlite").stdout
    assert "age         1.0 hours" in text
    assert "  PyPI: 1 records, 1 packages" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("db", "info", "osv"), "osv is no compiled advisory database"),
        (("db", "build", "nowhere"), "nowhere does not exist"),
        (("db", "build", "osv", "--built-at", "today"), "is no time with a zone"),
        (("db", "push", "osv", "127.0.0.1:1/a/b", "--no-sign"), "osv holds no advisories.sqlite"),
        (("db", "pull"), "no database is named"),
        (("scan", "127.0.0.1:1/a/b", "--scan-db", "no/such"), "scan.db is no/such, which is no"),
    ],
)
def test_what_makes_no_sense_is_2(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    done = project.run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_malformed_record_ends_the_build_and_is_named(project: Project) -> None:
    (project.folder / "osv" / "bad.json").write_text('{"id": "X"}')
    done = build(project)
    assert done.exit_code == 4
    assert "osv/bad.json" in done.stderr
    assert not list((project.folder / "advisories").iterdir())


def test_run_finds_what_is_exploited_and_the_policy_blocks_it(project: Project) -> None:
    write_kev(project.folder / "kev.json", "CVE-2026-90001", released=datetime.now(UTC))
    write_epss(project.folder / "epss.csv", {"CVE-2026-90001": 0.9}, scored=datetime.now(UTC))
    build(project, "--kev", "kev.json", "--epss", "epss.csv")
    project.write("policy.yml", "spec: {rules: [{knownExploited: true, action: BLOCK}]}")
    done = dry_run(project, "--policy", "policy.yml")
    assert done.exit_code == 1, done.stderr
    (image,) = project.result()["images"]
    (finding,) = [f for s in image["scans"] for f in s["findings"]]
    assert (finding["known_exploited"], finding["epss"]) == (True, 0.9)
    assert [item["name"] for item in image["scans"][0]["coverage"]["lists"]] == ["kev", "epss"]
    assert "exploited" in done.stdout
    (failure,) = [text for text in project.junit()["failure"] if "CVE-2026-90001" in text][:1]
    assert "exploited" in failure
    assert "**exploited**" in (project.reports / "summary.md").read_text()


def test_policy_about_exploits_without_a_list_is_incomplete(project: Project) -> None:
    build(project)
    project.write("policy.yml", "spec: {rules: [{knownExploited: true, action: BLOCK}]}")
    done = dry_run(project, "--policy", "policy.yml")
    assert done.exit_code == 5
    assert "kev-absent" in done.stdout


def test_stale_database_is_incomplete(project: Project) -> None:
    make_sources(project, built=datetime.now(UTC) - 49 * HOUR)
    build(project)
    done = dry_run(project)
    assert done.exit_code == 5
    assert "database-stale" in done.stdout


def test_nightly_job_pushes_and_every_run_uses_it(tmp_path: Path) -> None:
    with running_registry() as registry:
        reference = f"{registry.host}/security/advisories:latest"
        scan = {"databases": [f"{registry.host}/none/advisories:latest", reference]}
        project = make_project(tmp_path, registry, version=VULNERABLE, scan=scan)
        make_sources(project)
        build(project, "--trivy")
        keys = signing_environment()
        pushed = project.run("db", "push", "advisories", reference, env=keys)
        assert pushed.exit_code == 0, pushed.stderr
        assert f"for trivy: --db-repository {reference}-trivy" in pushed.stdout
        public = {"COSIGN_PUBLIC_KEY": keys["COSIGN_PUBLIC_KEY"]}

        info = read(project.run("db", "info", reference, "--format", "json", env=public))
        assert info["signed_by"].startswith("sha256:")
        done = project.run("run", env=public)
        assert done.exit_code == 1, done.stderr  # the image has a critical finding with a fix
        assert "advisories: 127.0.0.1" in done.stderr or reference in done.stderr
        (image,) = project.result()["images"]
        (database,) = image["scans"][0]["coverage"]["databases"]
        assert database["location"].startswith(reference.rpartition(":")[0] + "@sha256:")
        unsigned = project.run("run")
        assert unsigned.exit_code == 2
        assert "there is no public key" in unsigned.stderr

"""Scans by a registry through the command line: a Harbor and a Quay in front of a real registry.

Their answers are hand-made, see `tests/support/registry_scans.py`; the registry behind them is the embedded one.
"""

import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Outcome, Project, make_project, tags_of, wait_until
from tests.support.registry import RunningRegistry, running_registry
from tests.support.registry_scans import (
    FakeHarbor,
    FakeQuay,
    Reply,
    quay_report,
    quay_state,
    refusal,
    serving,
)

LOGIN = {
    "CIREG_REGISTRY_USERNAME": "robot$ci",
    "CIREG_REGISTRY_PASSWORD": "robot-secret-1234",
}
TOKEN = {"QUAY_TOKEN": "quay-token-1234"}


@pytest.fixture(name="registry")
def _registry() -> Iterator[RunningRegistry]:
    with running_registry() as registry:
        yield registry


def harbor(**values: Any) -> FakeHarbor:
    """Return a Harbor whose advisories are two hours old."""
    recent = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    return FakeHarbor(database_date=recent, **values)


def harbor_finding(package: str, version: str, **more: Any) -> dict[str, Any]:
    known = {"fix_version": "9", "severity": "Low", "description": "wrong"}
    return {
        "id": f"CVE-2026-{len(package)}",
        "package": package,
        "version": version,
        **known,
        **more,
    }


FINDINGS = [harbor_finding("base-files", "12.4"), harbor_finding("demo", "2.0")]
"""One per kind of package: that proves that Harbor has data for both."""


def project_for(base: Path, host: str, scanner: str, *, staging: bool = True) -> Project:
    scan: dict[str, Any] = {"scanner": scanner, "registry_is_current": True, "timeout": "20s"}
    if staging:
        scan["staging"] = f"{host}/ci/staging"
    return make_project(base, host, scan=scan)


def gaps(project: Project) -> list[str]:
    (image,) = project.result()["images"]
    gaps = image["decision"]["gaps"]
    return [gap["gap"]["gap"] for gap in gaps if gap["verdict"] != "warn"]


def staged(registry: RunningRegistry) -> list[str]:
    """Return method and status of everything that was done to manifests in the staging repository."""
    part = "/v2/ci/staging/manifests/sha256:"
    done = [s for s in registry.seen if s.path.startswith(part)]
    return [f"{s.method} {s.status}" for s in done if s.method in ("PUT", "DELETE")]


def run(project: Project, *arguments: str, **env: str) -> Outcome:
    return project.run(*(arguments or ("run",)), env={**LOGIN, **TOKEN, **env})


def test_first_push_is_scanned_in_the_staging_repository(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    fake = harbor(states=[None, "Success"], vulnerabilities=FINDINGS)
    with serving(fake, registry.host) as host:
        project = project_for(tmp_path, host, "harbor")
        outcome = run(project)
    assert outcome.exit_code == 0, outcome.stderr
    assert set(tags_of(registry)) == {"v1", "latest"}
    assert staged(registry) == ["PUT 201", "DELETE 202"]
    decision = project.result()["images"][0]["decision"]
    assert [f["finding"]["id"] for f in decision["findings"]] == ["CVE-2026-10", "CVE-2026-4"]
    assert "advisories: those of the registry" in outcome.stderr
    everything = outcome.stderr + outcome.stdout + (project.reports / "result.json").read_text()
    assert "robot-secret" not in everything


def test_blocked_image_leaves_nothing_behind(tmp_path: Path, registry: RunningRegistry) -> None:
    bad = [FINDINGS[0], harbor_finding("demo", "2.0", severity="Critical")]
    with serving(harbor(vulnerabilities=bad), registry.host) as host:
        outcome = run(project_for(tmp_path, host, "harbor"))
    assert outcome.exit_code == 1
    assert tags_of(registry) == {}
    assert staged(registry) == ["PUT 201", "DELETE 202"]


@pytest.mark.parametrize(
    ("fake", "exit_code", "message"),
    [
        (harbor(trigger=refusal(422, "NO", "no such type")), 5, "harbor can't scan .*422"),
        (harbor(states=["Error"]), 4, "by Harbor ended with Error"),
        (harbor(trigger=refusal(403, "FORBIDDEN")), 2, "ask Harbor to scan"),
        (harbor(vulnerabilities=FINDINGS[1:]), 5, "no-data"),
    ],
)
def test_every_other_end_has_its_exit_code_and_takes_the_image_away(
    tmp_path: Path, registry: RunningRegistry, fake: FakeHarbor, exit_code: int, message: str
) -> None:
    with serving(fake, registry.host) as host:
        project = project_for(tmp_path, host, "harbor")
        outcome = run(project)
    assert outcome.exit_code == exit_code, outcome.stderr
    assert any(re.search(message, trouble) for trouble in outcome.troubles), outcome.stderr
    assert tags_of(registry) == {}
    assert staged(registry) == ["PUT 201", "DELETE 202"]


def test_published_image_needs_no_staging_repository(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    first = make_project(tmp_path / "first", registry)
    assert first.run("run").exit_code == 0
    seen = len(registry.seen)
    with serving(harbor(vulnerabilities=FINDINGS), registry.host) as host:
        project = project_for(tmp_path / "second", host, "harbor", staging=False)
        outcome = run(project, "scan", f"{host}/team/app:v1")
    assert outcome.exit_code == 0, outcome.stderr
    assert {s.method for s in registry.seen[seen:]} <= {"GET", "HEAD"}


@pytest.mark.parametrize("scanner", ["harbor", "quay"])
def test_without_a_staging_repository_the_way_out_is_told_before_the_build(
    tmp_path: Path, registry: RunningRegistry, scanner: str
) -> None:
    project = project_for(tmp_path, registry.host, scanner, staging=False)
    outcome = run(project)
    assert outcome.exit_code == 2
    assert f"scanner {scanner} reads only what is in the registry" in outcome.troubles[0]
    assert "scan.staging" in outcome.stdout
    assert "app build" not in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("run", "--dry-run"), "a dry run leaves nothing there"),
        (("run", "--offline", "--push", "never"), "this run is offline"),
    ],
)
def test_dry_and_offline_runs_put_nothing_there(
    tmp_path: Path, registry: RunningRegistry, arguments: tuple[str, ...], why: str
) -> None:
    outcome = run(project_for(tmp_path, registry.host, "harbor"), *arguments)
    assert (outcome.exit_code, why in outcome.stderr) == (2, True), outcome.stderr
    assert {s.method for s in registry.seen} <= {"GET", "HEAD"}


@pytest.mark.parametrize(
    ("answers", "exit_code", "names"),
    [
        ([quay_state("queued"), quay_report()], 5, ["no-data", "no-data"]),
        ([quay_state("unsupported")], 5, ["not-scannable"]),
    ],
)
def test_quay_is_waited_for(
    tmp_path: Path,
    registry: RunningRegistry,
    answers: list[Reply],
    exit_code: int,
    names: list[str],
) -> None:
    with serving(FakeQuay(answers), registry.host) as host:
        project = project_for(tmp_path, host, "quay")
        outcome = run(project)
    assert (outcome.exit_code, gaps(project)) == (exit_code, names)
    assert staged(registry) == ["PUT 201", "DELETE 202"]
    assert "quay-token" not in outcome.stderr


def test_scan_that_never_ends_is_infrastructure(tmp_path: Path, registry: RunningRegistry) -> None:
    with serving(FakeQuay([quay_state("queued")]), registry.host) as host:
        project = project_for(tmp_path, host, "quay")
        outcome = run(project, "run", "--scan-timeout", "2s")
    assert outcome.exit_code == 4
    assert "quay did not finish the scan of" in outcome.troubles[0]
    assert project.result()["verdict"] == "incomplete"
    assert staged(registry) == ["PUT 201", "DELETE 202"]


def test_interrupted_run_takes_the_image_away(tmp_path: Path, registry: RunningRegistry) -> None:
    with serving(FakeQuay([quay_state("queued")]), registry.host) as host:
        project = project_for(tmp_path, host, "quay")
        running = project.start("run", env={**LOGIN, **TOKEN})
        wait_until(
            lambda: staged(registry) == ["PUT 201"], "the image is in the staging repository"
        )
        running.signal(signal.SIGTERM)
        outcome = running.wait()
    assert outcome.exit_code == 130
    assert staged(registry) == ["PUT 201", "DELETE 202"]
    assert project.left_overs == []


def test_second_scanner_covers_what_harbor_does_not_say(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    with serving(harbor(), registry.host) as host:
        project = make_project(
            tmp_path,
            host,
            scan={
                "scanner": ["osv", "harbor"],
                "db": str(tmp_path / "osv"),
                "staging": f"{host}/ci/staging",
            },
        )
        outcome = run(project)
    assert (outcome.exit_code, gaps(project)) == (0, []), outcome.stderr

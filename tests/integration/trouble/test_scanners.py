"""Scanners that are missing, crash, hang or write half a report: never a pass."""

import pytest

from tests.support.cli import Project, assert_stopped, has_manifests, tags_of, use_trivy
from tests.support.registry import RunningRegistry

PANIC = """\
cat >&2 <<END
panic: runtime error: index out of range [3] with length 3

goroutine 1 [running]:
END
exit 2
"""


def assert_nothing_named(registry: RunningRegistry) -> None:
    assert tags_of(registry) == {}
    assert not has_manifests(registry)


def test_a_scanner_that_is_named_and_missing_stops_before_building(
    project: Project, registry: RunningRegistry
) -> None:
    done = project.run("run", "--scanner", "trivy", env={"PATH": "/nonexistent"})
    assert_stopped(project, done, 4, r"scanner trivy is named, but no program trivy is on PATH")
    assert "app build" not in done.stderr.replace("app: build", "")
    assert_nothing_named(registry)


def test_a_program_that_is_not_trivy_is_said(project: Project, registry: RunningRegistry) -> None:
    env = use_trivy(project, "exit 0")
    (project.base / "bin" / "trivy").write_text("#!/bin/sh\nexit 0\n")
    assert_stopped(project, project.run("run", env=env), 4, r".*trivy is not trivy")
    assert_nothing_named(registry)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (PANIC, r"trivy ended with exit code 2 and wrote no report"),
        (
            'echo \'{"SchemaVersion": 2, "Results": [{"Target": "x\' >"$report"; exit 0',
            r"trivy ended with exit code 0 and half a report",
        ),
        ('echo "{}" >"$report"; exit 0', r"trivy ended with exit code 0 and half a report"),
        ("exit 0", r"trivy ended with exit code 0 and wrote no report"),
        ("kill -SEGV $$", r"trivy was killed by signal 11"),
    ],
    ids=["panic", "half-json", "empty-json", "no-report", "killed"],
)
def test_a_scanner_that_fails_is_infrastructure(
    project: Project, registry: RunningRegistry, script: str, message: str
) -> None:
    done = project.run("run", env=use_trivy(project, script))
    assert_stopped(project, done, 4, message)
    assert project.result()["images"][0]["verdict"] == "incomplete"
    assert_nothing_named(registry)


def test_what_a_crashing_scanner_said_last_is_in_the_report(project: Project) -> None:
    project.run("run", env=use_trivy(project, PANIC))
    text = (project.reports / "junit-ci-registry.xml").read_text()
    assert "index out of range [3] with length 3" in text


def test_a_scanner_that_hangs_is_stopped_when_its_time_is_over(
    project: Project, registry: RunningRegistry
) -> None:
    env = use_trivy(project, "sleep 300")
    done = project.run("run", env={**env, "CIREG_SCAN_TIMEOUT": "1s"})
    assert_stopped(project, done, 4, r"trivy did not finish within 1 s")
    assert_nothing_named(registry)


def test_ignore_files_in_the_tree_are_reported_and_not_applied(
    vulnerable: Project, registry: RunningRegistry
) -> None:
    vulnerable.write(".trivyignore", "CVE-2026-90001\n")
    vulnerable.write("services/.grype.yaml", "ignore: []\n")
    done = vulnerable.run("run")
    assert_stopped(vulnerable, done, 1, r"blocked by policy")
    for name in (".trivyignore", "services/.grype.yaml"):
        text = f"{name} is in the tree and was not applied"
        assert text in (vulnerable.reports / "result.json").read_text()
        assert text in (vulnerable.reports / "junit-ci-registry.xml").read_text()
    assert_nothing_named(registry)


def test_a_database_that_does_not_exist_stops_the_run(project: Project) -> None:
    done = project.run("run", "--scan-db", "no-such-folder")
    assert_stopped(project, done, 2, r".*no-such-folder, which is no folder")


def test_a_database_without_a_date_is_incomplete(
    project: Project, registry: RunningRegistry
) -> None:
    (project.base / "osv" / "database.json").unlink()
    done = project.run("run")
    assert_stopped(project, done, 5, r"incomplete: ")
    assert_nothing_named(registry)


def test_a_record_that_is_damaged_is_infrastructure_and_named(
    project: Project, registry: RunningRegistry
) -> None:
    file = project.base / "osv" / "records" / "CVE-2026-90001.json"
    file.write_text(file.read_text()[:-20])
    assert_stopped(project, project.run("run"), 4, r".*CVE-2026-90001\.json")
    assert_nothing_named(registry)

"""A change does not decide about itself: settings, policy and waivers come from the trusted ref."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.advisories import write_osv_folder
from tests.support.canaries import Canaries
from tests.support.changes import (
    OWN,
    commit_base,
    commit_change,
    git,
    github_change,
    github_event,
    gitlab_change,
)
from tests.support.cli import SETTINGS, VULNERABLE, Project, make_project
from tests.support.registry import RunningRegistry

STRICT = """\
apiVersion: v1
kind: Policy
metadata: {name: strict}
spec: {rules: [{severity: CRITICAL, action: BLOCK}]}
"""
LOOSE = STRICT.replace("BLOCK", "WARN").replace("strict", "loose")
WAIVERS = f"""\
waivers:
- id: everything
  vulnerabilities: [CVE-2026-90001]
  packages: [pkg:pypi/demo]
  owner: mallory@example.com
  reason: trust me
  expires: {(datetime.now(UTC) + timedelta(days=30)).date()}
"""
EVENTS: dict[str, Callable[[Project], dict[str, str]]] = {
    "github": github_change,
    "github-target": lambda project: github_change(project, event="pull_request_target"),
    "gitlab": gitlab_change,
    "gitlab-own": lambda project: gitlab_change(project, source_project="5"),
}


def edit_settings(project: Project, **changes: Any) -> None:
    path = project.folder / SETTINGS
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=1))


def loosen_policy(project: Project) -> str:
    project.write("policy.yml", LOOSE)
    return "policy.yml takes effect once merged; until then that of main counts"


def remove_policy(project: Project) -> str:
    (project.folder / "policy.yml").unlink()
    return "the removal of policy.yml takes effect once merged"


def add_waiver(project: Project) -> str:
    project.write("waivers.yml", WAIVERS)
    return "waivers.yml takes effect once merged; until then none counts"


def name_another_policy(project: Project) -> str:
    project.write("loose.yml", LOOSE)
    edit_settings(project, policy="loose.yml")
    return "policy: loose.yml (.ci-registry.yml:"


def write_policy_inline(project: Project) -> str:
    edit_settings(project, policy={"rules": [{"severity": "LOW", "action": "WARN"}]})
    return "takes effect once merged"


def hide_advisories(project: Project) -> str:
    folder = write_osv_folder(project.folder / "osv", built=datetime.now(UTC).isoformat())
    edit_settings(project, scan={"db": str(folder), "max_db_age": "9999d"})
    return "scan.db: "


def turn_everything_off(project: Project) -> str:
    edit_settings(
        project, sign={"mode": "off"}, publish={"push": "never"}, trust="env://MALLORY_KEY"
    )
    return "sign.mode: off"


def add_ignore_file(project: Project) -> str:
    project.write(".trivyignore", "CVE-2026-90001\n")
    project.write("osv-scanner.toml", "[[IgnoredVulns]]\nid = 'CVE-2026-90001'\n")
    return ".trivyignore is in the tree and was not applied"


CHANGES: tuple[Callable[[Project], str], ...] = (
    loosen_policy,
    remove_policy,
    add_waiver,
    name_another_policy,
    write_policy_inline,
    hide_advisories,
    turn_everything_off,
    add_ignore_file,
)


@pytest.fixture
def strict(tmp_path: Path, registry: RunningRegistry) -> Project:
    """A repository whose main has a strict policy and blocks the image."""
    project = make_project(tmp_path, registry, version=VULNERABLE, policy="policy.yml")
    project.write("policy.yml", STRICT)
    commit_base(project)
    return project


@pytest.mark.parametrize(
    ("change", "event"),
    [(change, list(EVENTS)[number % len(EVENTS)]) for number, change in enumerate(CHANGES)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_change_does_not_alter_its_own_verdict_and_hears_when_it_will(
    strict: Project, registry: RunningRegistry, change: Callable[[Project], str], event: str
) -> None:
    note = change(strict)
    commit_change(strict)

    done = strict.run("run", env=EVENTS[event](strict))

    assert done.exit_code == 1, done.stderr
    result = strict.result()
    assert result["images"][0]["verdict"] == "block"
    assert result["images"][0]["decision"]["policy_source"] == "policy.yml (main)"
    assert note in json.dumps(result, ensure_ascii=False)
    assert registry.seen == []


def test_push_to_an_unprotected_branch_is_judged_by_the_default_branch(
    strict: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    loosen_policy(strict)
    add_waiver(strict)
    commit_change(strict)
    event = github_event(
        strict, "push", {}, GITHUB_REF="refs/heads/feature", GITHUB_REF_NAME="feature"
    )

    done = strict.run("run", env=canaries.env | event)

    assert done.exit_code == 1, done.stderr
    assert "policy.yml takes effect once merged" in done.stderr


def test_merged_change_counts(
    strict: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    loosen_policy(strict)
    git(strict.folder, "commit", "-qam", "merged")

    done = strict.run("run", env=canaries.env | github_event(strict, "push", {}))

    assert done.exit_code == 0, done.stderr
    assert "takes effect once merged" not in done.stderr
    assert strict.result()["images"][0]["verdict"] == "warn"


def test_work_tree_that_an_earlier_step_edited_does_not_count(
    strict: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    loosen_policy(strict)

    done = strict.run("run", env=canaries.env | github_event(strict, "push", {}))

    assert done.exit_code == 1, done.stderr


def test_settings_that_the_trusted_ref_lacks_do_not_count_before_they_are_merged(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    project = make_project(tmp_path, registry, version=VULNERABLE, policy="policy.yml")
    settings = (project.folder / SETTINGS).read_text()
    (project.folder / SETTINGS).unlink()
    commit_base(project)
    project.write(SETTINGS, settings)
    project.write("policy.yml", LOOSE)
    commit_change(project)

    done = project.run("run", "--scan-db", str(tmp_path / "osv"), env=github_change(project))

    assert done.exit_code == 1, done.stderr
    assert project.result()["images"][0]["decision"]["policy_source"] == "built-in"
    assert "what decides the verdict takes effect once merged" in done.stderr


def test_change_whose_trusted_ref_cannot_be_read_says_so_and_pushes_nothing(
    strict: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    loosen_policy(strict)
    edit_settings(strict, publish={"push": "always"})
    commit_change(strict)
    git(strict.folder, "remote", "remove", "origin")
    git(strict.folder, "branch", "-qD", "main")

    done = strict.run("run", env=canaries.env | github_change(strict, repository=OWN))

    assert done.exit_code == 0, done.stderr
    result = strict.result()
    assert result["images"][0]["decision"]["policy_source"].startswith("untrusted")
    assert not result["images"][0]["pushed"]
    assert registry.seen == []


def test_push_whose_trusted_ref_cannot_be_read_stops(
    strict: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    commit_change(strict)
    git(strict.folder, "remote", "remove", "origin")
    git(strict.folder, "branch", "-qD", "main")
    event = github_event(
        strict, "push", {}, GITHUB_REF="refs/heads/feature", GITHUB_REF_NAME="feature"
    )

    done = strict.run("run", env=canaries.env | event)

    assert done.exit_code == 2
    assert "nobody trustworthy decides" in done.stderr
    assert registry.seen == []

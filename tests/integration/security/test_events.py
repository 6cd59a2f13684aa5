"""Changes that nobody has merged get a verdict and nothing else, with credentials and keys at hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.canaries import REGISTRY_PASSWORD, USER, Canaries, docker_config
from tests.support.changes import (
    FORK,
    OWN,
    commit_base,
    commit_change,
    github_change,
    github_event,
    gitlab_change,
)
from tests.support.cli import Project, has_manifests, make_project, tags_of
from tests.support.registry import RunningRegistry

Event = Callable[[Project], dict[str, str]]


def comment(project: Project) -> dict[str, str]:
    """A comment on a pull request: all rights, on the default branch."""
    payload: dict[str, object] = {"issue": {"number": 7, "pull_request": {"url": "x"}}}
    return github_event(project, "issue_comment", payload, GITHUB_REF_PROTECTED="true")


def workflow_run(project: Project) -> dict[str, str]:
    """A workflow that runs after one for a pull request."""
    run = {"event": "pull_request", "head_repository": {"full_name": FORK}}
    return github_event(project, "workflow_run", {"workflow_run": run})


FORKS: dict[str, Event] = {
    "pull_request": github_change,
    "pull_request_target": lambda p: github_change(p, event="pull_request_target"),
    "workflow_run": workflow_run,
    "issue_comment": comment,
    "merge request": gitlab_change,
    "child pipeline": lambda p: gitlab_change(p, source="parent_pipeline"),
}
OWN_CHANGES: dict[str, Event] = {
    "pull_request": lambda p: github_change(p, repository=OWN),
    "merge request": lambda p: gitlab_change(p, source_project="5"),
}


@pytest.fixture
def change(project: Project, registry: RunningRegistry, canaries: Canaries) -> Project:
    """A change of a project whose user is logged in to the registry as well."""
    commit_base(project)
    commit_change(project)
    config = project.base / "home" / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text(docker_config({registry.host: REGISTRY_PASSWORD}))
    return project


def credentials(registry: RunningRegistry, canaries: Canaries) -> dict[str, str]:
    """Everything that a job may be given."""
    return canaries.env | {
        "CI_REGISTRY": registry.host,
        "CI_REGISTRY_USER": USER,
        "CI_REGISTRY_PASSWORD": REGISTRY_PASSWORD,
        "DOCKER_AUTH_CONFIG": docker_config({registry.host: REGISTRY_PASSWORD}),
    }


@pytest.mark.parametrize("event", list(FORKS))
def test_fork_gets_a_verdict_and_touches_nothing_even_when_told_to_push_always(
    change: Project, registry: RunningRegistry, canaries: Canaries, event: str
) -> None:
    env = credentials(registry, canaries) | FORKS[event](change)

    done = change.run("run", "--push", "always", "--sign", "key", env=env)

    assert done.exit_code == 0, done.stderr
    result = change.result()
    assert result["verdict"] == "pass"
    assert (result["pushed"], result["signed"]) == (False, False)
    assert "comes from a fork" in str(change.junit()["skipped"])
    assert registry.seen == []


@pytest.mark.parametrize("event", list(OWN_CHANGES))
def test_change_request_gets_a_verdict_and_touches_nothing(
    change: Project, registry: RunningRegistry, canaries: Canaries, event: str
) -> None:
    env = credentials(registry, canaries) | OWN_CHANGES[event](change)

    done = change.run("run", env=env)

    assert done.exit_code == 0, done.stderr
    assert change.result()["verdict"] == "pass"
    assert "change requests get a verdict, not a push" in str(change.junit()["skipped"])
    assert registry.seen == []


def test_change_request_that_is_told_to_push_logs_in_pushes_and_is_still_not_signed(
    change: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    env = canaries.env | github_change(change, repository=OWN)

    done = change.run("run", "--push", "always", "--sign", "key", env=env)

    assert done.exit_code == 0, done.stderr
    assert set(tags_of(registry)) == {"v1", "latest"}
    assert not [s for s in registry.seen if s.method == "PUT" and "sha256-" in s.path]
    assert registry.count("GET", "/referrers/") == 0
    assert "never signed" in str(change.junit()["skipped"])


@pytest.mark.parametrize("event", ["pull_request_target", "merge request"])
def test_sign_refuses_to_work_for_a_change(
    change: Project, registry: RunningRegistry, canaries: Canaries, event: str
) -> None:
    env = credentials(registry, canaries)
    assert change.run("run", env=env).exit_code == 0
    written = len(registry.seen)

    done = change.run(
        "sign",
        f"{registry.host}/team/app:v1",
        "--result",
        str(change.reports / "result.json"),
        env=env | FORKS[event](change),
    )

    assert done.exit_code == 2
    assert "never signed" in done.stderr
    assert len(registry.seen) == written


def test_plan_of_a_fork_says_why_nothing_is_written(
    change: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    env = credentials(registry, canaries) | github_change(change)

    done = change.run("plan", "--push", "always", env=env)

    assert "push       no: the change comes from a fork" in done.stdout
    assert "would write" not in done.stdout
    assert registry.seen == []


@pytest.mark.parametrize("size", ["too deep", "too large"])
def test_event_that_cannot_be_read_stops_instead_of_being_taken_for_a_push(
    change: Project, registry: RunningRegistry, canaries: Canaries, size: str
) -> None:
    env = canaries.env | github_change(change)
    payload = {
        "too deep": b"[" * 200_000,
        "too large": b" " * (32 * 1024 * 1024 + 1),
    }[size]
    Path(env["GITHUB_EVENT_PATH"]).write_bytes(payload)

    done = change.run("run", env=env)

    assert done.exit_code == 4, done.stderr
    assert "without it a change from a fork can't be told from a push" in done.stderr
    assert "Traceback" not in done.stderr
    assert registry.seen == []


def test_push_to_the_default_branch_is_signed_and_tagged(
    change: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    """The counterpart: with the same credentials and keys an ordinary push does everything."""
    env = canaries.env | github_event(change, "push", {})

    done = change.run("run", env=env)

    assert done.exit_code == 0, done.stderr
    assert has_manifests(registry)
    assert change.result()["signed"]


def test_dry_run_leaves_the_registry_alone(
    tmp_path: Path, registry: RunningRegistry, canaries: Canaries
) -> None:
    project = make_project(tmp_path, registry)

    done = project.run("run", "--dry-run", env=canaries.env)

    assert done.exit_code == 0, done.stderr
    assert not [s for s in registry.seen if s.method not in ("GET", "HEAD")]

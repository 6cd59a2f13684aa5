"""Makes real git repositories with a change under test, and the environments of CI events."""

import json
import subprocess
from pathlib import Path

from tests.support.cli import Project

FORK, OWN = "evil/app", "acme/app"


def git(folder: Path, *argv: str) -> str:
    """Run git in a folder; returns its output."""
    command = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com", *argv)
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit_base(project: Project, *, branch: str = "main") -> None:
    """Make a repository of the project whose `origin` has this state under `branch`."""
    git(project.folder, "init", "-q", "-b", branch)
    git(project.folder, "add", "-A")
    git(project.folder, "commit", "-qm", "base")
    git(project.base, "clone", "-q", "--bare", str(project.folder), "origin.git")
    git(project.folder, "remote", "add", "origin", f"file://{project.base}/origin.git")
    git(project.folder, "fetch", "-q", "origin")


def commit_change(project: Project, *, branch: str = "feature") -> str:
    """Commit what is in the folder to a branch of its own; returns the commit."""
    git(project.folder, "checkout", "-q", "-b", branch)
    git(project.folder, "add", "-A")
    git(project.folder, "commit", "-q", "--allow-empty", "-m", "change")
    return git(project.folder, "rev-parse", "HEAD")


def github_event(
    project: Project, event: str, payload: dict[str, object], **more: str
) -> dict[str, str]:
    """Return the environment of an event on GitHub, with its payload in a file beside the project."""
    file = project.base / "event.json"
    file.write_text(json.dumps({"repository": {"default_branch": "main"}, **payload}))
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": event,
        "GITHUB_EVENT_PATH": str(file),
        "GITHUB_REPOSITORY": OWN,
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_SHA": git(project.folder, "rev-parse", "HEAD"),
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_REF_NAME": "main",
        "GITHUB_REF_TYPE": "branch",
        **more,
    }


def github_change(
    project: Project,
    *,
    repository: str = FORK,
    event: str = "pull_request",
    branch: str = "feature",
) -> dict[str, str]:
    """Return the environment of a pull request of `branch`."""
    request = {
        "number": 7,
        "head": {"repo": {"full_name": repository}, "ref": branch},
        "base": {"ref": "main"},
    }
    target = event == "pull_request_target"
    return github_event(
        project,
        event,
        {"number": 7, "pull_request": request},
        GITHUB_HEAD_REF=branch,
        GITHUB_BASE_REF="main",
        GITHUB_REF="refs/heads/main" if target else "refs/pull/7/merge",
        GITHUB_REF_NAME="main" if target else "7/merge",
    )


def gitlab_change(
    project: Project,
    *,
    source_project: str = "9",
    source: str = "merge_request_event",
    branch: str = "feature",
) -> dict[str, str]:
    """Return the environment of a merge request pipeline of project 5."""
    return {
        "GITLAB_CI": "true",
        "CI_SERVER_URL": "https://gitlab.example",
        "CI_PROJECT_ID": "5",
        "CI_PROJECT_URL": "https://gitlab.example/acme/app",
        "CI_JOB_ID": "1",
        "CI_COMMIT_SHA": git(project.folder, "rev-parse", "HEAD"),
        "CI_DEFAULT_BRANCH": "main",
        "CI_PIPELINE_SOURCE": source,
        "CI_MERGE_REQUEST_IID": "7",
        "CI_MERGE_REQUEST_PROJECT_ID": "5",
        "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": source_project,
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": branch,
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    }

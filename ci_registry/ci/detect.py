"""Finds out which CI runs us and reads its event."""

from collections.abc import Mapping
from pathlib import Path

from ci_registry.ci.context import CiContext
from ci_registry.ci.git import Git
from ci_registry.ci.github import github_context
from ci_registry.ci.gitlab import gitlab_context
from ci_registry.ci.local import local_context
from ci_registry.errors import IntegrityError, StorageError
from ci_registry.files import read_file
from ci_registry.strict import parse_json

_MAX_PAYLOAD_BYTES = 32 * 1024 * 1024


def is_github(env: Mapping[str, str]) -> bool:
    """Whether GitHub Actions runs us."""
    return env.get("GITHUB_ACTIONS") == "true"


def is_gitlab(env: Mapping[str, str]) -> bool:
    """Whether GitLab runs us; gitlab-ci-local says `GITLAB_CI=false` but has the other variables."""
    return bool(env.get("GITLAB_CI")) and bool(
        env.get("CI_SERVER_URL") or env.get("CI_PIPELINE_ID")
    )


def detect(env: Mapping[str, str], git: Git, *, with_commit: bool = True) -> CiContext:
    """Return the context of this run; who needs no commit need not wait for git.

    Raises:
        StorageError: GitHub's event payload is named but can't be read.
        IntegrityError: it is no JSON.
    """
    if is_github(env):
        return github_context(env, _payload(env), git.committed_at() if with_commit else None)
    if is_gitlab(env):
        return gitlab_context(env, git.committed_at() if with_commit else None)
    return local_context(git, with_commit=with_commit)


def _payload(env: Mapping[str, str]) -> object:
    path = env.get("GITHUB_EVENT_PATH", "")
    if not path:
        return {}
    try:
        data = read_file(Path(path), max_bytes=_MAX_PAYLOAD_BYTES)
        return parse_json(
            data, what="GitHub's event payload", max_bytes=_MAX_PAYLOAD_BYTES, strict=False
        )
    except (StorageError, IntegrityError) as error:
        error.hint = "without it a change from a fork can't be told from a push"
        raise

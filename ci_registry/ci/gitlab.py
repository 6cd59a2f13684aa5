"""GitLab CI: its variables as a `CiContext`, and the defaults that only GitLab has."""

from collections.abc import Mapping
from datetime import datetime

from ci_registry.ci.context import CiContext, EventKind, Provider
from ci_registry.secret import Secret

_SOURCES = {
    "merge_request_event": EventKind.CHANGE_REQUEST,
    "external_pull_request_event": EventKind.CHANGE_REQUEST,
    "schedule": EventKind.SCHEDULE,
    "web": EventKind.MANUAL,
    "api": EventKind.MANUAL,
    "trigger": EventKind.MANUAL,
}


def gitlab_context(env: Mapping[str, str], committed_at: datetime | None) -> CiContext:
    """Read the event from GitLab's predefined variables."""
    event = _SOURCES.get(env.get("CI_PIPELINE_SOURCE", ""), EventKind.PUSH)
    if env.get("CI_MERGE_REQUEST_IID") or env.get("CI_EXTERNAL_PULL_REQUEST_IID"):
        event = EventKind.CHANGE_REQUEST  # child pipelines of a merge request have another source
    is_change = event is EventKind.CHANGE_REQUEST
    tag = "" if is_change else env.get("CI_COMMIT_TAG", "")
    if tag and event is EventKind.PUSH:
        event = EventKind.TAG
    return CiContext(
        provider=Provider.GITLAB,
        event=event,
        commit=env.get("CI_COMMIT_SHA", ""),
        committed_at=committed_at or _time(env.get("CI_COMMIT_TIMESTAMP", "")),
        branch=env.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "")
        or env.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME", "")
        if is_change
        else env.get("CI_COMMIT_BRANCH", "")
        if not tag
        else "",
        tag=tag,
        default_branch=env.get("CI_DEFAULT_BRANCH", ""),
        base_branch=env.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "")
        or env.get("CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME", ""),
        change=env.get("CI_MERGE_REQUEST_IID", "") or env.get("CI_EXTERNAL_PULL_REQUEST_IID", ""),
        is_fork=is_change and _is_fork(env),
        is_protected=env.get("CI_COMMIT_REF_PROTECTED") == "true" and not is_change,
        run_url=env.get("CI_JOB_URL", "") or env.get("CI_PIPELINE_URL", ""),
        repository_url=env.get("CI_PROJECT_URL", ""),
    )


def _is_fork(env: Mapping[str, str]) -> bool:
    """A change from another project, or from one that is gone."""
    if env.get("CI_EXTERNAL_PULL_REQUEST_IID"):
        source = env.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY", "")
        return source != env.get("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY")
    return env.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "") != env.get("CI_PROJECT_ID")


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def gitlab_image(env: Mapping[str, str]) -> str:
    """Return the image that GitLab's own registry has for this project: `$CI_REGISTRY_IMAGE`."""
    return env.get("CI_REGISTRY_IMAGE", "").lower()


def gitlab_credentials(env: Mapping[str, str]) -> tuple[str, str, Secret] | None:
    """Return (host, user, password) of GitLab's registry for this job, when the CI gives them.

    The job token does where user and password are not set.
    """
    host = env.get("CI_REGISTRY", "")
    user, password = env.get("CI_REGISTRY_USER", ""), env.get("CI_REGISTRY_PASSWORD", "")
    if not (user and password):
        user, password = "gitlab-ci-token", env.get("CI_JOB_TOKEN", "")
    return (host.lower(), user, Secret(password)) if host and user and password else None

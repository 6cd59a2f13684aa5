"""GitHub Actions: its variables and event payload as a `CiContext`."""

from collections.abc import Mapping
from datetime import datetime

from ci_registry.ci.context import CiContext, EventKind, Provider

_EVENTS = {
    "pull_request": EventKind.CHANGE_REQUEST,
    "pull_request_target": EventKind.CHANGE_REQUEST,
    "pull_request_review": EventKind.CHANGE_REQUEST,
    "pull_request_review_comment": EventKind.CHANGE_REQUEST,
    "merge_group": EventKind.MERGE_QUEUE,
    "schedule": EventKind.SCHEDULE,
    "workflow_dispatch": EventKind.MANUAL,
    "repository_dispatch": EventKind.MANUAL,
    "release": EventKind.TAG,
}


def _dig(payload: object, *keys: str) -> object:
    for key in keys:
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload


def _text(payload: object, *keys: str) -> str:
    value = _dig(payload, *keys)
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _kind(env: Mapping[str, str], payload: object) -> EventKind:
    """Everything about a pull request is a change request, whatever the event is called.

    A workflow that a comment starts runs with all rights on the default branch, and usually checks
    out the pull request.
    """
    if env.get("GITHUB_REF", "").startswith("refs/pull/") or _dig(payload, "pull_request"):
        return EventKind.CHANGE_REQUEST
    if _dig(payload, "issue", "pull_request"):
        return EventKind.CHANGE_REQUEST
    if _text(payload, "workflow_run", "event").startswith(("pull_request", "issue_comment")):
        return EventKind.CHANGE_REQUEST
    return _EVENTS.get(env.get("GITHUB_EVENT_NAME", ""), EventKind.PUSH)


def _is_fork(env: Mapping[str, str], payload: object, *, is_change: bool) -> bool:
    """A change from another repository, from one that is gone, or from one that nobody names."""
    for root in ("pull_request", "workflow_run"):
        if _dig(payload, root) is None:
            continue
        keys = ("head", "repo") if root == "pull_request" else ("head_repository",)
        name = _text(payload, root, *keys, "full_name")
        return name.lower() != env.get("GITHUB_REPOSITORY", "").lower()
    return is_change


def github_context(
    env: Mapping[str, str], payload: object, committed_at: datetime | None
) -> CiContext:
    """Read the event from GitHub's variables; `payload` is the parsed `GITHUB_EVENT_PATH`."""
    event = _kind(env, payload)
    ref, name = env.get("GITHUB_REF", ""), env.get("GITHUB_REF_NAME", "")
    is_tag = env.get("GITHUB_REF_TYPE") == "tag" or ref.startswith("refs/tags/")
    if is_tag and event is EventKind.PUSH:
        event = EventKind.TAG
    is_change = event is EventKind.CHANGE_REQUEST
    server = env.get("GITHUB_SERVER_URL", "https://github.com")
    repository = f"{server}/{env['GITHUB_REPOSITORY']}" if env.get("GITHUB_REPOSITORY") else ""
    run_id = env.get("GITHUB_RUN_ID", "")
    merge_queue = event is EventKind.MERGE_QUEUE
    return CiContext(
        provider=Provider.GITHUB,
        event=event,
        commit=env.get("GITHUB_SHA", ""),
        committed_at=committed_at,
        branch=env.get("GITHUB_HEAD_REF", "")
        if is_change
        else ""
        if is_tag or merge_queue
        else name,
        tag=name if is_tag else "",
        default_branch=_text(payload, "repository", "default_branch"),
        base_branch=env.get("GITHUB_BASE_REF", "") or _text(payload, "pull_request", "base", "ref"),
        change=_text(payload, "pull_request", "number")
        or _text(payload, "number")
        or (_text(payload, "issue", "number") if is_change else ""),
        is_fork=_is_fork(env, payload, is_change=is_change),
        is_protected=env.get("GITHUB_REF_PROTECTED") == "true" and not is_change,
        run_url=f"{repository}/actions/runs/{run_id}" if repository and run_id else "",
        repository_url=repository,
    )

from ci_registry.ci.context import EventKind
from ci_registry.ci.github import github_context

BASE = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SHA": "a" * 40,
    "GITHUB_REPOSITORY": "acme/api",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_RUN_ID": "7",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_REF_NAME": "main",
    "GITHUB_REF_TYPE": "branch",
}
REPOSITORY = {"repository": {"default_branch": "main"}}


def pull_request(full_name: str | None) -> dict[str, object]:
    repo = {"full_name": full_name} if full_name else None
    return REPOSITORY | {
        "pull_request": {"number": 12, "head": {"repo": repo}, "base": {"ref": "main"}}
    }


def test_push_to_the_default_branch() -> None:
    context = github_context(BASE, REPOSITORY, None)

    assert context.event is EventKind.PUSH
    assert context.branch == "main"
    assert context.is_default_branch
    assert not context.is_change_request
    assert context.run_url == "https://github.com/acme/api/actions/runs/7"


def test_tag_has_no_branch() -> None:
    env = BASE | {
        "GITHUB_REF": "refs/tags/v1.2.3",
        "GITHUB_REF_NAME": "v1.2.3",
        "GITHUB_REF_TYPE": "tag",
    }

    context = github_context(env, REPOSITORY, None)

    assert (context.event, context.tag, context.branch) == (EventKind.TAG, "v1.2.3", "")


def test_pull_request_from_the_same_repository_is_no_fork() -> None:
    env = BASE | {
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_HEAD_REF": "feature",
        "GITHUB_BASE_REF": "main",
        "GITHUB_REF": "refs/pull/12/merge",
        "GITHUB_REF_NAME": "12/merge",
    }

    context = github_context(env, pull_request("Acme/api"), None)

    assert context.is_change_request
    assert not context.is_fork
    assert (context.branch, context.base_branch, context.change) == ("feature", "main", "12")


def test_pull_request_target_from_a_fork_is_a_fork_even_when_the_fork_is_gone() -> None:
    env = BASE | {"GITHUB_EVENT_NAME": "pull_request_target", "GITHUB_REF_PROTECTED": "true"}

    for name in ("evil/api", None):
        context = github_context(env, pull_request(name), None)

        assert context.is_fork
        assert context.is_change_request
        assert not context.is_protected


def test_workflow_run_after_a_pull_request_is_treated_as_one() -> None:
    payload = REPOSITORY | {
        "workflow_run": {"event": "pull_request", "head_repository": {"full_name": "evil/api"}}
    }

    context = github_context(BASE | {"GITHUB_EVENT_NAME": "workflow_run"}, payload, None)

    assert context.is_change_request
    assert context.is_fork


def test_merge_queue_is_on_no_branch() -> None:
    env = BASE | {
        "GITHUB_EVENT_NAME": "merge_group",
        "GITHUB_REF_NAME": "gh-readonly-queue/main/pr-1",
    }

    context = github_context(env, REPOSITORY, None)

    assert (context.event, context.branch) == (EventKind.MERGE_QUEUE, "")


def test_comment_on_a_pull_request_is_a_change_from_nobody_knows_where() -> None:
    payload = REPOSITORY | {"issue": {"number": 12, "pull_request": {"url": "x"}}}
    env = BASE | {"GITHUB_EVENT_NAME": "issue_comment", "GITHUB_REF_PROTECTED": "true"}

    context = github_context(env, payload, None)

    assert context.is_change_request
    assert context.is_fork
    assert not context.is_protected
    assert context.change == "12"


def test_comment_on_an_issue_is_no_change() -> None:
    payload = REPOSITORY | {"issue": {"number": 12}}

    context = github_context(BASE | {"GITHUB_EVENT_NAME": "issue_comment"}, payload, None)

    assert not context.is_change_request


def test_comment_in_a_review_is_about_a_change() -> None:
    env = BASE | {"GITHUB_EVENT_NAME": "pull_request_review_comment"}

    assert github_context(env, pull_request("evil/api"), None).is_fork
    assert github_context(env, pull_request("acme/api"), None).is_change_request


def test_pull_request_without_a_payload_counts_as_a_fork() -> None:
    env = BASE | {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_REF": "refs/pull/12/merge"}

    assert github_context(env, {}, None).is_fork
    assert github_context(env | {"GITHUB_EVENT_NAME": "new_kind"}, {}, None).is_fork

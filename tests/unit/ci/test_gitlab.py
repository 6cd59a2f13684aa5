from ci_registry.ci.context import EventKind
from ci_registry.ci.detect import is_gitlab
from ci_registry.ci.gitlab import gitlab_context, gitlab_credentials

BASE = {
    "GITLAB_CI": "true",
    "CI_SERVER_URL": "https://gitlab.example",
    "CI_COMMIT_SHA": "b" * 40,
    "CI_COMMIT_BRANCH": "main",
    "CI_DEFAULT_BRANCH": "main",
    "CI_PIPELINE_SOURCE": "push",
    "CI_PROJECT_ID": "5",
    "CI_PROJECT_URL": "https://gitlab.example/acme/api",
    "CI_COMMIT_REF_PROTECTED": "true",
}


def test_push_to_the_default_branch_is_protected() -> None:
    context = gitlab_context(BASE, None)

    assert context.event is EventKind.PUSH
    assert context.is_default_branch
    assert context.is_protected


def test_merge_request_from_a_fork_is_never_protected() -> None:
    env = BASE | {
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_IID": "3",
        "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "9",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    }

    context = gitlab_context(env, None)

    assert context.is_fork
    assert context.is_change_request
    assert not context.is_protected
    assert (context.branch, context.base_branch, context.change) == ("feature", "main", "3")


def test_tag_pipeline() -> None:
    context = gitlab_context(BASE | {"CI_COMMIT_TAG": "v2.0.0"}, None)

    assert (context.event, context.tag, context.branch) == (EventKind.TAG, "v2.0.0", "")


def test_gitlab_ci_local_counts_as_gitlab() -> None:
    assert is_gitlab({"GITLAB_CI": "false", "CI_PIPELINE_ID": "1"})
    assert not is_gitlab({})


def test_credentials_only_when_all_three_are_there() -> None:
    env = {
        "CI_REGISTRY": "Registry.example:5050",
        "CI_REGISTRY_USER": "u",
        "CI_REGISTRY_PASSWORD": "p",
    }

    found = gitlab_credentials(env)

    assert found is not None
    assert found[:2] == ("registry.example:5050", "u")
    assert found[2].reveal() == "p"
    assert gitlab_credentials(env | {"CI_REGISTRY_PASSWORD": ""}) is None

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


def test_the_job_token_logs_in_where_there_is_no_password() -> None:
    env = {"CI_REGISTRY": "registry.gitlab.com", "CI_JOB_TOKEN": "job"}
    found = gitlab_credentials(env)
    assert found is not None
    assert found[:2] == ("registry.gitlab.com", "gitlab-ci-token")
    assert found[2].reveal() == "job"


MERGE_REQUEST = BASE | {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_IID": "3",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "5",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
}


def test_merge_request_of_the_project_itself_is_no_fork() -> None:
    context = gitlab_context(MERGE_REQUEST, None)

    assert context.is_change_request
    assert not context.is_fork


def test_child_pipeline_of_a_merge_request_is_one_too() -> None:
    context = gitlab_context(MERGE_REQUEST | {"CI_PIPELINE_SOURCE": "parent_pipeline"}, None)

    assert context.is_change_request
    assert not context.is_protected


def test_merge_request_whose_source_project_is_gone_is_a_fork() -> None:
    assert gitlab_context(MERGE_REQUEST | {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": ""}, None).is_fork


def test_external_pull_request_is_a_fork_when_its_repositories_differ() -> None:
    env = BASE | {
        "CI_PIPELINE_SOURCE": "external_pull_request_event",
        "CI_EXTERNAL_PULL_REQUEST_IID": "7",
        "CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY": "evil/api",
        "CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY": "acme/api",
        "CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME": "feature",
        "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME": "main",
    }

    fork = gitlab_context(env, None)
    own = gitlab_context(env | {"CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY": "acme/api"}, None)

    assert (fork.is_fork, own.is_fork) == (True, False)
    assert (fork.branch, fork.base_branch, fork.change) == ("feature", "main", "7")

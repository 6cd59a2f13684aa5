from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.ci.context import CiContext, EventKind, Provider
from ci_registry.ci.tags import PLACEHOLDERS, oci_labels, placeholder_values, plan_tags, slug
from ci_registry.config.model import PLACEHOLDERS as SETTINGS_PLACEHOLDERS
from ci_registry.errors import UsageError
from ci_registry.oci.reference import is_tag

PUSH = CiContext(
    provider=Provider.GITHUB,
    event=EventKind.PUSH,
    commit="c" * 40,
    branch="main",
    default_branch="main",
    committed_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
    repository_url="https://github.com/acme/api",
)


def names(context: CiContext, *templates: str) -> list[str]:
    return [planned.tag for planned in plan_tags(templates, context) if planned.tag]


def test_default_branch_gets_sha_branch_and_latest() -> None:
    assert names(PUSH) == ["c" * 40, "main", "latest"]


def test_other_branch_gets_no_latest() -> None:
    assert names(replace(PUSH, branch="feature/Über x")) == ["c" * 40, "feature-ber-x"]


def test_release_tag_gets_semantic_versions_and_no_latest() -> None:
    context = replace(PUSH, event=EventKind.TAG, branch="", tag="v1.2.3")

    assert names(context) == ["c" * 40, "1.2.3", "1.2", "1"]


def test_prerelease_moves_neither_minor_nor_major() -> None:
    context = replace(PUSH, event=EventKind.TAG, branch="", tag="v1.2.3-rc.1+build.5")

    assert names(context) == ["c" * 40, "1.2.3-rc.1"]


def test_change_request_never_names_a_branch_or_latest() -> None:
    context = replace(PUSH, event=EventKind.CHANGE_REQUEST, base_branch="main")

    assert names(context) == ["c" * 40]


def test_explicit_list_gets_nothing_added_and_says_what_is_left_out() -> None:
    planned = plan_tags(("{version}", "{branch}-{short_sha}"), PUSH)

    assert [(p.tag, p.fixed) for p in planned] == [("", True), ("main-cccccccc", True)]
    assert planned[0].reason == "this event has no version"


def test_dirty_checkout_never_takes_the_name_of_the_commit() -> None:
    assert names(replace(PUSH, is_dirty=True), "{sha}") == ["c" * 40 + "-dirty"]


def test_settings_know_the_same_placeholders() -> None:
    """The two folders may not import each other, so each has the list."""
    assert PLACEHOLDERS == SETTINGS_PLACEHOLDERS == tuple(placeholder_values(PUSH))


def test_unknown_placeholder_suggests_the_right_one() -> None:
    with pytest.raises(UsageError) as caught:
        plan_tags(("{brunch}",), PUSH)

    assert "{branch}" in caught.value.hint


def test_template_that_gives_no_tag_is_refused() -> None:
    with pytest.raises(UsageError, match="no valid tag"):
        plan_tags(("a/b",), PUSH)


def test_labels_come_from_the_context() -> None:
    assert oci_labels(PUSH) == {
        "org.opencontainers.image.created": "2026-11-24T12:00:00Z",
        "org.opencontainers.image.revision": "c" * 40,
        "org.opencontainers.image.source": "https://github.com/acme/api",
        "org.opencontainers.image.version": "main",
    }


@given(st.text(max_size=300))
@settings(max_examples=100)
def test_slug_is_a_tag_or_empty(text: str) -> None:
    result = slug(text)

    assert result == "" or is_tag(result)

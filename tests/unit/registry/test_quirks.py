"""Which registry is which, and what follows from it."""

import pytest

from ci_registry.network.message import Headers
from ci_registry.registry.auth import access_to, scopes_of
from ci_registry.registry.quirks import (
    ROWS,
    UNKNOWN,
    RegistryKind,
    UntagBy,
    better_known,
    quirks_from_answer,
    quirks_of,
    quirks_of_host,
)


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("docker.io", RegistryKind.DOCKER_HUB),
        ("registry-1.docker.io", RegistryKind.DOCKER_HUB),
        ("ghcr.io", RegistryKind.GHCR),
        ("GHCR.io", RegistryKind.GHCR),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", RegistryKind.ECR),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", RegistryKind.ECR),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", RegistryKind.ECR),
        ("public.ecr.aws", RegistryKind.ECR),
        ("acme.azurecr.io", RegistryKind.ACR),
        ("europe-west3-docker.pkg.dev", RegistryKind.GAR),
        ("eu.gcr.io", RegistryKind.GAR),
        ("registry.gitlab.com", RegistryKind.GITLAB),
        ("registry.gitlab.acme.example:5050", RegistryKind.GITLAB),
        ("quay.io", RegistryKind.QUAY),
        ("registry.acme.example", RegistryKind.UNKNOWN),
        ("docker.io.evil.example", RegistryKind.UNKNOWN),
        ("xghcr.io", RegistryKind.UNKNOWN),
    ],
)
def test_a_name_tells_the_kind(host: str, kind: RegistryKind) -> None:
    assert quirks_of_host(host).kind is kind


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("WWW-Authenticate", 'Bearer realm="https://h.example/service/token",service="harbor-registry"', RegistryKind.HARBOR),
        ("WWW-Authenticate", 'Bearer realm="https://g.example/jwt/auth",service="container_registry"', RegistryKind.GITLAB),
        ("WWW-Authenticate", 'Bearer realm="https://q.example/v2/auth",service="q.example"', RegistryKind.QUAY),
        ("WWW-Authenticate", 'Basic realm="x"', RegistryKind.UNKNOWN),
        ("Gitlab-Container-Registry-Version", "4.1.0-gitlab", RegistryKind.GITLAB),
        ("Server", "zot/2.1", RegistryKind.ZOT),
        ("Server", "ci-registry", RegistryKind.CI_REGISTRY),
        ("Docker-Distribution-Api-Version", "registry/2.0", RegistryKind.DISTRIBUTION),
    ],
)  # fmt: skip
def test_an_answer_tells_the_kind(name: str, value: str, kind: RegistryKind) -> None:
    assert quirks_from_answer(Headers([(name, value)])).kind is kind


def test_a_challenge_says_more_than_the_version_field() -> None:
    version = ("Docker-Distribution-Api-Version", "registry/2.0")
    challenge = ("WWW-Authenticate", 'Bearer realm="https://h/t",service="harbor-registry"')

    known = better_known(UNKNOWN, Headers([version]))
    assert known.kind is RegistryKind.DISTRIBUTION
    known = better_known(known, Headers([version, challenge]))
    assert known.kind is RegistryKind.HARBOR
    assert better_known(known, Headers([version])).kind is RegistryKind.HARBOR
    assert better_known(known, Headers([])).kind is RegistryKind.HARBOR


def test_a_kind_found_by_name_is_not_talked_over() -> None:
    lie = Headers([("WWW-Authenticate", 'Bearer realm="https://h/t",service="harbor-registry"')])
    assert better_known(quirks_of(RegistryKind.GHCR), lie).kind is RegistryKind.GHCR


def test_every_kind_has_one_row_with_advice_that_names_no_deletion_by_digest() -> None:
    assert [row.kind for row in ROWS] == list(RegistryKind)
    for row in ROWS:
        assert row.untag_advice, row.kind
        assert row.tags_per_page <= 1000, row.kind


def test_where_the_specification_has_no_untag_that_works_it_is_not_tried() -> None:
    own = {row.kind for row in ROWS if row.untag is UntagBy.OWN_API}
    assert own == {
        RegistryKind.DOCKER_HUB,
        RegistryKind.GHCR,
        RegistryKind.ECR,
        RegistryKind.HARBOR,
    }


def test_only_our_own_server_is_known_to_honour_if_match() -> None:
    """distribution 2.8 and 3.1 answer 201 to a PUT with a wrong one."""
    assert [row.kind for row in ROWS if row.honours_if_match] == [RegistryKind.CI_REGISTRY]


def test_quay_is_never_asked_for_the_right_to_delete() -> None:
    access = access_to("a/b", "pull", "delete")
    assert scopes_of(access) == ("repository:a/b:pull,delete",)
    actions = quirks_of(RegistryKind.QUAY).token_actions
    assert scopes_of(access, actions) == ("repository:a/b:pull,push",)

"""Each oddity of another registry, as its users see it on the wire."""

import json
import urllib.parse
from typing import Any

import pytest

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.registry.quirks import RegistryKind
from ci_registry.registry_server.message import Response
from ci_registry.registry_server.options import Refusal
from ci_registry.registry_server.personalities import PERSONALITIES, REFRESH_USER
from tests.support.asking import Asked, code_of, content_of

DATA = b"0123456789"
DIGEST = digest_of(DATA)
UPLOADS = "/v2/a/blobs/uploads/"


def behave_as(ask: Asked, name: str) -> None:
    """Take a personality, without its login."""
    ask.options = PERSONALITIES[name].options_with(token_auth=None, users={})


def document(answer: Response) -> Any:
    return json.loads(content_of(answer))


def put_index(ask: Asked, tag: str, *children: Digest) -> Digest:
    entries = [{"mediaType": media_types.OCI_MANIFEST, "digest": c, "size": 2} for c in children]
    members = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    body = json.dumps(members).encode()
    kind = {"content-type": media_types.OCI_INDEX}
    assert ask("PUT", f"/v2/a/manifests/{tag}", body, kind).status == 201
    return digest_of(body)


def test_every_kind_that_the_client_knows_has_a_personality() -> None:
    names = {
        name.removesuffix("-2.8").replace("-", " ").removesuffix(" hub") for name in PERSONALITIES
    }
    wanted = {kind.value.lower().removesuffix(" hub") for kind in RegistryKind}
    assert wanted - names == {"unknown", "ci-registry serve"}
    assert "ci-registry" in PERSONALITIES


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("docker-hub", (405, "UNSUPPORTED")),
        ("ghcr", (405, "UNSUPPORTED")),
        ("ecr", (404, "UNSUPPORTED")),
        ("harbor", (400, "UNSUPPORTED")),
        ("distribution-2.8", (400, "DIGEST_INVALID")),
        ("distribution-no-delete", (405, "UNSUPPORTED")),
        ("tag-delete-405", (405, "UNSUPPORTED")),
        ("immutable-tags", (409, "TAG_IMMUTABLE")),
    ],
)
def test_who_refuses_to_delete_a_tag_says_so_and_keeps_it(
    ask: Asked, name: str, refusal: Refusal
) -> None:
    ask.manifest("a", "v1")
    behave_as(ask, name)
    answer = ask("DELETE", "/v2/a/manifests/v1")
    assert (answer.status, code_of(answer)) == refusal
    accept = {"accept": media_types.OCI_MANIFEST}
    assert ask("HEAD", "/v2/a/manifests/v1", headers=accept).status == 200


@pytest.mark.parametrize("name", ["acr", "gar", "gitlab", "quay", "distribution-3.1", "zot"])
def test_who_deletes_a_tag_alone_keeps_its_sibling(ask: Asked, name: str) -> None:
    _, body = ask.manifest("a", "v1")
    ask.put("a", "v2", body)
    behave_as(ask, name)
    assert ask("DELETE", "/v2/a/manifests/v1").status == 202
    accept = {"accept": media_types.OCI_MANIFEST}
    assert ask("HEAD", "/v2/a/manifests/v1", headers=accept).status == 404
    assert ask("HEAD", "/v2/a/manifests/v2", headers=accept).status == 200


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("docker-hub", (403, "DENIED")),
        ("harbor", (412, "PRECONDITION")),
        ("gar", (400, "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE")),
    ],
)
def test_a_child_in_use_is_not_deleted_until_its_parent_is_gone(
    ask: Asked, name: str, refusal: Refusal
) -> None:
    child, _ = ask.manifest("a")
    parent = put_index(ask, "v1", child)
    behave_as(ask, name)
    answer = ask("DELETE", f"/v2/a/manifests/{child}")
    assert (answer.status, code_of(answer)) == refusal
    ask.store.delete_tag("a", "v1")
    assert ask("DELETE", f"/v2/a/manifests/{parent}").status == 202
    assert ask("DELETE", f"/v2/a/manifests/{child}").status == 202


def test_gar_deletes_no_digest_with_tags_and_lists_everything(ask: Asked) -> None:
    layer = ask.blob("a", DATA)
    entry = {"mediaType": media_types.OCI_LAYER, "digest": layer, "size": len(DATA)}
    digest, body = ask.manifest("a", "v1", layers=[entry])
    ask.manifest("a/inner/deep", "v1")
    behave_as(ask, "gar")
    answer = ask("DELETE", f"/v2/a/manifests/{digest}")
    assert (answer.status, code_of(answer)) == (400, "GOOGLE_MANIFEST_DANGLING_TAG")
    listed = document(ask("GET", "/v2/a/tags/list"))
    assert (listed["tags"], listed["child"]) == (["v1"], ["inner"])
    shown = listed["manifest"][digest]
    assert shown["tag"] == ["v1"]
    assert shown["mediaType"] == media_types.OCI_MANIFEST
    assert shown["imageSizeBytes"] == str(len(body) + len(b"{}") + len(DATA))
    assert ask("DELETE", "/v2/a/manifests/v1").status == 202
    assert ask("DELETE", f"/v2/a/manifests/{digest}").status == 202


def test_acr_deletes_what_refers_to_a_subject_with_it(ask: Asked) -> None:
    def about(digest: Digest) -> dict[str, object]:
        return {"mediaType": media_types.OCI_MANIFEST, "digest": digest, "size": 2}

    subject, _ = ask.manifest("a", "v1")
    signature, _ = ask.manifest("a", subject=about(subject))
    of_signature, _ = ask.manifest("a", subject=about(signature))
    behave_as(ask, "acr")
    assert ask("DELETE", f"/v2/a/manifests/{subject}").status == 202
    for digest in (signature, of_signature):
        assert ask("HEAD", f"/v2/a/manifests/{digest}").status == 404


def test_quay_finds_no_untagged_manifest_to_delete(ask: Asked) -> None:
    untagged, _ = ask.manifest("a")
    behave_as(ask, "quay")
    assert ask("DELETE", f"/v2/a/manifests/{untagged}").status == 404
    assert ask("HEAD", f"/v2/a/manifests/{untagged}").status == 200


def test_ecr_drops_every_patch_but_the_first(ask: Asked) -> None:
    behave_as(ask, "ecr")
    location = ask("POST", UPLOADS).header("location")
    assert ask("PATCH", location, DATA[:5]).status == 201
    assert ask("PATCH", location, DATA[5:]).status == 201
    answer = ask("PUT", f"{location}?digest={DIGEST}")
    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")
    location = ask("POST", UPLOADS).header("location")
    assert ask("PUT", f"{location}?digest={DIGEST}", DATA).status == 201


def test_mounts_are_refused_by_harbor_and_by_quay_without_a_source(ask: Asked) -> None:
    ask.blob("a", DATA)
    behave_as(ask, "harbor")
    answer = ask("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}&from=a")
    assert (answer.status, code_of(answer)) == (401, "UNAUTHORIZED")
    behave_as(ask, "quay")
    assert ask("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}").status == 400
    assert ask("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}&from=a").status == 201


@pytest.mark.parametrize("name", ["ghcr", "ecr"])
def test_a_mount_becomes_an_upload_where_nothing_is_mounted(ask: Asked, name: str) -> None:
    ask.blob("a", DATA)
    behave_as(ask, name)
    assert ask("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}&from=a").status == 202


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("distribution-2.8", 404),
        ("distribution-3.1", 404),
        ("ghcr", 404),
        ("ecr-refuses-referrers", 405),
        ("acr-own-keys", 404),
        ("acr", 200),
        ("harbor", 200),
        ("quay", 200),
        ("zot", 200),
    ],
)
def test_the_referrers_api_and_its_confirmation_go_together(
    ask: Asked, name: str, status: int
) -> None:
    subject, _ = ask.manifest("a")
    behave_as(ask, name)
    assert ask("GET", f"/v2/a/referrers/{subject}").status == status
    about = {"mediaType": media_types.OCI_MANIFEST, "digest": subject, "size": 2}
    config = {"mediaType": media_types.OCI_EMPTY, "digest": digest_of(b"{}"), "size": 2}
    members = {"schemaVersion": 2, "config": config, "layers": [], "subject": about}
    body = json.dumps({"mediaType": media_types.OCI_MANIFEST, **members}).encode()
    confirmed = ask.put("a", digest_of(body), body).header("oci-subject")
    assert confirmed == (subject if status == 200 else "")


def _tags(ask: Asked, count: int) -> list[str]:
    names = [f"t{number:04}" for number in range(count)]
    _, body = ask.manifest("a")
    ask.put("a", f"{digest_of(body)}?" + "&".join(f"tag={n}" for n in names[:100]), body)
    for name in names[100:]:
        ask.put("a", name, body)
    return names


def test_distribution_2_8_answers_all_tags_unsorted_whatever_was_asked(ask: Asked) -> None:
    names = _tags(ask, 110)
    behave_as(ask, "distribution-2.8")
    answer = ask("GET", "/v2/a/tags/list?n=10&last=t0050")
    found = document(answer)["tags"]
    assert answer.header("link") == ""
    assert sorted(found) == names
    assert found != names


@pytest.mark.parametrize(
    ("name", "n", "status", "size"),
    [
        ("quay", "", 200, 50),
        ("quay", "?n=1000", 200, 100),
        ("ghcr", "?n=1000", 200, 100),
        ("gar", "", 200, 110),
        ("ecr", "?n=1001", 400, 0),
        ("distribution-3.1.0", "?n=1001", 400, 0),
        ("distribution-3.1", "?n=1001", 200, 110),
        ("distribution-3.0", "?n=5000", 200, 110),
    ],
)
def test_pages_have_the_sizes_of_each_registry(
    ask: Asked, name: str, n: str, status: int, size: int
) -> None:
    _tags(ask, 110)
    behave_as(ask, name)
    answer = ask("GET", f"/v2/a/tags/list{n}")
    assert answer.status == status
    if status == 200:
        assert len(document(answer)["tags"]) == size
        assert (answer.header("link") != "") == (size < 110)


@pytest.mark.parametrize(
    ("name", "status"),
    [("distribution-2.8", 400), ("distribution-3.1", 400), ("docker-hub", 404), ("zot", 200)],
)
def test_the_catalog_is_refused_where_it_is_not_or_asked_for_too_much(
    ask: Asked, name: str, status: int
) -> None:
    ask.blob("a", DATA)
    behave_as(ask, name)
    assert ask("GET", "/v2/_catalog?n=1001").status == status


def test_docker_hub_counts_gets_of_manifests_and_answers_text_when_none_is_left(ask: Asked) -> None:
    ask.manifest("a", "v1")
    behave_as(ask, "docker-hub")
    accept = {"accept": media_types.OCI_MANIFEST}
    for _ in range(3):
        head = ask("HEAD", "/v2/a/manifests/v1", headers=accept)
        assert head.header("ratelimit-remaining") == "200;w=21600"
    answers = [ask("GET", "/v2/a/manifests/v1", headers=accept) for _ in range(200)]
    assert {answer.status for answer in answers} == {200}
    assert answers[-1].header("ratelimit-remaining") == "0;w=21600"
    busy = ask("GET", "/v2/a/manifests/v1", headers=accept)
    assert (busy.status, busy.header("retry-after")) == (429, "60")
    assert busy.header("content-type") == "text/plain"
    assert ask("HEAD", "/v2/a/manifests/v1", headers=accept).status == 200


def test_without_etags_nothing_is_304(ask: Asked) -> None:
    digest, _ = ask.manifest("a", "v1")
    known = {"if-none-match": f'"{digest}"'}
    assert ask("GET", "/v2/a/manifests/v1", headers=known).status == 304
    behave_as(ask, "no-etag")
    answer = ask("GET", "/v2/a/manifests/v1", headers=known)
    assert (answer.status, answer.header("etag")) == (200, "")


def test_a_condition_of_a_put_counts_with_us_only(ask: Asked) -> None:
    _, body = ask.manifest("a", "v1")
    wrong = {"if_match": f'"{digest_of(b"x")}"'}
    behave_as(ask, "distribution-3.1")
    assert ask.put("a", "v1", body, **wrong).status == 201
    behave_as(ask, "ci-registry")
    assert ask.put("a", "v1", body, **wrong).status == 412


@pytest.mark.parametrize(
    ("name", "path", "service"),
    [
        ("docker-hub", "/token", "registry.docker.io"),
        ("harbor", "/service/token", "harbor-registry"),
        ("gitlab", "/jwt/auth", "container_registry"),
        ("quay", "/v2/auth", "ci-registry"),
        ("gar", "/v2/token", "ci-registry"),
    ],
)
def test_tokens_are_given_where_each_registry_gives_them(
    ask: Asked, name: str, path: str, service: str
) -> None:
    ask.options = PERSONALITIES[name].options_with("secret")
    challenge = ask("GET", "/v2/").header("www-authenticate")
    assert f'realm="http://127.0.0.1:5000{path}",service="{service}"' in challenge
    others = {"/token", "/service/token", "/jwt/auth"} - {path}
    assert {ask("GET", other).status for other in others} == {404}


def test_acr_takes_a_refresh_token_by_post(ask: Asked) -> None:
    ask.options = PERSONALITIES["acr"].options_with("refresh-me")
    form = {"grant_type": "refresh_token", "scope": "repository:a:pull,push"}

    def token(secret: str) -> Response:
        body = urllib.parse.urlencode({**form, "refresh_token": secret}).encode()
        return ask("POST", "/oauth2/token", body)

    assert token("wrong").status == 401
    given = document(token("refresh-me"))["access_token"]
    assert ask("POST", UPLOADS, headers={"authorization": f"Bearer {given}"}).status == 202
    assert REFRESH_USER in ask.options.users
    ask.options = PERSONALITIES["gar"].options_with("refresh-me")
    assert ask("POST", "/v2/token", b"grant_type=refresh_token").status == 405

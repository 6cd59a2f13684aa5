"""Manifests: digests, tags, references, subjects, deletion, preconditions."""

import json
import threading

import pytest

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import MAX_MANIFEST_BYTES
from tests.support.asking import Asked, code_of, content_of

NOWHERE = digest_of(b"nowhere")


def _index(*children: Digest, **members: object) -> bytes:
    entries = [
        {"mediaType": media_types.OCI_MANIFEST, "digest": child, "size": 2} for child in children
    ]
    return json.dumps(
        {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries} | members
    ).encode()


def _put_index(ask: Asked, reference: str, body: bytes) -> tuple[int, str]:
    headers = {"content-type": media_types.OCI_INDEX}
    answer = ask("PUT", f"/v2/a/manifests/{reference}", body, headers)
    return answer.status, code_of(answer) if answer.status >= 400 else ""


def test_a_manifest_keeps_its_bytes_and_media_type(ask: Asked) -> None:
    digest, body = ask.manifest("a", "v1")
    for reference in ("v1", digest):
        answer = ask("GET", f"/v2/a/manifests/{reference}")
        assert (answer.status, content_of(answer)) == (200, body)
        assert answer.header("content-type") == media_types.OCI_MANIFEST
        assert answer.header("docker-content-digest") == digest
        head = ask("HEAD", f"/v2/a/manifests/{reference}")
        assert (head.status, head.body) == (200, b"")
        assert head.header("content-length") == str(len(body))


def test_a_known_manifest_is_not_sent_again(ask: Asked) -> None:
    digest, _ = ask.manifest("a", "v1")
    answer = ask("GET", "/v2/a/manifests/v1", headers={"if-none-match": f'W/"x", "{digest}"'})
    assert (answer.status, answer.body, answer.header("etag")) == (304, b"", f'"{digest}"')


@pytest.mark.parametrize("reference", ["v1", NOWHERE, ".invalid", "%2e%2e"])
def test_a_missing_manifest_is_404_even_when_its_name_is_odd(ask: Asked, reference: str) -> None:
    assert ask("GET", f"/v2/a/manifests/{reference}").status == 404
    head = ask("HEAD", f"/v2/a/manifests/{reference}")
    assert (head.status, head.body) == (404, b"")


def test_a_manifest_under_a_foreign_digest_is_refused(ask: Asked) -> None:
    _, body = ask.manifest("a")
    answer = ask.put("a", NOWHERE, body)
    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"not json", b'{"a":1,"a":2}'])
def test_what_is_no_manifest_is_refused(ask: Asked, body: bytes) -> None:
    answer = ask.put("a", "v1", body)
    assert (answer.status, code_of(answer)) == (400, "MANIFEST_INVALID")
    assert ask("GET", "/v2/a/manifests/v1").status == 404


def test_a_content_type_that_contradicts_the_document_is_refused(ask: Asked) -> None:
    _, body = ask.manifest("a")
    answer = ask.put("a", "v1", body, content_type=media_types.DOCKER_MANIFEST)
    assert (answer.status, code_of(answer)) == (400, "MANIFEST_INVALID")


def test_the_size_limit_is_four_mebibytes(ask: Asked) -> None:
    def padded(size: int) -> bytes:
        _, body = ask.manifest("a", annotations={"pad": ""})
        return body.replace(b'"pad": ""', b'"pad": "' + b"x" * (size - len(body)) + b'"')

    assert ask.put("a", "v1", padded(MAX_MANIFEST_BYTES)).status == 201
    answer = ask.put("a", "v1", padded(MAX_MANIFEST_BYTES + 1))
    assert answer.status == 413


def test_a_manifest_without_its_blobs_is_refused(ask: Asked) -> None:
    _, body = ask.manifest("a")
    answer = ask.put("b", "v1", body)
    assert (answer.status, code_of(answer)) == (400, "MANIFEST_BLOB_UNKNOWN")
    ask.set(sparse=True)
    assert ask.put("b", "v1", body).status == 201


def test_a_foreign_layer_need_not_be_there(ask: Asked) -> None:
    foreign = min(media_types.FOREIGN_LAYERS)
    ask.manifest("a", layers=[{"mediaType": foreign, "digest": NOWHERE, "size": 1}])


def test_an_index_needs_its_children_in_the_same_repository(ask: Asked) -> None:
    child, _ = ask.manifest("b")
    assert _put_index(ask, "v1", _index(child)) == (400, "MANIFEST_BLOB_UNKNOWN")
    child, _ = ask.manifest("a")
    assert _put_index(ask, "v1", _index(child)) == (201, "")
    assert _put_index(ask, "v2", _index()) == (201, "")
    assert _put_index(ask, "v3", _index(NOWHERE)) == (400, "MANIFEST_BLOB_UNKNOWN")
    ask.set(sparse=True)
    assert _put_index(ask, "v3", _index(NOWHERE)) == (201, "")


def test_an_index_may_list_blobs_as_buildkit_caches_do(ask: Asked) -> None:
    layer = ask.blob("a", b"layer")
    assert _put_index(ask, "cache", _index(layer)) == (201, "")


def test_a_tag_keeps_the_algorithm_that_it_was_pushed_with(ask: Asked) -> None:
    _, body = ask.manifest("a")
    digest = digest_of(body, "sha512")
    answer = ask.put("a", f"{digest}?tag=one&tag=two", body)
    assert answer.status == 201
    assert [v for k, v in answer.headers if k == "OCI-Tag"] == ["one", "two"]
    for tag in ("one", "two"):
        found = ask("HEAD", f"/v2/a/manifests/{tag}")
        assert found.header("docker-content-digest") == digest
    assert ask.put("a", "three", body).header("docker-content-digest") == digest_of(body)


@pytest.mark.parametrize("tag", [".dot", "a" * 129, "sp%20ace", "-x"])
def test_names_that_are_no_tags_are_refused(ask: Asked, tag: str) -> None:
    _, body = ask.manifest("a")
    answer = ask.put("a", tag, body)
    assert (answer.status, code_of(answer)) == (400, "MANIFEST_INVALID")


def test_the_subject_is_acknowledged_also_when_it_is_missing(ask: Asked) -> None:
    subject = {"mediaType": media_types.OCI_MANIFEST, "digest": NOWHERE, "size": 2}
    _, body = ask.manifest("a", subject=subject)
    assert ask.put("a", "v1", body).header("oci-subject") == NOWHERE
    ask.set(referrers_api=False)
    assert ask.put("a", "v1", body).header("oci-subject") == ""


def test_deleting_a_tag_leaves_the_manifest_and_its_other_tags(ask: Asked) -> None:
    digest, body = ask.manifest("a", "one")
    ask.put("a", "two", body)
    assert ask("DELETE", "/v2/a/manifests/one").status == 202
    assert ask("GET", "/v2/a/manifests/one").status == 404
    assert ask("GET", "/v2/a/manifests/two").status == 200
    assert ask("GET", f"/v2/a/manifests/{digest}").status == 200


def test_deleting_a_digest_takes_every_tag_of_the_repository_with_it(ask: Asked) -> None:
    digest, body = ask.manifest("a", "one")
    ask.put("a", "two", body)
    ask.manifest("b", "one")
    assert ask("DELETE", f"/v2/a/manifests/{digest}").status == 202
    for reference in ("one", "two", digest):
        assert ask("GET", f"/v2/a/manifests/{reference}").status == 404
    assert content_of(ask("GET", "/v2/b/manifests/one")) == body


def test_a_registry_that_deletes_by_digest_only(ask: Asked) -> None:
    digest, _ = ask.manifest("a", "one")
    ask.set(tag_delete=False)
    answer = ask("DELETE", "/v2/a/manifests/one")
    assert (answer.status, code_of(answer)) == (400, "UNSUPPORTED")
    assert ask("DELETE", f"/v2/a/manifests/{digest}").status == 202


def test_a_registry_without_delete_still_cancels_uploads(ask: Asked) -> None:
    digest, _ = ask.manifest("a", "one")
    ask.set(delete=False)
    assert ask("DELETE", f"/v2/a/manifests/{digest}").status == 405
    location = ask("POST", "/v2/a/blobs/uploads/").header("location")
    assert ask("DELETE", location).status == 204


def test_an_immutable_tag_takes_its_own_digest_only(ask: Asked) -> None:
    _, body = ask.manifest("a", "one")
    _, other = ask.manifest("a", annotations={"other": "yes"})
    ask.set(immutable_tags=True)
    assert ask.put("a", "one", body).status == 201
    answer = ask.put("a", "one", other)
    assert (answer.status, code_of(answer)) == (409, "TAG_IMMUTABLE")
    assert ask.put("a", "new", other).status == 201
    assert ask("DELETE", "/v2/a/manifests/one").status == 409
    assert content_of(ask("GET", "/v2/a/manifests/one")) == body


def test_a_read_only_registry_refuses_writes_and_answers_reads(ask: Asked) -> None:
    _, body = ask.manifest("a", "one")
    ask.set(read_only=True)
    assert ask.put("a", "one", body).status == 405
    assert ask("POST", "/v2/a/blobs/uploads/").status == 405
    assert ask("GET", "/v2/a/manifests/one").status == 200


def test_a_registry_that_reads_the_accept_header(ask: Asked) -> None:
    ask.manifest("a", "one")
    ask.set(accept_required=True)
    assert ask("HEAD", "/v2/a/manifests/one").status == 404
    accept = {"accept": media_types.ACCEPT}
    assert ask("HEAD", "/v2/a/manifests/one", headers=accept).status == 200


def test_a_precondition_guards_a_tag(ask: Asked) -> None:
    digest, body = ask.manifest("a", "one")
    other, other_body = ask.manifest("a", annotations={"other": "yes"})
    assert ask.put("a", "one", other_body, if_match=f'"{other}"').status == 412
    assert ask.put("a", "one", other_body, if_none_match="*").status == 412
    assert content_of(ask("GET", "/v2/a/manifests/one")) == body
    assert ask.put("a", "one", other_body, if_match=f'"{digest}"').status == 201
    assert ask.put("a", "new", other_body, if_none_match="*").status == 201
    assert ask.put("a", "newer", other_body, if_match=f'"{digest}"').status == 412


def test_of_many_writers_with_a_precondition_exactly_one_wins(ask: Asked) -> None:
    ask.set(sparse=True)
    bodies = [_index(digest_of(bytes([i]))) for i in range(8)]
    statuses: list[int] = []
    ready = threading.Barrier(len(bodies))

    def write(body: bytes) -> None:
        ready.wait()
        headers = {"content-type": media_types.OCI_INDEX, "if-none-match": "*"}
        statuses.append(ask("PUT", "/v2/a/manifests/one", body, headers).status)

    threads = [threading.Thread(target=write, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [412] * 7

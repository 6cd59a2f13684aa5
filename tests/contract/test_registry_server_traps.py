"""What servers get wrong although the specification says it, and what clients rely on although it does not."""

import json
from collections.abc import Callable

import pytest

from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import MAX_MANIFEST_BYTES
from tests.support.registry import RunningRegistry
from tests.support.wire import Wire, descriptor, index_bytes

DATA = b"0123456789" * 100
ABSENT = digest_of(b"absent")


def test_sha512_may_be_named_in_the_final_put_only(ask: Wire, name: str) -> None:
    digest = digest_of(DATA, "sha512")
    location = ask("POST", f"/v2/{name}/blobs/uploads/")["location"]
    location = ask("PATCH", location, DATA[:300])["location"]
    location = ask("PATCH", location, DATA[300:])["location"]
    answer = ask("PUT", f"{location}?digest={digest}")
    assert (answer.status, answer["docker-content-digest"]) == (201, digest)
    assert ask("GET", f"/v2/{name}/blobs/{digest}").body == DATA
    assert ask("HEAD", f"/v2/{name}/blobs/{digest_of(DATA)}").status == 404


def test_a_tag_keeps_the_algorithm_of_the_digest_that_it_was_pushed_with(
    ask: Wire, name: str
) -> None:
    body = ask.image_bytes(name)
    digest = digest_of(body, "sha512")
    assert ask.put(name, f"{digest}?tag=v1", body).status == 201
    for method in ("HEAD", "GET"):
        assert ask(method, f"/v2/{name}/manifests/v1")["docker-content-digest"] == digest
    child = index_bytes(descriptor(digest, len(body)))
    assert ask.put(name, "all", child, media_types.OCI_INDEX).status == 201
    assert ask.put(name, "v1", body).status == 201  # now by its sha256
    found = ask("HEAD", f"/v2/{name}/manifests/v1")["docker-content-digest"]
    assert found == digest_of(body)


def test_referrers_of_a_sha512_subject_are_listed(ask: Wire, name: str) -> None:
    body = ask.image_bytes(name)
    subject = digest_of(body, "sha512")
    ask.put(name, subject, body)
    referrer = ask.image(name, subject=descriptor(subject, len(body)))
    listed = ask("GET", f"/v2/{name}/referrers/{subject}").json["manifests"]
    assert [entry["digest"] for entry in listed] == [referrer]


def test_the_status_of_an_empty_upload_is_0_0(ask: Wire, name: str) -> None:
    opened = ask("POST", f"/v2/{name}/blobs/uploads/")
    state = ask("GET", opened["location"])
    assert (opened["range"], state.status, state["range"]) == ("0-0", 204, "0-0")


def test_ranges_that_run_backwards_are_416(ask: Wire, name: str) -> None:
    digest = ask.blob(name, DATA)
    answer = ask("GET", f"/v2/{name}/blobs/{digest}", headers={"Range": "bytes=500-0"})
    assert (answer.status, answer["content-range"]) == (416, "bytes */1000")
    location = ask("POST", f"/v2/{name}/blobs/uploads/")["location"]
    answer = ask("PATCH", location, DATA[:1], {"Content-Range": "500-0"})
    assert (answer.status, answer["location"], answer["range"]) == (416, location, "0-0")


def test_referrers_of_what_nobody_knows_are_an_empty_index(ask: Wire, name: str) -> None:
    answer = ask("GET", f"/v2/{name}/never/seen/referrers/{ABSENT}")
    assert (answer.status, answer.json["manifests"]) == (200, [])
    assert answer["content-type"] == media_types.OCI_INDEX


@pytest.mark.parametrize(
    "target",
    ["manifests/none", f"manifests/{ABSENT}", f"blobs/{ABSENT}", "blobs/wrong", "no/such/place"],
)
def test_an_error_to_head_has_no_body(ask: Wire, name: str, target: str) -> None:
    answer = ask("HEAD", f"/v2/{name}/{target}")
    assert answer.status in (400, 404)
    assert answer.body == b""
    assert ask("GET", "/v2/").json == {}  # on the same connection: not a byte too many came


def test_a_refused_login_to_head_has_no_body_either(ask: Wire, name: str) -> None:
    answer = ask.send("HEAD", f"/v2/{name}/manifests/v1")
    assert (answer.status, answer.body) == (401 if ask.login else 404, b"")
    if ask.login is None:
        return
    scope = f'scope="repository:{name}:pull"'
    assert answer["www-authenticate"].endswith(f'/token",service="ci-registry",{scope}')
    assert answer["www-authenticate"].startswith(f'Bearer realm="https://{ask.host}/token"')


def test_a_blob_without_a_byte_is_a_blob(ask: Wire, name: str) -> None:
    empty = digest_of(b"")
    location = ask("POST", f"/v2/{name}/blobs/uploads/")["location"]
    assert ask("PUT", f"{location}?digest={empty}").status == 201
    for method in ("HEAD", "GET"):
        answer = ask(method, f"/v2/{name}/blobs/{empty}")
        assert (answer.status, answer["content-length"], answer.body) == (200, "0", b"")
    layer = descriptor(empty, 0, media_types.OCI_LAYER)
    assert ask("GET", f"/v2/{name}/manifests/{ask.image(name, layers=[layer])}").status == 200
    assert ask("DELETE", f"/v2/{name}/blobs/{empty}").status == 202


def test_a_manifest_of_four_mebibytes_passes_and_no_byte_more(ask: Wire, name: str) -> None:
    body = ask.image_bytes(name, annotations={"pad": ""})
    full = body.replace(b'"pad": ""', b'"pad": "%s"' % (b"x" * (MAX_MANIFEST_BYTES - len(body))))
    assert len(full) == MAX_MANIFEST_BYTES
    assert ask.put(name, "large", full).status == 201
    assert ask("GET", f"/v2/{name}/manifests/large").body == full
    answer = ask.put(name, "larger", full.replace(b"xx", b"xxx", 1))
    assert (answer.status, answer.code) == (413, "SIZE_INVALID")
    assert ask("HEAD", f"/v2/{name}/manifests/larger").status == 404


def test_the_catalog_of_docker_is_there_beside_the_specification(ask: Wire, name: str) -> None:
    ask.image(name, "v1")
    found = ask("GET", "/v2/_catalog?n=1000").json["repositories"]
    assert name in found
    assert found == sorted(found)


@pytest.mark.parametrize("accept", ["", "*/*", media_types.DOCKER_MANIFEST])
def test_a_manifest_is_found_whatever_is_accepted(ask: Wire, name: str, accept: str) -> None:
    ask.image(name, "v1")
    headers = {"Accept": accept} if accept else {}
    answer = ask("HEAD", f"/v2/{name}/manifests/v1", headers=headers)
    assert (answer.status, answer["content-type"]) == (200, media_types.OCI_MANIFEST)


def test_bytes_are_kept_as_they_came(ask: Wire, name: str) -> None:
    body = json.dumps(json.loads(ask.image_bytes(name)), indent=7).encode() + b"\n\n"
    assert ask.put(name, "v1", body).status == 201
    assert ask("GET", f"/v2/{name}/manifests/v1").body == body


def test_content_that_the_client_has_is_not_sent_again(ask: Wire, name: str) -> None:
    blob = ask.blob(name, DATA)
    image = ask.image(name, "v1")
    for target, tag in ((f"blobs/{blob}", blob), ("manifests/v1", image)):
        headers = {"If-None-Match": f'"{tag}"'}
        answer = ask("GET", f"/v2/{name}/{target}", headers=headers)
        assert (answer.status, answer.body, answer["docker-content-digest"]) == (304, b"", tag)


def test_a_blob_of_another_repository_is_not_in_this_one(ask: Wire, name: str) -> None:
    digest = ask.blob(f"{name}/other", DATA)
    assert ask("GET", f"/v2/{name}/blobs/{digest}").status == 404
    layer = descriptor(digest, len(DATA), media_types.OCI_LAYER)
    answer = ask.put(name, "v1", ask.image_bytes(name, layers=[layer]))
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_a_range_counts_only_for_the_content_that_the_client_has_a_part_of(
    ask: Wire, name: str
) -> None:
    target = f"/v2/{name}/blobs/{ask.blob(name, DATA)}"
    digest = digest_of(DATA)
    for condition, status in ((f'"{digest}"', 206), (f'"{ABSENT}"', 200), (f'W/"{digest}"', 200)):
        headers = {"Range": "bytes=0-4", "If-Range": condition}
        answer = ask("GET", target, headers=headers)
        assert (answer.status, answer.body) == (status, DATA[:5] if status == 206 else DATA)


@pytest.mark.parametrize("known", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
def test_every_way_to_name_what_the_client_has_is_understood(
    ask: Wire, name: str, known: str
) -> None:
    blob, image = ask.blob(name, DATA), ask.image(name, "v1")
    for target, digest in ((f"blobs/{blob}", blob), ("manifests/v1", image)):
        for method in ("GET", "HEAD"):
            headers = {"If-None-Match": known.format(digest)}
            assert ask(method, f"/v2/{name}/{target}", headers=headers).status == 304
            headers = {"If-Match": known.format(digest)}
            assert ask(method, f"/v2/{name}/{target}", headers=headers).status == 200
            headers = {"If-Match": f'"{ABSENT}"'}
            assert ask(method, f"/v2/{name}/{target}", headers=headers).status == 412


def test_a_conditional_delete_is_conditional(ask: Wire, name: str) -> None:
    digest = ask.image(name, "v1")
    tag, manifest = f"/v2/{name}/manifests/v1", f"/v2/{name}/manifests/{digest}"
    for target in (tag, manifest):
        assert ask("DELETE", target, headers={"If-Match": f'"{ABSENT}"'}).status == 412
        assert ask("HEAD", target).status == 200
        assert ask("DELETE", target, headers={"If-Match": f'"{digest}"'}).status == 202
        assert ask("HEAD", target).status == 404


def test_an_immutable_tag_does_not_go_with_its_manifest(
    ask: Wire, name: str, switch: Callable[..., None]
) -> None:
    digest = ask.image(name, "v1")
    switch(immutable_tags=True)
    answer = ask("DELETE", f"/v2/{name}/manifests/{digest}")
    assert (answer.status, answer.code) == (409, "TAG_IMMUTABLE")
    assert ask("HEAD", f"/v2/{name}/manifests/v1").status == 200


def test_a_conditional_put_is_conditional(ask: Wire, name: str) -> None:
    first = ask.image(name, "v1")
    body = ask.image_bytes(name, annotations={"n": "2"})
    kind = {"Content-Type": media_types.OCI_MANIFEST}
    target = f"/v2/{name}/manifests/v1"
    assert ask("PUT", target, body, {**kind, "If-Match": f'"{ABSENT}"'}).status == 412
    assert ask("PUT", target, body, {**kind, "If-None-Match": "*"}).status == 412
    assert ask("PUT", target, body, {**kind, "If-Match": f'"{first}"'}).status == 201


def test_a_read_only_server_answers_reads_and_refuses_writes(
    ask: Wire, name: str, switch: Callable[..., None]
) -> None:
    digest, body = ask.image(name, "v1"), ask.image_bytes(name)
    switch(read_only=True)
    assert ask("GET", f"/v2/{name}/manifests/v1").status == 200
    assert ask("POST", f"/v2/{name}/blobs/uploads/").status == 405
    assert ask.put(name, "v2", body).status == 405
    assert ask("DELETE", f"/v2/{name}/manifests/{digest}").status == 405
    assert ask("GET", f"/v2/{name}/tags/list").json["tags"] == ["v1"]


def test_health_needs_no_login_and_metrics_do(
    ask: Wire, connected: tuple[RunningRegistry, Wire], switch: Callable[..., None]
) -> None:
    assert ask.send("GET", "/healthz").body == b"ok\n"
    assert ask("GET", "/metrics").status in (401, 404)
    switch(metrics=True)
    answer = ask.send("GET", "/metrics")
    assert answer.status == (401 if ask.login else 200)
    if ask.login:
        assert answer["www-authenticate"] == 'Basic realm="ci-registry"'

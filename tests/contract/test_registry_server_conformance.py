"""The embedded registry over a real socket against the OCI distribution specification, 1.1 and what is next.

By its categories: pull, push, content discovery, content management; plain, and with TLS and tokens.
"""

from collections.abc import Callable
from typing import Any

import pytest

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from tests.support.wire import Wire, descriptor, index_bytes

DATA = b"0123456789" * 100
DIGEST = digest_of(DATA)
ABSENT = digest_of(b"absent")


# --- pull


def test_the_version_check_answers_200(ask: Wire) -> None:
    assert ask("GET", "/v2/").status == 200


def test_a_manifest_is_pulled_by_tag_and_by_digest(ask: Wire, name: str) -> None:
    body = ask.image_bytes(name)
    digest = digest_of(body)
    assert ask.put(name, "v1", body).status == 201
    for reference in ("v1", digest):
        for method in ("GET", "HEAD"):
            answer = ask(method, f"/v2/{name}/manifests/{reference}")
            assert answer.status == 200
            assert answer["content-type"] == media_types.OCI_MANIFEST
            assert answer["docker-content-digest"] == digest
            assert answer["content-length"] == str(len(body))
            assert answer.body == (body if method == "GET" else b"")


def test_a_blob_is_pulled(ask: Wire, name: str) -> None:
    ask.blob(name, DATA)
    for method in ("GET", "HEAD"):
        answer = ask(method, f"/v2/{name}/blobs/{DIGEST}")
        assert (answer.status, answer["content-length"]) == (200, str(len(DATA)))
        assert answer["docker-content-digest"] == DIGEST
        assert answer.body == (DATA if method == "GET" else b"")


@pytest.mark.parametrize(
    ("wanted", "expected", "content"),
    [
        ("bytes=0-9", "bytes 0-9/1000", DATA[:10]),
        ("bytes=990-", "bytes 990-999/1000", DATA[990:]),
        ("bytes=-10", "bytes 990-999/1000", DATA[990:]),
        ("bytes=990-5000", "bytes 990-999/1000", DATA[990:]),
    ],
)
def test_a_part_of_a_blob_is_pulled(
    ask: Wire, name: str, wanted: str, expected: str, content: bytes
) -> None:
    ask.blob(name, DATA)
    answer = ask("GET", f"/v2/{name}/blobs/{DIGEST}", headers={"Range": wanted})
    assert (answer.status, answer["content-range"], answer.body) == (206, expected, content)
    assert answer["docker-content-digest"] == DIGEST


@pytest.mark.parametrize("wanted", ["bytes=1000-", "bytes=1000-1001", "bytes=500-0"])
def test_a_range_that_is_not_there_is_416(ask: Wire, name: str, wanted: str) -> None:
    ask.blob(name, DATA)
    answer = ask("GET", f"/v2/{name}/blobs/{DIGEST}", headers={"Range": wanted})
    assert (answer.status, answer["content-range"]) == (416, "bytes */1000")


def test_what_is_absent_is_404_with_the_code_of_the_specification(ask: Wire, name: str) -> None:
    ask.image(name, "v1")
    for target, code in (
        (f"manifests/{ABSENT}", "MANIFEST_UNKNOWN"),
        ("manifests/none", "MANIFEST_UNKNOWN"),
        (f"blobs/{ABSENT}", "BLOB_UNKNOWN"),
    ):
        answer = ask("GET", f"/v2/{name}/{target}")
        assert (answer.status, answer.code) == (404, code)
        head = ask("HEAD", f"/v2/{name}/{target}")
        assert (head.status, head.body) == (404, b"")
    assert ask("GET", "/v2/").status == 200  # no byte of an error to HEAD is left on the connection
    unknown = ask("GET", f"/v2/{name}/unknown/manifests/v1")
    assert (unknown.status, unknown.code) == (404, "NAME_UNKNOWN")


# --- push: blobs


def _created(ask: Wire, name: str, target: str, data: bytes, digest: Digest) -> None:
    """Finish an upload and pull it from where the answer says."""
    separator = "&" if "?" in target else "?"
    headers = {"Content-Type": "application/octet-stream"}
    answer = ask("PUT", f"{target}{separator}digest={digest}", data, headers)
    assert answer.status == 201, answer
    assert answer["docker-content-digest"] == digest
    assert answer["location"] == f"/v2/{name}/blobs/{digest}"
    assert ask("HEAD", answer["location"]).status == 200


def _opened(ask: Wire, name: str, query: str = "") -> str:
    answer = ask("POST", f"/v2/{name}/blobs/uploads/{query}")
    assert (answer.status, answer["range"]) == (202, "0-0")
    return answer["location"]


def test_a_blob_is_pushed_by_post_and_put(ask: Wire, name: str) -> None:
    _created(ask, name, _opened(ask, name), DATA, DIGEST)
    assert ask("GET", f"/v2/{name}/blobs/{DIGEST}").body == DATA


def test_a_blob_is_pushed_by_one_post(ask: Wire, name: str) -> None:
    answer = ask("POST", f"/v2/{name}/blobs/uploads/?digest={DIGEST}", DATA)
    assert (answer.status, answer["docker-content-digest"]) == (201, DIGEST)
    assert ask("GET", answer["location"]).body == DATA


@pytest.mark.parametrize("last", ["patch", "put"])
def test_a_blob_is_pushed_in_chunks(ask: Wire, name: str, last: str) -> None:
    location = _opened(ask, name)
    for start in (0, 400, 800):
        piece = DATA[start : start + 400]
        headers = {"Content-Range": f"{start}-{start + len(piece) - 1}"}
        if last == "put" and start == 800:
            answer = ask("PUT", f"{location}?digest={DIGEST}", piece, headers)
            assert answer.status == 201
            break
        answer = ask("PATCH", location, piece, headers)
        assert (answer.status, answer["range"]) == (202, f"0-{start + len(piece) - 1}")
        location = answer["location"]
    else:
        _created(ask, name, location, b"", DIGEST)
    assert ask("GET", f"/v2/{name}/blobs/{DIGEST}").body == DATA


def test_a_blob_is_streamed(ask: Wire, name: str) -> None:
    answer = ask("PATCH", _opened(ask, name), iter((DATA[:7], DATA[7:])))
    assert (answer.status, answer["range"]) == (202, "0-999")
    _created(ask, name, answer["location"], b"", DIGEST)


@pytest.mark.parametrize("wrong", ["600-999", "0-399", "399-798", "401-800", "500-0", "x"])
def test_a_chunk_out_of_order_is_416_and_the_upload_goes_on(
    ask: Wire, name: str, wrong: str
) -> None:
    location = _opened(ask, name)
    ask("PATCH", location, DATA[:400], {"Content-Range": "0-399"})
    answer = ask("PATCH", location, b"x" * 400, {"Content-Range": wrong})
    assert (answer.status, answer["location"]) == (416, location)
    state = ask("GET", location)
    assert (state.status, state["range"], state.body) == (204, "0-399", b"")
    _created(ask, name, state["location"], DATA[400:], DIGEST)


def test_an_upload_is_cancelled(ask: Wire, name: str) -> None:
    location = _opened(ask, name)
    assert ask("DELETE", location).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        answer = ask(method, location)
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_bytes_with_another_digest_are_refused(ask: Wire, name: str) -> None:
    answer = ask("PUT", f"{_opened(ask, name)}?digest={ABSENT}", DATA)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    answer = ask("POST", f"/v2/{name}/blobs/uploads/?digest={ABSENT}", DATA)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    for digest in (ABSENT, DIGEST):
        assert ask("HEAD", f"/v2/{name}/blobs/{digest}").status == 404


def test_a_blob_is_mounted_from_another_repository(ask: Wire, name: str) -> None:
    ask.blob(f"{name}/source", DATA)
    target = f"/v2/{name}/blobs/uploads/?mount={DIGEST}&from={name}/source"
    answer = ask("POST", target, also=f"{name}/source")
    assert (answer.status, answer["docker-content-digest"]) == (201, DIGEST)
    assert ask("GET", answer["location"]).body == DATA


def test_a_mount_that_cannot_be_is_an_upload(ask: Wire, name: str) -> None:
    for query in (f"?mount={ABSENT}&from={name}/source", f"?mount={ABSENT}"):
        _created(ask, name, _opened(ask, name, query), DATA, DIGEST)


def test_a_mount_needs_no_source_where_the_caller_may_read_one(ask: Wire, name: str) -> None:
    data = name.encode()  # no other repository has it
    digest = ask.blob(f"{name}/source", data)
    target = f"/v2/{name}/blobs/uploads/?mount={digest}"
    unseen = ask("POST", target)
    assert unseen.status == (202 if ask.login else 201)
    assert ask("POST", target, also=f"{name}/source").status == 201
    assert ask("GET", f"/v2/{name}/blobs/{digest}").body == data


# --- push: manifests


def _pushed(ask: Wire, name: str, body: bytes, kind: str = media_types.OCI_MANIFEST) -> Digest:
    """Push by tag and by digest; pull the same bytes."""
    digest = digest_of(body)
    for reference in ("tag", digest):
        answer = ask.put(name, reference, body, kind)
        assert answer.status == 201, answer
        assert answer["docker-content-digest"] == digest
        assert ask("GET", answer["location"]).body == body
    return digest


def test_manifests_of_every_shape_are_pushed(ask: Wire, name: str) -> None:
    layer = descriptor(ask.blob(name, DATA), len(DATA), media_types.OCI_LAYER)
    foreign = descriptor(ABSENT, 5, min(media_types.FOREIGN_LAYERS), urls=["https://x.example/y"])
    inline = descriptor(digest_of(b"{}"), 2, media_types.OCI_EMPTY, data="e30=")
    shapes: tuple[dict[str, Any], ...] = (
        {"layers": [layer]},
        {"layers": [layer, foreign]},
        {"layers": []},
        {"config": inline, "layers": [inline], "artifactType": "application/x.example"},
        {"custom": {"field": [1, 2]}, "annotations": {"org.example": "ünïcode"}},
    )
    for members in shapes:
        _pushed(ask, name, ask.image_bytes(name, **members))


def test_indexes_of_every_shape_are_pushed(ask: Wire, name: str) -> None:
    children = [
        descriptor(ask.image(name, annotations={"n": str(n)}), 2, platform={"os": "linux"})
        for n in range(2)
    ]
    inner = index_bytes(*children)
    nested = descriptor(_pushed(ask, name, inner, media_types.OCI_INDEX), len(inner))
    for body in (
        index_bytes(),
        index_bytes({**nested, "mediaType": media_types.OCI_INDEX}),
        index_bytes(*children, artifactType="application/x.example", custom=True),
    ):
        _pushed(ask, name, body, media_types.OCI_INDEX)


def test_a_manifest_that_is_not_whole_is_refused_or_accepted(
    ask: Wire, name: str, switch: Callable[..., None]
) -> None:
    lacking = ask.image_bytes(name, layers=[descriptor(ABSENT, 5, media_types.OCI_LAYER)])
    sparse = index_bytes(descriptor(ABSENT, 5))
    for body, kind in ((lacking, media_types.OCI_MANIFEST), (sparse, media_types.OCI_INDEX)):
        answer = ask.put(name, "v1", body, kind)
        assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    switch(sparse=True)
    for body, kind in ((lacking, media_types.OCI_MANIFEST), (sparse, media_types.OCI_INDEX)):
        _pushed(ask, name, body, kind)


def test_a_manifest_under_another_digest_is_refused(ask: Wire, name: str) -> None:
    answer = ask.put(name, ABSENT, ask.image_bytes(name))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_one_put_sets_several_tags(ask: Wire, name: str) -> None:
    body = ask.image_bytes(name)
    digest = digest_of(body)
    answer = ask.put(name, f"{digest}?tag=a&tag=b&tag=a", body)
    assert answer.status == 201
    assert set(answer.all("oci-tag")) == {"a", "b"}
    for tag in ("a", "b"):
        assert ask("HEAD", f"/v2/{name}/manifests/{tag}")["docker-content-digest"] == digest
    wrong = ask.put(name, f"{digest}?tag=.not-a-tag", body)
    assert wrong.status == 400


def test_the_subject_of_a_manifest_is_confirmed(ask: Wire, name: str) -> None:
    subject = ask.image(name)
    for digest in (subject, ABSENT):
        body = ask.image_bytes(name, subject=descriptor(digest, 2))
        answer = ask.put(name, digest_of(body), body)
        assert (answer.status, answer["oci-subject"]) == (201, digest)
    assert ask.put(name, "plain", ask.image_bytes(name))["oci-subject"] == ""


# --- content discovery


def test_tags_are_listed_in_order_and_in_pages(ask: Wire, name: str) -> None:
    names = ["a", "b", "v1", "v10", "v2"]
    for tag in reversed(names):
        ask.image(name, tag)
    assert ask("GET", f"/v2/{name}/tags/list").json == {"name": name, "tags": names}
    target, found = f"/v2/{name}/tags/list?n=2", []
    while target:
        answer = ask("GET", target)
        assert len(answer.json["tags"]) <= 2
        found += answer.json["tags"]
        target, _, relation = answer["link"].partition(">; ")
        target = target.removeprefix("<")
        assert relation in ("", 'rel="next"')
    assert found == names
    assert ask("GET", f"/v2/{name}/tags/list?last=b&n=2").json["tags"] == ["v1", "v10"]
    assert ask("GET", f"/v2/{name}/tags/list?n=0").json["tags"] == []
    assert ask("GET", f"/v2/{name}/tags/list?last=zzz").json["tags"] == []
    unknown = ask("GET", f"/v2/{name}/none/tags/list")
    assert (unknown.status, unknown.code) == (404, "NAME_UNKNOWN")


def test_referrers_are_listed_filtered_and_gone_when_deleted(ask: Wire, name: str) -> None:
    subject = ask.image(name)
    about = descriptor(subject, 2)
    plain = ask.image(name, subject=about)
    typed = ask.image(name, subject=about, artifactType="application/x.a", annotations={"k": "v"})
    index = index_bytes(subject=about, artifactType="application/x.b")
    _pushed(ask, name, index, media_types.OCI_INDEX)
    answer = ask("GET", f"/v2/{name}/referrers/{subject}")
    assert (answer.status, answer["content-type"]) == (200, media_types.OCI_INDEX)
    assert answer["oci-filters-applied"] == ""
    found = {entry["digest"]: entry for entry in answer.json["manifests"]}
    assert set(found) == {plain, typed, digest_of(index)}
    assert found[plain]["artifactType"] == media_types.OCI_EMPTY  # of the config
    assert found[typed]["annotations"] == {"k": "v"}
    assert found[digest_of(index)]["mediaType"] == media_types.OCI_INDEX
    filtered = ask("GET", f"/v2/{name}/referrers/{subject}?artifactType=application/x.a")
    assert filtered["oci-filters-applied"] == "artifactType"
    assert [entry["digest"] for entry in filtered.json["manifests"]] == [typed]
    assert ask("DELETE", f"/v2/{name}/manifests/{typed}").status == 202
    answer = ask("GET", f"/v2/{name}/referrers/{subject}")
    assert {entry["digest"] for entry in answer.json["manifests"]} == {plain, digest_of(index)}


def test_referrers_are_listed_before_their_subject_comes(ask: Wire, name: str) -> None:
    referrer = ask.image(name, subject=descriptor(ABSENT, 2))
    listed = ask("GET", f"/v2/{name}/referrers/{ABSENT}").json["manifests"]
    assert [entry["digest"] for entry in listed] == [referrer]


def test_referrers_come_in_pages(ask: Wire, name: str, switch: Callable[..., None]) -> None:
    switch(page_limit=2)
    about = descriptor(ask.image(name), 2)
    made = {ask.image(name, subject=about, annotations={"n": str(n)}) for n in range(5)}
    target, found = f"/v2/{name}/referrers/{about['digest']}", []
    while target:
        answer = ask("GET", target)
        found += [entry["digest"] for entry in answer.json["manifests"]]
        target = answer["link"].partition(">")[0].removeprefix("<")
    assert (len(found), set(found)) == (5, made)


# --- content management


def test_a_tag_is_deleted_and_nothing_else(ask: Wire, name: str) -> None:
    digest = ask.image(name, "v1")
    ask.image(name, "v2")
    assert ask("DELETE", f"/v2/{name}/manifests/v1").status == 202
    assert ask("GET", f"/v2/{name}/manifests/v1").status == 404
    assert ask("DELETE", f"/v2/{name}/manifests/v1").status == 404
    for reference in ("v2", digest):
        assert ask("HEAD", f"/v2/{name}/manifests/{reference}").status == 200


def test_a_manifest_is_deleted_with_its_tags(ask: Wire, name: str) -> None:
    digest = ask.image(name, "v1")
    other = ask.image(name, "v2", annotations={"n": "2"})
    assert ask("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    for reference in ("v1", digest):
        answer = ask("GET", f"/v2/{name}/manifests/{reference}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    assert ask("GET", f"/v2/{name}/tags/list").json["tags"] == ["v2"]
    assert ask("HEAD", f"/v2/{name}/manifests/{other}").status == 200


def test_a_blob_is_deleted(ask: Wire, name: str) -> None:
    ask.blob(name, DATA)
    assert ask("DELETE", f"/v2/{name}/blobs/{DIGEST}").status == 202
    for method in ("GET", "HEAD", "DELETE"):
        assert ask(method, f"/v2/{name}/blobs/{DIGEST}").status == 404


def test_a_registry_without_deletion_says_405(
    ask: Wire, name: str, switch: Callable[..., None]
) -> None:
    digest = ask.image(name, "v1")
    switch(delete=False)
    for target in ("manifests/v1", f"manifests/{digest}", f"blobs/{digest_of(b'{}')}"):
        answer = ask("DELETE", f"/v2/{name}/{target}")
        assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert ask("DELETE", _opened(ask, name)).status == 204  # giving up an upload is no deletion

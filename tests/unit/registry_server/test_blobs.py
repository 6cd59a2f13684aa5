"""Blobs: reading, ranges, every way to upload, mounts, deletion."""

import json

import pytest

from ci_registry.oci.digest import digest_of
from ci_registry.registry_server.message import BodyInterruptedError, Response
from tests.support.asking import Asked, code_of, content_of

DATA = b"0123456789"
DIGEST = digest_of(DATA)


def test_ping_names_the_version_of_the_api(ask: Asked) -> None:
    answer = ask("GET", "/v2/")
    assert answer.status == 200
    assert answer.header("docker-distribution-api-version") == "registry/2.0"


@pytest.mark.parametrize("data", [b"", DATA, b"x" * 3_000_000])
def test_a_blob_uploaded_in_one_post_is_read_back(ask: Asked, data: bytes) -> None:
    digest = ask.blob("a/b", data)
    answer = ask("GET", f"/v2/a/b/blobs/{digest}")
    assert (answer.status, content_of(answer)) == (200, data)
    assert answer.header("docker-content-digest") == digest
    head = ask("HEAD", f"/v2/a/b/blobs/{digest}")
    assert (head.status, head.body, head.header("content-length")) == (200, b"", str(len(data)))


def test_a_blob_is_only_in_the_repository_that_it_was_pushed_to(ask: Asked) -> None:
    ask.blob("a/b", DATA)
    answer = ask("GET", f"/v2/other/blobs/{DIGEST}")
    assert (answer.status, code_of(answer)) == (404, "BLOB_UNKNOWN")


def test_head_of_a_missing_blob_has_no_body(ask: Asked) -> None:
    answer = ask("HEAD", f"/v2/a/b/blobs/{DIGEST}")
    assert (answer.status, answer.body) == (404, b"")
    assert int(answer.header("content-length")) > 0


@pytest.mark.parametrize(
    ("header", "status", "content"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=4-", 206, b"456789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=-99", 206, DATA),
        ("bytes=9-9", 206, b"9"),
        ("bytes=0-1,4-5", 200, DATA),
        ("lines=1-2", 200, DATA),
        ("bytes=-", 200, DATA),
        ("bytes=10-", 416, None),
        ("bytes=500-0", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_ranges(ask: Asked, header: str, status: int, content: bytes | None) -> None:
    ask.blob("a", DATA)
    answer = ask("GET", f"/v2/a/blobs/{DIGEST}", headers={"range": header})
    assert answer.status == status
    if content is not None:
        assert content_of(answer) == content
    if status == 206:
        start = DATA.index(content or b"")
        assert (
            answer.header("content-range") == f"bytes {start}-{start + len(content or b'') - 1}/10"
        )
    if status == 416:
        assert answer.header("content-range") == "bytes */10"


def test_a_range_of_an_empty_blob_is_refused(ask: Asked) -> None:
    digest = ask.blob("a", b"")
    assert ask("GET", f"/v2/a/blobs/{digest}", headers={"range": "bytes=0-"}).status == 416


def _start(ask: Asked, query: str = "") -> str:
    answer = ask("POST", f"/v2/a/blobs/uploads/{query}")
    assert answer.status == 202
    return answer.header("location")


def test_post_then_put_stores_a_blob(ask: Asked) -> None:
    location = _start(ask)
    answer = ask("PUT", f"{location}?digest={DIGEST}", DATA)
    assert answer.status == 201
    assert content_of(ask("GET", answer.header("location"))) == DATA


def test_an_upload_can_be_named_with_sha512_at_its_end(ask: Asked) -> None:
    location = _start(ask)
    ask("PATCH", location, DATA)
    digest = digest_of(DATA, "sha512")
    assert ask("PUT", f"{location}?digest={digest}").status == 201
    assert content_of(ask("GET", f"/v2/a/blobs/{digest}")) == DATA


def test_chunks_add_up_and_the_status_says_how_far(ask: Asked) -> None:
    location = _start(ask)
    status = ask("GET", location)
    assert (status.status, status.header("range")) == (204, "0-0")
    first = ask("PATCH", location, DATA[:4], {"content-range": "0-3"})
    assert (first.status, first.header("range")) == (202, "0-3")
    assert ask("GET", location).header("range") == "0-3"
    last = ask("PUT", f"{location}?digest={DIGEST}", DATA[4:], {"content-range": "4-9"})
    assert last.status == 201
    assert content_of(ask("GET", f"/v2/a/blobs/{DIGEST}")) == DATA


@pytest.mark.parametrize("content_range", ["5-9", "0-3", "3-6", "4-99", "nonsense", "9-4"])
def test_a_chunk_out_of_order_is_refused_and_the_upload_goes_on(
    ask: Asked, content_range: str
) -> None:
    location = _start(ask)
    ask("PATCH", location, DATA[:4], {"content-range": "0-3"})
    answer = ask("PATCH", location, DATA[4:8], {"content-range": content_range})
    assert (answer.status, code_of(answer)) == (416, "BLOB_UPLOAD_INVALID")
    assert (answer.header("range"), answer.header("location")) == ("0-3", location)
    assert ask("PATCH", location, DATA[4:], {"content-range": "4-9"}).status == 202
    assert ask("PUT", f"{location}?digest={DIGEST}").status == 201


def test_wrong_bytes_are_never_stored(ask: Asked) -> None:
    location = _start(ask)
    answer = ask("PUT", f"{location}?digest={DIGEST}", b"something else")
    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")
    assert ask("HEAD", f"/v2/a/blobs/{DIGEST}").status == 404
    assert ask("GET", location).status == 404
    answer = ask("POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", b"something else")
    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:abc", "?digest=md5:abc"])
def test_an_upload_without_a_proper_digest_is_refused(ask: Asked, query: str) -> None:
    location = _start(ask)
    answer = ask("PUT", f"{location}{query}", DATA)
    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")
    assert ask("PUT", f"{location}?digest={DIGEST}", DATA).status == 201


def test_a_cancelled_upload_is_gone(ask: Asked) -> None:
    location = _start(ask)
    assert ask("DELETE", location).status == 204
    answer = ask("PATCH", location, DATA)
    assert (answer.status, code_of(answer)) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_an_upload_belongs_to_its_repository(ask: Asked) -> None:
    location = _start(ask).replace("/v2/a/", "/v2/b/")
    assert ask("PUT", f"{location}?digest={DIGEST}", DATA).status == 404


class _Broken:
    """A client that goes away after some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        if not self._data:
            raise BodyInterruptedError
        piece, self._data = self._data[:size], self._data[size:]
        return piece


def test_an_interrupted_patch_keeps_what_arrived(ask: Asked) -> None:
    location = _start(ask)
    with pytest.raises(BodyInterruptedError):
        ask("PATCH", location, _Broken(DATA[:6]))
    assert ask("GET", location).header("range") == "0-5"
    assert ask("PUT", f"{location}?digest={DIGEST}", DATA[6:]).status == 201


def test_an_interrupted_put_can_be_sent_again_from_its_start(ask: Asked) -> None:
    location = _start(ask)
    with pytest.raises(BodyInterruptedError):
        ask("PUT", f"{location}?digest={DIGEST}", _Broken(DATA[:6]))
    assert ask("PUT", f"{location}?digest={DIGEST}", DATA).status == 201
    assert content_of(ask("GET", f"/v2/a/blobs/{DIGEST}")) == DATA


def test_an_interrupted_single_post_leaves_nothing(ask: Asked) -> None:
    with pytest.raises(BodyInterruptedError):
        ask("POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", _Broken(DATA[:6]))
    assert ask.store.pending_bytes() == 0


def _mount(ask: Asked, source: str = "a") -> Response:
    return ask("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}&from={source}")


def test_a_blob_is_mounted_from_a_repository_that_has_it(ask: Asked) -> None:
    ask.blob("a", DATA)
    answer = _mount(ask)
    assert (answer.status, answer.header("location")) == (201, f"/v2/b/blobs/{DIGEST}")
    assert content_of(ask("GET", f"/v2/b/blobs/{DIGEST}")) == DATA


def test_a_mount_of_an_absent_blob_becomes_an_upload(ask: Asked) -> None:
    answer = _mount(ask)
    assert answer.status == 202
    assert ask("PUT", f"{answer.header('location')}?digest={DIGEST}", DATA).status == 201


def test_a_registry_without_mount_answers_with_an_upload(ask: Asked) -> None:
    ask.blob("a", DATA)
    ask.set(mount=False)
    assert _mount(ask).status == 202


def test_deleting_a_blob_leaves_it_in_other_repositories(ask: Asked) -> None:
    ask.blob("a", DATA)
    _mount(ask)
    assert ask("DELETE", f"/v2/a/blobs/{DIGEST}").status == 202
    assert ask("DELETE", f"/v2/a/blobs/{DIGEST}").status == 404
    assert ask("GET", f"/v2/a/blobs/{DIGEST}").status == 404
    assert content_of(ask("GET", f"/v2/b/blobs/{DIGEST}")) == DATA


def test_space_is_free_again_when_the_last_repository_drops_a_blob(ask: Asked) -> None:
    ask.blob("a", DATA)
    ask.blob("b", DATA)
    assert ask.store.catalog.used_bytes == len(DATA)
    ask("DELETE", f"/v2/a/blobs/{DIGEST}")
    ask("DELETE", f"/v2/b/blobs/{DIGEST}")
    assert ask.store.catalog.used_bytes == 0
    ask.blob("a", DATA)
    assert content_of(ask("GET", f"/v2/a/blobs/{DIGEST}")) == DATA


@pytest.mark.parametrize(
    "path",
    [
        "/v2/A/blobs/uploads/",
        "/v2/a..b/blobs/uploads/",
        "/v2/%2e%2e/%2e%2e/blobs/uploads/",
        f"/v2/{'a' * 256}/blobs/uploads/",
        "/v2//blobs/uploads/",
    ],
)
def test_names_outside_the_grammar_are_refused(ask: Asked, path: str) -> None:
    assert ask("POST", path).status in (400, 404)


def test_an_unknown_path_and_an_unknown_method_are_told_apart(ask: Asked) -> None:
    assert ask("GET", "/v3/").status == 404
    answer = ask("PUT", f"/v2/a/blobs/{DIGEST}")
    assert (answer.status, answer.header("allow")) == (405, "GET, DELETE")


def test_errors_have_the_shape_of_the_specification(ask: Asked) -> None:
    answer = ask("GET", "/v2/a/blobs/sha256:short")
    assert json.loads(content_of(answer))["errors"][0].keys() == {"code", "message", "detail"}
    assert answer.header("content-type") == "application/json"

"""The `.sig` payload: written stably, read strictly (S5, S6, S7)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from ci_registry.attestations.simplesigning import parse_payload, write_payload
from ci_registry.errors import IntegrityError
from ci_registry.oci.reference import parse_reference
from tests.support.signing import HERE, OTHER_DIGEST, compact, payload_of

GOOD = compact(payload_of(OTHER_DIGEST))


def test_payload_is_byte_for_byte_what_cosign_writes() -> None:
    assert write_payload(HERE, OTHER_DIGEST) == (
        b'{"critical":{"identity":{"docker-reference":"registry.example/team/app:v1"},'
        b'"image":{"docker-manifest-digest":"' + OTHER_DIGEST.encode() + b'"},'
        b'"type":"cosign container image signature"},"optional":null}'
    )


def test_reference_without_a_tag_names_the_repository_and_never_a_digest() -> None:
    payload = write_payload(HERE.at(OTHER_DIGEST), OTHER_DIGEST)
    assert parse_payload(payload).reference == parse_reference("registry.example/team/app")


def test_docker_hub_is_the_same_place_under_both_its_names() -> None:
    ours = write_payload(parse_reference("alpine:3"), OTHER_DIGEST)
    assert b'"docker.io/library/alpine:3"' in ours
    theirs = compact(payload_of(OTHER_DIGEST, "index.docker.io/library/alpine:3"))
    assert parse_payload(theirs).reference == parse_payload(ours).reference


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(json.dumps(payload_of(OTHER_DIGEST), indent=4).encode(), id="indented"),
        pytest.param(
            compact(dict(reversed(payload_of(OTHER_DIGEST).items()))), id="members in other order"
        ),
        pytest.param(GOOD + b"\n", id="newline at the end"),
        pytest.param(GOOD.replace(b"null", b'{"creator":"x","timestamp":1}'), id="annotations"),
    ],
)
def test_other_spellings_of_the_same_document_are_accepted(payload: bytes) -> None:
    parsed = parse_payload(payload)
    assert (parsed.digest, parsed.reference) == (OTHER_DIGEST, HERE)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(GOOD.replace(b'"optional"', b'"critical":{},"optional"'), id="key twice"),
        pytest.param(GOOD.replace(b"critical", b"Critical", 1), id="other case"),
        pytest.param(GOOD.replace(b'"type":', b'"more":1,"type":'), id="extra critical member"),
        pytest.param(GOOD.replace(b'"docker-ref', b'"x":1,"docker-ref'), id="extra identity"),
        pytest.param(GOOD.replace(b'"docker-man', b'"x":1,"docker-man'), id="extra image member"),
        pytest.param(GOOD[:-1] + b',"x":1}', id="extra member at the top"),
        pytest.param(GOOD + b"{}", id="trailing document"),
        pytest.param(GOOD + b"\x00", id="trailing byte"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, id="byte order mark"),
        pytest.param(GOOD.replace(b"null", b'{"a":NaN}'), id="NaN"),
        pytest.param(GOOD.replace(b"null", b'{"a":1e999}'), id="infinity by overflow"),
        pytest.param(GOOD.replace(b"null", b"[" * 3000 + b"]" * 3000), id="deep nesting"),
        pytest.param(GOOD.replace(b"null", b'{"a":{}}'), id="optional not flat"),
        pytest.param(GOOD.replace(b"null", b"[]"), id="optional is a list"),
        pytest.param(GOOD.replace(b',"optional":null', b""), id="no optional"),
        pytest.param(GOOD.replace(b"sha256:", b"SHA256:"), id="digest in capitals"),
        pytest.param(GOOD.replace(b"cosign container", b"atomic container"), id="foreign type"),
        pytest.param(GOOD.replace(b'"cosign container image signature"', b"1"), id="type number"),
        pytest.param(GOOD.replace(b"team/app", b"Team/App"), id="reference that is none"),
        pytest.param(GOOD.replace(b'"registry.example/team/app:v1"', b"null"), id="no reference"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b"", id="empty"),
        pytest.param(b"null", id="null"),
        pytest.param(GOOD.replace(b"null", b'{"a":"' + b"x" * 2**20 + b'"}'), id="too large"),
    ],
)
def test_documents_that_can_tell_two_stories_are_refused(payload: bytes) -> None:
    assert payload != GOOD
    with pytest.raises(IntegrityError):
        parse_payload(payload)


def drop(path: tuple[str, ...]) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


@pytest.mark.parametrize(
    "path",
    [
        ("critical",),
        ("critical", "identity"),
        ("critical", "identity", "docker-reference"),
        ("critical", "image"),
        ("critical", "image", "docker-manifest-digest"),
        ("critical", "type"),
    ],
)
def test_every_member_is_required(path: tuple[str, ...]) -> None:
    document: dict[str, Any] = payload_of(OTHER_DIGEST)
    drop(path)(document)
    with pytest.raises(IntegrityError, match="missing"):
        parse_payload(compact(document))

"""in-toto statements (A3)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from ci_registry.attestations.statement import (
    IMAGE_SIGNATURE,
    STATEMENT_V01,
    image_signature,
    parse_statement,
    write_statement,
)
from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import digest_of
from tests.support.signing import OTHER_DIGEST, compact

GOOD = write_statement(image_signature(OTHER_DIGEST, ["registry.example/team/app:v1"]))


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(GOOD)
    change(document)
    return compact(document)


def test_image_signature_is_the_statement_that_cosign_writes_plus_the_name() -> None:
    expected = (
        b'{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":'
        b'"registry.example/team/app:v1","digest":{"sha256":"' + OTHER_DIGEST.hex.encode() + b'"}}]'
        b',"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}'
    )
    assert expected == GOOD
    parsed = parse_statement(GOOD)
    assert parsed == image_signature(OTHER_DIGEST, ["registry.example/team/app:v1"])
    assert parsed.predicate_type == IMAGE_SIGNATURE


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d.update(_type=STATEMENT_V01), id="version 0.1"),
        pytest.param(lambda d: d.pop("predicate"), id="no predicate"),
        pytest.param(lambda d: d["subject"][0].pop("name"), id="no name"),
        pytest.param(lambda d: d["subject"][0].update(annotations={}), id="annotations"),
        pytest.param(lambda d: d["subject"][0].update(uri="https://x"), id="other v1 members"),
        pytest.param(
            lambda d: d.update(subject=[{"digest": {"gitCommit": "ab"}}] * 1023 + d["subject"]),
            id="ours is the last of 1024",
        ),
    ],
)
def test_statements_within_the_rules_are_read(change: Callable[[dict[str, Any]], object]) -> None:
    subjects = parse_statement(changed(change)).subjects
    assert any(subject.names(OTHER_DIGEST) for subject in subjects)
    assert not any(subject.names(digest_of(b"another")) for subject in subjects)


def test_sha512_alone_names_no_sha256_manifest() -> None:
    def only_sha512(document: dict[str, Any]) -> None:
        document["subject"][0]["digest"] = {"sha512": OTHER_DIGEST.hex * 2}

    assert not parse_statement(changed(only_sha512)).subjects[0].names(OTHER_DIGEST)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d.update(_type="nonsense"), id="type"),
        pytest.param(lambda d: d.pop("_type"), id="no type"),
        pytest.param(lambda d: d.pop("subject"), id="no subject"),
        pytest.param(lambda d: d["subject"].clear(), id="empty subject"),
        pytest.param(lambda d: d.update(subject=d["subject"] * 1025), id="too many subjects"),
        pytest.param(lambda d: d["subject"][0].pop("digest"), id="no digest"),
        pytest.param(lambda d: d["subject"][0]["digest"].clear(), id="empty digest"),
        pytest.param(
            lambda d: d["subject"][0]["digest"].update({f"a{i}": "ab" for i in range(32)}),
            id="too many digests",
        ),
        pytest.param(
            lambda d: d["subject"][0]["digest"].update(sha256=OTHER_DIGEST.hex.upper()),
            id="capitals",
        ),
        pytest.param(lambda d: d["subject"][0]["digest"].update(sha256="ab"), id="short digest"),
        pytest.param(lambda d: d["subject"][0]["digest"].update(sha1="zz"), id="not hexadecimal"),
        pytest.param(lambda d: d["subject"][0].update(extra=1), id="unknown in subject"),
        pytest.param(lambda d: d.update(extra=1), id="unknown at the top"),
        pytest.param(lambda d: d.update(predicateType=""), id="empty predicate type"),
        pytest.param(lambda d: d.update(predicateType=1), id="predicate type no text"),
        pytest.param(lambda d: d.update(predicate=[]), id="predicate no object"),
    ],
)
def test_statements_that_break_a_rule_are_refused(
    change: Callable[[dict[str, Any]], object],
) -> None:
    with pytest.raises(IntegrityError):
        parse_statement(changed(change))

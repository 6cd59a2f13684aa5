"""DSSE envelopes and Sigstore bundles (A1, A2)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from ci_registry.attestations.bundle import Bundle, parse_bundle, write_bundle
from ci_registry.attestations.dsse import (
    IN_TOTO,
    Envelope,
    parse_envelope,
    pre_authentication_encoding,
    write_envelope,
)
from ci_registry.errors import IntegrityError

ENVELOPE = Envelope(payload=b'{"a":1}', payload_type=IN_TOTO, signatures=(b"sig",))
GOOD = write_bundle(Bundle(envelope=ENVELOPE, hint="aGludA=="))


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(GOOD)
    change(document)
    return json.dumps(document).encode()


def test_encoding_that_is_signed_is_that_of_the_specification() -> None:
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_lengths_count_bytes_so_that_no_two_inputs_encode_alike() -> None:
    assert pre_authentication_encoding("é", "ü".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xbc"
    assert pre_authentication_encoding("a 1 b", b"c") != pre_authentication_encoding("a", b"b 1 c")


def test_bundle_is_written_without_keyid_and_with_an_empty_log() -> None:
    assert json.loads(GOOD) == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "aGludA=="}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": "eyJhIjoxfQ==",
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": "c2ln"}],
        },
    }


def test_what_was_written_is_read_back() -> None:
    assert parse_bundle(GOOD) == Bundle(envelope=ENVELOPE, hint="aGludA==")
    assert parse_envelope(json.loads(write_envelope(ENVELOPE))) == ENVELOPE


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d["dsseEnvelope"]["signatures"][0].update(keyid="x"), id="keyid"),
        pytest.param(lambda d: d["verificationMaterial"].pop("tlogEntries"), id="as cosign writes"),
        pytest.param(lambda d: d["verificationMaterial"]["publicKey"].clear(), id="no hint"),
        pytest.param(
            lambda d: d["verificationMaterial"].update(tlogEntries=[{"logIndex": "1"}]), id="log"
        ),
    ],
)
def test_key_id_hint_and_log_decide_nothing(change: Callable[[dict[str, Any]], None]) -> None:
    assert parse_bundle(changed(change)).envelope == ENVELOPE


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d["dsseEnvelope"]["signatures"].append({"sig": "YQ=="}), id="two"),
        pytest.param(lambda d: d["dsseEnvelope"]["signatures"].clear(), id="no signature"),
        pytest.param(lambda d: d["dsseEnvelope"].update(payloadType="text/plain"), id="type"),
        pytest.param(lambda d: d["dsseEnvelope"].update(payloadType=IN_TOTO + " "), id="space"),
        pytest.param(lambda d: d["dsseEnvelope"].update(payload="eyJhIjoxfQ"), id="no padding"),
        pytest.param(lambda d: d["dsseEnvelope"].update(payload="eyJhIjoxfQ==\n"), id="newline"),
        pytest.param(lambda d: d["dsseEnvelope"].update(extra=1), id="unknown in envelope"),
        pytest.param(lambda d: d["dsseEnvelope"]["signatures"][0].update(cert="x"), id="cert"),
        pytest.param(lambda d: d["dsseEnvelope"]["signatures"][0].update(keyid=1), id="keyid int"),
        pytest.param(lambda d: d.update(extra=1), id="unknown at the top"),
        pytest.param(lambda d: d.update(mediaType="application/json"), id="media type"),
        pytest.param(
            lambda d: d.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
            id="older version",
        ),
        pytest.param(lambda d: d.update(messageSignature=d.pop("dsseEnvelope")), id="message"),
        pytest.param(lambda d: d["verificationMaterial"].update(certificate={}), id="keyless"),
        pytest.param(lambda d: d["verificationMaterial"].pop("publicKey"), id="no key"),
        pytest.param(lambda d: d["verificationMaterial"].update(tlogEntries={}), id="log object"),
    ],
)
def test_bundles_that_break_a_rule_are_refused(change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(IntegrityError):
        parse_bundle(changed(change))


def test_member_that_stands_twice_is_refused() -> None:
    twice = GOOD.replace(b'"payloadType":', b'"payload":"e30=","payloadType":')
    with pytest.raises(IntegrityError, match="duplicate key"):
        parse_bundle(twice)

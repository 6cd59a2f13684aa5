"""The manifests around signatures, byte for byte."""

import json
from datetime import datetime, timedelta, timezone

from ci_registry.attestations.manifests import (
    EMPTY,
    bundle_manifest,
    sig_config,
    sig_layer,
    sig_manifest,
    signature_tag,
)
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor, Manifest, parse_manifest
from tests.support.signing import CREATED_AT, OTHER_DIGEST

SUBJECT = Descriptor(
    media_type="application/vnd.oci.image.index.v1+json",
    digest=OTHER_DIGEST,
    size=77,
    annotations={"org.opencontainers.image.ref.name": "v1"},
)


def test_config_has_the_bytes_that_cosign_writes() -> None:
    digest = "sha256:b25152de2aac5033a0f08715794860786dc6e033c9f96b6cedac949117d12782"
    config = sig_config([digest])
    assert len(config) == 233
    assert digest_of(config) == (
        "sha256:56351b00f2c69981f79fa4da1ae2d1f997dc3286e4d43dc6d7c729cd37a986df"
    )


def test_signature_tag_is_beside_the_image() -> None:
    assert signature_tag(OTHER_DIGEST) == f"sha256-{OTHER_DIGEST.hex}.sig"


def test_sig_manifest_keeps_what_others_put_into_it() -> None:
    foreign = {"mediaType": "x/y", "size": 1, "digest": str(OTHER_DIGEST), "data": "eA=="}
    config = sig_config([str(OTHER_DIGEST), "sha256:" + "0" * 64])
    body = sig_manifest(
        [foreign, sig_layer(b"payload", "c2ln")],
        config,
        {"schemaVersion": 2, "annotations": {"a": "b"}, "layers": [], "config": {}},
    )
    document = json.loads(body)
    assert document["layers"][0] == foreign
    assert document["layers"][1]["annotations"] == {"dev.cosignproject.cosign/signature": "c2ln"}
    assert document["annotations"] == {"a": "b"}
    assert document["config"]["digest"] == digest_of(config)
    assert isinstance(parse_manifest(body), Manifest)


def test_bundle_manifest_refers_to_the_image_and_names_its_content() -> None:
    body = bundle_manifest(b"bundle", SUBJECT, predicate_type="https://p", created_at=CREATED_AT)
    manifest = parse_manifest(body)
    assert isinstance(manifest, Manifest)
    assert manifest.subject == Descriptor(
        media_type=SUBJECT.media_type, digest=SUBJECT.digest, size=SUBJECT.size
    )
    assert manifest.config == EMPTY
    assert manifest.artifact_type == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert manifest.layers[0].media_type == manifest.artifact_type
    assert manifest.annotations == {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://p",
        "org.opencontainers.image.created": "2026-03-04T05:06:07Z",
    }


def test_same_moment_in_another_zone_gives_the_same_bytes() -> None:
    elsewhere = CREATED_AT.astimezone(timezone(timedelta(hours=5)))

    def manifest(created_at: datetime) -> bytes:
        return bundle_manifest(b"b", SUBJECT, predicate_type="p", created_at=created_at)

    assert manifest(elsewhere) == manifest(CREATED_AT)

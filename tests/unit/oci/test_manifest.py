"""Manifests and indexes: strict, bounded, and the same to us as to a registry written in Go."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.errors import IntegrityError
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import (
    ATTESTATION_ANNOTATION,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    parse_descriptor,
    parse_manifest,
)
from ci_registry.oci.platform import Platform

CONFIG = {"mediaType": media_types.OCI_CONFIG, "digest": digest_of(b"c"), "size": 1}
LAYER = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": digest_of(b"l"), "size": 7}
CHILD = {
    "mediaType": media_types.OCI_MANIFEST,
    "digest": digest_of(b"m"),
    "size": 9,
    "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media_types.OCI_MANIFEST,
    "config": CONFIG,
    "layers": [LAYER, LAYER],
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media_types.OCI_INDEX,
    "manifests": [CHILD],
}


def _bytes(value: object) -> bytes:
    return json.dumps(value).encode()


def _without(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in names}


@pytest.mark.parametrize("kind", [media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST])
def test_both_kinds_of_manifest_are_read_with_their_bytes(kind: str) -> None:
    body = _bytes(MANIFEST | {"mediaType": kind, "annotations": {"a": "b"}})
    manifest = parse_manifest(body, kind)
    assert isinstance(manifest, Manifest)
    assert (manifest.body, manifest.media_type, manifest.digest) == (body, kind, digest_of(body))
    assert [layer.size for layer in manifest.layers] == [7, 7]
    assert [blob.size for blob in manifest.blobs] == [1, 7]
    assert manifest.annotations == {"a": "b"}
    assert manifest.descriptor == Descriptor(
        media_type=kind, digest=digest_of(body), size=len(body)
    )


@pytest.mark.parametrize("kind", [media_types.OCI_INDEX, media_types.DOCKER_INDEX])
def test_both_kinds_of_index_are_read(kind: str) -> None:
    index = parse_manifest(_bytes(INDEX | {"mediaType": kind}), f"{kind}; charset=utf-8")
    assert isinstance(index, Index)
    assert index.media_type == kind
    assert index.manifests[0].platform == Platform("linux", "arm64")
    assert index.images == index.manifests


def test_the_media_type_may_stand_outside_only_or_nowhere() -> None:
    bare = _without(MANIFEST, "mediaType")
    assert parse_manifest(_bytes(bare)).media_type == media_types.OCI_MANIFEST
    sent = parse_manifest(_bytes(bare), media_types.DOCKER_MANIFEST)
    assert sent.media_type == media_types.DOCKER_MANIFEST
    assert parse_manifest(_bytes(_without(INDEX, "mediaType"))).media_type == media_types.OCI_INDEX


def test_subject_and_artifact_type_are_read() -> None:
    subject = {"mediaType": media_types.OCI_MANIFEST, "digest": digest_of(b"s"), "size": 3}
    manifest = parse_manifest(_bytes(MANIFEST | {"subject": subject, "artifactType": "a/b"}))
    assert manifest.subject is not None
    assert manifest.subject.digest == digest_of(b"s")
    assert manifest.artifact_type == "a/b"


REFUSED: dict[str, tuple[object, str, str]] = {
    "types disagree": (MANIFEST, media_types.DOCKER_MANIFEST, "but says it is"),
    "sent as an index": (
        _without(MANIFEST, "mediaType"),
        media_types.OCI_INDEX,
        "has layers, but its media type is",
    ),
    "an index that says manifest": (
        INDEX | {"mediaType": media_types.OCI_MANIFEST},
        "",
        "has manifests, but its media type is",
    ),
    "foreign type": (MANIFEST | {"mediaType": "text/html"}, "", "its media type is 'text/html'"),
    "layers and manifests": (MANIFEST | {"manifests": [CHILD]}, "", "neither a manifest nor"),
    "manifests and a config": (INDEX | {"config": CONFIG}, "", "neither a manifest nor"),
    "layers without config": (_without(MANIFEST, "config"), "", "neither a manifest nor"),
    "neither": (_without(MANIFEST, "layers"), "", "neither a manifest nor"),
    "schema 1": (
        {"schemaVersion": 1, "name": "a", "fsLayers": [], "history": []},
        "",
        "neither a manifest nor",
    ),
    "schema 1 in disguise": (MANIFEST | {"fsLayers": []}, "", "neither a manifest nor"),
    "Layers beside layers": (MANIFEST | {"Layers": []}, "", "differ only in upper and lower"),
    "long s": (MANIFEST | {"layer\u017f": []}, "", "differ only in upper and lower"),
    "only Layers": (
        _without(MANIFEST, "layers") | {"Layers": [LAYER]},
        "",
        "neither a manifest nor",
    ),
    "MANIFESTS beside layers": (MANIFEST | {"MANIFESTS": [CHILD]}, "", "neither a manifest nor"),
    "Digest beside digest": (
        MANIFEST | {"config": CONFIG | {"Digest": digest_of(b"evil")}},
        "",
        "config: two members differ only",
    ),
    "OS beside os": (
        INDEX | {"manifests": [CHILD | {"platform": {"os": "a", "OS": "b"}}]},
        "",
        "two members differ only",
    ),
    "an array": ([], "", "expected a JSON object"),
    "layers no array": (MANIFEST | {"layers": {}}, "", "layers: expected a JSON array"),
    "layers null": (MANIFEST | {"layers": None}, "", "layers: expected a JSON array"),
    "layer a string": (MANIFEST | {"layers": ["x"]}, "", "expected a JSON object"),
    "type a number": (MANIFEST | {"mediaType": 0}, "", "mediaType: expected a JSON string"),
    "subject an empty object": (MANIFEST | {"subject": {}}, "", "subject.digest"),
    "subject false": (MANIFEST | {"subject": False}, "", "subject: expected a JSON object"),
    "annotation a number": (MANIFEST | {"annotations": {"a": 1}}, "", "annotations.a"),
    "config without digest": (
        MANIFEST | {"config": _without(CONFIG, "digest")},
        "",
        "config.digest: expected a JSON string",
    ),
    "short digest": (
        MANIFEST | {"config": CONFIG | {"digest": "sha256:ab"}},
        "",
        "not a content digest",
    ),
    "negative size": (MANIFEST | {"config": CONFIG | {"size": -1}}, "", "config.size"),
    "size a float": (MANIFEST | {"config": CONFIG | {"size": 1.5}}, "", "config.size"),
    "size true": (MANIFEST | {"config": CONFIG | {"size": True}}, "", "config.size"),
    "platform with a path": (
        INDEX | {"manifests": [CHILD | {"platform": {"os": "../x", "architecture": "y"}}]},
        "",
        "is no part of a platform",
    ),
    "platform with a zero byte": (
        INDEX | {"manifests": [CHILD | {"platform": {"os": "a\x00", "architecture": "y"}}]},
        "",
        "is no part of a platform",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_two_readers_could_take_for_two_images_is_refused(case: str) -> None:
    value, media_type, words = REFUSED[case]
    with pytest.raises(IntegrityError) as caught:
        parse_manifest(_bytes(value), media_type)
    assert words in caught.value.message


def test_annotations_may_differ_in_case_only() -> None:
    annotations = {"Maintainer": "a", "maintainer": "b"}
    assert (
        parse_manifest(_bytes(MANIFEST | {"annotations": annotations})).annotations == annotations
    )


def test_duplicate_members_are_refused() -> None:
    body = _bytes(MANIFEST)[:-1] + b', "layers": []}'
    with pytest.raises(IntegrityError, match="duplicate key 'layers'"):
        parse_manifest(body)


def test_deep_json_is_refused() -> None:
    deep: object = "x"
    for _ in range(70):
        deep = [deep]
    with pytest.raises(IntegrityError, match="nested"):
        parse_manifest(_bytes(MANIFEST | {"extra": deep}))


def test_unknown_members_are_accepted() -> None:
    assert parse_manifest(_bytes(MANIFEST | {"extra": {"a": [1]}})).media_type


def test_four_mebibytes_are_the_most() -> None:
    body = _bytes(MANIFEST)
    full = body + b" " * (MAX_MANIFEST_BYTES - len(body))
    assert len(parse_manifest(full).body) == MAX_MANIFEST_BYTES
    with pytest.raises(IntegrityError, match="more than 4194304 allowed"):
        parse_manifest(full + b" ")


def _entry(platform: dict[str, str] | None, *, marked: bool) -> Descriptor:
    data: dict[str, Any] = _without(CHILD, "platform")
    if platform is not None:
        data["platform"] = platform
    if marked:
        data["annotations"] = {ATTESTATION_ANNOTATION: "attestation-manifest"}
    return parse_descriptor(data, what="entry")


UNKNOWN = {"os": "unknown", "architecture": "unknown"}
LINUX = {"os": "linux", "architecture": "amd64"}


@pytest.mark.parametrize(
    ("platform", "marked", "is_attestation"),
    [
        (UNKNOWN, True, True),
        (UNKNOWN, False, True),
        (None, True, True),
        (None, False, False),
        (LINUX, False, False),
        (LINUX, True, False),
    ],
)
def test_only_what_no_runtime_would_pick_is_an_attestation(
    platform: dict[str, str] | None, marked: bool, is_attestation: bool
) -> None:
    assert _entry(platform, marked=marked).is_attestation is is_attestation


def test_images_of_an_index_leave_attestations_out() -> None:
    attestation = CHILD | {
        "platform": UNKNOWN,
        "annotations": {ATTESTATION_ANNOTATION: "attestation-manifest"},
    }
    index = parse_manifest(_bytes(INDEX | {"manifests": [CHILD, attestation]}))
    assert isinstance(index, Index)
    assert len(index.manifests) == 2
    assert [str(image.platform) for image in index.images] == ["linux/arm64"]


def test_a_descriptor_is_written_as_it_is_read() -> None:
    data = CHILD | {"platform": LINUX, "annotations": {"a": "b"}, "artifactType": "x/y"}
    assert parse_descriptor(data, what="d").to_json() == data
    plain = _without(CHILD, "platform")
    assert parse_descriptor(plain, what="d").to_json() == plain


@given(st.binary(max_size=80))
@settings(max_examples=100)
def test_any_bytes_give_a_manifest_or_the_one_error(body: bytes) -> None:
    try:
        parse_manifest(body, media_types.OCI_MANIFEST)
    except IntegrityError:
        return


_NAMES = ["layers", "manifests", "config", "Layers", "mediaType", "subject", "digest", "size"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from([*media_types.MANIFESTS, "x"]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4)
        ),
        max_leaves=10,
    )
)
@settings(max_examples=100)
def test_any_json_gives_a_manifest_or_the_one_error(value: object) -> None:
    try:
        parse_manifest(_bytes(value))
    except IntegrityError:
        return

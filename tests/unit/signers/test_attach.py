"""Attaching signatures: once only, beside those of others, and read back."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ci_registry.attestations.manifests import signature_tag
from ci_registry.attestations.simplesigning import write_payload
from ci_registry.attestations.statement import parse_statement
from ci_registry.cancel import Cancel
from ci_registry.config.model import SignFormat
from ci_registry.errors import (
    AccessError,
    CancelledError,
    IntegrityError,
    RegistryError,
    SetupError,
    SignatureError,
    UsageError,
)
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor, Manifest
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.signers import attach
from ci_registry.signers.attach import SignatureOutcome, sign_image
from ci_registry.signers.interface import Signer
from ci_registry.signers.native import NativeSigner
from ci_registry.signers.stored import read_bundles
from ci_registry.verification.read_back import verify_signed_by
from tests.support.memory_repository import MemoryRepository, add_blob
from tests.support.signing import (
    CREATED_AT,
    HERE,
    OTHER_DIGEST,
    add_image,
    add_index,
    add_manifest,
    add_referrer,
    add_sig,
    payload_of,
    signed,
    signer,
)

WROTE_BOTH = SignatureOutcome(written=("sig", "bundle"), found=())
FOUND_BOTH = SignatureOutcome(written=(), found=("sig", "bundle"))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "_FIRST_WAIT_S", 0)


@dataclass
class Scene:
    """A repository with one image."""

    repository: MemoryRepository
    image: Descriptor

    def sign(
        self,
        *references: Reference,
        by: Signer | None = None,
        formats: SignFormat = SignFormat.BOTH,
    ) -> SignatureOutcome:
        return sign_image(
            self.repository,
            self.image,
            references or (HERE,),
            by or signer(),
            formats,
            created_at=CREATED_AT,
        )

    @property
    def tag(self) -> str:
        return signature_tag(self.image.digest)

    def sig(self) -> Manifest:
        manifest = self.repository.fetch(self.tag)
        assert isinstance(manifest, Manifest)
        return manifest

    def bundles(self) -> int:
        return len(self.repository.referrers(self.image.digest))

    def is_signed(self, *references: Reference, by: NativeSigner | None = None) -> bool:
        key = (by or signer()).public_key_pem
        return verify_signed_by(self.repository, self.image, references or (HERE,), key).valid


@pytest.fixture
def scene() -> Scene:
    repository = MemoryRepository()
    return Scene(repository, add_image(repository))


def test_both_formats_are_written_and_read_back(scene: Scene) -> None:
    assert scene.sign() == WROTE_BOTH
    assert scene.is_signed()
    assert (len(scene.sig().layers), scene.bundles()) == (1, 1)


def test_second_run_writes_nothing_not_even_a_blob(scene: Scene) -> None:
    scene.sign(HERE, HERE.tagged("latest"))
    scene.repository.calls.clear()
    assert scene.sign(HERE.tagged("latest"), HERE) == FOUND_BOTH
    assert scene.repository.writes == []


def test_two_runs_make_the_same_bytes_in_two_registries() -> None:
    def run() -> dict[str, tuple[bytes, str]]:
        repository = MemoryRepository()
        Scene(repository, add_image(repository)).sign(HERE, HERE.tagged("latest"))
        return repository.manifests

    assert run() == run()


@pytest.mark.parametrize(
    ("formats", "kinds"), [(SignFormat.SIG, ("sig",)), (SignFormat.BUNDLE, ("bundle",))]
)
def test_one_format_alone_is_written_when_asked(
    scene: Scene, formats: SignFormat, kinds: tuple[str, ...]
) -> None:
    assert scene.sign(formats=formats).written == kinds
    assert (scene.tag in scene.repository.tags()) == (kinds == ("sig",))
    assert scene.bundles() == (kinds == ("bundle",))


def test_image_itself_is_never_fetched(scene: Scene) -> None:
    scene.sign()
    assert ("fetch", scene.image.digest) not in scene.repository.calls


def test_index_is_signed_like_a_manifest() -> None:
    repository = MemoryRepository()
    scene = Scene(repository, add_index(repository, add_image(repository)))
    assert scene.sign() == WROTE_BOTH
    assert scene.is_signed()


def test_each_tag_gets_a_layer_and_a_new_tag_adds_one(scene: Scene) -> None:
    latest = HERE.tagged("latest")
    scene.sign(HERE, HERE)
    assert scene.sign(HERE, latest) == WROTE_BOTH
    assert len(scene.sig().layers) == 2
    assert scene.is_signed(HERE, latest)
    assert not scene.is_signed(HERE.tagged("other"))


def test_without_references_the_repository_is_signed(scene: Scene) -> None:
    sign_image(scene.repository, scene.image, (), signer(), created_at=CREATED_AT)
    assert scene.is_signed(parse_reference(scene.repository.name))


def test_without_references_a_folder_can_not_be_signed(scene: Scene) -> None:
    scene.repository.name = "/tmp/Layout"
    with pytest.raises(UsageError):
        sign_image(scene.repository, scene.image, (), signer(), created_at=CREATED_AT)


def test_two_keys_sign_beside_each_other(scene: Scene) -> None:
    scene.sign()
    assert scene.sign(by=signer("theirs")) == WROTE_BOTH
    assert scene.is_signed()
    assert scene.is_signed(by=signer("theirs"))
    assert len(scene.sig().layers) == 2


def test_layers_of_others_stay_as_they_were(scene: Scene) -> None:
    foreign: dict[str, object] = {
        "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
        "digest": add_blob(scene.repository, b"foreign"),
        "size": 7,
        "annotations": {"dev.sigstore.cosign/certificate": "PEM", "b": "1", "a": "2"},
        "data": "Zm9yZWlnbg==",
        "urls": ["https://elsewhere.example/"],
    }
    add_sig(scene.repository, scene.image.digest, foreign)
    scene.sign()
    before, ours = json.loads(scene.sig().body)["layers"]
    assert json.dumps(before) == json.dumps(json.loads(json.dumps(foreign)))
    assert ours["digest"] != before["digest"]
    config = scene.repository.blobs[scene.sig().config.digest]
    assert json.loads(config)["rootfs"]["diff_ids"] == [before["digest"], ours["digest"]]


def test_valid_signature_with_other_spelling_is_left(scene: Scene) -> None:
    spelled = json.dumps(payload_of(scene.image.digest), indent=2).encode()
    add_sig(scene.repository, scene.image.digest, signed(spelled))
    assert scene.sign(formats=SignFormat.SIG).found == ("sig",)


def test_broken_signature_in_our_place_is_no_signature(scene: Scene) -> None:
    payload = write_payload(HERE, scene.image.digest)
    _, other = signed(b"something else")
    add_sig(scene.repository, scene.image.digest, (payload, other))
    assert scene.sign() == WROTE_BOTH
    assert scene.is_signed()
    assert len(scene.sig().layers) == 2


def test_signature_whose_payload_is_gone_is_written_again(scene: Scene) -> None:
    scene.sign()
    del scene.repository.blobs[scene.sig().layers[0].digest]
    assert scene.sign() == SignatureOutcome(written=("sig",), found=("bundle",))
    assert scene.is_signed()


def test_signature_with_a_wrong_size_is_written_again(scene: Scene) -> None:
    scene.sign(formats=SignFormat.SIG)
    layer = json.loads(scene.sig().body)["layers"][0]
    add_sig(scene.repository, scene.image.digest, layer | {"size": layer["size"] - 1})
    assert scene.sign() == WROTE_BOTH
    assert scene.is_signed()


def test_bundle_by_a_stranger_does_not_count_as_ours(scene: Scene) -> None:
    scene.sign(by=signer("stranger"), formats=SignFormat.BUNDLE)
    assert scene.sign() == WROTE_BOTH
    assert scene.bundles() == 2


def test_attestation_by_our_key_does_not_count_as_signature(scene: Scene) -> None:
    scene.sign(formats=SignFormat.BUNDLE)
    (referrer,) = scene.repository.referrers(scene.image.digest)
    manifest = scene.repository.fetch(referrer.digest)
    assert isinstance(manifest, Manifest)
    elsewhere = Scene(scene.repository, add_image(scene.repository, "another"))
    add_referrer(
        elsewhere.repository, elsewhere.image, elsewhere.repository.blobs[manifest.layers[0].digest]
    )
    assert elsewhere.sign() == WROTE_BOTH


def test_at_most_sixteen_layers_are_ours_and_the_oldest_goes(scene: Scene) -> None:
    add_sig(scene.repository, scene.image.digest, signed(b"{}", "stranger"))
    for number in range(18):
        scene.sign(HERE.tagged(f"v{number}"), formats=SignFormat.SIG)
    layers = scene.sig().layers
    assert len(layers) == 17
    payloads = [scene.repository.blobs[layer.digest] for layer in layers]
    assert payloads[0] == b"{}"
    assert [HERE.tagged(f"v{n}") for n in range(2, 18)] == [
        parse_reference(json.loads(p)["critical"]["identity"]["docker-reference"])
        for p in payloads[1:]
    ]


def test_layer_that_is_wanted_now_is_not_dropped_though_it_is_the_oldest(scene: Scene) -> None:
    for number in range(16):
        scene.sign(HERE.tagged(f"v{number}"), formats=SignFormat.SIG)
    scene.sign(HERE.tagged("v0"), HERE.tagged("new"))
    assert scene.is_signed(HERE.tagged("v0"), HERE.tagged("new"))
    assert len(scene.sig().layers) == 16


def test_new_tag_adds_a_bundle_for_itself_alone(scene: Scene) -> None:
    scene.sign()
    scene.sign(HERE, HERE.tagged("latest"))
    names = [
        [subject.name for subject in parse_statement(found.payload).subjects]
        for found in read_bundles(scene.repository, scene.image.digest)
    ]
    assert sorted(names) == [[str(HERE.tagged("latest"))], [str(HERE)]]


def test_all_tags_of_one_run_are_kept_however_many(scene: Scene) -> None:
    tags = [HERE.tagged(f"v{number}") for number in range(20)]
    scene.sign(*tags)
    assert scene.is_signed(*tags)


def test_full_tag_is_a_clear_error_and_nothing_is_lost(scene: Scene) -> None:
    stranger = signed(b"{}", "stranger")
    add_sig(scene.repository, scene.image.digest, *[stranger] * 1000)
    before = scene.sig().body
    with pytest.raises(SetupError, match="no room for another signature"):
        scene.sign()
    assert scene.sig().body == before


def test_tag_that_would_be_too_large_for_registries_is_a_clear_error(scene: Scene) -> None:
    huge: dict[str, object] = {
        "mediaType": "x/y",
        "digest": add_blob(scene.repository, b"x"),
        "size": 1,
        "annotations": {"a": "x" * (4 * 2**20 - 600)},
    }
    add_sig(scene.repository, scene.image.digest, huge)
    with pytest.raises(SetupError, match="no room"):
        scene.sign()


def test_tag_that_holds_an_index_is_not_overwritten(scene: Scene) -> None:
    index = add_index(scene.repository, scene.image)
    add_manifest(scene.repository, scene.repository.manifests[index.digest][0], scene.tag)
    with pytest.raises(IntegrityError, match="not a signature manifest"):
        scene.sign()


def once(action: Callable[[], None]) -> Callable[[str], None]:
    done: list[bool] = []

    def hook(reference: str) -> None:
        if reference.endswith(".sig") and not done:
            done.append(True)
            action()

    return hook


def test_writer_that_comes_between_read_and_write_loses_nothing(scene: Scene) -> None:
    other = Scene(scene.repository, scene.image)
    real = scene.repository.push_blob

    def push_blob(*args: object, **kwargs: object) -> object:
        scene.repository.push_blob = real  # type: ignore[method-assign]
        other.sign(by=signer("theirs"))
        return real(*args, **kwargs)  # type: ignore[arg-type]

    scene.repository.push_blob = push_blob  # type: ignore[method-assign,assignment]
    assert scene.sign() == WROTE_BOTH
    assert scene.is_signed()
    assert scene.is_signed(by=signer("theirs"))


def test_signature_that_another_writer_overwrote_is_put_back(scene: Scene) -> None:
    scene.repository.after_push = once(
        lambda: add_sig(scene.repository, scene.image.digest, signed(b"{}", "theirs"))
    )
    assert scene.sign() == WROTE_BOTH
    assert scene.is_signed()
    assert len(scene.sig().layers) == 2


def test_writer_that_never_stops_overwriting_is_an_error(scene: Scene) -> None:
    def overwrite(reference: str) -> None:
        if reference.endswith(".sig"):
            add_sig(scene.repository, scene.image.digest, signed(b"{}", "theirs"))

    scene.repository.after_push = overwrite
    with pytest.raises(RegistryError, match="did not stay"):
        scene.sign()


def test_cancel_ends_the_waits(scene: Scene) -> None:
    cancel = Cancel()

    def overwrite(reference: str) -> None:
        cancel.set("test")
        scene.repository.manifests.pop(reference)

    scene.repository.after_push = overwrite
    with pytest.raises(CancelledError):
        sign_image(
            scene.repository, scene.image, (HERE,), signer(), created_at=CREATED_AT, cancel=cancel
        )


def test_failed_listing_is_an_error_and_no_second_bundle(scene: Scene) -> None:
    scene.repository.referrers_error = RegistryError("429", status=429)
    with pytest.raises(RegistryError, match="429"):
        scene.sign()
    scene.repository.referrers_error = None
    assert scene.bundles() == 0


def test_refused_write_is_the_error_of_the_registry(scene: Scene) -> None:
    def refuse(_reference: str) -> None:
        raise AccessError("tag is immutable")

    scene.repository.before_push = refuse
    with pytest.raises(AccessError):
        scene.sign()


class BrokenSigner:
    """Claims one key and signs with another."""

    public_key_pem = signer().public_key_pem

    def sign(self, payload: bytes) -> bytes:
        return signer("theirs").sign(payload)


def test_signature_that_does_not_fit_the_key_is_not_published(scene: Scene) -> None:
    with pytest.raises(SignatureError, match="does not fit"):
        scene.sign(by=BrokenSigner())
    assert scene.repository.writes == []


def test_foreign_referrers_are_passed_over(scene: Scene) -> None:
    add_referrer(scene.repository, scene.image, b"sbom", media_type="application/spdx+json")
    scene.repository.extra_referrers.append(
        Descriptor(media_type="x/y", digest=digest_of(b"gone"), size=4)
    )
    assert scene.sign() == WROTE_BOTH
    assert scene.sign() == FOUND_BOTH


def test_other_image_of_the_repository_is_not_signed_by_accident(scene: Scene) -> None:
    scene.sign()
    assert signature_tag(OTHER_DIGEST) not in scene.repository.tags()
    other = Scene(scene.repository, add_image(scene.repository, "other"))
    assert not other.is_signed()

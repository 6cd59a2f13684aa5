"""Verification against forged, copied and broken signatures; ids as in the list of adversarial cases."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from ci_registry.attestations.bundle import Bundle, write_bundle
from ci_registry.attestations.dsse import IN_TOTO, Envelope, pre_authentication_encoding
from ci_registry.attestations.ecdsa import P256_ORDER
from ci_registry.attestations.manifests import signature_tag
from ci_registry.attestations.simplesigning import write_payload
from ci_registry.attestations.statement import image_signature, write_statement
from ci_registry.config.model import SignFormat
from ci_registry.errors import (
    ExitCode,
    IncompleteError,
    IntegrityError,
    NotFoundError,
    RegistryError,
    SignatureError,
    UsageError,
)
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.signers import stored
from ci_registry.signers.attach import sign_image
from ci_registry.verification import verify
from ci_registry.verification.checks import CheckStatus, VerificationResult
from ci_registry.verification.verify import verify_image
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
    compact,
    payload_of,
    signed,
    signer,
    trusted,
)

Change = Callable[[dict[str, Any]], object]


@dataclass
class Scene:
    """A repository with one image, and ways to put things beside it."""

    repository: MemoryRepository = field(default_factory=MemoryRepository)
    marker: str = "one"

    def __post_init__(self) -> None:
        self.image = add_image(self.repository, self.marker)

    @property
    def payload(self) -> bytes:
        return write_payload(HERE, self.image.digest)

    def sig(self, *layers: tuple[bytes, str] | dict[str, object]) -> None:
        add_sig(self.repository, self.image.digest, *layers)

    def layer(self, **changes: object) -> dict[str, object]:
        """Return the descriptor of a good layer with some members changed."""
        payload, signature = signed(self.payload)
        return {
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": add_blob(self.repository, payload),
            "size": len(payload),
            "annotations": {"dev.cosignproject.cosign/signature": signature},
        } | changes

    def sign(self, *references: Reference, formats: SignFormat = SignFormat.BOTH) -> None:
        names = references or (HERE,)
        sign_image(self.repository, self.image, names, signer(), formats, created_at=CREATED_AT)

    def bundle(self, statement: bytes, by: str = "ours", change: Change | None = None) -> bytes:
        signature = signer(by).sign(pre_authentication_encoding(IN_TOTO, statement))
        envelope = Envelope(payload=statement, payload_type=IN_TOTO, signatures=(signature,))
        document = json.loads(write_bundle(Bundle(envelope=envelope, hint="")))
        if change is not None:
            change(document)
        return compact(document)

    def attach(self, bundle: bytes, **kwargs: str) -> Descriptor:
        return add_referrer(self.repository, self.image, bundle, **kwargs)

    def verify(
        self,
        reference: Reference = HERE,
        *keys: str,
        require_tag: bool = False,
        with_children: bool = False,
        signed_as: tuple[str, ...] = (),
    ) -> VerificationResult:
        return verify_image(
            self.repository,
            self.image,
            reference=reference,
            trusted=trusted(*keys),
            require_tag=require_tag,
            with_children=with_children,
            signed_as=signed_as,
        )


@pytest.fixture
def scene() -> Scene:
    return Scene()


def status_of(result: VerificationResult, name: str) -> CheckStatus:
    (check,) = (check for check in result.checks if check.name == name)
    return check.status


def rejected(result: VerificationResult, reason: str = "") -> None:
    failure = result.failure()
    assert isinstance(failure, SignatureError), result.checks
    assert failure.exit_code is ExitCode.SIGNATURE
    assert reason in failure.message
    assert "\n" not in failure.message


# --- what is good


def test_image_that_we_signed_is_valid_in_both_formats(scene: Scene) -> None:
    scene.sign()
    result = scene.verify(require_tag=True)
    assert result.valid
    assert result.failure() is None
    assert [(c.name, c.status) for c in result.checks] == [
        ("manifest", CheckStatus.PASSED),
        ("sig", CheckStatus.PASSED),
        ("bundle", CheckStatus.PASSED),
        ("signature", CheckStatus.PASSED),
    ]


@pytest.mark.parametrize("formats", [SignFormat.SIG, SignFormat.BUNDLE])
def test_one_format_is_enough(scene: Scene, formats: SignFormat) -> None:
    scene.sign(formats=formats)
    result = scene.verify(require_tag=True)
    assert result.valid
    absent = "bundle" if formats is SignFormat.SIG else "sig"
    assert status_of(result, absent) is CheckStatus.SKIPPED


def test_any_of_several_keys_is_enough(scene: Scene) -> None:
    scene.sign()
    assert scene.verify(HERE, "theirs", "ours").valid


def test_image_without_any_signature_is_rejected(scene: Scene) -> None:
    rejected(scene.verify(), "no signature")


def test_signature_by_a_stranger_is_rejected(scene: Scene) -> None:
    scene.sign()
    rejected(scene.verify(HERE, "theirs"), "not signed by a trusted key")


# --- S1 to S9: the .sig format


def test_s1_changed_payload_with_the_old_signature_is_rejected(scene: Scene) -> None:
    payload, signature = signed(scene.payload)
    scene.sig((payload.replace(b"app:v1", b"app:v2"), signature))
    rejected(scene.verify(), "not signed by a trusted key")


def test_s2_payload_about_another_image_is_rejected(scene: Scene) -> None:
    scene.sig(signed(write_payload(HERE, OTHER_DIGEST)))
    rejected(scene.verify(), "another image")


@pytest.mark.parametrize("formats", [SignFormat.SIG, SignFormat.BUNDLE, SignFormat.BOTH])
def test_s3_signature_copied_to_another_repository_is_rejected(
    scene: Scene, formats: SignFormat
) -> None:
    scene.sign(formats=formats)
    rejected(scene.verify(parse_reference("registry.example/evil/app:v1")), "another place")
    rejected(scene.verify(parse_reference("other.example/team/app:v1")), "another place")


def test_s3_copy_counts_where_its_origin_is_named_as_allowed(scene: Scene) -> None:
    scene.sign()
    mirror = parse_reference("mirror.example/team/app:v1")
    assert scene.verify(mirror, require_tag=True, signed_as=(HERE.name,)).valid


@pytest.mark.parametrize("formats", [SignFormat.SIG, SignFormat.BUNDLE, SignFormat.BOTH])
def test_s4_old_release_under_a_new_tag_is_rejected_when_tags_are_checked(
    scene: Scene, formats: SignFormat
) -> None:
    scene.sign(formats=formats)
    new = HERE.tagged("v2")
    rejected(scene.verify(new, require_tag=True), "not with tag v2")
    result = scene.verify(new)
    assert result.valid
    assert status_of(result, "signature") is CheckStatus.WARNING


def test_s4_by_digest_alone_any_tag_of_the_repository_counts(scene: Scene) -> None:
    scene.sign()
    by_digest = HERE.at(scene.image.digest)
    assert status_of(scene.verify(by_digest), "signature") is CheckStatus.PASSED
    with pytest.raises(UsageError, match="no tag"):
        scene.verify(by_digest, require_tag=True)


def test_s4_signature_of_the_repository_does_not_vouch_for_a_tag(scene: Scene) -> None:
    scene.sign(parse_reference(HERE.name))
    assert status_of(scene.verify(), "signature") is CheckStatus.PASSED
    rejected(scene.verify(require_tag=True), "not with tag v1")


def test_s4_right_tag_is_found_among_several(scene: Scene) -> None:
    scene.sign(HERE.tagged("a"), HERE, HERE.tagged("z"))
    assert scene.verify(require_tag=True).valid


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: p.replace(b'"optional"', b'"critical":{},"optional"'), id="twice"),
        pytest.param(lambda p: p.replace(b"critical", b"Critical", 1), id="other case"),
        pytest.param(lambda p: p.replace(b'"type":', b'"extra":1,"type":'), id="extra critical"),
        pytest.param(lambda p: p + b"{}", id="trailing bytes"),
        pytest.param(lambda p: b"\xef\xbb\xbf" + p, id="byte order mark"),
        pytest.param(lambda p: p.replace(b"null", b'{"x":NaN}'), id="NaN"),
        pytest.param(lambda p: p.replace(b"null", b"[" * 999 + b"]" * 999), id="deep nesting"),
        pytest.param(lambda p: p.replace(b"cosign container", b"atomic container"), id="S6 type"),
    ],
)
def test_s5_s6_documents_with_two_readings_are_rejected_though_signed(
    scene: Scene, change: Callable[[bytes], bytes]
) -> None:
    scene.sig(signed(change(scene.payload)))
    rejected(scene.verify())


def test_s7_indented_and_reordered_payload_is_accepted(scene: Scene) -> None:
    document = dict(reversed(payload_of(scene.image.digest).items()))
    scene.sig(signed(json.dumps(document, indent=8).encode()))
    assert scene.verify(require_tag=True).valid


def raw_signature(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def high_s(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, P256_ORDER - s)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(raw_signature, id="raw r|s"),
        pytest.param(lambda _s: b"", id="empty"),
        pytest.param(lambda s: s + b"\x00", id="trailing byte"),
        pytest.param(lambda s: b"\x30\x81" + s[1:], id="not canonical"),
        pytest.param(lambda _s: bytes.fromhex("3006020100020100"), id="r and s zero"),
    ],
)
def test_s8_signatures_that_are_no_strict_der_are_rejected(
    scene: Scene, change: Callable[[bytes], bytes]
) -> None:
    signature = base64.b64encode(change(signer().sign(scene.payload))).decode()
    scene.sig((scene.payload, signature))
    rejected(scene.verify(), "signature:")
    statement = write_statement(image_signature(scene.image.digest, [str(HERE)]))
    scene.attach(
        scene.bundle(
            statement,
            change=lambda d: d["dsseEnvelope"].update(signatures=[{"sig": signature}]),
        )
    )
    rejected(scene.verify())


def test_s8_high_s_is_accepted(scene: Scene) -> None:
    signature = base64.b64encode(high_s(signer().sign(scene.payload))).decode()
    scene.sig((scene.payload, signature))
    assert scene.verify().valid


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text + "\n", id="newline at the end"),
        pytest.param(lambda text: text[:40] + "\n" + text[40:], id="newline within"),
        pytest.param(lambda text: text[:40] + "!" + text[40:], id="junk"),
        pytest.param(
            lambda text: text.rstrip("=") + ("" if text.endswith("=") else "="), id="padding"
        ),
        pytest.param(lambda _text: "", id="empty"),
        pytest.param(lambda _text: "A" * 3_000_000, id="3 MB"),
    ],
)
def test_s9_base64_that_no_encoder_writes_is_rejected(
    scene: Scene, change: Callable[[str], str]
) -> None:
    payload, signature = signed(scene.payload)
    scene.sig((payload, change(signature)))
    rejected(scene.verify())


# --- S10: bounds


def test_s10_bad_layers_beside_a_good_one_do_not_matter(scene: Scene) -> None:
    scene.sig(
        (b"junk", "????"),
        scene.layer(annotations={}),
        scene.layer(digest=str(OTHER_DIGEST)),
        {"mediaType": "x/y", "digest": str(OTHER_DIGEST), "size": 1},
        scene.layer(),
    )
    assert scene.verify(require_tag=True).valid


@pytest.mark.parametrize("size", [0, 1, 239, 4000, 200 * 2**20, 2**60])
def test_s10_declared_size_that_is_not_the_real_one_is_rejected(scene: Scene, size: int) -> None:
    scene.sig(scene.layer(size=size))
    rejected(scene.verify(), "bytes")


def test_s10_huge_declared_size_is_refused_without_a_request(scene: Scene) -> None:
    scene.sig(scene.layer(size=200 * 2**20))
    scene.repository.calls.clear()
    rejected(scene.verify())
    assert not [call for call in scene.repository.calls if call[0] == "open"]


def test_s10_blob_with_other_bytes_than_its_digest_is_rejected(scene: Scene) -> None:
    payload, signature = signed(b"x" * len(scene.payload))
    scene.sig(scene.layer(annotations={"dev.cosignproject.cosign/signature": signature}))
    scene.repository.blobs[digest_of(scene.payload)] = payload  # signed, but no payload
    rejected(scene.verify())


def test_s10_more_layers_than_cosign_reads_are_incomplete(scene: Scene) -> None:
    scene.sig(*[signed(b"{}", "stranger")] * 1000, signed(scene.payload))
    failure = scene.verify().failure()
    assert isinstance(failure, IncompleteError)
    assert "1001 signatures" in failure.message


def test_s10_good_layer_within_the_bound_counts(scene: Scene) -> None:
    scene.sig(signed(scene.payload), *[signed(b"{}", "stranger")] * 1000)
    assert scene.verify().valid


def test_s10_more_referrers_than_are_read_are_incomplete_without_a_good_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MAX_REFERRERS", 20)
    for number in range(21):
        scene.attach(f"junk {number}".encode(), media_type="x/y")
    failure = scene.verify().failure()
    assert isinstance(failure, IncompleteError)
    scene.sign(formats=SignFormat.SIG)
    assert scene.verify().valid


def test_s10_five_thousand_referrers_cost_a_bounded_number_of_requests(scene: Scene) -> None:
    scene.repository.extra_referrers += [
        Descriptor(media_type="x/y", digest=digest_of(b"%d" % n), size=9) for n in range(5000)
    ]
    scene.repository.calls.clear()
    assert isinstance(scene.verify().failure(), IncompleteError)
    assert len(scene.repository.calls) < 1100


def test_s10_bundles_are_read_before_other_referrers(scene: Scene) -> None:
    scene.sign(formats=SignFormat.BUNDLE)
    (ours,) = scene.repository.referrers(scene.image.digest)
    listed = Descriptor(
        media_type=ours.media_type,
        digest=ours.digest,
        size=ours.size,
        artifact_type="application/vnd.dev.sigstore.bundle.v0.3+json",
    )
    scene.repository.extra_referrers += [
        Descriptor(media_type="x/y", digest=digest_of(b"%d" % n), size=9) for n in range(2000)
    ]
    scene.repository.extra_referrers.append(listed)
    assert scene.verify().valid


# --- A1 to A4, A8, A9: bundles


def test_a1_key_id_is_ignored_even_when_it_names_another_key(scene: Scene) -> None:
    statement = write_statement(image_signature(scene.image.digest, [str(HERE)]))
    scene.attach(
        scene.bundle(
            statement,
            change=lambda d: d["dsseEnvelope"]["signatures"][0].update(keyid="SHA256:other"),
        )
    )
    assert scene.verify(require_tag=True).valid


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda d: d["dsseEnvelope"]["signatures"].append({"sig": "YQ=="}), id="two signatures"
        ),
        pytest.param(lambda d: d["dsseEnvelope"].update(payloadType="text/plain"), id="type"),
        pytest.param(
            lambda d: d["dsseEnvelope"].update(
                payload=base64.b64encode(
                    b" " + base64.b64decode(d["dsseEnvelope"]["payload"])
                ).decode()
            ),
            id="one space more",
        ),
        pytest.param(lambda d: d.update(extra=1), id="unknown member"),
    ],
)
def test_a2_envelopes_that_break_a_rule_are_rejected(scene: Scene, change: Change) -> None:
    statement = write_statement(image_signature(scene.image.digest, [str(HERE)]))
    scene.attach(scene.bundle(statement, change=change))
    rejected(scene.verify())


def test_a2_signature_over_the_payload_without_its_type_is_rejected(scene: Scene) -> None:
    statement = write_statement(image_signature(scene.image.digest, [str(HERE)]))
    signature = base64.b64encode(signer().sign(statement)).decode()
    scene.attach(
        scene.bundle(
            statement, change=lambda d: d["dsseEnvelope"].update(signatures=[{"sig": signature}])
        )
    )
    rejected(scene.verify(), "not signed by a trusted key")


def statement_with(scene: Scene, change: Change) -> bytes:
    document = json.loads(write_statement(image_signature(scene.image.digest, [str(HERE)])))
    change(document)
    return compact(document)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d.update(_type="nonsense"), id="_type"),
        pytest.param(lambda d: d.pop("subject"), id="no subject"),
        pytest.param(
            lambda d: d["subject"][0].update(
                digest={"sha256": d["subject"][0]["digest"]["sha256"].upper()}
            ),
            id="capitals",
        ),
        pytest.param(
            lambda d: d["subject"][0].update(digest={"sha512": "ab" * 64}), id="sha512 only"
        ),
        pytest.param(lambda d: d.update(subject=d["subject"] * 1025), id="over 1024 subjects"),
        pytest.param(
            lambda d: d["subject"][0]["digest"].update(sha256=OTHER_DIGEST.hex), id="another image"
        ),
        pytest.param(lambda d: d["subject"][0].update(name="Not A Reference"), id="odd name"),
        pytest.param(lambda d: d["subject"][0].update(name="evil.example/app:v1"), id="elsewhere"),
    ],
)
def test_a3_statements_that_break_a_rule_are_rejected_though_signed(
    scene: Scene, change: Change
) -> None:
    scene.attach(scene.bundle(statement_with(scene, change)))
    rejected(scene.verify())


def test_a3_our_image_may_be_the_last_of_many_subjects(scene: Scene) -> None:
    other = {"digest": {"sha256": OTHER_DIGEST.hex}}
    scene.attach(
        scene.bundle(
            statement_with(scene, lambda d: d.update(subject=[other] * 1023 + d["subject"]))
        )
    )
    assert scene.verify(require_tag=True).valid


def test_a3_name_of_another_subject_does_not_lend_its_place(scene: Scene) -> None:
    def swap(document: dict[str, Any]) -> None:
        document["subject"].append({"name": str(HERE), "digest": {"sha256": OTHER_DIGEST.hex}})
        document["subject"][0]["name"] = "evil.example/app:v1"

    scene.attach(scene.bundle(statement_with(scene, swap)))
    rejected(scene.verify(), "another place")


@pytest.mark.parametrize(
    "predicate_type",
    [
        "https://slsa.dev/verification_summary/v1",
        "https://cosign.sigstore.dev/attestation/vuln/v1",
        "https://sigstore.dev/cosign/sign/v1 ",
        "https://sigstore.dev/cosign/sign/v2",
    ],
)
def test_a4_attestation_by_the_right_key_is_no_signature(scene: Scene, predicate_type: str) -> None:
    """cosign 3 accepts it, even a decision that says FAILED."""
    scene.attach(
        scene.bundle(statement_with(scene, lambda d: d.update(predicateType=predicate_type)))
    )
    rejected(scene.verify(), "attestation")


def test_bundle_of_cosign_names_no_place_and_counts_with_a_warning(scene: Scene) -> None:
    scene.attach(scene.bundle(statement_with(scene, lambda d: d["subject"][0].pop("name"))))
    result = scene.verify()
    assert result.valid
    assert status_of(result, "signature") is CheckStatus.WARNING
    rejected(scene.verify(require_tag=True), "names no place")


def test_a8_bundle_by_a_stranger_does_not_hide_a_good_sig(scene: Scene) -> None:
    """cosign 3 looks only at bundles as soon as there is one."""
    scene.sign(formats=SignFormat.SIG)
    statement = write_statement(image_signature(scene.image.digest, [str(HERE)]))
    scene.attach(scene.bundle(statement, by="stranger"))
    scene.attach(b"junk")
    result = scene.verify(require_tag=True)
    assert result.valid
    assert status_of(result, "bundle") is CheckStatus.FAILED


def test_a9_wrong_fields_in_the_listing_hide_nothing(scene: Scene) -> None:
    statement = write_statement(image_signature(scene.image.digest, [str(HERE)]))
    scene.attach(scene.bundle(statement), artifact_type="application/vnd.oci.empty.v1+json")
    assert scene.verify(require_tag=True).valid


def test_a9_artifacts_that_are_no_bundles_say_nothing_about_signatures(scene: Scene) -> None:
    statement = write_statement(image_signature(scene.image.digest, [str(HERE)]))
    scene.attach(scene.bundle(statement), media_type="application/spdx+json")
    result = scene.verify()
    rejected(result, "no signature")
    assert status_of(result, "bundle") is CheckStatus.SKIPPED


def test_a9_referrer_of_another_image_is_ignored(scene: Scene) -> None:
    other = Scene(scene.repository, "another")
    statement = write_statement(image_signature(scene.image.digest, [str(HERE)]))
    scene.repository.extra_referrers.append(other.attach(other.bundle(statement)))
    rejected(scene.verify(), "no signature")


def test_a9_index_and_dangling_entries_among_the_referrers_are_survived(scene: Scene) -> None:
    scene.repository.extra_referrers += [
        add_index(scene.repository, scene.image),
        Descriptor(media_type="x/y", digest=OTHER_DIGEST, size=1),
    ]
    scene.sign()
    assert scene.verify(require_tag=True).valid


@pytest.mark.parametrize("with_sig", [True, False])
def test_a9_failed_listing_is_an_error_and_never_no_signatures(
    scene: Scene, with_sig: bool
) -> None:
    if with_sig:
        scene.sign(formats=SignFormat.SIG)
    scene.repository.referrers_error = RegistryError("listing failed", status=500)
    with pytest.raises(RegistryError, match="listing failed") as caught:
        scene.verify()
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE


def test_failed_read_of_the_sig_tag_is_an_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scene.repository.fetch

    def fetch(reference: str) -> Any:
        if reference.endswith(".sig"):
            raise RegistryError("429", status=429)
        return real(reference)

    monkeypatch.setattr(scene.repository, "fetch", fetch)
    with pytest.raises(RegistryError, match="429"):
        scene.verify()


def test_sig_tag_that_holds_something_else_does_not_hide_a_bundle(scene: Scene) -> None:
    index = add_index(scene.repository, scene.image)
    tag = signature_tag(scene.image.digest)
    add_manifest(scene.repository, scene.repository.manifests[index.digest][0], tag)
    rejected(scene.verify(), "not a signature manifest")
    scene.sign(formats=SignFormat.BUNDLE)
    assert scene.verify(require_tag=True).valid


# --- M: the manifest itself, and indexes


def test_m3_registry_that_returns_another_manifest_is_caught_by_our_own_hash(scene: Scene) -> None:
    scene.sign()
    other = add_image(scene.repository, "evil")
    scene.repository.manifests[scene.image.digest] = scene.repository.manifests[other.digest]
    result = scene.verify()
    rejected(result, "other bytes")
    assert [c.name for c in result.checks] == ["manifest"]


def test_m3_client_that_notices_it_first_gives_the_same_answer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(_reference: str) -> Any:
        raise IntegrityError("the bytes have another digest")

    monkeypatch.setattr(scene.repository, "fetch", fetch)
    rejected(scene.verify(), "another digest")


def test_missing_image_is_not_found_and_not_unsigned(scene: Scene) -> None:
    scene.sign()
    del scene.repository.manifests[scene.image.digest]
    with pytest.raises(NotFoundError):
        scene.verify()


def indexed(scene: Scene) -> tuple[Scene, list[Descriptor]]:
    children = [scene.image, add_image(scene.repository, "two")]
    scene.image = add_index(scene.repository, *children)
    return scene, children


def test_m1_signed_child_in_an_unsigned_index_is_rejected(scene: Scene) -> None:
    scene.sign()
    indexed(scene)
    rejected(scene.verify(), "no signature")


def test_children_of_an_index_are_verified_when_asked(scene: Scene) -> None:
    scene.sign()
    scene, _children = indexed(scene)
    scene.sign()
    assert scene.verify().valid
    result = scene.verify(with_children=True)
    rejected(result, "(linux/arch1): no signature")
    assert [c.status for c in result.checks if c.name == "signature"] == [
        CheckStatus.PASSED,
        CheckStatus.PASSED,
        CheckStatus.FAILED,
    ]


def test_index_is_valid_with_children_once_all_are_signed(scene: Scene) -> None:
    scene, children = indexed(scene)
    for subject in (scene.image, *children):
        sign_image(scene.repository, subject, (HERE,), signer(), created_at=CREATED_AT)
    assert scene.verify(require_tag=True, with_children=True).valid


def test_m2_attestation_manifests_of_buildkit_need_no_signature(scene: Scene) -> None:
    child = scene.image
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            child.to_json(),
            add_image(scene.repository, "attestation").to_json()
            | {"platform": {"os": "unknown", "architecture": "unknown"}},
        ],
    }
    scene.sign()
    scene.image = add_manifest(scene.repository, compact(document))
    scene.sign()
    assert scene.verify(with_children=True).valid


def test_m2_missing_child_is_not_found(scene: Scene) -> None:
    scene, children = indexed(scene)
    scene.sign()
    del scene.repository.manifests[children[0].digest]
    with pytest.raises(NotFoundError):
        scene.verify(with_children=True)


def test_m2_nested_index_is_followed_to_a_bound(scene: Scene) -> None:
    for _ in range(5):
        scene.sign()
        scene.image = add_index(scene.repository, scene.image)
    scene.sign()
    assert isinstance(scene.verify(with_children=True).failure(), IncompleteError)


def test_m2_index_with_too_many_images_is_incomplete(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "MAX_CHILDREN", 1)
    scene, _children = indexed(scene)
    scene.sign()
    assert isinstance(scene.verify(with_children=True).failure(), IncompleteError)

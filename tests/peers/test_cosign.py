"""Our signatures and cosign 2 and 3, both ways, on registries with and without the referrers API."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci_registry.attestations.manifests import signature_tag
from ci_registry.cancel import Cancel
from ci_registry.config.model import SignFormat
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.registry.layout import Layout
from ci_registry.registry.remote import RemoteRepository
from ci_registry.registry.transfer import copy_image
from ci_registry.secret import Secret
from ci_registry.signers.attach import SignatureOutcome, sign_image
from ci_registry.signers.keys import load_private_key
from ci_registry.verification.checks import CheckStatus, VerificationResult
from ci_registry.verification.read_back import verify_signed_by
from ci_registry.verification.verify import verify_image
from tests.support.distribution import BOTH, running_distribution
from tests.support.images import ImageSpec, make_layout
from tests.support.peers import peer_environment
from tests.support.registry import running_registry
from tests.support.remote import remote_repository
from tests.support.signing import CREATED_AT, PASSWORD, key_pair, signer, trusted

pytestmark = pytest.mark.peer("cosign2", "cosign3")

NO_LOG = "--insecure-ignore-tlog"
SIGN_SIG_2 = ("cosign2", "sign", "--tlog-upload=false", "-y")
SIGN_BUNDLE_3 = ("cosign3", "sign", "--tlog-upload=false", "--use-signing-config=false", "-y")
SIGN_SIG_3 = (*SIGN_BUNDLE_3, "--new-bundle-format=false")
VERIFY = {
    "cosign 2": ("cosign2", "verify", NO_LOG),
    "cosign 3": ("cosign3", "verify", NO_LOG),
    "cosign 3, .sig": ("cosign3", "verify", NO_LOG, "--new-bundle-format=false"),
}


@dataclass
class Lab:
    """A registry with an image, and cosign with a home of its own."""

    host: str
    home: Path
    repository: RemoteRepository
    index: Descriptor
    children: tuple[Descriptor, ...]

    @property
    def reference(self) -> Reference:
        return parse_reference(f"{self.host}/team/app:v1")

    def at(self, subject: Descriptor, repository: str = "team/app") -> str:
        return f"{self.host}/{repository}@{subject.digest}"

    def run(self, *argv: str | Path, key: str = "ours", private: bool = False) -> int:
        """Run cosign with the key of a name; returns its exit code."""
        file = self.home / f"{key}.{'key' if private else 'pub'}"
        if not file.exists():
            pair = key_pair(key)
            text = pair.private_pem.reveal() if private else pair.public_pem.decode()
            file.write_text(text)
        program, verb, *rest = argv
        return self.start(program, verb, "--key", file, *rest).returncode

    def start(self, *argv: str | Path, check: bool = False) -> "subprocess.CompletedProcess[str]":
        env = peer_environment() | {
            "HOME": str(self.home),
            "DOCKER_CONFIG": str(self.home),
            "COSIGN_PASSWORD": PASSWORD.reveal(),
        }
        done = subprocess.run(
            argv, env=env, cwd=self.home, capture_output=True, text=True, timeout=60, check=False
        )
        print(argv, done.returncode, done.stdout, done.stderr)
        assert not check or done.returncode == 0
        return done

    def sign(
        self, subject: Descriptor | None = None, formats: SignFormat = SignFormat.BOTH
    ) -> SignatureOutcome:
        return sign_image(
            self.repository,
            subject or self.index,
            (self.reference, self.reference.tagged("latest")),
            signer(),
            formats,
            created_at=CREATED_AT,
        )

    def verify(
        self, *, require_tag: bool = False, with_children: bool = False
    ) -> VerificationResult:
        return verify_image(
            self.repository,
            self.index,
            reference=self.reference,
            trusted=trusted(),
            require_tag=require_tag,
            with_children=with_children,
        )


@pytest.fixture(params=[*BOTH, "embedded"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """A real docker-registry without the referrers API, or ours with it."""
    made = make_layout(
        tmp_path / "layout",
        ImageSpec(layers=[{"a": "1"}]),
        ImageSpec(layers=[{"b": "2"}], architecture="arm64"),
    )
    (tmp_path / "home").mkdir()
    layout = Layout(made.layout)
    with contextlib.ExitStack() as stack:
        if request.param != "embedded":
            host = stack.enter_context(running_distribution(tmp_path, program=request.param))
        else:
            host = stack.enter_context(running_registry()).host
        repository = stack.enter_context(remote_repository(host, "team/app"))
        root = layout.root()
        _copy(layout, repository, root)
        index = repository.fetch(root.digest)
        assert isinstance(index, Index)
        repository.push("v1", index.body, index.media_type)
        yield Lab(host, tmp_path / "home", repository, index.descriptor, index.manifests)


def _copy(layout: Layout, target: RemoteRepository, root: Descriptor) -> None:
    copy_image(
        layout, target, root, workers=1, cancel=Cancel(), on_event=lambda _e: None, image="app"
    )


@pytest.mark.parametrize("verify", VERIFY.values(), ids=list(VERIFY))
def test_cosign_verifies_what_we_sign(lab: Lab, verify: Sequence[str]) -> None:
    assert lab.run(*verify, lab.at(lab.index)) != 0
    lab.sign()
    assert lab.run(*verify, lab.at(lab.index)) == 0
    assert lab.run(*verify, f"{lab.host}/team/app:v1") == 0
    assert lab.run(*verify, lab.at(lab.index), key="theirs") != 0


@pytest.mark.parametrize(
    ("formats", "verify"),
    [
        (SignFormat.SIG, VERIFY["cosign 2"]),
        (SignFormat.SIG, VERIFY["cosign 3"]),
        (SignFormat.BUNDLE, VERIFY["cosign 3"]),
    ],
)
def test_each_format_alone_is_enough_for_its_cosign(
    lab: Lab, formats: SignFormat, verify: Sequence[str]
) -> None:
    lab.sign(formats=formats)
    assert lab.run(*verify, lab.at(lab.index)) == 0


def test_cosign_3_shows_our_bundle_as_a_signature_of_this_image(lab: Lab) -> None:
    lab.sign(formats=SignFormat.BUNDLE)
    (lab.home / "ours.pub").write_bytes(key_pair("ours").public_pem)
    done = lab.start(
        "cosign3", "verify", "--key", "ours.pub", NO_LOG, "-o", "json", lab.at(lab.index)
    )
    (shown,) = json.loads(done.stdout)
    assert shown["critical"]["image"]["docker-manifest-digest"] == lab.index.digest


@pytest.mark.parametrize(
    ("sign", "kind", "status"),
    [
        (SIGN_SIG_2, "sig", CheckStatus.PASSED),
        (SIGN_SIG_3, "sig", CheckStatus.PASSED),
        (SIGN_BUNDLE_3, "bundle", CheckStatus.WARNING),
    ],
    ids=["cosign 2, .sig", "cosign 3, .sig", "cosign 3, bundle"],
)
def test_we_verify_what_cosign_signs(
    lab: Lab, sign: Sequence[str], kind: str, status: CheckStatus
) -> None:
    assert not lab.verify().valid
    assert lab.run(*sign, lab.at(lab.index), private=True) == 0
    result = lab.verify()
    assert result.valid
    assert {c.name: c.status for c in result.checks}[kind] is status
    assert not lab.verify(require_tag=True).valid


def test_cosign_recursive_signatures_cover_every_child_for_us(lab: Lab) -> None:
    assert lab.run(*SIGN_SIG_2, lab.at(lab.index), private=True) == 0
    assert not lab.verify(with_children=True).valid
    assert lab.run(*SIGN_SIG_2, "--recursive", lab.at(lab.index), private=True) == 0
    assert lab.verify(with_children=True).valid


def test_index_and_children_signed_by_us_verify_one_by_one(lab: Lab) -> None:
    for subject in (lab.index, *lab.children):
        lab.sign(subject)
    assert lab.verify(require_tag=True, with_children=True).valid
    for subject in lab.children:
        for verify in VERIFY.values():
            assert lab.run(*verify, lab.at(subject)) == 0


def test_key_pair_of_cosign_signs_in_our_process(lab: Lab) -> None:
    for program in ("cosign2", "cosign3"):
        lab.start(program, "generate-key-pair", "--output-key-prefix", program, check=True)
        text = (lab.home / f"{program}.key").read_text()
        loaded = load_private_key(Secret(text), PASSWORD)
        assert loaded.public_key_pem == (lab.home / f"{program}.pub").read_bytes()
        sign_image(lab.repository, lab.index, (lab.reference,), loaded, created_at=CREATED_AT)
        assert lab.run(*VERIFY["cosign 2"], lab.at(lab.index), key=program) == 0
        assert verify_signed_by(
            lab.repository, lab.index, (lab.reference,), loaded.public_key_pem
        ).valid


@pytest.mark.parametrize("program", ["cosign2", "cosign3"])
def test_cosign_reads_our_key_file(lab: Lab, program: str) -> None:
    (lab.home / "k.key").write_text(key_pair("ours").private_pem.reveal())
    shown = lab.start(program, "public-key", "--key", "k.key", check=True).stdout
    assert shown.strip().encode() == key_pair("ours").public_pem.strip()


def test_second_run_writes_nothing(lab: Lab) -> None:
    written = SignatureOutcome(written=("sig", "bundle"), found=())
    assert lab.sign() == written
    before = _state(lab)
    assert lab.sign() == SignatureOutcome(written=(), found=("sig", "bundle"))
    assert _state(lab) == before


def _state(lab: Lab) -> tuple[object, ...]:
    tags = lab.repository.tags()
    return (
        [lab.repository.resolve(tag) for tag in tags],
        [d.digest for d in lab.repository.referrers(lab.index.digest)],
    )


def test_signatures_of_cosign_and_ours_live_beside_each_other(lab: Lab) -> None:
    assert lab.run(*SIGN_SIG_2, lab.at(lab.index), key="theirs", private=True) == 0
    assert lab.run(*SIGN_BUNDLE_3, lab.at(lab.index), key="theirs", private=True) == 0
    lab.sign()
    assert lab.run(*SIGN_SIG_2, lab.at(lab.index), key="third", private=True) == 0
    for key in ("ours", "theirs", "third"):
        assert lab.run(*VERIFY["cosign 2"], lab.at(lab.index), key=key) == 0
    assert lab.run(*VERIFY["cosign 3"], lab.at(lab.index)) == 0
    assert lab.verify(require_tag=True).valid
    manifest = lab.repository.fetch(signature_tag(lab.index.digest))
    assert isinstance(manifest, Manifest)
    assert len(manifest.layers) == 4


def test_bundle_by_a_stranger_hides_our_sig_from_cosign_3_and_not_from_us(lab: Lab) -> None:
    lab.sign(formats=SignFormat.SIG)
    assert lab.run(*VERIFY["cosign 3"], lab.at(lab.index)) == 0
    assert lab.run(*SIGN_BUNDLE_3, lab.at(lab.index), key="stranger", private=True) == 0
    assert lab.run(*VERIFY["cosign 3"], lab.at(lab.index)) != 0
    assert lab.verify(require_tag=True).valid
    lab.sign()
    assert lab.run(*VERIFY["cosign 3"], lab.at(lab.index)) == 0


def test_attestation_passes_as_a_signature_with_cosign_3_and_not_with_us(lab: Lab) -> None:
    (lab.home / "failed.json").write_text('{"verificationResult":"FAILED"}')
    attest = (
        *("cosign3", "attest", "--tlog-upload=false", "--use-signing-config=false", "-y"),
        *("--type", "https://slsa.dev/verification_summary/v1", "--predicate", "failed.json"),
    )
    assert lab.run(*attest, lab.at(lab.index), private=True) == 0
    assert lab.run(*VERIFY["cosign 3"], lab.at(lab.index)) == 0
    result = lab.verify()
    assert not result.valid
    assert "attestation" in str(result.failure())


def test_sig_copied_to_another_repository_passes_with_cosign_and_not_with_us(lab: Lab) -> None:
    lab.sign()
    copied = _copy_everything(lab, "evil/app")
    for verify in VERIFY.values():
        assert lab.run(*verify, lab.at(lab.index, "evil/app")) == 0
    assert copied("evil/app").failure() is not None
    assert copied("team/app").valid


def _copy_everything(lab: Lab, name: str) -> Callable[[str], VerificationResult]:
    """Copy image, `.sig` and bundles with cosign; returns a verifier that allows one signed name."""
    lab.start("cosign3", "copy", "-f", lab.at(lab.index), f"{lab.host}/{name}:v1", check=True)

    def verify(signed_as: str) -> VerificationResult:
        with remote_repository(lab.host, name) as repository:
            return verify_image(
                repository,
                lab.index,
                reference=parse_reference(f"{lab.host}/{name}:v1"),
                trusted=trusted(),
                require_tag=True,
                signed_as=(f"{lab.host}/{signed_as}",),
            )

    return verify

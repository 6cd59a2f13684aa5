"""A real registry that has the referrers API but sends no OCI-Subject: both lists are written and merged."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.config.model import SignFormat
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.reference import parse_reference
from ci_registry.registry.layout import Layout
from ci_registry.registry.remote import RemoteRepository
from ci_registry.registry.transfer import copy_image
from ci_registry.signers.attach import SignatureOutcome, sign_image
from ci_registry.verification.verify import verify_image
from tests.support.images import ImageSpec, make_layout
from tests.support.peers import peer_environment
from tests.support.referrers_registry import running_referrers_registry
from tests.support.remote import remote_repository
from tests.support.signing import CREATED_AT, key_pair, signer, trusted

pytestmark = [pytest.mark.go_peer("referrers-registry"), pytest.mark.peer("cosign3")]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[RemoteRepository]:
    made = make_layout(tmp_path / "layout", ImageSpec(layers=[{"a": "1"}]))
    with running_referrers_registry() as host, remote_repository(host, "team/app") as target:
        layout = Layout(made.layout)
        copy_image(
            layout, target, layout.root(), cancel=Cancel(), on_event=lambda _e: None, image="app"
        )
        yield target


def sign(repository: RemoteRepository, subject: Descriptor) -> SignatureOutcome:
    names = (parse_reference(f"{repository.name}:v1"),)
    return sign_image(
        repository, subject, names, signer(), SignFormat.BUNDLE, created_at=CREATED_AT
    )


def test_bundle_is_written_once_listed_once_and_verified_by_cosign(
    repository: RemoteRepository, tmp_path: Path
) -> None:
    subject = Layout(tmp_path / "layout").root()

    first, second = sign(repository, subject), sign(repository, subject)

    assert (first.written, second.written) == (("bundle",), ())
    assert len(repository.referrers(subject.digest)) == 1
    assert repository.resolve(f"sha256-{subject.digest.hex}") is not None, "fallback tag"
    place = parse_reference(f"{repository.name}:v1")
    assert verify_image(
        repository, subject, reference=place, trusted=trusted(), require_tag=True
    ).valid
    (tmp_path / "ours.pub").write_bytes(key_pair("ours").public_pem)
    command = ["cosign3", "verify", "--key", "ours.pub", "--insecure-ignore-tlog"]
    done = subprocess.run(
        [*command, f"{repository.name}@{subject.digest}"],
        env=peer_environment() | {"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

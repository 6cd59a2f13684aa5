"""Reading back after signing: everything that was to be written must be there and valid."""

import pytest

from ci_registry.attestations.manifests import signature_tag
from ci_registry.config.model import SignFormat
from ci_registry.errors import IncompleteError, RegistryError, SignatureError
from ci_registry.oci.manifest import Manifest
from ci_registry.signers.attach import sign_image
from ci_registry.verification.checks import CheckStatus
from ci_registry.verification.read_back import verify_signed_by
from tests.support.memory_repository import MemoryRepository
from tests.support.signing import (
    CREATED_AT,
    HERE,
    add_image,
    add_index,
    add_manifest,
    add_sig,
    signed,
    signer,
)

KEY = signer().public_key_pem
LATEST = HERE.tagged("latest")


@pytest.fixture
def repository() -> MemoryRepository:
    return MemoryRepository()


def test_each_format_is_one_check_and_all_must_pass(repository: MemoryRepository) -> None:
    image = add_image(repository)
    sign_image(repository, image, (HERE,), signer(), SignFormat.SIG, created_at=CREATED_AT)
    result = verify_signed_by(repository, image, (HERE,), KEY)
    assert not result.valid
    assert [(c.name, c.status) for c in result.checks] == [
        ("sig", CheckStatus.PASSED),
        ("bundle", CheckStatus.FAILED),
        ("signature", CheckStatus.FAILED),
    ]
    assert isinstance(result.failure(), SignatureError)
    assert verify_signed_by(repository, image, (HERE,), KEY, SignFormat.SIG).valid


def test_every_reference_must_be_signed(repository: MemoryRepository) -> None:
    image = add_image(repository)
    sign_image(repository, image, (HERE,), signer(), created_at=CREATED_AT)
    assert verify_signed_by(repository, image, (HERE,), KEY).valid
    result = verify_signed_by(repository, image, (HERE, LATEST), KEY)
    failure = result.failure()
    assert failure is not None
    assert str(LATEST) in failure.message


def test_signature_by_another_key_does_not_count(repository: MemoryRepository) -> None:
    image = add_image(repository)
    sign_image(repository, image, (HERE,), signer("theirs"), created_at=CREATED_AT)
    assert not verify_signed_by(repository, image, (HERE,), KEY).valid


def test_damaged_blob_is_noticed(repository: MemoryRepository) -> None:
    image = add_image(repository)
    sign_image(repository, image, (HERE,), signer(), created_at=CREATED_AT)
    manifest = repository.fetch(signature_tag(image.digest))
    assert isinstance(manifest, Manifest)
    digest = manifest.layers[0].digest
    repository.blobs[digest] = repository.blobs[digest].replace(b":v1", b":v9")
    assert not verify_signed_by(repository, image, (HERE,), KEY).valid


def test_failed_listing_is_an_error(repository: MemoryRepository) -> None:
    image = add_image(repository)
    sign_image(repository, image, (HERE,), signer(), created_at=CREATED_AT)
    repository.referrers_error = RegistryError("503", status=503)
    with pytest.raises(RegistryError, match="503"):
        verify_signed_by(repository, image, (HERE,), KEY)


def test_overfull_tag_is_incomplete(repository: MemoryRepository) -> None:
    image = add_image(repository)
    add_sig(repository, image.digest, *[signed(b"{}", "stranger")] * 1001)
    result = verify_signed_by(repository, image, (HERE,), KEY, SignFormat.SIG)
    assert isinstance(result.failure(), IncompleteError)


def test_tag_that_holds_something_else_fails(repository: MemoryRepository) -> None:
    image = add_image(repository)
    index = add_index(repository, image)
    add_manifest(repository, repository.manifests[index.digest][0], signature_tag(image.digest))
    result = verify_signed_by(repository, image, (HERE,), KEY, SignFormat.SIG)
    assert isinstance(result.failure(), SignatureError)

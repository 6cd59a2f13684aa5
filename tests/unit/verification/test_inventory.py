"""The attested inventory: only what a trusted key signed about this very image counts."""

import json
from dataclasses import replace

import pytest

from ci_registry.attestations.bundle import Bundle, write_bundle
from ci_registry.attestations.dsse import IN_TOTO, Envelope, pre_authentication_encoding
from ci_registry.attestations.statement import Statement, Subject, write_statement
from ci_registry.errors import ExitCode, IncompleteError, IntegrityError
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.sbom.cyclonedx import write_cyclonedx
from ci_registry.sbom.document import SbomDocument
from ci_registry.signers import inventory as attaching
from ci_registry.signers.attach import sign_image
from ci_registry.signers.inventory import CYCLONEDX_PREDICATE, attach_inventory
from ci_registry.verification.inventory import attested_inventory
from ci_registry.verification.verify import verify_image
from tests.support.advisories import inventory, pypi
from tests.support.memory_repository import MemoryRepository
from tests.support.signing import CREATED_AT, HERE, add_image, add_referrer, signer, trusted


def _document(image: Descriptor, version: str = "1.0") -> SbomDocument:
    return SbomDocument(
        image="registry.example/team/app",
        inventory=replace(inventory(pypi("demo", version)), manifest_digest=str(image.digest)),
        created_at=CREATED_AT,
        tool="ci-registry 0.1.0",
    )


@pytest.fixture
def repository() -> MemoryRepository:
    return MemoryRepository()


@pytest.fixture
def image(repository: MemoryRepository) -> Descriptor:
    return add_image(repository, "one")


def _attach(
    repository: MemoryRepository, image: Descriptor, document: SbomDocument, by: str = "ours"
) -> bool:
    return attach_inventory(repository, image, document, signer(by), created_at=CREATED_AT)


def _statement(document: SbomDocument, digest: Digest, kind: str = CYCLONEDX_PREDICATE) -> bytes:
    return write_statement(
        Statement(
            subjects=(Subject(digests={digest.algorithm: digest.hex}),),
            predicate_type=kind,
            predicate=json.loads(write_cyclonedx(document)),
        )
    )


def _forge(
    repository: MemoryRepository, image: Descriptor, statement: bytes, by: str = "ours"
) -> None:
    signature = signer(by).sign(pre_authentication_encoding(IN_TOTO, statement))
    envelope = Envelope(payload=statement, payload_type=IN_TOTO, signatures=(signature,))
    add_referrer(repository, image, write_bundle(Bundle(envelope=envelope, hint="")))


def _refused(repository: MemoryRepository, image: Descriptor, reason: str) -> None:
    with pytest.raises(IncompleteError, match=reason) as caught:
        attested_inventory(repository, image.digest, trusted())
    assert caught.value.exit_code is ExitCode.INCOMPLETE
    assert "\n" not in caught.value.message


def test_attested_inventory_comes_back_as_it_was(
    repository: MemoryRepository, image: Descriptor
) -> None:
    assert _attach(repository, image, _document(image))
    assert attested_inventory(repository, image.digest, trusted()) == _document(image)


def test_same_inventory_is_attested_once_and_a_new_one_again(
    repository: MemoryRepository, image: Descriptor
) -> None:
    assert _attach(repository, image, _document(image))
    assert not _attach(repository, image, _document(image))
    newer = replace(_document(image, "2.0"), created_at=CREATED_AT.replace(year=2027))
    assert _attach(repository, image, newer)
    assert attested_inventory(repository, image.digest, trusted()) == newer


def test_nothing_attested_is_incomplete(repository: MemoryRepository, image: Descriptor) -> None:
    _refused(repository, image, "no SBOM is attested")


def test_inventory_by_another_key_does_not_count(
    repository: MemoryRepository, image: Descriptor
) -> None:
    _attach(repository, image, _document(image), by="other")
    _refused(repository, image, "not signed by a trusted key")


def test_inventory_by_another_key_does_not_stop_ours(
    repository: MemoryRepository, image: Descriptor
) -> None:
    _attach(repository, image, _document(image, "9"), by="other")
    assert _attach(repository, image, _document(image))
    assert attested_inventory(repository, image.digest, trusted()) == _document(image)


def test_inventory_of_another_image_does_not_count(
    repository: MemoryRepository, image: Descriptor
) -> None:
    other = add_image(repository, "two")
    _forge(repository, image, _statement(_document(other), other.digest))
    _refused(repository, image, "about another image")


def test_statement_about_this_image_with_the_inventory_of_another_does_not_count(
    repository: MemoryRepository, image: Descriptor
) -> None:
    other = add_image(repository, "two")
    _forge(repository, image, _statement(_document(other), image.digest))
    _refused(repository, image, "inventory is of another image")


def test_statement_of_another_type_does_not_count(
    repository: MemoryRepository, image: Descriptor
) -> None:
    _forge(repository, image, _statement(_document(image), image.digest, "https://example.com/x"))
    _refused(repository, image, "no SBOM is attested")


def test_foreign_junk_beside_the_image_changes_nothing(
    repository: MemoryRepository, image: Descriptor
) -> None:
    add_referrer(repository, image, b"{")
    _forge(repository, image, b"[]", by="other")
    _attach(repository, image, _document(image))
    assert attested_inventory(repository, image.digest, trusted()) == _document(image)


def test_what_is_listed_as_something_else_is_not_opened(
    repository: MemoryRepository, image: Descriptor
) -> None:
    sign_image(repository, image, (HERE,), signer(), created_at=CREATED_AT)
    _attach(repository, image, _document(image))
    repository.calls.clear()
    assert attested_inventory(repository, image.digest, trusted()) == _document(image)
    assert [name for name, _ in repository.calls] == ["fetch", "open"]


def test_inventory_is_no_signature(repository: MemoryRepository, image: Descriptor) -> None:
    _attach(repository, image, _document(image))
    result = verify_image(repository, image, reference=HERE, trusted=trusted(), require_tag=False)
    assert not result.valid


def test_too_large_an_inventory_is_said_and_not_written(
    repository: MemoryRepository, image: Descriptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "MAX_INVENTORY_BYTES", 1000)
    with pytest.raises(IntegrityError, match="too large to be attested"):
        _attach(repository, image, _document(image))
    assert not list(repository.referrers(image.digest))

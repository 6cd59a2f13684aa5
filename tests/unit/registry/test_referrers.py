"""The fallback tag of the referrers tag schema."""

import json

import pytest

from ci_registry.errors import IntegrityError, RegistryError
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.referrers import (
    MAX_REFERRERS,
    add_to_fallback,
    fallback_referrers,
    fallback_tag,
    is_fallback_tag,
    merged,
)
from tests.support.memory_repository import MemoryRepository

SUBJECT = digest_of(b"subject")
TAG = fallback_tag(SUBJECT)


def descriptor(name: str) -> Descriptor:
    return Descriptor(
        media_type=media_types.OCI_MANIFEST,
        digest=digest_of(name.encode()),
        size=10,
        artifact_type="application/x",
        annotations={"name": name},
    )


def index_of(*names: str, **more: object) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [descriptor(name).to_json() for name in names],
        **more,
    }
    return json.dumps(document).encode()


def never(_trouble: str) -> bool:
    raise AssertionError("no second attempt expected")


def names_in(repository: MemoryRepository) -> list[str]:
    return [entry.annotations["name"] for entry in fallback_referrers(repository, SUBJECT)]


def test_the_tag_is_the_digest_with_a_hyphen() -> None:
    assert f"sha256-{SUBJECT.hex}" == TAG
    long = digest_of(b"x", "sha512")
    assert fallback_tag(long) == f"sha512-{long.hex[:64]}"
    assert is_fallback_tag(TAG)
    assert is_fallback_tag(fallback_tag(long))
    for other in (f"{TAG}.sig", "sha256-abc", "v1", f"sha384-{SUBJECT.hex}"):
        assert not is_fallback_tag(other)


def test_the_first_referrer_makes_the_index() -> None:
    repository = MemoryRepository()
    add_to_fallback(repository, SUBJECT, descriptor("one"), never)
    (entry,) = fallback_referrers(repository, SUBJECT)
    assert entry == descriptor("one")


def test_what_others_wrote_stays_as_it_was() -> None:
    repository = MemoryRepository()
    before = index_of("theirs", annotations={"made-by": "them"}, unknown=[1])
    repository.push(TAG, before, media_types.OCI_INDEX)
    add_to_fallback(repository, SUBJECT, descriptor("ours"), never)
    after = json.loads(repository.fetch(TAG).body)
    theirs, ours = after["manifests"]
    assert theirs == json.loads(before)["manifests"][0]
    assert ours["artifactType"] == "application/x"
    assert (after["annotations"], after["unknown"]) == ({"made-by": "them"}, [1])


def test_a_referrer_that_is_listed_is_not_added_again() -> None:
    repository = MemoryRepository()
    repository.push(TAG, index_of("one"), media_types.OCI_INDEX)
    repository.calls.clear()
    add_to_fallback(repository, SUBJECT, descriptor("one"), never)
    assert ("push", TAG) not in repository.calls


def test_an_entry_that_another_writer_removed_is_written_again() -> None:
    repository = MemoryRepository()
    body = index_of("theirs")
    overwrites = [1]

    def overwrite(reference: str) -> None:
        if reference == TAG and overwrites:
            overwrites.pop()
            repository.manifests[TAG] = (body, media_types.OCI_INDEX)

    repository.after_push = overwrite
    troubles: list[str] = []

    def wait(trouble: str) -> bool:
        troubles.append(trouble)
        return True

    add_to_fallback(repository, SUBJECT, descriptor("ours"), wait)
    assert names_in(repository) == ["theirs", "ours"]
    assert len(troubles) == 1


def test_losing_again_and_again_is_an_error_not_a_silent_loss() -> None:
    repository = MemoryRepository()
    body = index_of("theirs")

    def overwrite(reference: str) -> None:
        if reference == TAG:
            repository.manifests[TAG] = (body, media_types.OCI_INDEX)

    repository.after_push = overwrite
    with pytest.raises(RegistryError, match="keep removing our entry"):
        add_to_fallback(repository, SUBJECT, descriptor("ours"), lambda _trouble: False)


def test_a_fallback_tag_on_an_image_is_an_error() -> None:
    repository = MemoryRepository()
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptor("config").to_json(),
        "layers": [],
    }
    repository.push(TAG, json.dumps(manifest).encode(), media_types.OCI_MANIFEST)
    with pytest.raises(IntegrityError, match="but is an image"):
        fallback_referrers(repository, SUBJECT)


def test_lists_are_merged_by_digest_and_capped() -> None:
    one, two = descriptor("one"), descriptor("two")
    assert merged((one, two), (two,), (one,)) == (one, two)
    many = tuple(descriptor(str(number)) for number in range(MAX_REFERRERS + 1))
    assert len(merged(many[:-1])) == MAX_REFERRERS
    with pytest.raises(IntegrityError, match="more than 1000"):
        merged(many)

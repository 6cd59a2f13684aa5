"""Lists of referrers over the wire: pages, both sources merged, and lists that lead elsewhere."""

import json
from typing import Any

import pytest

from ci_registry.errors import IntegrityError, RegistryError
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.registry.referrers import MAX_PAGES, fallback_tag
from ci_registry.registry_server.options import Answer, Fault
from tests.integration.registry.test_fallback_writers import referrer
from tests.integration.registry.test_quirks import SUBJECT, push_image
from tests.support.registry import running_registry
from tests.support.remote import remote_repository


def page_of(*numbers: int, **more: Any) -> bytes:
    entries = [
        {
            "mediaType": media_types.OCI_MANIFEST,
            "digest": digest_of(referrer(number)),
            "size": len(referrer(number)),
            "artifactType": "application/x",
        }
        for number in numbers
    ]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    return json.dumps(document | more).encode()


def test_every_page_is_read() -> None:
    with (
        running_registry(page_limit=2) as registry,
        remote_repository(registry.host, "a/b") as repository,
    ):
        push_image(repository, "v1")
        for number in range(5):
            repository.attach(SUBJECT, referrer(number), media_types.OCI_MANIFEST)
        found = {d.digest for d in repository.referrers(SUBJECT.digest)}
        assert registry.count("GET", "/referrers/") == 3
    assert found == {digest_of(referrer(number)) for number in range(5)}


def test_what_was_written_before_the_registry_had_the_api_is_merged() -> None:
    with (
        running_registry() as registry,
        remote_repository(registry.host, "a/b") as repository,
    ):
        push_image(repository, "v1")
        for number in (1, 2):
            repository.attach(SUBJECT, referrer(number), media_types.OCI_MANIFEST)
        old = referrer(0)
        repository.push(digest_of(old), old, media_types.OCI_MANIFEST)
        registry.faults.add(
            Fault(action=Answer(status=200, body=page_of(1, 2)), path="/referrers/", times=0)
        )
        repository.push(fallback_tag(SUBJECT.digest), page_of(2, 0), media_types.OCI_INDEX)
        found = [d.digest for d in repository.referrers(SUBJECT.digest)]
    assert found == [digest_of(referrer(number)) for number in (1, 2, 0)]


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/v2/a/b/referrers/x", "//evil.example/x"])
def test_a_page_on_another_host_is_refused(target: str) -> None:
    link = (("Link", f'<{target}>; rel="next"'),)
    answer = Answer(status=200, headers=link, body=page_of(1))
    with (
        running_registry(faults=[Fault(action=answer, path="/referrers/", times=0)]) as registry,
        remote_repository(registry.host, "a/b") as repository,
        pytest.raises(RegistryError, match="another host"),
    ):
        repository.referrers(SUBJECT.digest)


def test_a_list_without_an_end_ends() -> None:
    path = f"/v2/a/b/referrers/{SUBJECT.digest}"
    answer = Answer(status=200, headers=(("Link", f'<{path}>; rel="next"'),), body=page_of(1))
    with (
        running_registry(faults=[Fault(action=answer, path="/referrers/", times=0)]) as registry,
        remote_repository(registry.host, "a/b") as repository,
    ):
        with pytest.raises(RegistryError, match="without an end"):
            repository.referrers(SUBJECT.digest)
        assert registry.count("GET", "/referrers/") <= MAX_PAGES


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"manifests": [{}]}', b'{"manifests": [{"digest": "sha256:1"}]}']
)
def test_an_answer_that_is_no_index_is_never_none(body: bytes) -> None:
    answer = Answer(status=200, body=body)
    with (
        running_registry(faults=[Fault(action=answer, path="/referrers/", times=0)]) as registry,
        remote_repository(registry.host, "a/b") as repository,
        pytest.raises(IntegrityError),
    ):
        repository.referrers(SUBJECT.digest)

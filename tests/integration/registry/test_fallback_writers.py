"""Several writers of one list of referrers, and one that undoes what another wrote."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ci_registry.cancel import Cancel
from ci_registry.files import locked
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.registry.fallback_writers import FallbackWriters
from ci_registry.registry.referrers import fallback_tag
from ci_registry.registry.remote import RemoteRegistry
from tests.integration.registry.test_quirks import REFERRER_BODY, SUBJECT, push_image
from tests.support.registry import running_registry
from tests.support.remote import QuickCancel, Recorder, quick_client, remote_repository

EMPTY_INDEX = json.dumps(
    {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
).encode()


def referrer(number: int) -> bytes:
    return json.dumps(json.loads(REFERRER_BODY) | {"annotations": {"n": str(number)}}).encode()


def test_runs_on_one_machine_do_not_undo_each_other(tmp_path: Path) -> None:
    with running_registry(referrers_api=False) as registry:
        with remote_repository(registry.host, "a/b") as repository:
            push_image(repository, "v1")

        def sign(number: int) -> None:
            with quick_client(cancel=Cancel()) as client:  # all of its own
                run = RemoteRegistry(client, lock_folder=tmp_path / "locks")
                run.repository(f"{registry.host}/a/b").attach(
                    SUBJECT, referrer(number), media_types.OCI_MANIFEST
                )

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(sign, range(4)))
        with remote_repository(registry.host, "a/b") as repository:
            found = {d.digest for d in repository.referrers(SUBJECT.digest)}
    assert found == {digest_of(referrer(number)) for number in range(4)}


def test_what_a_writer_elsewhere_removed_is_named() -> None:
    recorder = Recorder()
    with (
        running_registry(referrers_api=False) as registry,
        remote_repository(registry.host, "a/b", recorder=recorder) as repository,
    ):
        push_image(repository, "v1")
        attached = repository.attach(SUBJECT, REFERRER_BODY, media_types.OCI_MANIFEST)
        assert [d.digest for d in repository.referrers(SUBJECT.digest)] == [attached]
        assert recorder.lines == []
        repository.push(fallback_tag(SUBJECT.digest), EMPTY_INDEX, media_types.OCI_INDEX)
        assert repository.referrers(SUBJECT.digest) == ()
    (line,) = recorder.lines
    assert attached in line
    assert "is in no listing" in line


def test_what_we_deleted_ourselves_is_not_missed() -> None:
    recorder = Recorder()
    with (
        running_registry() as registry,
        remote_repository(registry.host, "a/b", recorder=recorder) as repository,
    ):
        push_image(repository, "v1")
        repository.delete(repository.attach(SUBJECT, REFERRER_BODY, media_types.OCI_MANIFEST))
        assert repository.referrers(SUBJECT.digest) == ()
    assert recorder.lines == []


def test_a_list_is_read_back_after_a_pause() -> None:
    cancel = QuickCancel()
    with (
        running_registry(referrers_api=False) as registry,
        remote_repository(registry.host, "a/b", cancel=cancel) as repository,
    ):
        push_image(repository, "v1")
        repository.attach(SUBJECT, REFERRER_BODY, media_types.OCI_MANIFEST)
    [slept_s] = cancel.slept
    assert 0 < slept_s <= 0.5


def test_a_lock_that_is_never_free_is_given_up_and_said(tmp_path: Path) -> None:
    pauses: list[int] = []
    writers = FallbackWriters(tmp_path)
    with writers.alone("x", pause=lambda: None) as is_alone:
        assert is_alone
    (path,) = tmp_path.iterdir()
    with locked(path), writers.alone("x", pause=lambda: pauses.append(1)) as is_alone:
        assert not is_alone
    assert pauses
    (tmp_path / "file").touch()
    with FallbackWriters(tmp_path / "file").alone("x", pause=lambda: None) as is_alone:
        assert not is_alone

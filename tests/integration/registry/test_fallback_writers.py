"""Several writers of one list of referrers, and one that undoes what another wrote."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ci_registry.cancel import Cancel
from ci_registry.files import locked
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Index, Manifest
from ci_registry.registry.fallback_writers import FallbackWriters
from ci_registry.registry.referrers import fallback_tag
from ci_registry.registry.remote import RemoteRegistry
from tests.integration.registry.test_quirks import REFERRER_BODY, SUBJECT, push_image
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import QuickCancel, Recorder, quick_client, remote_repository

EMPTY_INDEX = json.dumps(
    {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
).encode()


ATTACH = """
import sys
from pathlib import Path
from ci_registry.cancel import Cancel
from ci_registry.oci import media_types
from ci_registry.registry.remote import RemoteRegistry
from tests.integration.registry.test_fallback_writers import SUBJECT, referrer
from tests.support.remote import quick_client

host, folder, first = sys.argv[1:]
with quick_client(cancel=Cancel()) as client:
    repository = RemoteRegistry(client, lock_folder=Path(folder)).repository(f"{host}/a/b")
    for number in range(int(first), int(first) + 3):
        repository.attach(SUBJECT, referrer(number), media_types.OCI_MANIFEST)
"""


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


def attach_in_processes(registry: RunningRegistry, folders: list[Path]) -> set[Digest]:
    """Let one process per lock folder attach three referrers; returns what is listed afterwards."""
    with remote_repository(registry.host, "a/b") as repository:
        push_image(repository, "v1")
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", ATTACH, registry.host, str(folder), str(3 * number)],
            stderr=subprocess.PIPE,
        )
        for number, folder in enumerate(folders)
    ]
    for run in runs:
        _, stderr = run.communicate(timeout=60)
        assert run.returncode == 0, stderr.decode()
    with remote_repository(registry.host, "a/b") as repository:
        return {d.digest for d in repository.referrers(SUBJECT.digest)}


def test_processes_of_one_machine_do_not_undo_each_other(tmp_path: Path) -> None:
    with running_registry(referrers_api=False, conditional_put=False) as registry:
        found = attach_in_processes(registry, [tmp_path / "locks"] * 4)
    assert found == {digest_of(referrer(number)) for number in range(12)}


def test_where_if_match_counts_machines_do_not_undo_each_other(tmp_path: Path) -> None:
    with running_registry(referrers_api=False) as registry:
        found = attach_in_processes(registry, [tmp_path / str(number) for number in range(4)])
    assert found == {digest_of(referrer(number)) for number in range(12)}


def attach_twice_at_once(registry: RunningRegistry, recorder: Recorder) -> set[Digest]:
    """Let a second writer come between our reading of the list and our writing of it, each time we try."""
    with (
        remote_repository(registry.host, "a/b", recorder=recorder) as ours,
        remote_repository(registry.host, "a/b", recorder=recorder) as theirs,
    ):
        push_image(ours, "v1")
        ours.attach(SUBJECT, referrer(0), media_types.OCI_MANIFEST)
        read, waiting = ours.fetch, [1]

        def fetch(reference: str) -> Manifest | Index:
            found = read(reference)
            if waiting and reference == fallback_tag(SUBJECT.digest):
                theirs.attach(SUBJECT, referrer(waiting.pop()), media_types.OCI_MANIFEST)
            return found

        ours.fetch = fetch  # type: ignore[method-assign]
        ours.attach(SUBJECT, referrer(2), media_types.OCI_MANIFEST)
        return {d.digest for d in theirs.referrers(SUBJECT.digest)}


def test_a_list_that_changed_since_it_was_read_is_read_again() -> None:
    recorder = Recorder()
    with running_registry(referrers_api=False) as registry:
        found = attach_twice_at_once(registry, recorder)
        assert sum(1 for seen in registry.seen if seen.status == 412) == 1
    assert found == {digest_of(referrer(number)) for number in range(3)}
    assert recorder.lines == []


def test_where_if_match_does_not_count_the_loss_is_named_by_the_one_who_lost() -> None:
    recorder = Recorder()
    with running_registry(referrers_api=False, conditional_put=False) as registry:
        found = attach_twice_at_once(registry, recorder)
    assert found == {digest_of(referrer(number)) for number in (0, 2)}
    (line,) = recorder.lines
    assert digest_of(referrer(1)) in line


def test_taking_an_entry_out_waits_for_other_writers_too() -> None:
    with (
        running_registry(referrers_api=False, sparse=True) as registry,
        remote_repository(registry.host, "a/b") as repository,
    ):
        push_image(repository, "v1")
        gone = repository.attach(SUBJECT, referrer(0), media_types.OCI_MANIFEST)
        repository.attach(SUBJECT, referrer(1), media_types.OCI_MANIFEST)
        read, waiting = repository.fetch, [2]

        def fetch(reference: str) -> Manifest | Index:
            found = read(reference)
            if waiting and reference == fallback_tag(SUBJECT.digest):
                number = waiting.pop()
                with remote_repository(registry.host, "a/b") as theirs:
                    theirs.attach(SUBJECT, referrer(number), media_types.OCI_MANIFEST)
            return found

        repository.delete(gone)
        repository.fetch = fetch  # type: ignore[method-assign]
        repository.unlist(SUBJECT.digest, gone)
        found = {d.digest for d in repository.referrers(SUBJECT.digest)}
    assert found == {digest_of(referrer(1)), digest_of(referrer(2))}


def test_an_entry_whose_manifest_somebody_deleted_does_not_stop_the_next_one() -> None:
    """A registry that wants every child of an index refuses the list as it is."""
    with (
        running_registry(referrers_api=False, conditional_put=False) as registry,
        remote_repository(registry.host, "a/b") as repository,
    ):
        push_image(repository, "v1")
        gone = repository.attach(SUBJECT, referrer(0), media_types.OCI_MANIFEST)
        kept = repository.attach(SUBJECT, referrer(1), media_types.OCI_MANIFEST)
        repository.delete(gone)
        added = repository.attach(SUBJECT, referrer(2), media_types.OCI_MANIFEST)
        found = [d.digest for d in repository.referrers(SUBJECT.digest)]
    assert found == [kept, added]


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

"""The folder store: it survives, it is exclusive, it trusts nothing half-written."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from ci_registry.errors import StorageError
from ci_registry.oci.digest import digest_of
from ci_registry.registry_server.store import FolderStore
from tests.support.asking import Asked, content_of

DATA = b"0123456789"
DIGEST = digest_of(DATA)


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    ask = Asked(store)
    digest, body = ask.manifest("a", "one", annotations={"k": "v"})
    ask.blob("a", DATA)
    used = store.catalog.used_bytes
    store.close()
    store = FolderStore(tmp_path)
    ask = Asked(store)
    assert content_of(ask("GET", "/v2/a/manifests/one")) == body
    assert content_of(ask("GET", f"/v2/a/blobs/{DIGEST}")) == DATA
    assert store.catalog.used_bytes == used
    assert (tmp_path / "blobs" / "sha256" / digest.hex).read_bytes() == body
    store.close()


def test_a_second_server_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(StorageError, match=rf"another process \(pid {os.getpid()}\)"):
        FolderStore(tmp_path)
    store.close()
    FolderStore(tmp_path).close()


def test_unfinished_uploads_of_a_dead_server_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "uploads" / "u-x"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    FolderStore(tmp_path).close()
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_blob_file_without_its_row_is_not_there(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    path = tmp_path / "blobs" / "sha256" / DIGEST.hex
    path.write_bytes(b"left by a crash")
    ask = Asked(store)
    assert ask("HEAD", f"/v2/a/blobs/{DIGEST}").status == 404
    ask.blob("a", DATA)
    assert path.read_bytes() == DATA
    store.close()


def test_the_last_deletion_removes_the_file(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    ask = Asked(store)
    ask.blob("a", DATA)
    ask("DELETE", f"/v2/a/blobs/{DIGEST}")
    assert not (tmp_path / "blobs" / "sha256" / DIGEST.hex).exists()
    store.close()


def test_a_blob_that_is_also_a_manifest_keeps_its_bytes(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    ask = Asked(store)
    digest, body = ask.manifest("a", "one")
    ask.blob("a", body)
    ask("DELETE", f"/v2/a/manifests/{digest}")
    assert content_of(ask("GET", f"/v2/a/blobs/{digest}")) == body
    store.close()


def test_writes_are_durable_by_default(tmp_path: Path) -> None:
    for folder, durable, expected in (("a", True, 2), ("b", False, 0)):
        store = FolderStore(tmp_path / folder, durable=durable)
        row = store.catalog._db.execute("PRAGMA synchronous").fetchone()
        assert row == (expected,)
        assert store.catalog._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        store.close()


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    FolderStore(tmp_path).close()
    db = sqlite3.connect(tmp_path / "registry.sqlite")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StorageError, match="version 99"):
        FolderStore(tmp_path)
    with pytest.raises(StorageError, match="version 99"):
        FolderStore(tmp_path)


def test_a_full_disk_is_507_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    ask = Asked(store)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = ask("POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", DATA)
    assert answer.status == 507
    monkeypatch.undo()
    assert ask("HEAD", f"/v2/a/blobs/{DIGEST}").status == 404
    assert list((tmp_path / "uploads").iterdir()) == []
    ask.blob("a", DATA)
    store.close()

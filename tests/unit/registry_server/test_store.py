"""The folder store: it survives, it is exclusive, it trusts nothing half-written."""

import errno
import json
import os
import sqlite3
from pathlib import Path
from typing import BinaryIO

import pytest

from ci_registry.errors import StorageError
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.registry.layout import Layout
from ci_registry.registry_server.file_operations import RealFileOperations
from ci_registry.registry_server.store import FolderStore
from tests.support.asking import Asked, content_of
from tests.support.images import ImageSpec, make_layout

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


def test_what_a_failed_write_left_is_not_part_of_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full in the middle of a piece: the piece is sent again, and nothing is doubled."""

    class Filling(RealFileOperations):
        full = False

        def write(self, file: BinaryIO, data: bytes) -> None:
            super().write(file, data[: len(data) // 2] if self.full else data)
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")

    operations = Filling(durable=False)
    store = FolderStore(tmp_path, operations=operations)
    ask = Asked(store)
    location = ask("POST", "/v2/a/blobs/uploads/").header("location")
    ask("PATCH", location, DATA[:4])
    operations.full = True
    assert ask("PATCH", location, DATA[4:]).status == 507
    assert ask("GET", location).header("range") == "0-3"
    operations.full = False
    assert ask("PUT", f"{location}?digest={DIGEST}", DATA[4:]).status == 201
    assert content_of(ask("GET", f"/v2/a/blobs/{DIGEST}")) == DATA
    store.close()


def test_an_upload_holds_no_open_file_between_requests(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    ask = Asked(store)
    for _ in range(20):
        location = ask("POST", "/v2/a/blobs/uploads/").header("location")
        ask("PATCH", location, DATA)
    held = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
    assert [name for name in held if name.startswith(f"{tmp_path}/uploads/")] == []
    assert [name for name in held if name.startswith(f"{tmp_path}/")] != []  # the database
    store.close()


# --- the folder as an image layout


def test_after_a_clean_stop_the_folder_is_an_image_layout(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    ask = Asked(store)
    first, body = ask.manifest("team/a", "v1")
    ask.put("team/a", "latest", body)
    subject = {"mediaType": media_types.OCI_MANIFEST, "digest": first, "size": len(body)}
    referrer, _ = ask.manifest("team/a", subject=subject, artifactType="application/x")
    second, _ = ask.manifest("b", "v1", annotations={"n": "2"})
    assert not (tmp_path / "index.json").exists()
    store.close()
    layout = Layout(tmp_path)
    assert layout.tags() == ("b:v1", "team/a:latest", "team/a:v1")
    assert layout.fetch("team/a:v1").body == body
    assert layout.fetch("b:v1").digest == second
    assert [entry.digest for entry in layout.referrers(first)] == [referrer]


def test_the_children_of_an_index_have_no_entry_of_their_own(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    ask = Asked(store)
    child, body = ask.manifest("a")
    entry = {"mediaType": media_types.OCI_MANIFEST, "digest": child, "size": len(body)}
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry]}
    ).encode()
    ask("PUT", "/v2/a/manifests/v1", index, {"content-type": media_types.OCI_INDEX})
    store.close()
    assert [entry.digest for entry in Layout(tmp_path).entries()] == [digest_of(index)]


def test_an_index_that_a_write_would_make_wrong_is_taken_away_at_the_start(tmp_path: Path) -> None:
    FolderStore(tmp_path).close()
    assert (tmp_path / "index.json").exists()
    store = FolderStore(tmp_path)
    assert not (tmp_path / "index.json").exists()
    store.close()
    store.close()
    assert (tmp_path / "index.json").exists()


def test_the_images_of_somebody_else_are_refused_and_not_touched(tmp_path: Path) -> None:
    made = make_layout(tmp_path, ImageSpec(layers=[{"a": "b"}]))
    with pytest.raises(StorageError, match="not written by this registry"):
        FolderStore(tmp_path)
    (tmp_path / "index.json").unlink()
    with pytest.raises(StorageError, match="not written by this registry"):
        FolderStore(tmp_path)
    assert (tmp_path / "blobs" / "sha256" / made.digest.hex).exists()


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

"""A power cut at any moment: what was acknowledged is there, what was not asked for is not, nothing is torn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ci_registry.oci.digest import Digest, digest_of
from ci_registry.registry_server.message import Response
from ci_registry.registry_server.store import FolderStore
from tests.support.asking import Asked, content_of
from tests.support.power_cut import Loss, Recorder

BIG = bytes(range(256)) * 40
BLOBS = (b"", b"small", BIG, b"{}")
Step = Callable[[Asked], None]
Snapshot = dict[str, bytes]


def _chunked(ask: Asked, data: bytes, algorithm: str) -> None:
    location = ask("POST", "/v2/a/blobs/uploads/").header("location")
    for start in range(0, len(data), 4000):
        assert ask("PATCH", location, data[start : start + 4000]).status == 202
    answer = ask("PUT", f"{location}?digest={digest_of(data, algorithm)}")
    assert answer.status == 201


def _delete(ask: Asked, target: str) -> None:
    assert ask("DELETE", f"/v2/a/{target}").status == 202


def _tagged(ask: Asked) -> None:
    _, body = ask.manifest("a", annotations={"n": "2"})
    digest = digest_of(body)
    assert ask.put("a", f"{digest}?tag=one&tag=two", body).status == 201


def _cancelled(ask: Asked) -> None:
    location = ask("POST", "/v2/a/blobs/uploads/").header("location")
    ask("PATCH", location, b"never finished")
    assert ask("DELETE", location).status == 204


def _wrong(ask: Asked) -> None:
    digest = digest_of(b"something else")
    assert ask("POST", f"/v2/a/blobs/uploads/?digest={digest}", BIG).status == 400


def _deleted_manifest(ask: Asked) -> None:
    digest, _ = ask.manifest("a", "gone", annotations={"n": "3"})
    _delete(ask, f"manifests/{digest}")


STEPS: tuple[Step, ...] = (
    lambda ask: _ignore(ask.blob("a", b"small")),
    lambda ask: _chunked(ask, BIG, "sha256"),
    lambda ask: _ignore(ask.blob("a", b"")),
    _cancelled,
    _wrong,
    lambda ask: _ignore(ask.blob("a", b"{}")),
    lambda ask: _ignore(ask.put("a", "one", ask.manifest("a", annotations={"n": "1"})[1])),
    _tagged,
    lambda ask: _delete(ask, "manifests/two"),
    lambda ask: _delete(ask, f"blobs/{digest_of(b'small')}"),
    lambda ask: _ignore(ask.blob("a", b"small")),
    lambda ask: _ignore(ask("POST", f"/v2/b/blobs/uploads/?mount={digest_of(BIG)}&from=a")),
    lambda ask: _delete(ask, f"blobs/{digest_of(BIG)}"),
    lambda ask: _chunked(ask, BIG, "sha512"),
    _deleted_manifest,
)


def _ignore(_result: object) -> None:
    """Let a step be an expression."""


def _snapshot(store: FolderStore) -> Snapshot:
    """Return everything that clients can see; reading checks that no byte is torn."""
    rows = store.catalog._rows("SELECT repository, digest, 'blobs' FROM blobs")
    rows += store.catalog._rows("SELECT repository, digest, 'manifests' FROM manifests")
    found: Snapshot = {}
    ask = Asked(store)
    for name, digest, kind in rows:
        answer = ask("GET", f"/v2/{name}/{kind}/{digest}")
        assert answer.status == 200
        data = content_of(answer)
        assert digest_of(data, Digest(digest).algorithm) == digest
        found[f"{name}/{kind}/{digest}"] = data
    for name, tag, digest in store.catalog._rows("SELECT repository, tag, digest FROM tags"):
        found[f"{name}:{tag}"] = digest.encode()
    return found


def _run(folder: Path, recorder: Recorder) -> list[Snapshot]:
    """Do all steps; returns what is visible before the first request and after each."""
    store = FolderStore(folder, operations=recorder)
    expected = [_snapshot(store)]

    class Told(Asked):
        def __call__(self, *given: Any, **named: Any) -> Response:
            answer = super().__call__(*given, **named)
            recorder.told(len(expected) - 1)
            expected.append(_snapshot(store))
            return answer

    for step in STEPS:
        step(Told(store))
    store.collect(store.clock() + 10**6)
    recorder.told(len(expected) - 1)
    return [*expected, _snapshot(store)]


def _check(tmp_path: Path, recorder: Recorder, expected: list[Snapshot]) -> int:
    """Cut the power after each operation, in each way; returns how many different disks were looked at."""
    seen: set[tuple[int, int]] = set()
    for acknowledged, name, disk in recorder.moments():
        allowed = expected[acknowledged : acknowledged + 2]
        for loss in Loss:
            files = disk.left_after(loss)
            key = (acknowledged, hash((frozenset(files.items()), disk.database)))
            if key in seen or not disk.database:
                continue
            seen.add(key)
            after = _after(tmp_path / f"cut-{len(seen)}", files, disk.database)
            assert after in allowed, f"after {name} in request {acknowledged}, losing {loss}"
    return len(seen)


def _after(folder: Path, files: dict[Path, bytes], database: bytes) -> Snapshot:
    """Start again on what is left."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "registry.sqlite").write_bytes(database)
    store = FolderStore(folder, durable=False)
    try:
        assert list((folder / "uploads").iterdir()) == []
        assert set(_files(folder)) == _rows(store), "files that no request can reach were left"
        return _snapshot(store)
    finally:
        store.close()


def _files(folder: Path) -> list[str]:
    return [f"{path.parent.name}:{path.name}" for path in (folder / "blobs").glob("*/*")]


def _rows(store: FolderStore) -> set[str]:
    return {row[0] for row in store.catalog._rows("SELECT digest FROM content")}


def test_no_power_cut_loses_what_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path / "r")
    with monkeypatch.context() as patch:
        recorder.watch_database(patch)
        expected = _run(tmp_path / "r", recorder)
    assert _check(tmp_path, recorder, expected) > len(STEPS)


@pytest.mark.parametrize("forgotten", ["sync", "sync_folder"])
def test_a_missing_sync_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    recorder = Recorder(tmp_path / "r", forget=frozenset({forgotten}))
    with monkeypatch.context() as patch:
        recorder.watch_database(patch)
        expected = _run(tmp_path / "r", recorder)
    with pytest.raises((AssertionError, OSError)):
        _check(tmp_path, recorder, expected)

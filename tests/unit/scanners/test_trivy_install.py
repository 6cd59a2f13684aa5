"""Unpacking trivy's published database."""

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.errors import IntegrityError
from ci_registry.scanners import trivy_install
from ci_registry.scanners.trivy_install import install_trivy_db
from tests.support.trivy_cases import BUILT, make_database


def _layer(*entries: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kind
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue())


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    database = make_database(tmp_path / "made") / "db"
    return (
        ("trivy.db", (database / "trivy.db").read_bytes()),
        ("metadata.json", (database / "metadata.json").read_bytes()),
    )


Two = tuple[tuple[str, bytes], tuple[str, bytes]]


def _chunks(data: bytes, size: int = 1000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def test_database_is_unpacked_and_read(tmp_path: Path, files: Two) -> None:
    database = install_trivy_db(_chunks(_layer(*files)), tmp_path / "cache")
    assert database.updated_at == BUILT
    assert (tmp_path / "cache/db/trivy.db").read_bytes() == files[0][1]
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [".install.lock", "db"]


def test_newer_database_replaces_the_old_one(tmp_path: Path, files: Two) -> None:
    folder = tmp_path / "cache"
    make_database(folder, ())
    install_trivy_db(_chunks(_layer(*files)), folder)
    assert (folder / "db/trivy.db").read_bytes() == files[0][1]


def test_dot_slash_names_are_fine(tmp_path: Path, files: Two) -> None:
    layer = _layer(*((f"./{name}", data) for name, data in files))
    assert install_trivy_db(_chunks(layer), tmp_path / "cache").updated_at == BUILT


def _bad_layers(files: Two) -> dict[str, bytes]:
    good = _layer(*files)
    return {
        "cut": good[: len(good) // 2],
        "without its end": good[:-4],
        "not gzip": b"hello" * 100,
        "empty": b"",
        "one missing": _layer(files[0]),
        "twice": _layer(files[0], files[1], files[0]),
        "escape": _layer(*files, ("../evil", b"x")),
        "absolute": _layer(*files, ("/etc/passwd", b"x")),
        "another": _layer(*files, ("java.db", b"x")),
        "link": _layer(("trivy.db", b""), kind=tarfile.SYMTYPE),
        "long metadata": _layer(files[0], ("metadata.json", b" " * 70_000)),
        "garbage database": _layer(("trivy.db", b"x" * 9000), files[1]),
        "other schema": _layer(files[0], ("metadata.json", b'{"Version": 1}')),
    }


@pytest.mark.parametrize(
    "case",
    [
        "cut",
        "without its end",
        "not gzip",
        "empty",
        "one missing",
        "twice",
        "escape",
        "absolute",
        "another",
        "link",
        "long metadata",
        "garbage database",
        "other schema",
    ],
)
def test_bad_archive_leaves_the_old_database_alone(tmp_path: Path, files: Two, case: str) -> None:
    folder = tmp_path / "cache"
    old = (make_database(folder, ()) / "db/trivy.db").read_bytes()
    with pytest.raises(IntegrityError):
        install_trivy_db(_chunks(_bad_layers(files)[case]), folder)
    assert (folder / "db/trivy.db").read_bytes() == old
    assert not list(folder.glob(".db-*"))
    assert not (tmp_path / "evil").exists()


def test_check_at_the_end_of_the_stream_counts(tmp_path: Path, files: Two) -> None:
    def stream() -> Iterator[bytes]:
        yield from _chunks(_layer(*files))
        raise IntegrityError("the blob has another digest")

    with pytest.raises(IntegrityError, match="another digest"):
        install_trivy_db(stream(), tmp_path / "cache")
    assert not (tmp_path / "cache/db").exists()


def test_size_is_bounded(tmp_path: Path, files: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trivy_install._LIMITS, "trivy.db", 100)
    with pytest.raises(IntegrityError, match="too many"):
        install_trivy_db(_chunks(_layer(*files)), tmp_path / "cache")

"""A blob counts as hashed in this run only while it is the very same file, unchanged."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.proven import ProvenBlobs, identity_of

DATA = b"the bytes of a layer"
BLOB = Descriptor(media_type="x", digest=digest_of(DATA), size=len(DATA))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    os.utime(path, ns=(10**18, 10**18))
    return path


@pytest.fixture
def proven(file: Path) -> ProvenBlobs:
    found = ProvenBlobs()
    found.add(BLOB.digest, identity_of(file.stat()), file)
    return found


def test_the_file_and_links_to_it_are_proven(
    file: Path, proven: ProvenBlobs, tmp_path: Path
) -> None:
    (tmp_path / "hard").hardlink_to(file)
    (tmp_path / "soft").symlink_to(file)
    for path in (file, tmp_path / "hard", tmp_path / "soft"):
        assert proven.holds(BLOB, path)


def test_reading_and_marking_as_used_change_nothing(file: Path, proven: ProvenBlobs) -> None:
    file.read_bytes()
    os.utime(file, ns=(2 * 10**18, file.stat().st_mtime_ns))
    assert proven.holds(BLOB, file)


def overwrite(path: Path) -> None:
    path.write_bytes(DATA[::-1])


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(DATA)
    os.utime(other, ns=(10**18, 10**18))
    other.replace(path)


@pytest.mark.parametrize(
    "change",
    [overwrite, replace, lambda path: path.write_bytes(DATA + b"x"), Path.unlink],
    ids=["overwritten", "replaced by a copy", "longer", "gone"],
)
def test_another_or_a_changed_file_is_not_proven(
    file: Path, proven: ProvenBlobs, change: Callable[[Path], object]
) -> None:
    change(file)
    assert not proven.holds(BLOB, file)


def test_a_file_that_changed_while_it_was_hashed_is_not_proven(file: Path) -> None:
    found = ProvenBlobs()
    before = identity_of(file.stat())
    file.write_bytes(DATA[::-1])
    found.add(BLOB.digest, before, file)
    assert not found.holds(BLOB, file)


def test_a_descriptor_with_another_size_or_digest_is_not_proven(
    file: Path, proven: ProvenBlobs
) -> None:
    assert not proven.holds(
        Descriptor(media_type="x", digest=BLOB.digest, size=BLOB.size + 1), file
    )
    other = Descriptor(media_type="x", digest=digest_of(b"other"), size=BLOB.size)
    assert not proven.holds(other, file)

"""OCI archives: read in place, written in one go."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import IntegrityError, NotFoundError, RegistryError, StorageError
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.archive import ArchiveWriter, open_archive
from ci_registry.registry.layout import Layout
from ci_registry.registry.transfer import copy_image, manifests_of
from tests.support.images import ImageSpec, make_layout


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    specs = [
        ImageSpec(layers=[{"a": "1"}, {"b": name}], architecture=name)
        for name in ("amd64", "arm64")
    ]
    return Layout(make_layout(tmp_path / "source", *specs).layout)


def write(source: Layout, path: Path, *tags: str) -> Descriptor:
    root = source.root()
    with ArchiveWriter.creating(path) as archive:
        copy_image(source, archive, root, cancel=Cancel(), on_event=lambda _: None, image="x")
        for tag in tags:
            archive.push(tag, source.fetch(root.digest).body, root.media_type)
        archive.finish()
    return root


def test_an_archive_holds_what_was_copied_into_it(source: Layout, tmp_path: Path) -> None:
    root = write(source, tmp_path / "x.tar", "v1", "v2")
    archive = open_archive(tmp_path / "x.tar")
    assert archive.tags() == ("v1", "v2")
    assert archive.root().digest == root.digest
    assert [m.body for m in manifests_of(archive, root)] == [
        m.body for m in manifests_of(source, root)
    ]
    back = Layout.create(tmp_path / "back")
    copy_image(archive, back, root, cancel=Cancel(), on_event=lambda _: None, image="x")
    assert back.root().digest == root.digest


def test_the_same_image_gives_the_same_archive(source: Layout, tmp_path: Path) -> None:
    for name in ("1.tar", "2.tar"):
        with ArchiveWriter.creating(tmp_path / name) as archive:
            root = source.root()
            copy_image(
                source, archive, root, workers=1, cancel=Cancel(), on_event=lambda _: None, image=""
            )
            archive.finish()
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_what_is_not_finished_leaves_nothing_and_keeps_the_old_archive(
    source: Layout, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "x.tar"
    path.parent.mkdir()
    path.write_bytes(b"old")
    with ArchiveWriter.creating(path) as archive:
        copy_image(
            source, archive, source.root(), cancel=Cancel(), on_event=lambda _: None, image=""
        )
    assert [p.name for p in path.parent.iterdir()] == ["x.tar"]
    assert path.read_bytes() == b"old"


def test_a_blob_that_breaks_off_leaves_no_trace(source: Layout, tmp_path: Path) -> None:
    data = b"blob" * 1000
    blob = Descriptor(media_type="application/x", digest=digest_of(data), size=len(data))

    def broken() -> Iterator[bytes]:
        yield data[:1500]
        raise RegistryError("the connection was lost")

    with ArchiveWriter.creating(tmp_path / "x.tar") as archive:
        with pytest.raises(RegistryError):
            archive.push_blob(blob, broken)
        with pytest.raises(IntegrityError):
            archive.push_blob(blob, lambda: iter((data[:-1],)))
        assert archive.size_of(blob.digest) is None
        archive.push_blob(blob, lambda: iter((data,)))
        archive.finish()
    with tarfile.open(tmp_path / "x.tar") as tar:
        names = tar.getnames()
    assert names == [f"blobs/sha256/{blob.digest.hex}", "oci-layout", "index.json"]
    assert b"".join(open_archive(tmp_path / "x.tar").open(blob.digest)) == data


def test_an_archive_that_exists_is_never_changed(source: Layout, tmp_path: Path) -> None:
    root = write(source, tmp_path / "x.tar", "v1")
    before = (tmp_path / "x.tar").read_bytes()
    archive = open_archive(tmp_path / "x.tar")
    blob = Descriptor(media_type="x", digest=digest_of(b"new"), size=3)
    for change in (
        lambda: archive.push_blob(blob, lambda: iter((b"new",))),
        lambda: archive.push("v2", archive.fetch("v1").body, root.media_type),
        lambda: archive.untag("v1"),
        lambda: archive.delete(root.digest),
        lambda: archive.set_root(root),
    ):
        with pytest.raises(StorageError):
            change()
    assert (tmp_path / "x.tar").read_bytes() == before


def tar_with(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


MARKER = ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


def test_names_may_begin_with_a_dot_as_tar_writes_them(source: Layout, tmp_path: Path) -> None:
    path = tmp_path / "dotted.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(source.path, arcname=".")
    assert open_archive(path).root().digest == source.root().digest


def test_a_blob_with_other_bytes_than_its_name_is_refused(tmp_path: Path) -> None:
    digest = digest_of(b"right")
    path = tar_with(tmp_path / "x.tar", MARKER, (f"blobs/sha256/{digest.hex}", b"wrong"))
    with pytest.raises(IntegrityError, match="digest"):
        list(open_archive(path).open(digest))
    with pytest.raises(NotFoundError):
        list(open_archive(path).open(digest_of(b"absent")))


def test_what_is_no_oci_archive_says_what_to_do(tmp_path: Path) -> None:
    docker = tar_with(tmp_path / "docker.tar", ("manifest.json", b"[]"))
    with pytest.raises(IntegrityError, match="oci-layout is missing") as caught:
        open_archive(docker).entries()
    assert "docker-archive:" in caught.value.hint
    (tmp_path / "x.gz").write_bytes(b"\x1f\x8b" + b"\0" * 600)
    with pytest.raises(IntegrityError, match="compressed with gzip") as caught:
        open_archive(tmp_path / "x.gz")
    assert "gunzip" in caught.value.hint
    with pytest.raises(StorageError):
        open_archive(tmp_path / "absent.tar")


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    path = tar_with(tmp_path / "x.tar", MARKER, ("./index.json", b"{}"), ("index.json", b"{}"))
    with pytest.raises(IntegrityError, match="twice"):
        open_archive(path)


def test_an_index_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ci_registry.registry.archive.MAX_INDEX_BYTES", 10)
    index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    path = tar_with(tmp_path / "x.tar", MARKER, ("index.json", index))
    with pytest.raises(IntegrityError, match="larger than 10 bytes"):
        open_archive(path).entries()

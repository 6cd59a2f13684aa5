"""An OCI layout directory as a repository."""

import json
import os
import threading
from pathlib import Path

import pytest

from ci_registry.errors import IntegrityError, NotFoundError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.platform import Platform
from ci_registry.registry.interface import BlobOutcome
from ci_registry.registry.layout import Layout, one_image_view
from ci_registry.registry.layout_entries import TAG_ANNOTATION
from tests.support.images import ImageSpec, make_layout, put_blob

TWO_PLATFORMS = (
    ImageSpec(layers=[{"a": "1"}], architecture="amd64"),
    ImageSpec(layers=[{"a": "1"}, {"b": "2"}], architecture="arm64"),
)


def entries_of(layout: Layout) -> list[dict[str, object]]:
    entries = json.loads((layout.path / "index.json").read_text())["manifests"]
    assert isinstance(entries, list)
    return entries


def add_entry(layout: Path, **entry: object) -> None:
    path = layout / "index.json"
    index = json.loads(path.read_text())
    index["manifests"].append(entry)
    path.write_text(json.dumps(index))


def test_new_layout_is_empty_and_marked(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "new")
    assert layout.entries() == ()
    assert json.loads((tmp_path / "new/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert layout.tags() == ()


def test_creating_over_an_existing_layout_keeps_it(tmp_path: Path) -> None:
    made = make_layout(tmp_path, TWO_PLATFORMS[0])
    assert Layout.create(tmp_path).root().digest == made.digest


def test_root_is_the_one_image_with_its_attestations_left_out(tmp_path: Path) -> None:
    made = make_layout(tmp_path, *TWO_PLATFORMS)
    (tmp_path / "ingest").mkdir()
    add_entry(
        tmp_path,
        mediaType=media_types.OCI_MANIFEST,
        digest=digest_of(b"attestation"),
        size=11,
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
        platform={"os": "unknown", "architecture": "unknown"},
    )
    layout = Layout(tmp_path)
    assert layout.root().digest == made.digest
    index = layout.fetch(layout.root().digest)
    assert isinstance(index, Index)
    assert tuple(m.digest for m in index.manifests) == made.manifests


def test_one_image_under_two_tags_is_still_one_image(tmp_path: Path) -> None:
    made = make_layout(tmp_path, TWO_PLATFORMS[0])
    layout = Layout(tmp_path)
    body = layout.fetch(made.digest).body
    layout.push("one", body, media_types.OCI_MANIFEST)
    layout.push("two", body, media_types.OCI_MANIFEST)
    assert layout.root().digest == made.digest
    assert layout.tags() == ("one", "two")
    assert len(layout.entries()) == 2


def test_root_refuses_none_and_several(tmp_path: Path) -> None:
    empty = Layout.create(tmp_path / "empty")
    with pytest.raises(IntegrityError, match="holds no image"):
        empty.root()
    made = make_layout(tmp_path / "two", TWO_PLATFORMS[0])
    other = make_layout(tmp_path / "other", TWO_PLATFORMS[1])
    layout = Layout(made.layout)
    put_blob(made.layout, Layout(other.layout).fetch(other.digest).body)
    add_entry(
        made.layout,
        mediaType=media_types.OCI_MANIFEST,
        digest=other.digest,
        size=layout.size_of(other.digest),
    )
    with pytest.raises(IntegrityError, match="2 images, expected one"):
        layout.root()


@pytest.mark.parametrize("broken", ["index.json", "oci-layout"])
def test_folder_that_is_no_layout_is_named(tmp_path: Path, broken: str) -> None:
    make_layout(tmp_path, TWO_PLATFORMS[0])
    (tmp_path / broken).unlink()
    with pytest.raises(IntegrityError, match="not an OCI image layout"):
        Layout(tmp_path).entries()


def test_other_layout_version_is_refused(tmp_path: Path) -> None:
    make_layout(tmp_path, TWO_PLATFORMS[0])
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(IntegrityError, match=r"2\.0\.0"):
        Layout(tmp_path).root()


def test_set_root_leaves_exactly_one_tagged_entry(tmp_path: Path) -> None:
    made = make_layout(tmp_path, *TWO_PLATFORMS)
    layout = Layout(tmp_path)
    layout.set_root(layout.root(), tag="v1")
    (entry,) = entries_of(layout)
    assert entry["digest"] == made.digest
    assert entry["annotations"] == {TAG_ANNOTATION: "v1"}
    assert layout.resolve("v1") is not None
    assert layout.resolve("v2") is None


def test_unknown_members_of_other_entries_survive_a_push(tmp_path: Path) -> None:
    make_layout(tmp_path, TWO_PLATFORMS[0])
    index = json.loads((tmp_path / "index.json").read_text())
    index["manifests"][0]["platform"]["os.version"] = "10.0.1"
    index["manifests"][0]["annotations"] = {TAG_ANNOTATION: "old"}
    (tmp_path / "index.json").write_text(json.dumps(index))
    layout = Layout(tmp_path)
    layout.push("new", layout.fetch("old").body, media_types.OCI_MANIFEST)
    assert entries_of(layout)[0]["platform"] == {
        "architecture": "amd64",
        "os": "linux",
        "os.version": "10.0.1",
    }


def test_tag_moves_and_old_manifest_stays_readable_by_digest(tmp_path: Path) -> None:
    made = make_layout(tmp_path, *TWO_PLATFORMS)
    layout = Layout(tmp_path)
    first, second = (layout.fetch(d) for d in made.manifests)
    layout.push("latest", first.body, first.media_type)
    layout.push("latest", second.body, second.media_type)
    assert layout.fetch("latest").digest == second.digest
    assert layout.fetch(first.digest).body == first.body
    assert layout.tags() == ("latest",)


def test_index_covers_the_bare_entries_of_its_children(tmp_path: Path) -> None:
    made = make_layout(tmp_path / "src", *TWO_PLATFORMS)
    source, target = Layout(made.layout), Layout.create(tmp_path / "dst")
    for digest in (*made.manifests, made.digest):
        manifest = source.fetch(digest)
        target.push(digest, manifest.body, manifest.media_type)
    assert [e.digest for e in target.entries()] == [made.digest]


def test_push_under_another_digest_is_refused(tmp_path: Path) -> None:
    made = make_layout(tmp_path, TWO_PLATFORMS[0])
    layout = Layout(tmp_path)
    body = layout.fetch(made.digest).body
    with pytest.raises(IntegrityError, match="has digest"):
        layout.push(digest_of(b"other"), body, media_types.OCI_MANIFEST)


def test_damaged_blob_and_manifest_are_found_on_reading(tmp_path: Path) -> None:
    made = make_layout(tmp_path, TWO_PLATFORMS[0])
    layout = Layout(tmp_path)
    layer = layout.fetch(made.digest)
    assert isinstance(layer, Manifest)
    path = layout.blob_path(layer.layers[0].digest)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="expected sha256"):
        list(layout.open(layer.layers[0].digest))
    layout.blob_path(made.digest).write_bytes(layer.body + b" ")
    with pytest.raises(IntegrityError):
        layout.fetch(made.digest)


def test_blob_that_is_no_manifest_does_not_resolve(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path)
    blob = layout.write_blob([b'{"a":', b"1}"], "application/json")
    assert layout.size_of(blob.digest) == 7
    assert layout.resolve(blob.digest) is None
    with pytest.raises(IntegrityError):
        layout.fetch(blob.digest)


def test_missing_tag_manifest_and_blob_are_not_found(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path)
    with pytest.raises(NotFoundError, match="no tag"):
        layout.fetch("nope")
    with pytest.raises(NotFoundError):
        layout.fetch(digest_of(b"nope"))
    with pytest.raises(NotFoundError):
        list(layout.open(digest_of(b"nope")))


@pytest.mark.parametrize("text", ["../../etc/passwd", "sha256:../x", "sha256:" + "A" * 64])
def test_paths_come_only_from_digests(tmp_path: Path, text: str) -> None:
    layout = Layout.create(tmp_path)
    with pytest.raises(IntegrityError):
        layout.blob_path(text)  # type: ignore[arg-type]


def test_blob_path_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path)
    digest = digest_of(b"x")
    layout.blob_path(digest).parent.mkdir(parents=True)
    os.mkfifo(layout.blob_path(digest))
    with pytest.raises(IntegrityError, match="not a regular file"):
        list(layout.open(digest))


@pytest.mark.parametrize("data", [b"short", b"exactly too long"])
def test_push_blob_stores_nothing_when_bytes_are_wrong(tmp_path: Path, data: bytes) -> None:
    layout = Layout.create(tmp_path)
    wanted = Descriptor(media_type="x/y", digest=digest_of(b"ten bytes!"), size=10)
    with pytest.raises(IntegrityError):
        layout.push_blob(wanted, lambda: iter((data,)))
    assert layout.size_of(wanted.digest) is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.json", "oci-layout"]


def test_push_blob_skips_what_is_present(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path)
    blob = layout.write_blob([b"ten bytes!"], "x/y")

    def never() -> object:
        raise AssertionError("read a blob that is present")

    pushed = layout.push_blob(blob, never)  # type: ignore[arg-type]
    assert (pushed.outcome, pushed.bytes_sent) == (BlobOutcome.PRESENT, 0)


def test_delete_removes_manifest_and_its_tags_only(tmp_path: Path) -> None:
    made = make_layout(tmp_path, *TWO_PLATFORMS)
    layout = Layout(tmp_path)
    first, second = (layout.fetch(d) for d in made.manifests)
    layout.push("a", first.body, first.media_type)
    layout.push("b", second.body, second.media_type)
    layout.delete(first.digest)
    layout.delete(first.digest)
    assert layout.tags() == ("b",)
    assert layout.resolve(first.digest) is None
    assert layout.fetch("b").digest == second.digest


def referrer_of(subject: Descriptor, config: Descriptor, note: str) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "artifactType": "application/x-test",
            "config": config.to_json(),
            "layers": [],
            "subject": subject.to_json(),
            "annotations": {"note": note},
        }
    ).encode()


def test_referrers_are_listed_with_type_and_annotations_and_are_no_image(tmp_path: Path) -> None:
    made = make_layout(tmp_path, TWO_PLATFORMS[0])
    layout = Layout(tmp_path)
    root = layout.root()
    empty = layout.write_blob([b"{}"], media_types.OCI_EMPTY)
    body = referrer_of(root, empty, "one")
    digest = layout.attach(root, body, media_types.OCI_MANIFEST)
    (found,) = layout.referrers(made.digest)
    assert (found.digest, found.artifact_type) == (digest, "application/x-test")
    assert found.annotations == {"note": "one"}
    assert layout.root().digest == made.digest
    with pytest.raises(IntegrityError, match="does not refer"):
        layout.attach(empty, body, media_types.OCI_MANIFEST)


def test_view_holds_one_platform_and_only_its_blobs(tmp_path: Path) -> None:
    made = make_layout(tmp_path / "all", *TWO_PLATFORMS)
    layout = Layout(made.layout)
    index = layout.fetch(made.digest)
    assert isinstance(index, Index)
    view = one_image_view(layout, index.manifests[0], tmp_path / "view")
    assert view.root().digest == made.manifests[0]
    assert view.root().platform == Platform("linux", "amd64")
    names = {p.name for p in (tmp_path / "view/blobs/sha256").iterdir()}
    manifest = view.fetch(made.manifests[0])
    assert isinstance(manifest, Manifest)
    assert names == {manifest.digest.hex, *(b.digest.hex for b in manifest.blobs)}
    assert made.manifests[1].hex not in names
    assert b"".join(view.open(manifest.config.digest))


def test_view_takes_the_platform_from_the_config_when_the_entry_has_none(tmp_path: Path) -> None:
    make_layout(tmp_path / "all", TWO_PLATFORMS[1])
    layout = Layout(tmp_path / "all")
    bare = layout.fetch(layout.root().digest).descriptor
    view = one_image_view(layout, bare, tmp_path / "view")
    assert view.root().platform == Platform("linux", "arm64")


def test_view_uses_symbolic_links_where_hard_links_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_layout(tmp_path / "all", TWO_PLATFORMS[0])

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    layout = Layout(made.layout)
    view = one_image_view(layout, layout.root(), tmp_path / "view")
    assert view.blob_path(made.digest).is_symlink()
    assert view.fetch(made.digest).digest == made.digest


def test_view_of_an_index_or_with_a_missing_layer_is_refused(tmp_path: Path) -> None:
    made = make_layout(tmp_path / "all", *TWO_PLATFORMS)
    layout = Layout(made.layout)
    with pytest.raises(IntegrityError, match="is an index"):
        one_image_view(layout, layout.root(), tmp_path / "view")
    manifest = layout.fetch(made.manifests[1])
    assert isinstance(manifest, Manifest)
    layout.blob_path(manifest.layers[1].digest).unlink()
    with pytest.raises(NotFoundError, match="no blob"):
        one_image_view(layout, manifest.descriptor, tmp_path / "view2")


def test_tags_pushed_by_many_threads_all_arrive(tmp_path: Path) -> None:
    made = make_layout(tmp_path, TWO_PLATFORMS[0])
    body = Layout(tmp_path).fetch(made.digest).body
    threads = [
        threading.Thread(
            target=Layout(tmp_path).push, args=(f"t{number}", body, media_types.OCI_MANIFEST)
        )
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Layout(tmp_path).tags()) == 12


def test_sha512_blobs_and_manifests_keep_their_name(tmp_path: Path) -> None:
    made = make_layout(tmp_path, TWO_PLATFORMS[0])
    layout = Layout(tmp_path)
    body = layout.fetch(made.digest).body
    long = digest_of(body, "sha512")
    assert layout.push(long, body, media_types.OCI_MANIFEST).digest == long
    assert layout.fetch(long).digest == long
    assert isinstance(long, Digest)


def test_layout_with_100_000_tags_is_read(tmp_path: Path) -> None:
    make_layout(tmp_path, TWO_PLATFORMS[0])
    index = json.loads((tmp_path / "index.json").read_text())
    entry = index["manifests"][0]
    index["manifests"] = [
        entry | {"annotations": {TAG_ANNOTATION: f"v{i}"}} for i in range(100_000)
    ]
    (tmp_path / "index.json").write_text(json.dumps(index))
    assert len(Layout(tmp_path).tags()) == 100_000

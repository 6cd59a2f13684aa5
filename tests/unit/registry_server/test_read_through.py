"""A dry run's registry: reads go through to the real one, writes stay here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from ci_registry.errors import NetworkError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.registry.interface import Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry_server.store import FolderStore
from tests.support.asking import Asked, content_of
from tests.support.images import ImageSpec, MadeImage, make_layout


@pytest.fixture
def image(tmp_path: Path) -> MadeImage:
    return make_layout(tmp_path / "real", ImageSpec(layers=[{"a": "b"}]))


@pytest.fixture
def through(ask: Asked, image: MadeImage) -> Asked:
    """`app` is a repository upstream; there is no other."""
    real = Layout(image.layout)
    real.push(
        "v1",
        (image.layout / "blobs" / "sha256" / image.digest.hex).read_bytes(),
        media_types.OCI_MANIFEST,
    )
    ask.set(upstream=lambda name: real if name == "app" else None)
    return ask


def _manifest(image: MadeImage) -> Manifest | Index:
    return Layout(image.layout).fetch(image.digest)


def test_what_is_upstream_is_read_through(through: Asked, image: MadeImage) -> None:
    answer = through("GET", "/v2/app/manifests/v1")
    assert (answer.status, answer.header("docker-content-digest")) == (200, image.digest)
    manifest = _manifest(image)
    assert content_of(answer) == manifest.body
    assert isinstance(manifest, Manifest)
    for blob in manifest.blobs:
        head = through("HEAD", f"/v2/app/blobs/{blob.digest}")
        assert (head.status, head.header("content-length")) == (200, str(blob.size))
        got = content_of(through("GET", f"/v2/app/blobs/{blob.digest}"))
        assert digest_of(got) == blob.digest
    tags = json.loads(content_of(through("GET", "/v2/app/tags/list")))["tags"]
    assert "v1" in tags


def test_head_of_a_blob_upstream_moves_no_bytes(through: Asked, image: MadeImage) -> None:
    through("HEAD", f"/v2/app/blobs/{image.configs[0]}")
    assert through.store.catalog.used_bytes == 0


def test_a_mount_from_the_repository_itself_moves_no_bytes(
    through: Asked, image: MadeImage
) -> None:
    target = f"/v2/app/blobs/uploads/?mount={image.configs[0]}&from=app"
    assert through("POST", target).status == 201
    assert through.store.catalog.used_bytes == 0
    absent = f"/v2/app/blobs/uploads/?mount={digest_of(b'absent')}&from=app"
    assert through("POST", absent).status == 202


def test_head_of_a_manifest_upstream_moves_no_bytes(through: Asked, image: MadeImage) -> None:
    for reference in ("v1", image.digest):
        answer = through("HEAD", f"/v2/app/manifests/{reference}")
        assert (answer.status, answer.header("docker-content-digest")) == (200, image.digest)
        assert answer.header("content-length") == str(len(_manifest(image).body))
    assert through.store.catalog.used_bytes == 0


def test_an_index_may_list_children_that_are_upstream_and_does_not_fetch_them(
    through: Asked, image: MadeImage
) -> None:
    entry = _manifest(image).descriptor.to_json()
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry]}
    body = json.dumps(document).encode()
    kind = {"content-type": media_types.OCI_INDEX}
    assert through("PUT", "/v2/app/manifests/all", body, kind).status == 201
    assert through.store.catalog.used_bytes == len(body)


def test_a_failure_upstream_is_told_to_the_one_who_can_explain_it(ask: Asked) -> None:
    told: list[tuple[str, str]] = []

    def broken(_name: str) -> Repository:
        raise NetworkError("real.example: connection refused")

    ask.set(upstream=broken, upstream_failed=lambda name, error: told.append((name, str(error))))
    assert ask("HEAD", "/v2/app/manifests/v1").status == 502
    assert told == [("app", "real.example: connection refused")]


def test_what_is_nowhere_is_404(through: Asked) -> None:
    for target in ("manifests/none", f"manifests/{digest_of(b'x')}", f"blobs/{digest_of(b'x')}"):
        assert through("GET", f"/v2/app/{target}").status == 404
        assert through("GET", f"/v2/other/{target}").status == 404


def test_writes_stay_here_and_win(through: Asked, image: MadeImage) -> None:
    before = {p: p.read_bytes() for p in image.layout.rglob("*") if p.is_file()}
    manifest = _manifest(image)
    body = json.dumps(json.loads(manifest.body) | {"annotations": {"dry": "run"}}).encode()
    assert through.put("app", "v1", body).status == 201  # its blobs are upstream
    assert through.put("app", "v2", body).status == 201
    assert content_of(through("GET", "/v2/app/manifests/v1")) == body
    tags = json.loads(content_of(through("GET", "/v2/app/tags/list")))["tags"]
    assert {"v1", "v2"} <= set(tags)
    assert {p: p.read_bytes() for p in image.layout.rglob("*") if p.is_file()} == before


def test_a_blob_is_mounted_from_a_repository_upstream(through: Asked, image: MadeImage) -> None:
    digest = image.configs[0]
    answer = through("POST", f"/v2/mine/blobs/uploads/?mount={digest}&from=app")
    assert answer.status == 201
    assert digest_of(content_of(through("GET", f"/v2/mine/blobs/{digest}"))) == digest


def test_referrers_of_both_sides_are_listed(through: Asked, image: MadeImage) -> None:
    real = Layout(image.layout)
    subject = _manifest(image).descriptor

    def refer(note: str) -> bytes:
        empty = {"mediaType": media_types.OCI_EMPTY, "digest": digest_of(b"{}"), "size": 2}
        members = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": empty,
            "layers": [],
            "subject": subject.to_json(),
            "annotations": {"note": note},
        }
        return json.dumps(members).encode()

    config = Descriptor(media_type=media_types.OCI_EMPTY, digest=digest_of(b"{}"), size=2)
    real.push_blob(config, lambda: iter([b"{}"]))
    real.attach(subject, refer("there"), media_types.OCI_MANIFEST)
    assert through.put("app", digest_of(refer("here")), refer("here")).status == 201
    answer = through("GET", f"/v2/app/referrers/{image.digest}")
    notes = [m["annotations"]["note"] for m in json.loads(content_of(answer))["manifests"]]
    assert sorted(notes) == ["here", "there"]


def test_trouble_upstream_is_never_read_as_absent(ask: Asked) -> None:
    def broken(_name: str) -> Repository:
        raise NetworkError("real.example: connection refused")

    ask.set(upstream=broken)
    digest: Digest = digest_of(b"x")
    for target in (f"blobs/{digest}", "manifests/v1", "tags/list", f"referrers/{digest}"):
        assert ask("GET", f"/v2/app/{target}").status == 502


# --- what is deleted here is hidden, and the real registry keeps it


def _files(image: MadeImage) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in image.layout.rglob("*") if p.is_file()}


def _tags(ask: Asked) -> list[str]:
    answer = ask("GET", "/v2/app/tags/list")
    listed: list[str] = json.loads(content_of(answer)).get("tags", [])
    return listed  # 404 when nothing is left


def test_a_tag_deleted_here_is_hidden_until_it_is_put_again(
    through: Asked, image: MadeImage
) -> None:
    before = _files(image)
    assert through("DELETE", "/v2/app/manifests/v1").status == 202
    assert through("DELETE", "/v2/app/manifests/v1").status == 404
    for method in ("GET", "HEAD"):
        assert through(method, "/v2/app/manifests/v1").status == 404
    assert "v1" not in _tags(through)
    assert through("GET", f"/v2/app/manifests/{image.digest}").status == 200
    assert _files(image) == before
    assert through.put("app", "v1", _manifest(image).body).status == 201
    assert "v1" in _tags(through)
    assert through("DELETE", "/v2/app/manifests/v1").status == 202
    assert through("HEAD", "/v2/app/manifests/v1").status == 404


def test_a_manifest_deleted_here_is_hidden_with_its_tags(through: Asked, image: MadeImage) -> None:
    through("GET", "/v2/app/manifests/v1")  # a copy is here too
    before = _files(image)
    assert through("DELETE", f"/v2/app/manifests/{image.digest}").status == 202
    for reference in ("v1", image.digest):
        for method in ("GET", "HEAD"):
            assert through(method, f"/v2/app/manifests/{reference}").status == 404
    assert "v1" not in _tags(through)
    entry = _manifest(image).descriptor.to_json()
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry]}
    kind = {"content-type": media_types.OCI_INDEX}
    put = through("PUT", "/v2/app/manifests/all", json.dumps(document).encode(), kind)
    assert put.status == 400  # its child is gone
    assert _files(image) == before


def test_a_blob_deleted_here_is_hidden_until_it_is_pushed_again(
    through: Asked, image: MadeImage
) -> None:
    digest = image.configs[0]
    target = f"/v2/app/blobs/{digest}"
    data = content_of(through("GET", target))
    assert through("DELETE", target).status == 202
    assert through("DELETE", target).status == 404
    assert {through(method, target).status for method in ("GET", "HEAD")} == {404}
    assert through.put("app", "v2", _manifest(image).body).status == 400
    assert through.blob("app", data) == digest
    assert through("HEAD", target).status == 200


def test_a_referrer_deleted_here_is_no_longer_listed(through: Asked, image: MadeImage) -> None:
    real = Layout(image.layout)
    empty = {"mediaType": media_types.OCI_EMPTY, "digest": digest_of(b"{}"), "size": 2}
    subject = _manifest(image).descriptor
    members = {"config": empty, "layers": [], "subject": subject.to_json()}
    body = json.dumps(
        {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, **members}
    ).encode()
    config = Descriptor(media_type=media_types.OCI_EMPTY, digest=digest_of(b"{}"), size=2)
    real.push_blob(config, lambda: iter([b"{}"]))
    real.attach(subject, body, media_types.OCI_MANIFEST)

    def listed() -> list[str]:
        answer = through("GET", f"/v2/app/referrers/{image.digest}")
        return [entry["digest"] for entry in json.loads(content_of(answer))["manifests"]]

    assert listed() == [digest_of(body)]
    assert through("DELETE", f"/v2/app/manifests/{digest_of(body)}").status == 202
    assert listed() == []


def test_what_was_hidden_stays_hidden_after_a_restart(tmp_path: Path, image: MadeImage) -> None:
    real = Layout(image.layout)
    real.push("v1", _manifest(image).body, media_types.OCI_MANIFEST)
    for status in (202, 404):
        store = FolderStore(tmp_path / "registry", durable=False)
        ask = Asked(store)
        ask.set(upstream=lambda _name: real)
        assert ask("DELETE", "/v2/app/manifests/v1").status == status
        store.close()


class _Lying:
    """A real registry whose bytes have another digest, and whose client does not notice."""

    def __init__(self, inner: Layout) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def open(self, digest: Digest) -> Iterator[bytes]:
        yield from self._inner.open(digest)
        yield b"more"


def test_a_blob_from_upstream_is_visible_only_after_its_digest_matched(
    ask: Asked, image: MadeImage
) -> None:
    lying = cast("Repository", _Lying(Layout(image.layout)))
    ask.set(upstream=lambda _name: lying)
    assert ask("GET", f"/v2/app/blobs/{image.configs[0]}").status == 502
    assert ask.store.catalog.used_bytes == 0
    assert ask.store.upload_count == 0

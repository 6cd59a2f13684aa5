"""What an image is made of."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ci_registry.errors import IntegrityError, NotFoundError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.image_tree import NodeKind, read_tree
from ci_registry.registry.layout import Layout
from tests.support.artifacts import attach, put_cosign
from tests.support.images import ImageSpec, make_layout
from tests.support.memory_repository import MemoryRepository

CONFIG = {
    "User": "app",
    "WorkingDir": "/srv",
    "Entrypoint": ["/bin/app"],
    "Cmd": ["--serve"],
    "Env": ["PATH=/bin", "TOKEN=secret"],
    "ExposedPorts": {"8080/tcp": {}},
    "Labels": {"a": "b", "strange": 1},
}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    specs = [
        ImageSpec(layers=[{"a": "1"}, {"b": name}], architecture=name, config=CONFIG)
        for name in ("amd64", "arm64")
    ]
    return Layout(make_layout(tmp_path / "layout", *specs).layout)


def test_the_tree_says_what_is_stored(layout: Layout, pool: ThreadPoolExecutor) -> None:
    root = layout.root()
    put_cosign(layout, root.digest, "signature")
    child = layout.fetch(root.digest).manifests[0]  # type: ignore[union-attr]
    note = attach(layout, child, "note")
    tree = read_tree(layout, root, with_referrers=True, pool=pool)
    assert (tree.kind, tree.descriptor.digest) == (NodeKind.INDEX, root.digest)
    assert [item.tag.endswith(".sig") for item in tree.referrers] == [True]
    amd64, arm64 = tree.children
    assert [str(node.descriptor.platform) for node in (amd64, arm64)] == [
        "linux/amd64",
        "linux/arm64",
    ]
    assert amd64.layers_bytes == sum(layer.size for layer in amd64.layers) > 0
    assert [item.descriptor.digest for item in amd64.referrers] == [note.digest]
    config = amd64.config
    assert config is not None
    assert (config.user, config.working_dir) == ("app", "/srv")
    assert (config.entrypoint, config.command) == (("/bin/app",), ("--serve",))
    assert config.env_names == ("PATH", "TOKEN")
    assert (config.ports, dict(config.labels)) == (("8080/tcp",), {"a": "b"})


def test_referrers_are_only_asked_for_when_wanted(layout: Layout, pool: ThreadPoolExecutor) -> None:
    attach(layout, layout.root(), "note")
    tree = read_tree(layout, layout.root(), with_referrers=False, pool=pool)
    assert tree.referrers == ()


def test_a_missing_platform_is_shown_and_a_missing_image_is_an_error(
    layout: Layout, pool: ThreadPoolExecutor
) -> None:
    root = layout.root()
    child = layout.fetch(root.digest).manifests[1]  # type: ignore[union-attr]
    layout.blob_path(child.digest).unlink()
    tree = read_tree(layout, root, with_referrers=False, pool=pool)
    assert [node.kind for node in tree.children] == [NodeKind.IMAGE, NodeKind.MISSING]
    gone = Descriptor(media_type=media_types.OCI_INDEX, digest=digest_of(b"gone"), size=1)
    with pytest.raises(NotFoundError):
        read_tree(layout, gone, with_referrers=False, pool=pool)


def index_of(repository: MemoryRepository, *children: Descriptor) -> Descriptor:
    body = json.dumps(
        {"schemaVersion": 2, "manifests": [child.to_json() for child in children]}
    ).encode()
    digest = repository.push(digest_of(body), body, media_types.OCI_INDEX).digest
    return Descriptor(media_type=media_types.OCI_INDEX, digest=digest, size=len(body))


def test_indexes_in_indexes_end(pool: ThreadPoolExecutor) -> None:
    memory = MemoryRepository()
    descriptor = index_of(memory)
    for _ in range(3):
        descriptor = index_of(memory, descriptor)
    assert read_tree(memory, descriptor, with_referrers=False, pool=pool).kind is NodeKind.INDEX
    with pytest.raises(IntegrityError, match="nested deeper"):
        read_tree(memory, index_of(memory, descriptor), with_referrers=False, pool=pool)


def test_an_index_that_calls_itself_a_manifest_is_refused(pool: ThreadPoolExecutor) -> None:
    memory = MemoryRepository()
    inner = index_of(memory)
    liar = Descriptor(media_type=media_types.OCI_MANIFEST, digest=inner.digest, size=inner.size)
    with pytest.raises(IntegrityError, match="but is an index"):
        read_tree(memory, index_of(memory, liar), with_referrers=False, pool=pool)


def test_a_tree_that_multiplies_is_cut(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ci_registry.registry.image_tree.MAX_MANIFESTS", 50)
    memory = MemoryRepository()
    leaves = [
        Descriptor(media_type=media_types.OCI_MANIFEST, digest=Digest(f"sha256:{n:064x}"), size=1)
        for n in range(20)
    ]
    middle = [index_of(memory, *leaves[n:], *leaves[:n]) for n in range(4)]
    with pytest.raises(IntegrityError, match="too many"):
        read_tree(memory, index_of(memory, *middle), with_referrers=False, pool=pool)

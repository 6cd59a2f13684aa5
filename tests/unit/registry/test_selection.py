"""Some platforms of an image."""

import json
from pathlib import Path

import pytest

from ci_registry.errors import UsageError
from ci_registry.oci import media_types
from ci_registry.oci.manifest import Index
from ci_registry.oci.platform import Platform
from ci_registry.registry.layout import Layout
from ci_registry.registry.selection import select
from tests.support.images import ImageSpec, make_layout

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
S390X = Platform("linux", "s390x")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    specs = [
        ImageSpec(layers=[{"a": name}], architecture=name) for name in ("amd64", "arm64", "s390x")
    ]
    return Layout(make_layout(tmp_path / "layout", *specs).layout)


def test_without_platforms_everything_is_chosen(layout: Layout) -> None:
    chosen = select(layout, layout.root(), ())
    assert len(chosen.manifests) == 4
    assert chosen.root.digest == layout.root().digest
    assert not chosen.is_sparse


def test_some_platforms_keep_the_index_and_its_digest(layout: Layout) -> None:
    chosen = select(layout, layout.root(), (ARM64, AMD64))
    assert chosen.root.digest == layout.root().digest
    assert chosen.is_sparse
    assert len(chosen.manifests) == 3


def test_all_platforms_by_name_are_not_sparse(layout: Layout) -> None:
    assert not select(layout, layout.root(), (AMD64, ARM64, S390X)).is_sparse


def test_a_rewritten_index_lists_only_what_is_chosen_and_keeps_the_rest(layout: Layout) -> None:
    index = layout.fetch(layout.root().digest)
    document = json.loads(index.body) | {"annotations": {"note": "ü"}, "x-unknown": [1]}
    annotated = layout.push("a", json.dumps(document).encode(), index.media_type)
    root = layout.fetch(annotated.digest).descriptor
    chosen = select(layout, root, (ARM64,), rewrite=True)
    assert isinstance(chosen.root, Index)
    assert chosen.rewritten_from == root.digest
    assert not chosen.is_sparse
    assert [m.platform for m in chosen.root.manifests] == [ARM64]
    rewritten = json.loads(chosen.root.body)
    assert {k: v for k, v in rewritten.items() if k != "manifests"} == {
        k: v for k, v in document.items() if k != "manifests"
    }
    assert chosen.root == select(layout, root, (ARM64,), rewrite=True).root


def test_attestations_of_a_chosen_platform_come_along(layout: Layout) -> None:
    index = json.loads(layout.fetch(layout.root().digest).body)
    entries = index["manifests"]
    unknown = {"os": "unknown", "architecture": "unknown"}
    for position in (0, 1):
        about = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": entries[position]["digest"],
        }
        entries.append(entries[2] | {"platform": unknown, "annotations": about})
    del entries[2]
    entries[-1] = entries[-1] | {"digest": entries[1]["digest"], "size": entries[1]["size"]}
    pushed = layout.push("b", json.dumps(index).encode(), media_types.OCI_INDEX)
    root = layout.fetch(pushed.digest).descriptor
    chosen = select(layout, root, (AMD64,), rewrite=True).root
    assert isinstance(chosen, Index)
    assert [m.is_attestation for m in chosen.manifests] == [False, True]
    assert chosen.manifests[1].annotations["vnd.docker.reference.digest"] == entries[0]["digest"]


def test_a_platform_that_is_not_there_is_an_error_that_names_those_that_are(
    layout: Layout,
) -> None:
    with pytest.raises(UsageError, match="has no image for linux/ppc64le") as caught:
        select(layout, layout.root(), (AMD64, Platform("linux", "ppc64le")))
    assert caught.value.hint == "it has: linux/amd64, linux/arm64, linux/s390x"


def test_a_single_image_must_be_for_the_platform(tmp_path: Path) -> None:
    made = make_layout(tmp_path / "one", ImageSpec(layers=[{"a": "1"}], architecture="arm64"))
    layout = Layout(made.layout)
    assert select(layout, layout.root(), (ARM64,)).root.digest == made.digest
    with pytest.raises(UsageError, match="for linux/arm64 alone, not for linux/amd64"):
        select(layout, layout.root(), (AMD64,))

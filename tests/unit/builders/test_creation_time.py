"""The time of the commit goes into configs, and nothing else of an image changes."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ci_registry.builders.creation_time import stamp_creation_time
from ci_registry.oci.manifest import Index, Manifest
from ci_registry.registry.layout import Layout
from tests.support.images import ImageSpec, make_layout

EPOCH_S = 1_700_000_000
MOMENT = "2023-11-14T22:13:20Z"
HISTORY: list[dict[str, Any]] = [
    {"created": "2020-01-01T00:00:00Z", "created_by": "base"},
    {"created": "2026-11-24T16:00:00.123456789Z", "created_by": "RUN <now> é"},
    {"created": "2023-11-14T23:13:20+01:00", "created_by": "the very moment"},
    {"created_by": "CMD", "empty_layer": True},
    {"created": "yesterday", "created_by": "odd"},
]


def spec(architecture: str = "amd64") -> ImageSpec:
    return ImageSpec(layers=[{"a": architecture}], architecture=architecture, config={"Cmd": ["a"]})


def with_history(layout: Path, history: list[dict[str, Any]]) -> None:
    """Give every image of a layout this history and the time of a build."""
    found = Layout(layout)
    entries = []
    root = found.fetch(found.root().digest)
    images = root.manifests if isinstance(root, Index) else (found.root(),)
    for entry in images:
        image = found.fetch(entry.digest)
        assert isinstance(image, Manifest)
        config = json.loads(b"".join(found.open(image.config.digest)))
        config |= {"created": "2026-11-24T16:00:01Z", "history": history}
        written = found.write_blob((json.dumps(config).encode(),), image.config.media_type)
        body = json.loads(image.body)
        body["config"] |= {"digest": written.digest, "size": written.size}
        entries.append(found.write_manifest(json.dumps(body).encode(), image.media_type))
    if isinstance(root, Index):
        body = json.loads(root.body)
        for item, entry in zip(body["manifests"], entries, strict=True):
            item |= {"digest": entry.digest, "size": entry.size}
        entries = [found.write_manifest(json.dumps(body).encode(), root.media_type)]
    found.set_root(entries[0])


def images_of(layout: Layout) -> list[tuple[Manifest, dict[str, Any]]]:
    root = layout.fetch(layout.root().digest)
    entries = root.manifests if isinstance(root, Index) else (layout.root(),)
    found = []
    for entry in entries:
        image = layout.fetch(entry.digest)
        assert isinstance(image, Manifest)
        found.append((image, json.loads(b"".join(layout.open(image.config.digest)))))
    return found


def test_config_and_later_history_get_the_time_of_the_commit(tmp_path: Path) -> None:
    layout = Layout(make_layout(tmp_path, spec()).layout)
    with_history(tmp_path, HISTORY)
    ((before, old),) = images_of(layout)
    stamp_creation_time(layout, EPOCH_S)
    ((after, new),) = images_of(layout)
    assert after.layers == before.layers
    assert new["created"] == MOMENT
    assert [step.get("created") for step in new["history"]] == [
        "2020-01-01T00:00:00Z",
        MOMENT,
        "2023-11-14T23:13:20+01:00",
        None,
        MOMENT,
    ]
    for document in (old, new):
        document.pop("created")
        for step in document["history"]:
            step.pop("created", None)
    assert new == old


def test_the_time_of_the_build_leaves_no_trace(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        layout = Layout(make_layout(tmp_path / name, spec(), spec("arm64")).layout)
        now = datetime.now(UTC).isoformat()
        with_history(tmp_path / name, [{"created": now, "created_by": "RUN"}])
        stamp_creation_time(layout, EPOCH_S)
        digests.add(layout.root().digest)
    assert len(digests) == 1


def test_every_platform_of_an_index_is_stamped_and_nothing_old_is_left(tmp_path: Path) -> None:
    layout = Layout(make_layout(tmp_path, spec(), spec("arm64")).layout)
    with_history(tmp_path, HISTORY)
    stale = {path.name for path in (tmp_path / "blobs" / "sha256").iterdir()}
    stamp_creation_time(layout, EPOCH_S)
    root = layout.fetch(layout.root().digest)
    assert isinstance(root, Index)
    assert [str(entry.platform) for entry in root.manifests] == ["linux/amd64", "linux/arm64"]
    assert [config["created"] for _, config in images_of(layout)] == [MOMENT, MOMENT]
    for entry, (image, config) in zip(root.manifests, images_of(layout), strict=True):
        assert entry.size == len(image.body)
        assert config["architecture"] == entry.platform.architecture if entry.platform else False
    left = {path.name for path in (tmp_path / "blobs" / "sha256").iterdir()}
    assert len(stale - left) == 5  # index, two manifests, two configs


def test_an_image_that_has_the_time_already_stays_as_it_is(tmp_path: Path) -> None:
    layout = Layout(make_layout(tmp_path, spec()).layout)
    stamp_creation_time(layout, EPOCH_S)
    before = {path.name: path.read_bytes() for path in (tmp_path / "blobs" / "sha256").iterdir()}
    stamp_creation_time(layout, EPOCH_S)
    after = {path.name: path.read_bytes() for path in (tmp_path / "blobs" / "sha256").iterdir()}
    assert after == before


@pytest.mark.parametrize("epoch_s", [0, 4_000_000_000])
def test_any_time_can_be_stamped(tmp_path: Path, epoch_s: int) -> None:
    layout = Layout(make_layout(tmp_path, spec()).layout)
    stamp_creation_time(layout, epoch_s)
    ((_, config),) = images_of(layout)
    assert datetime.fromisoformat(config["created"]).timestamp() == epoch_s

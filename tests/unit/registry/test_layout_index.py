"""The index of a layout is parsed once, and never believed when it changed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ci_registry.errors import IntegrityError
from ci_registry.oci import media_types
from ci_registry.oci.manifest import parse_descriptor
from ci_registry.registry.layout import Layout
from tests.support.artifacts import attach
from tests.support.images import ImageSpec, make_layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(make_layout(tmp_path / "layout", ImageSpec(layers=[{"a": "1"}])).layout)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the entries that were parsed."""
    counts: list[int] = []
    real: Callable[..., object] = parse_descriptor

    def counting(value: object, *, what: str) -> object:
        counts.append(1)
        return real(value, what=what)

    monkeypatch.setattr("ci_registry.registry.layout_index.parse_descriptor", counting)
    return counts


def test_each_entry_is_parsed_once_however_often_tags_are_put(
    layout: Layout, parsed: list[int]
) -> None:
    root = layout.fetch(layout.root().digest)
    for number in range(30):
        layout.push(f"t{number}", root.body, root.media_type)
        assert layout.resolve(f"t{number}") is not None
        layout.tags()
    assert len(parsed) == 31


def test_what_another_writer_does_is_seen(layout: Layout) -> None:
    other = Layout(layout.path)
    root = layout.fetch(layout.root().digest)
    assert layout.tags() == other.tags() == ()
    other.push("v1", root.body, root.media_type)
    assert layout.tags() == ("v1",)
    layout.push("v2", root.body, root.media_type)
    other.untag("v1")
    assert layout.tags() == other.tags() == ("v2",)
    note = attach(other, layout.root(), "note")
    assert [d.digest for d in layout.referrers(root.digest)] == [note.digest]
    other.delete(note.digest)
    assert layout.referrers(root.digest) == ()


def test_a_file_that_was_damaged_meanwhile_is_an_error(layout: Layout) -> None:
    layout.tags()
    (layout.path / "index.json").write_text("{")
    with pytest.raises(IntegrityError):
        layout.tags()
    (layout.path / "index.json").write_text('{"manifests": []}')
    (layout.path / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(IntegrityError, match=r"'2\.0\.0'"):
        layout.tags()


@pytest.mark.parametrize("tags", [(), ("v1",), ("v1", "ü", 'quo"te')])
def test_what_is_written_is_an_image_index(tmp_path: Path, tags: tuple[str, ...]) -> None:
    made = make_layout(tmp_path / "made", ImageSpec(layers=[{"a": "1"}]))
    root = Layout(made.layout).fetch(made.digest)
    layout = Layout.create(tmp_path / "layout")
    for tag in tags:
        layout.push(tag, root.body, root.media_type)
    index = json.loads((layout.path / "index.json").read_bytes())
    assert (index["schemaVersion"], index["mediaType"]) == (2, media_types.OCI_INDEX)
    assert len(index["manifests"]) == len(tags)
    assert Layout(layout.path).tags() == tuple(sorted(tags))

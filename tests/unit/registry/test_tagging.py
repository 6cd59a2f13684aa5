"""Moving and removing tags."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ci_registry.errors import NotFoundError, RegistryError, UsageError
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.registry.layout import Layout
from ci_registry.registry.tagging import MovedTag, put_tags, remove_tag
from tests.support.images import ImageSpec, make_layout
from tests.support.memory_repository import MemoryRepository


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(make_layout(tmp_path / "layout", ImageSpec(layers=[{"a": "1"}])).layout)
    root = layout.fetch(layout.root().digest)
    for tag in ("v1", "v2"):
        layout.push(tag, root.body, root.media_type)
    return layout


@dataclass
class Editable(MemoryRepository):
    """A repository in memory whose tags can be removed, or not."""

    refusal: Exception | None = None
    takes_manifest_along: bool = False
    ignores: bool = False
    asked: list[str] = field(default_factory=list)

    def untag(self, tag: str) -> bool:
        self.asked.append(tag)
        if self.refusal is not None:
            raise self.refusal
        if self.ignores:
            return True
        if self.takes_manifest_along:
            self.delete(Digest(str(digest_of(self.manifests[tag][0]))))
            return True
        return self.manifests.pop(tag, None) is not None


def editable(layout: Layout, **behaviour: object) -> Editable:
    repository = Editable(**behaviour)  # type: ignore[arg-type]
    root = layout.fetch("v1")
    for tag in layout.tags():
        repository.push(tag, root.body, root.media_type)
    return repository


def test_new_tags_get_the_same_bytes_and_say_where_they_were(layout: Layout) -> None:
    repository = editable(layout)
    other = make_layout(layout.path.parent / "other", ImageSpec(layers=[{"b": "2"}]))
    body = Layout(other.layout).fetch(other.digest)
    repository.push("v2", body.body, body.media_type)
    source = repository.resolve("v1")
    assert source is not None
    moved = tuple(put_tags(repository, source, ("v1", "v2", "v3")))
    digest = source.digest
    assert moved == (
        MovedTag(tag="v1", digest=digest, before=digest),
        MovedTag(tag="v2", digest=digest, before=other.digest),
        MovedTag(tag="v3", digest=digest, before=None),
    )
    assert {repository.fetch(tag).digest for tag in ("v1", "v2", "v3")} == {digest}
    assert repository.writes[3:] == [("push", "v2"), ("push", "v3")]


def test_a_tag_that_does_not_stay_where_it_was_put_is_an_error(layout: Layout) -> None:
    repository = editable(layout)
    source = repository.resolve("v1")
    assert source is not None
    other = make_layout(layout.path.parent / "other", ImageSpec(layers=[{"b": "2"}]))
    body = Layout(other.layout).fetch(other.digest)

    def overwrite(reference: str) -> None:
        if reference == "v3":
            repository.manifests["v3"] = (body.body, body.media_type)

    repository.after_push = overwrite
    with pytest.raises(RegistryError, match="another manifest"):
        tuple(put_tags(repository, source, ("v3",)))


def test_only_the_tag_goes(layout: Layout) -> None:
    for repository in (layout, editable(layout)):
        digest = remove_tag(repository, "v1", None)
        assert repository.tags() == ("v2",)
        assert repository.resolve(digest) is not None


def test_the_last_tag_of_a_layout_leaves_its_image(layout: Layout) -> None:
    digest = remove_tag(layout, "v1", None)
    remove_tag(layout, "v2", digest)
    assert layout.tags() == ()
    assert layout.root().digest == digest


def test_a_tag_that_is_elsewhere_is_not_removed(layout: Layout) -> None:
    repository = editable(layout)
    with pytest.raises(UsageError, match="it was not removed"):
        remove_tag(repository, "v1", digest_of(b"other"))
    with pytest.raises(NotFoundError):
        remove_tag(repository, "absent", None)
    assert repository.asked == []


@pytest.mark.parametrize("status", [400, 405])
def test_a_refused_untag_never_becomes_a_delete(layout: Layout, status: int) -> None:
    refusal = RegistryError(f"HTTP {status}", status=status, code="UNSUPPORTED")
    repository = editable(layout, refusal=refusal)
    before = dict(repository.manifests)
    with pytest.raises(UsageError, match="this registry can't delete a tag") as caught:
        remove_tag(repository, "v1", None)
    assert "ci-registry rm registry.example/team/app@sha256:" in caught.value.hint
    assert repository.manifests == before


def test_other_failures_stay_what_they_are(layout: Layout) -> None:
    repository = editable(layout, refusal=RegistryError("HTTP 503", status=503))
    with pytest.raises(RegistryError, match="503"):
        remove_tag(repository, "v1", None)


def test_a_registry_that_deletes_more_than_the_tag_is_told_about(layout: Layout) -> None:
    with pytest.raises(RegistryError, match="dropped its manifest"):
        remove_tag(editable(layout, takes_manifest_along=True), "v1", None)
    with pytest.raises(RegistryError, match="is still there"):
        remove_tag(editable(layout, ignores=True), "v1", None)

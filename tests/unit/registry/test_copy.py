"""Copying between layouts and stand-ins that lie, fail or already have things."""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import (
    AccessError,
    CancelledError,
    IntegrityError,
    NotFoundError,
    RegistryError,
    UsageError,
)
from ci_registry.events import Event, Level, Log, Progress, StepEnded
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.platform import Platform
from ci_registry.registry.companions import cosign_tags
from ci_registry.registry.copy import (
    CopyItem,
    CopyOutcome,
    CopyStatus,
    Listing,
    choose_tags,
    copy_items,
    expect_digest,
)
from ci_registry.registry.copy_image import CopyOptions
from ci_registry.registry.interface import PushedManifest, Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.referrers import MAX_REFERRERS, fallback_tag
from ci_registry.registry.transfer import blobs_of, manifests_of
from tests.support.artifacts import artifact, attach, put_blob, put_cosign
from tests.support.images import ImageSpec, make_layout
from tests.support.memory_repository import MemoryRepository


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    specs = [
        ImageSpec(layers=[{"a": "1"}, {"b": name}], architecture=name)
        for name in ("amd64", "arm64")
    ]
    layout = Layout(make_layout(tmp_path / "source", *specs).layout)
    root = layout.fetch(layout.root().digest)
    layout.push("v1", root.body, root.media_type)
    return layout


@pytest.fixture
def target(tmp_path: Path) -> Layout:
    return Layout.create(tmp_path / "target")


@dataclass
class Case:
    """One copy, and what it said."""

    source: Repository
    target: Repository
    events: list[Event] = field(default_factory=list)
    cancel: Cancel = field(default_factory=Cancel)

    def run(
        self,
        *items: CopyItem,
        options: CopyOptions | None = None,
        deep: bool = True,
        dry_run: bool = False,
        listing: Listing | None = None,
    ) -> tuple[CopyOutcome, ...]:
        return copy_items(
            self.source,
            self.target,
            items or (CopyItem(source="v1", tag="v1"),),
            options or CopyOptions(),
            deep=deep,
            dry_run=dry_run,
            listing=listing,
            cancel=self.cancel,
            on_event=self.events.append,
        )

    def listing(self) -> Listing:
        return Listing(source=frozenset(self.source.tags()), target=frozenset(self.target.tags()))

    @property
    def warnings(self) -> list[str]:
        return [e.message for e in self.events if isinstance(e, Log) and e.level is Level.WARNING]


def assert_same(source: Repository, target: Repository, root: Descriptor) -> None:
    manifests = manifests_of(source, root)
    assert [m.body for m in manifests_of(target, root)] == [m.body for m in manifests]
    for blob in blobs_of(manifests):
        assert b"".join(target.open(blob.digest)) == b"".join(source.open(blob.digest))


def root_of(layout: Layout) -> Descriptor:
    found = layout.resolve("v1")
    assert found is not None
    return found


def test_an_image_arrives_byte_for_byte_under_its_tag(source: Layout, target: Layout) -> None:
    case = Case(source, target)
    (outcome,) = case.run(CopyItem(source="v1", tag="prod"))
    root = root_of(source)
    assert outcome.status is CopyStatus.COPIED
    assert outcome.digest == root.digest
    assert target.tags() == ("prod",)
    assert_same(source, target, root)
    assert outcome.image is not None
    assert (outcome.image.manifests, outcome.image.blobs) == (3, 5)
    sent = sum(blob.size for blob in blobs_of(manifests_of(source, root)))
    assert outcome.image.bytes_sent == sent
    assert sum(e.done for e in case.events if isinstance(e, Progress) and e.detail) == sent
    assert [e.status for e in case.events if isinstance(e, StepEnded)] == ["passed"]


def test_a_second_copy_changes_nothing(source: Layout, target: Layout) -> None:
    Case(source, target).run()
    before = (target.path / "index.json").read_bytes()
    (outcome,) = Case(source, target).run()
    assert outcome.status is CopyStatus.PRESENT
    assert outcome.image is not None
    assert (outcome.image.manifests, outcome.image.blobs, outcome.image.bytes_sent) == (0, 0, 0)
    assert (target.path / "index.json").read_bytes() == before


def test_without_a_tag_the_digest_alone_names_the_copy(source: Layout, target: Layout) -> None:
    digest = root_of(source).digest
    (outcome,) = Case(source, target).run(CopyItem(source=digest))
    assert outcome.status is CopyStatus.COPIED
    assert target.tags() == ()
    assert target.root().digest == digest


def test_the_tag_is_the_last_thing_that_is_put(source: Layout) -> None:
    attach(source, root_of(source), "note")
    put_cosign(source, root_of(source).digest, "signature")
    target = MemoryRepository()
    Case(source, target).run()
    assert target.writes[-1] == ("push", "v1")
    assert sum(1 for call in target.writes if call == ("push", "v1")) == 1
    assert target.calls[-1] == ("fetch", "v1")


def test_a_tag_that_gives_something_else_afterwards_is_a_failure(source: Layout) -> None:
    target = MemoryRepository()
    other = json.dumps({"schemaVersion": 2, "manifests": []}).encode()

    def overwrite(reference: str) -> None:
        if reference == "v1":
            target.manifests["v1"] = (other, media_types.OCI_INDEX)

    target.after_push = overwrite
    (outcome,) = Case(source, target).run()
    assert outcome.status is CopyStatus.FAILED
    assert "another manifest than was put there" in str(outcome.error)


def test_after_a_failing_blob_no_tag_moves(source: Layout) -> None:
    target = MemoryRepository()
    broken = blobs_of(manifests_of(source, root_of(source)))[0]
    source.blob_path(broken.digest).write_bytes(b"x" * broken.size)
    (outcome,) = Case(source, target).run()
    assert isinstance(outcome.error, IntegrityError)
    assert target.tags() == ()


def test_one_tag_that_fails_does_not_stop_the_others(
    source: Layout, target: Layout, tmp_path: Path
) -> None:
    other = make_layout(tmp_path / "other", ImageSpec(layers=[{"c": "3"}]))
    Case(Layout(other.layout), source).run(CopyItem(source=other.digest, tag="v2"))
    bad = source.fetch(other.digest)
    assert isinstance(bad, Manifest)
    source.blob_path(bad.layers[0].digest).unlink()
    items = [CopyItem(source=tag, tag=tag) for tag in ("v1", "v2", "absent")]
    outcomes = Case(source, target).run(*items)
    assert [o.status for o in outcomes] == [
        CopyStatus.COPIED,
        CopyStatus.FAILED,
        CopyStatus.FAILED,
    ]
    assert [type(o.error) for o in outcomes[1:]] == [NotFoundError, NotFoundError]
    assert target.tags() == ("v1",)


def test_two_tags_on_one_image_are_one_copy(source: Layout) -> None:
    root = source.fetch("v1")
    source.push("v2", root.body, root.media_type)
    target = MemoryRepository()
    items = [CopyItem(source=tag, tag=tag) for tag in ("v1", "v2")]
    outcomes = Case(source, target).run(*items)
    assert [o.status for o in outcomes] == [CopyStatus.COPIED, CopyStatus.COPIED]
    assert [o.image is None for o in outcomes] == [False, True]
    assert target.tags() == ("v1", "v2")
    assert len([c for c in target.writes if c[0] == "push_blob"]) == 5


def test_no_access_ends_the_whole_copy(source: Layout) -> None:
    @dataclass
    class Closed(MemoryRepository):
        def resolve(self, reference: str) -> Descriptor | None:
            raise AccessError("log in first")

    with pytest.raises(AccessError):
        Case(source, Closed()).run()


def test_a_cancelled_copy_moves_no_tag(source: Layout) -> None:
    target = MemoryRepository()
    case = Case(source, target)
    target.before_push = lambda _reference: case.cancel.set("SIGTERM")
    with pytest.raises(CancelledError):
        case.run()
    assert target.tags() == ()


# --- what belongs to an image


def test_referrers_of_index_and_platforms_follow_level_by_level(
    source: Layout, target: Layout
) -> None:
    root = root_of(source)
    index = source.fetch(root.digest)
    assert isinstance(index, Index)
    sbom = attach(source, index.manifests[0], "sbom")
    signature = attach(source, sbom, "signature of the sbom")
    on_signature = attach(source, signature, "note on the signature")
    (outcome,) = Case(source, target).run()
    assert outcome.image is not None
    assert outcome.image.referrers == 3
    for subject, referrer in (
        (index.manifests[0], sbom),
        (sbom, signature),
        (signature, on_signature),
    ):
        assert [d.digest for d in target.referrers(subject.digest)] == [referrer.digest]
        assert target.fetch(referrer.digest).body == source.fetch(referrer.digest).body
    assert target.root().digest == root.digest


def test_cosign_tags_of_index_platform_and_attestation_follow(
    source: Layout, target: Layout
) -> None:
    root = root_of(source)
    index = source.fetch(root.digest)
    assert isinstance(index, Index)
    put_cosign(source, root.digest, "signature")
    attestation = put_cosign(source, index.manifests[1].digest, "attestation", suffix=".att")
    put_cosign(source, attestation.digest, "signature of it")
    Case(source, target).run()
    assert target.tags() == source.tags()
    for tag in source.tags():
        assert target.fetch(tag).body == source.fetch(tag).body
    assert target.root().digest == root.digest


def test_nothing_follows_when_that_is_not_wanted(source: Layout, target: Layout) -> None:
    root = root_of(source)
    attach(source, root, "note")
    put_cosign(source, root.digest, "signature")
    Case(source, target).run(options=CopyOptions(with_referrers=False))
    assert target.tags() == ("v1",)
    assert target.referrers(root.digest) == ()


def test_a_new_signature_of_an_image_that_is_there_already_is_copied(
    source: Layout, target: Layout
) -> None:
    Case(source, target).run()
    referrer = attach(source, root_of(source), "late")
    (outcome,) = Case(source, target).run()
    assert outcome.status is CopyStatus.COPIED
    assert [d.digest for d in target.referrers(root_of(source).digest)] == [referrer.digest]


def test_a_list_that_failed_is_never_no_signatures(source: Layout) -> None:
    failing = MemoryRepository()
    Case(source, failing).run()
    failing.referrers_error = RegistryError("HTTP 503", status=503)
    target = MemoryRepository(name="registry.example/other")
    (outcome,) = Case(failing, target).run()
    assert outcome.status is CopyStatus.FAILED
    assert target.tags() == ()


def test_stale_and_foreign_entries_of_a_list_are_named_and_left_out(
    source: Layout, target: Layout
) -> None:
    root = root_of(source)
    gone = Descriptor(media_type=media_types.OCI_MANIFEST, digest=digest_of(b"gone"), size=4)
    other = attach(source, root_of(source), "of another image")
    index = source.fetch(root.digest)
    assert isinstance(index, Index)
    subject = index.manifests[0].digest
    body = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [gone.to_json(), other.to_json()],
    }
    source.push(fallback_tag(subject), json.dumps(body).encode(), media_types.OCI_INDEX)
    case = Case(source, target)
    (outcome,) = case.run()
    assert outcome.status is CopyStatus.COPIED
    assert any("listed but gone" in line and gone.digest in line for line in case.warnings)
    assert any("is listed as a referrer of" in line for line in case.warnings)


@pytest.mark.parametrize(
    ("ours", "theirs", "after", "warns"),
    [
        (("a", "b"), ("a",), ("a", "b"), False),
        (("a",), ("a", "b"), ("a", "b"), False),
        (("a",), ("b",), ("b",), True),
    ],
    ids=["the source has more", "the target has more", "both have their own"],
)
def test_signatures_that_only_the_target_has_are_never_lost(
    source: Layout,
    target: Layout,
    ours: tuple[str, ...],
    theirs: tuple[str, ...],
    after: tuple[str, ...],
    *,
    warns: bool,
) -> None:
    root = root_of(source)
    put_cosign(source, root.digest, *ours)
    put_cosign(target, root.digest, *theirs)
    case = Case(source, target)
    case.run()
    found = target.fetch(cosign_tags(root.digest)[0])
    assert isinstance(found, Manifest)
    assert [layer.digest for layer in found.layers] == [digest_of(n.encode()) for n in after]
    assert bool(case.warnings) == warns


def test_too_many_referrers_are_an_error_that_names_the_image(source: Layout) -> None:
    many = MemoryRepository()
    Case(source, many).run()
    root = root_of(source)

    @dataclass
    class Crowded(MemoryRepository):
        def referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
            raise IntegrityError(f"more than {MAX_REFERRERS} referrers of {subject}")

    crowded = Crowded(manifests=many.manifests, blobs=many.blobs)
    target = MemoryRepository(name="registry.example/other")
    (outcome,) = Case(crowded, target).run()
    assert "referrers of sha256:" in str(outcome.error)
    assert target.tags() == ()
    (outcome,) = Case(crowded, target).run(options=CopyOptions(with_referrers=False))
    assert outcome.digest == root.digest


def test_signatures_without_end_are_an_error(source: Layout, target: Layout) -> None:
    subject = root_of(source)
    for level in range(6):
        subject = attach(source, subject, f"level {level}")
    (outcome,) = Case(source, target).run()
    assert isinstance(outcome.error, IntegrityError)
    assert "nested deeper" in outcome.error.message
    assert "--no-referrers" in outcome.error.hint


# --- platforms


ARM64 = Platform("linux", "arm64")


def test_some_platforms_keep_the_digest_where_that_is_allowed(
    source: Layout, target: Layout
) -> None:
    root = root_of(source)
    (outcome,) = Case(source, target).run(options=CopyOptions(platforms=(ARM64,)))
    assert outcome.digest == root.digest
    index = target.fetch("v1")
    assert isinstance(index, Index)
    there = [target.resolve(m.digest) is not None for m in index.manifests]
    assert there == [False, True]


def test_missing_platforms_are_added_to_a_sparse_copy(source: Layout, target: Layout) -> None:
    Case(source, target).run(options=CopyOptions(platforms=(ARM64,)))
    (outcome,) = Case(source, target).run()
    assert outcome.status is CopyStatus.COPIED
    assert_same(source, target, root_of(source))


@pytest.mark.parametrize("status", [400, 404])
def test_a_target_that_wants_every_platform_names_the_way_out(source: Layout, status: int) -> None:
    @dataclass
    class Strict(MemoryRepository):
        def push(self, reference: str, body: bytes, media_type: str) -> PushedManifest:
            if b'"manifests"' in body:
                raise RegistryError("HTTP 400: MANIFEST_BLOB_UNKNOWN", status=status)
            return super().push(reference, body, media_type)

    target = Strict()
    (outcome,) = Case(source, target).run(options=CopyOptions(platforms=(ARM64,)))
    assert isinstance(outcome.error, UsageError)
    assert "--rewrite-index" in outcome.error.hint
    assert target.tags() == ()


def test_a_rewritten_index_is_new_and_its_signatures_stay_behind(
    source: Layout, target: Layout
) -> None:
    root = root_of(source)
    index = source.fetch(root.digest)
    assert isinstance(index, Index)
    attach(source, root, "of the index")
    kept = attach(source, index.manifests[1], "of the platform")
    case = Case(source, target)
    (outcome,) = case.run(options=CopyOptions(platforms=(ARM64,), rewrite_index=True))
    assert outcome.digest not in (None, root.digest)
    assert target.resolve(root.digest) is None
    assert any("do not carry over" in line for line in case.warnings)
    assert [d.digest for d in target.referrers(index.manifests[1].digest)] == [kept.digest]
    (again,) = Case(source, target).run(options=CopyOptions(platforms=(ARM64,), rewrite_index=True))
    assert (again.status, again.digest) == (CopyStatus.PRESENT, outcome.digest)


def test_foreign_layers_are_named_and_skipped(target: Layout) -> None:
    source = MemoryRepository()
    config = put_blob(source, b"{}", media_types.OCI_CONFIG)
    foreign = Descriptor(
        media_type=media_types.DOCKER_FOREIGN_LAYER, digest=digest_of(b"windows"), size=7
    )
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [foreign.to_json()],
    }
    source.push("v1", json.dumps(document).encode(), media_types.OCI_MANIFEST)
    case = Case(source, target)
    (outcome,) = case.run()
    assert outcome.status is CopyStatus.COPIED
    assert any(foreign.digest in line and "foreign" in line for line in case.warnings)
    assert target.size_of(foreign.digest) is None


# --- many tags


def test_equal_tags_cost_no_get_unless_asked(source: Layout) -> None:
    target = MemoryRepository()
    Case(source, target).run()
    target.calls.clear()
    case = Case(source, target)
    (outcome,) = case.run(deep=False, listing=case.listing())
    assert outcome.status is CopyStatus.PRESENT
    assert outcome.image is None
    assert target.calls == []


def test_new_signature_tags_of_equal_images_are_found_by_their_names(
    source: Layout, target: Layout
) -> None:
    Case(source, target).run()
    root = root_of(source)
    put_cosign(source, root.digest, "late")
    put_cosign(source, digest_of(b"an image that the target lacks"), "stays")
    case = Case(source, target)
    first, second = case.run(deep=False, listing=case.listing())
    assert first.status is CopyStatus.PRESENT
    assert (second.item.tag, second.status) == (cosign_tags(root.digest)[0], CopyStatus.COPIED)
    assert set(target.tags()) == {"v1", cosign_tags(root.digest)[0]}


def test_tags_are_chosen_by_pattern_and_companions_never_are() -> None:
    digest = digest_of(b"x")
    tags = ["v1", "v1.1", "v2", *cosign_tags(digest), fallback_tag(digest)]
    assert [i.tag for i in choose_tags(tags, ())] == ["v1", "v1.1", "v2"]
    assert [i.tag for i in choose_tags(tags, ("v1*",))] == ["v1", "v1.1"]
    assert [i.tag for i in choose_tags(tags, ("v1", "v2"))] == ["v1", "v2"]
    with pytest.raises(NotFoundError, match=r"no tag matches sha256\*"):
        choose_tags(tags, ("sha256*",))
    with pytest.raises(NotFoundError, match="there are no tags"):
        choose_tags((), ())


def test_a_digest_named_for_the_target_must_be_the_sources() -> None:
    expect_digest(None, digest_of(b"x"))
    expect_digest(digest_of(b"x"), digest_of(b"x"))
    with pytest.raises(UsageError, match="the target names"):
        expect_digest(digest_of(b"y"), digest_of(b"x"))


# --- rehearsal


def test_a_dry_run_tells_the_same_and_writes_nothing(source: Layout, target: Layout) -> None:
    attach(source, root_of(source), "note")
    put_cosign(source, root_of(source).digest, "signature")
    before = {path: path.read_bytes() for path in target.path.rglob("*") if path.is_file()}
    (dry,) = Case(source, target).run(dry_run=True)
    assert {path: path.read_bytes() for path in target.path.rglob("*") if path.is_file()} == before
    (real,) = Case(source, target).run()
    assert dry == real


# --- what nobody should be able to do to us


def test_an_index_that_contains_itself_ends(source: Layout, target: Layout) -> None:
    @dataclass
    class Liar(MemoryRepository):
        def fetch(self, reference: str) -> Manifest | Index:
            return super().fetch("v1")

    entry = {"mediaType": media_types.OCI_INDEX, "digest": digest_of(b"self"), "size": 0}
    body = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    entry["size"] = len(body)
    body = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    entry["size"] = len(body)
    body = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    liar = Liar(manifests={"v1": (body, media_types.OCI_INDEX)})
    (outcome,) = Case(liar, target).run()
    assert isinstance(outcome.error, IntegrityError)
    assert target.tags() == ()


def test_an_artifact_that_refers_to_itself_ends(source: Layout, target: Layout) -> None:
    looping = MemoryRepository()
    Case(source, looping).run()
    root = root_of(source)
    body = artifact(looping, root, "loop")
    digest = looping.attach(root, body, media_types.OCI_MANIFEST)
    listed = Descriptor(media_type=media_types.OCI_MANIFEST, digest=digest, size=len(body))
    looping.extra_referrers = [listed, root]  # of everything, itself included
    case = Case(looping, target)
    (outcome,) = case.run()
    assert outcome.status is CopyStatus.COPIED
    assert any("is listed as a referrer of" in line for line in case.warnings)
    assert target.root().digest == root.digest


def test_a_blob_that_many_images_share_travels_once_at_the_same_time(
    tmp_path: Path, target: Layout
) -> None:
    source = Layout.create(tmp_path / "many")
    for number in range(8):
        made = make_layout(
            tmp_path / f"l{number}", ImageSpec(layers=[{"shared": "x"}, {"own": str(number)}])
        )
        Case(Layout(made.layout), source).run(CopyItem(source=made.digest, tag=f"t{number}"))
    opened: list[Digest] = []
    lock = threading.Lock()
    real = source.open

    def counting(digest: Digest) -> object:
        with lock:
            opened.append(digest)
        return real(digest)

    source.open = counting  # type: ignore[method-assign,assignment]
    items = [CopyItem(source=f"t{n}", tag=f"t{n}") for n in range(8)]
    outcomes = Case(source, target).run(*items, options=CopyOptions(with_referrers=False))
    assert {o.status for o in outcomes} == {CopyStatus.COPIED}
    images = [manifests_of(target, d) for d in map(target.resolve, target.tags()) if d]
    blobs = {blob.digest for image in images for blob in blobs_of(image)}
    assert sorted(d for d in opened if d in blobs) == sorted(blobs)
    sent = sum(o.image.bytes_sent for o in outcomes if o.image is not None)
    assert sent == sum(target.size_of(digest) or 0 for digest in blobs)

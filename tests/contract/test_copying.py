"""Copying and deleting against every kind of registry: signatures survive, tags move last, reruns are cheap."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import AccessError, UsageError
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index
from ci_registry.oci.platform import Platform
from ci_registry.oci.reference import parse_reference
from ci_registry.registry.copy import (
    CopyItem,
    CopyOutcome,
    CopyStatus,
    Listing,
    choose_tags,
    copy_items,
)
from ci_registry.registry.copy_image import CopyOptions
from ci_registry.registry.deletion import apply_deletion, plan_deletion
from ci_registry.registry.interface import Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.remote import RemoteRegistry, RemoteRepository
from ci_registry.registry.tagging import remove_tag
from ci_registry.registry.transfer import blobs_of, manifests_of
from ci_registry.registry_server.options import Answer, Fault, TokenAuth
from ci_registry.signers.attach import sign_image
from ci_registry.verification.verify import verify_image
from tests.support.artifacts import attach, put_cosign
from tests.support.images import ImageSpec, make_layout
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import login, quick_client, remote_repository
from tests.support.signing import CREATED_AT, signer, trusted

PERSONALITIES: dict[str, dict[str, Any]] = {
    "friendly": {},
    "no-referrers-api": {"referrers_api": False},
    "no-mount": {"mount": False},
    "small-pages": {"page_limit": 50},
    "small-pages-without-link": {"page_limit": 50, "paging_link": False},
    "needs-accept": {"accept_required": True},
    "state-in-location": {"upload_state": "_state=a%2Fb%20c+d"},
}

SIGNED_AS = parse_reference("registry.example/team/source")


@pytest.fixture
def made(tmp_path: Path) -> Layout:
    """A layout with an image for two platforms."""
    specs = (
        ImageSpec(layers=[{"a": "1"}, {"b": "x" * 5000}], architecture="amd64"),
        ImageSpec(layers=[{"a": "1"}], architecture="arm64", compression="zstd"),
    )
    return Layout(make_layout(tmp_path / "made", *specs).layout)


@contextlib.contextmanager
def place(name: str, tmp_path: Path, side: str) -> Iterator[Repository]:
    """Give an empty repository of a kind."""
    if name == "layout":
        yield Layout.create(tmp_path / side)
        return
    with (
        running_registry(**PERSONALITIES[name]) as registry,
        remote_repository(registry.host, f"team/{side}") as repository,
    ):
        yield repository


def copy(source: Repository, target: Repository, *items: CopyItem, **given: Any) -> CopyOutcome:
    given.setdefault("deep", True)
    options = given.pop("options", CopyOptions())
    (outcome, *_) = copy_items(
        source,
        target,
        items or (CopyItem(source="v1", tag="v1"),),
        options,
        cancel=Cancel(),
        on_event=lambda _: None,
        **given,
    )
    if outcome.error is not None:
        raise outcome.error
    return outcome


def fill(made: Layout, source: Repository) -> Descriptor:
    """Put the image with signatures of ours, a cosign attestation and notes into a repository."""
    root = made.root()
    copy(made, source, CopyItem(source=root.digest, tag="v1"))
    index = source.fetch(root.digest)
    assert isinstance(index, Index)
    for subject in (index.descriptor, *index.manifests):
        sign_image(source, subject, (SIGNED_AS,), signer(), created_at=CREATED_AT)
    sbom = attach(source, index.manifests[0], "sbom")
    attach(source, sbom, "signature of the sbom")
    put_cosign(source, index.manifests[1].digest, "attestation", suffix=".att")
    return index.descriptor


def everything_below(repository: Repository, root: Digest) -> dict[Digest, bytes]:
    """Return the bytes of an image's manifests and of all that belongs to them."""
    found: dict[Digest, bytes] = {}
    waiting = [root]
    while waiting:
        digest = waiting.pop()
        if digest in found:
            continue
        manifest = repository.fetch(digest)
        found[digest] = manifest.body
        waiting += [r.digest for r in repository.referrers(digest)]
        waiting += [m.digest for m in getattr(manifest, "manifests", ())]
    return found


SIDES = [
    ("layout", "friendly"),
    ("friendly", "layout"),
    ("no-referrers-api", "layout"),
    ("layout", "no-referrers-api"),
    ("friendly", "no-referrers-api"),
    ("no-referrers-api", "friendly"),
    ("no-referrers-api", "no-referrers-api"),
    *((name, name) for name in PERSONALITIES if name != "no-referrers-api"),
]


@pytest.mark.parametrize(("one", "other"), SIDES)
def test_an_image_with_its_signatures_arrives_whole(
    one: str, other: str, made: Layout, tmp_path: Path
) -> None:
    with place(one, tmp_path, "source") as source, place(other, tmp_path, "target") as target:
        root = fill(made, source)
        outcome = copy(source, target)
        assert outcome.digest == root.digest
        assert outcome.image is not None
        assert outcome.image.referrers == 9  # three in both formats, sbom, its signature, .att
        assert everything_below(target, root.digest) == everything_below(source, root.digest)
        manifests = manifests_of(target, root)
        for blob in blobs_of(manifests):
            assert b"".join(target.open(blob.digest)) == b"".join(source.open(blob.digest))
        cosign = {tag for tag in source.tags() if "." in tag}
        assert cosign == {tag for tag in target.tags() if "." in tag}
        assert len(cosign) == 4
        if one == other == "friendly":
            assert_verifies(target, root)
        again = copy(source, target)
        assert again.status is CopyStatus.PRESENT


def assert_verifies(target: Repository, root: Descriptor) -> None:
    """Check that our signatures count at the target for who accepts the source's name, else not."""
    for names, valid in (((SIGNED_AS.name,), True), ((), False)):
        result = verify_image(
            target,
            root,
            reference=parse_reference(f"{target.name}:v1"),
            trusted=trusted(),
            require_tag=False,
            with_children=True,
            signed_as=names,
        )
        assert result.valid == valid, result.checks


@contextlib.contextmanager
def pair(**options: Any) -> Iterator[tuple[RunningRegistry, RemoteRepository, RemoteRepository]]:
    """Give two repositories of one registry."""
    with running_registry(**options) as registry, quick_client() as client:
        remote = RemoteRegistry(
            client, credentials=login(registry.host, "ci", "pw") if options.get("users") else None
        )
        yield (
            registry,
            remote.repository(f"{registry.host}/team/source"),
            remote.repository(f"{registry.host}/team/target"),
        )


def test_within_one_registry_blobs_are_mounted(made: Layout) -> None:
    with pair() as (registry, source, target):
        fill(made, source)
        registry.seen.clear()
        outcome = copy(source, target)
        assert outcome.image is not None
        assert outcome.image.mounted == outcome.image.blobs > 0
        assert outcome.image.bytes_sent == 0
        assert registry.count("PUT", "/blobs/") == 0
        assert registry.count("GET", "/blobs/") == 0


def test_mounts_work_with_tokens_too(made: Layout) -> None:
    auth = TokenAuth(key=b"k" * 32)
    with pair(users={"ci": "pw"}, token_auth=auth) as (_registry, source, target):
        fill(made, source)
        outcome = copy(source, target)
        assert outcome.image is not None
        assert outcome.image.mounted == outcome.image.blobs > 0


def test_where_mounts_are_refused_the_bytes_travel(made: Layout) -> None:
    with pair(mount=False) as (_registry, source, target):
        fill(made, source)
        outcome = copy(source, target)
        assert outcome.image is not None
        assert outcome.image.mounted == 0
        assert outcome.image.bytes_sent > 0


def many_tags(made: Layout, source: Repository, count: int) -> None:
    root = made.root()
    copy(made, source, *(CopyItem(source=root.digest, tag=f"t{n:03}") for n in range(count)))


def sync(source: Repository, target: Repository, *patterns: str) -> tuple[CopyOutcome, ...]:
    listing = Listing(source=frozenset(source.tags()), target=frozenset(target.tags()))
    return copy_items(
        source,
        target,
        choose_tags(sorted(listing.source), patterns),
        CopyOptions(),
        deep=False,
        listing=listing,
        cancel=Cancel(),
        on_event=lambda _: None,
    )


def test_nothing_to_do_costs_two_heads_a_tag_and_no_get(made: Layout) -> None:
    with (
        running_registry() as first,
        running_registry() as second,
        remote_repository(first.host, "team/app") as source,
        remote_repository(second.host, "team/app") as target,
    ):
        many_tags(made, source, 40)
        assert {o.status for o in sync(source, target)} == {CopyStatus.COPIED}
        for registry in (first, second):
            registry.seen.clear()
        assert {o.status for o in sync(source, target)} == {CopyStatus.PRESENT}
        for registry in (first, second):
            assert registry.count("HEAD", "/manifests/") == 40
            assert registry.count("GET", "/tags/list") == 1
            assert len(registry.seen) == 41


def test_a_first_copy_asks_the_target_for_nothing_that_it_can_not_have(made: Layout) -> None:
    with (
        running_registry() as first,
        running_registry() as second,
        remote_repository(first.host, "team/app") as source,
        remote_repository(second.host, "team/app") as target,
    ):
        many_tags(made, source, 1)
        sync(source, target)
        assert second.count("HEAD", "/blobs/") == 0
        assert second.count("POST") == 5
        assert second.count("PUT", "/blobs/") == 5
        assert second.count("PUT", "/manifests/") == 3


def test_a_new_signature_tag_is_found_without_looking_into_equal_images(made: Layout) -> None:
    with (
        running_registry(referrers_api=False) as first,
        running_registry(referrers_api=False) as second,
        remote_repository(first.host, "team/app") as source,
        remote_repository(second.host, "team/app") as target,
    ):
        many_tags(made, source, 3)
        sync(source, target)
        root = made.root()
        note = attach(source, root, "late")
        put_cosign(source, root.digest, "late signature")
        outcomes = sync(source, target)
        assert [o.status for o in outcomes[:3]] == [CopyStatus.PRESENT] * 3
        assert {o.status for o in outcomes[3:]} == {CopyStatus.COPIED}
        assert [r.digest for r in target.referrers(root.digest)] == [note.digest]
        assert target.tags() == source.tags()
        second.seen.clear()
        sync(source, target)
        assert second.count("PUT") == second.count("POST") == 0


def test_an_immutable_tag_fails_alone_and_a_rerun_is_harmless(made: Layout, tmp_path: Path) -> None:
    other = Layout(make_layout(tmp_path / "other", ImageSpec(layers=[{"o": "ther"}])).layout)
    with (
        running_registry() as first,
        running_registry(immutable_tags=True) as second,
        remote_repository(first.host, "team/app") as source,
        remote_repository(second.host, "team/app") as target,
    ):
        copy(other, target, CopyItem(source=other.root().digest, tag="t001"))
        many_tags(made, source, 3)
        for expected in (CopyStatus.COPIED, CopyStatus.PRESENT):
            outcomes = sync(source, target)
            statuses = {o.item.tag: o.status for o in outcomes}
            assert statuses["t001"] is CopyStatus.FAILED
            assert {statuses["t000"], statuses["t002"]} <= {expected, CopyStatus.FAILED}
        found = target.resolve("t001")
        assert found is not None
        assert found.digest == other.root().digest


def test_a_strict_registry_takes_no_sparse_index_and_a_sparse_one_does(made: Layout) -> None:
    options = CopyOptions(platforms=(Platform("linux", "arm64"),))
    item = CopyItem(source=made.root().digest, tag="v1")
    with (
        running_registry() as registry,
        remote_repository(registry.host, "team/app") as target,
    ):
        with pytest.raises(UsageError, match="takes no index with only some") as caught:
            copy(made, target, item, options=options)
        assert "--rewrite-index" in caught.value.hint
        assert target.tags() == ()
        rewriting = CopyOptions(platforms=options.platforms, rewrite_index=True)
        assert copy(made, target, item, options=rewriting).digest != made.root().digest
    with (
        running_registry(sparse=True) as registry,
        remote_repository(registry.host, "team/app") as target,
    ):
        assert copy(made, target, item, options=options).digest == made.root().digest
        assert copy(made, target, item).status is CopyStatus.COPIED
        assert len(manifests_of(target, made.root())) == 3


def test_one_image_takes_eight_requests_of_the_target(tmp_path: Path) -> None:
    image = Layout(make_layout(tmp_path / "l", ImageSpec(layers=[{"a": "1"}, {"b": "2"}])).layout)
    with (
        running_registry() as first,
        running_registry() as second,
        remote_repository(first.host, "team/app") as source,
        remote_repository(second.host, "team/app") as target,
    ):
        copy(image, source, CopyItem(source=image.root().digest, tag="v1"))
        copy(source, target, CopyItem(source="v1", tag="v1"))
        asked = sorted((one.method, one.path.split("/")[4]) for one in second.seen)
        assert asked == [
            ("HEAD", "manifests"),
            *[("POST", "blobs")] * 3,
            *[("PUT", "blobs")] * 3,
            ("PUT", "manifests"),
        ]
        second.seen.clear()
        assert copy(source, target, CopyItem(source="v1", tag="v1")).status is CopyStatus.PRESENT
        assert [one.method for one in second.seen] == ["HEAD", "HEAD"]


@pytest.mark.parametrize("readable", [False, True])
def test_a_hundred_tags_without_the_right_to_push_are_one_error(
    readable: bool, made: Layout
) -> None:
    auth = TokenAuth(key=b"k" * 32, anonymous_pull=True) if readable else None
    with (
        running_registry() as first,
        running_registry(users={"ci": "pw"}, token_auth=auth) as second,
        remote_repository(first.host, "team/app") as source,
        remote_repository(second.host, "team/app") as target,
    ):
        many_tags(made, source, 100)
        items = tuple(CopyItem(source=f"t{n:03}", tag=f"t{n:03}") for n in range(100))
        listing = Listing(source=frozenset(source.tags()), target=frozenset())
        with pytest.raises(AccessError):
            copy_items(
                source,
                target,
                items,
                CopyOptions(),
                deep=False,
                listing=listing,
                cancel=Cancel(),
                on_event=lambda _: None,
            )
        assert second.count("PUT") == 0
        assert second.count("POST") <= 16


def test_a_layer_that_the_source_refuses_fails_its_image_alone(
    made: Layout, tmp_path: Path
) -> None:
    other = Layout(make_layout(tmp_path / "other", ImageSpec(layers=[{"o": "ther"}])).layout)
    with (
        running_registry() as first,
        running_registry() as second,
        remote_repository(first.host, "team/app") as source,
        remote_repository(second.host, "team/app") as target,
    ):
        many_tags(made, source, 1)
        copy(other, source, CopyItem(source=other.root().digest, tag="t001"))
        layer = blobs_of(manifests_of(other, other.root()))[1]
        first.faults.add(
            Fault(action=Answer(status=403), method="GET", path=layer.digest.hex, times=0)
        )
        statuses = {o.item.tag: o.status for o in sync(source, target)}
        assert statuses == {"t000": CopyStatus.COPIED, "t001": CopyStatus.FAILED}
        assert target.tags() == ("t000",)


def test_without_the_right_to_push_nothing_is_begun(made: Layout) -> None:
    with (
        running_registry(users={"ci": "pw"}) as registry,
        remote_repository(registry.host, "team/app") as target,
        pytest.raises(AccessError),
    ):
        copy(made, target, CopyItem(source=made.root().digest, tag="v1"))
    assert registry.count("PUT") == 0


# --- tags and deletion


@pytest.mark.parametrize("options", [{"tag_delete": False}, {"delete": False}])
def test_untag_is_refused_and_nothing_is_gone(made: Layout, options: dict[str, Any]) -> None:
    with (
        running_registry(**options) as registry,
        remote_repository(registry.host, "team/app") as repository,
    ):
        many_tags(made, repository, 2)
        with pytest.raises(UsageError, match="this registry can't delete a tag"):
            remove_tag(repository, "t000", None)
        assert repository.tags() == ("t000", "t001")
        assert len(manifests_of(repository, made.root())) == 3
        assert registry.count("DELETE", "sha256:") == 0


def test_untag_leaves_siblings_and_manifest(made: Layout) -> None:
    with (
        running_registry() as registry,
        remote_repository(registry.host, "team/app") as repository,
    ):
        many_tags(made, repository, 2)
        assert remove_tag(repository, "t000", made.root().digest) == made.root().digest
        assert repository.tags() == ("t001",)
        assert len(manifests_of(repository, made.root())) == 3


def test_an_immutable_tag_is_not_removed(made: Layout) -> None:
    with (
        running_registry(immutable_tags=True) as registry,
        remote_repository(registry.host, "team/app") as repository,
    ):
        many_tags(made, repository, 1)
        with pytest.raises(AccessError):
            remove_tag(repository, "t000", None)
        assert repository.tags() == ("t000",)


@pytest.mark.parametrize(
    "options",
    [{}, {"referrers_api": False}, {"tag_delete": False}, {"page_limit": 2}],
    ids=["friendly", "no-referrers-api", "no-tag-delete", "small-pages"],
)
def test_a_deleted_image_leaves_nothing_behind_and_others_whole(
    made: Layout, tmp_path: Path, options: dict[str, Any]
) -> None:
    other = Layout(make_layout(tmp_path / "other", ImageSpec(layers=[{"a": "1"}])).layout)
    with (
        running_registry(**options) as registry,
        remote_repository(registry.host, "team/app") as repository,
        ThreadPoolExecutor(4) as pool,
    ):
        root = fill(made, repository)
        copy(other, repository, CopyItem(source=other.root().digest, tag="other"))
        sign_image(repository, other.root(), (SIGNED_AS,), signer(), created_at=CREATED_AT)
        kept = everything_below(repository, other.root().digest)
        gone = set(everything_below(repository, root.digest))
        plan = plan_deletion(repository, root, pool=pool)
        outcomes = apply_deletion(repository, plan, check=lambda: None, wait=lambda _reason: False)
        assert all(outcome.done for outcome in outcomes)
        assert gone <= {removal.digest for removal in plan.removals}
        assert [d for d in gone if repository.resolve(d) is not None] == []
        assert everything_below(repository, other.root().digest) == kept
        companions = {t for t in repository.tags() if t != "other"}
        assert all(other.root().digest.hex in tag for tag in companions)


def test_a_signature_that_is_deleted_leaves_the_fallback_list(made: Layout) -> None:
    with (
        running_registry(referrers_api=False) as registry,
        remote_repository(registry.host, "team/app") as repository,
        ThreadPoolExecutor(4) as pool,
    ):
        many_tags(made, repository, 1)
        first, second = (attach(repository, made.root(), note) for note in ("one", "two"))
        plan = plan_deletion(repository, first, pool=pool)
        apply_deletion(repository, plan, check=lambda: None, wait=lambda _reason: False)
        assert [r.digest for r in repository.referrers(made.root().digest)] == [second.digest]

"""What a deletion takes along, in which order, and what it must never touch."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ci_registry.errors import (
    AccessError,
    CancelledError,
    CiRegistryError,
    RegistryError,
    UsageError,
)
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index
from ci_registry.registry.companions import cosign_tags
from ci_registry.registry.deletion import (
    DeletionPlan,
    RemovalKind,
    RemovalOutcome,
    apply_deletion,
    plan_deletion,
)
from ci_registry.registry.layout import Layout
from ci_registry.registry.referrers import fallback_tag
from tests.support.artifacts import attach, put_cosign
from tests.support.images import ImageSpec, make_layout
from tests.support.memory_repository import MemoryRepository


@dataclass
class Repository(MemoryRepository):
    """In memory; deletions are recorded and may fail."""

    deleted: list[str] = field(default_factory=list)
    can_untag: bool = True
    refuses: dict[str, CiRegistryError] = field(default_factory=dict)

    def untag(self, tag: str) -> bool:
        if not self.can_untag:
            raise RegistryError("HTTP 400", status=400, code="UNSUPPORTED")
        if tag in self.refuses:
            raise self.refuses[tag]
        self.deleted.append(tag)
        return self.manifests.pop(tag, None) is not None

    def delete(self, digest: Digest) -> None:
        if digest in self.refuses:
            raise self.refuses[digest]
        self.deleted.append(digest)
        super().delete(digest)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Index `v1` (amd64, arm64) and index `other` (arm64, s390x); amd64 is on no other."""
    repository = Repository()
    specs = {n: ImageSpec(layers=[{"a": n}], architecture=n) for n in ("amd64", "arm64", "s390x")}
    for tag, names in (("v1", ("amd64", "arm64")), ("other", ("arm64", "s390x"))):
        made = make_layout(tmp_path / tag, *(specs[name] for name in names))
        layout = Layout(made.layout)
        for digest in (*made.manifests, made.digest):
            manifest = layout.fetch(digest)
            repository.push(digest, manifest.body, manifest.media_type)
        index = layout.fetch(made.digest)
        repository.push(tag, index.body, index.media_type)
    return repository


def at(repository: Repository, reference: str) -> Descriptor:
    found = repository.resolve(reference)
    assert found is not None
    return found


def children(repository: Repository, tag: str) -> tuple[Digest, ...]:
    index = repository.fetch(tag)
    assert isinstance(index, Index)
    return tuple(child.digest for child in index.manifests)


def apply(repository: Repository, plan: DeletionPlan) -> tuple[RemovalOutcome, ...]:
    return apply_deletion(repository, plan, check=lambda: None, wait=lambda _reason: False)


def test_every_tag_on_the_image_and_what_it_alone_lists_goes(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    root = at(repository, "v1")
    index = repository.fetch("v1")
    repository.push("latest", index.body, index.media_type)
    amd64, arm64 = children(repository, "v1")
    plan = plan_deletion(repository, root, pool=pool)
    assert [(r.kind, r.tag or r.digest) for r in plan.removals] == [
        (RemovalKind.TAG, "latest"),
        (RemovalKind.TAG, "v1"),
        (RemovalKind.IMAGE, root.digest),
        (RemovalKind.CHILD, amd64),
    ]
    assert len(plan.kept) == 1
    assert plan.kept[0].startswith(f"{arm64}: index ")
    assert "(tag other)" in plan.kept[0]
    assert repository.deleted == []
    outcomes = apply(repository, plan)
    assert all(outcome.done for outcome in outcomes)
    assert repository.deleted == ["latest", "v1", root.digest, amd64]
    assert repository.resolve(arm64) is not None
    assert repository.tags() == ("other",)


def test_a_platform_with_a_tag_of_its_own_stays(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    amd64, _ = children(repository, "v1")
    child = repository.fetch(amd64)
    repository.push("v1-amd64", child.body, child.media_type)
    plan = plan_deletion(repository, at(repository, "v1"), pool=pool)
    assert f"{amd64}: it has the tag v1-amd64" in plan.kept
    apply(repository, plan)
    assert repository.resolve(amd64) is not None


def test_a_platform_of_another_index_is_refused(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    arm64 = children(repository, "other")[0]
    with pytest.raises(UsageError, match="is a part of index sha256:"):
        plan_deletion(repository, at(repository, arm64), pool=pool)
    nested = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [at(repository, "v1").to_json()],
    }
    repository.push("outer", json.dumps(nested).encode(), media_types.OCI_INDEX)
    with pytest.raises(UsageError, match="tag outer"):
        plan_deletion(repository, at(repository, children(repository, "v1")[0]), pool=pool)


def test_signatures_and_what_refers_to_them_go_last(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    root = at(repository, "v1")
    amd64, arm64 = (at(repository, d) for d in children(repository, "v1"))
    of_index = attach(repository, root, "of the index")
    of_platform = attach(repository, amd64, "of the platform")
    deeper = attach(repository, of_platform, "of the signature")
    stays = attach(repository, arm64, "of what stays")
    cosign = put_cosign(repository, root.digest, "signature")
    apply(repository, plan_deletion(repository, root, pool=pool))
    tag = cosign_tags(root.digest)[0]
    assert repository.deleted == [
        "v1",
        root.digest,
        amd64.digest,
        of_index.digest,
        tag,
        cosign.digest,
        of_platform.digest,
        deeper.digest,
    ]
    assert repository.resolve(stays.digest) is not None


def test_the_list_of_referrers_goes_with_its_subject(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    root = at(repository, "v1")
    listed = attach(repository, root, "note")
    body = {"schemaVersion": 2, "manifests": [listed.to_json()]}
    tag = fallback_tag(root.digest)
    repository.push(tag, json.dumps(body).encode(), media_types.OCI_INDEX)
    apply(repository, plan_deletion(repository, root, pool=pool))
    assert repository.resolve(tag) is None
    assert repository.tags() == ("other",)


def test_a_deleted_signature_leaves_the_list_of_its_subject(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    root = at(repository, "v1")
    first, second = (attach(repository, root, note) for note in ("one", "two"))
    tag = fallback_tag(root.digest)
    body = {"schemaVersion": 2, "manifests": [first.to_json(), second.to_json()]}
    repository.push(tag, json.dumps(body).encode(), media_types.OCI_INDEX)
    apply(repository, plan_deletion(repository, first, pool=pool))
    index = repository.fetch(tag)
    assert isinstance(index, Index)
    assert [entry.digest for entry in index.manifests] == [second.digest]
    apply(repository, plan_deletion(repository, second, pool=pool))
    assert repository.resolve(tag) is None
    assert repository.resolve(root.digest) is not None


def test_a_registry_that_can_not_untag_deletes_the_manifest_with_its_planned_tags(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    repository.can_untag = False
    root = at(repository, "v1")
    outcomes = apply(repository, plan_deletion(repository, root, pool=pool))
    assert outcomes[0].detail.startswith("goes with its manifest")
    assert all(outcome.done for outcome in outcomes)
    assert repository.tags() == ("other",)


def test_a_tag_that_was_put_on_it_meanwhile_stops_the_deletion(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    root = at(repository, "v1")
    plan = plan_deletion(repository, root, pool=pool)
    index = repository.fetch("v1")
    repository.push("prod", index.body, index.media_type)
    with pytest.raises(UsageError, match="tag prod was put on"):
        apply(repository, plan)
    assert repository.resolve(root.digest) is not None
    assert repository.fetch("prod").digest == root.digest


def test_what_is_gone_already_is_done_and_a_rerun_finishes(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    root = at(repository, "v1")
    amd64, _ = children(repository, "v1")
    signature = attach(repository, at(repository, amd64), "note")
    plan = plan_deletion(repository, root, pool=pool)
    repository.refuses[amd64] = RegistryError("HTTP 503", status=503)
    outcomes = apply(repository, plan)
    assert [o.done for o in outcomes] == [True, True, False, False]
    assert outcomes[-1].detail == "its owner stays"
    assert repository.resolve(signature.digest) is not None
    repository.refuses.clear()
    assert all(outcome.done for outcome in apply(repository, plan))
    assert repository.resolve(signature.digest) is None


def test_an_image_that_can_not_be_deleted_keeps_its_platforms(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    root = at(repository, "v1")
    repository.refuses[root.digest] = RegistryError("HTTP 500", status=500)
    outcomes = apply(repository, plan_deletion(repository, root, pool=pool))
    assert [o.done for o in outcomes] == [True, False]
    assert repository.deleted == ["v1"]


def test_no_right_to_delete_is_an_error_and_nothing_is_gone(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    repository.refuses["v1"] = AccessError("HTTP 403")
    with pytest.raises(AccessError):
        apply(repository, plan_deletion(repository, at(repository, "v1"), pool=pool))
    assert repository.deleted == []


def test_an_index_that_can_not_be_read_stops_the_plan(
    repository: Repository, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., object] = Repository.fetch
    other = at(repository, "other").digest

    def fetch(self: Repository, reference: str) -> object:
        if reference == other:
            raise RegistryError("HTTP 500", status=500)
        return real(self, reference)

    monkeypatch.setattr(Repository, "fetch", fetch)
    with pytest.raises(RegistryError, match="500"):
        plan_deletion(repository, at(repository, "v1"), pool=pool)


def test_a_cancelled_deletion_stops_before_the_next_thing(
    repository: Repository, pool: ThreadPoolExecutor
) -> None:
    def check() -> None:
        if repository.deleted:
            raise CancelledError("SIGTERM")

    plan = plan_deletion(repository, at(repository, "v1"), pool=pool)
    with pytest.raises(CancelledError):
        apply_deletion(repository, plan, check=check, wait=lambda _reason: False)
    assert repository.deleted == ["v1"]


def test_a_sparse_index_can_be_deleted(repository: Repository, pool: ThreadPoolExecutor) -> None:
    amd64, _ = children(repository, "v1")
    repository.delete(amd64)
    assert all(
        outcome.done
        for outcome in apply(repository, plan_deletion(repository, at(repository, "v1"), pool=pool))
    )

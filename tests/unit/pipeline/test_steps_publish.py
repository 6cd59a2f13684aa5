"""Writing to registries: blobs, manifests, signatures, tags, in this order and nothing before its time."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci_registry.config.model import OnExisting, SignFormat
from ci_registry.errors import (
    AccessError,
    CancelledError,
    ExitCode,
    NetworkError,
    RegistryError,
    SignatureError,
)
from ci_registry.oci.digest import is_digest
from ci_registry.pipeline.images import image_result
from ci_registry.pipeline.state import ImageRun, RunContext
from ci_registry.pipeline.steps_publish import publish, sign, tag, upload
from ci_registry.registry.interface import PushedBlob
from ci_registry.registry.transfer import blobs_of, manifests_of
from ci_registry.results import CaseStatus, StepStatus, Verdict
from ci_registry.signers.native import NativeSigner
from tests.support.memory_repository import MemoryRepository
from tests.support.pipeline import (
    BRANCH_TAG,
    FIRST,
    SECOND,
    SHA_TAG,
    World,
    make_context,
    make_judged_image,
    make_plan,
)
from tests.support.results import make_decision
from tests.support.signing import add_image
from tests.support.signing import signer as make_signer


@pytest.fixture
def world() -> World:
    """Two registries: one with another image under some tags is made by the tests."""
    return World(
        registries={FIRST: MemoryRepository(name=FIRST), SECOND: MemoryRepository(name=SECOND)}
    )


def _run_all(image: ImageRun, run: RunContext) -> None:
    for step in (upload, publish, sign, tag):
        step(image, run)


def _other_image(repository: MemoryRepository, tag_name: str) -> str:
    descriptor = add_image(repository, "another image")
    repository.manifests[tag_name] = repository.manifests[descriptor.digest]
    return descriptor.digest


def _tag_digest(world: World, name: str, tag_name: str) -> str | None:
    found = world.registries[name].resolve(tag_name)
    return found.digest if found else None


def _recorder(order: list[tuple[str, str]], name: str) -> Callable[[str], None]:
    return lambda reference: order.append((name, reference))


def _wait_for(event: threading.Event) -> None:
    assert event.wait(30)


def _image_tags(repository: MemoryRepository) -> list[str]:
    return [name for name in repository.tags() if not name.startswith("sha256-")]


def test_every_destination_gets_the_same_bytes(tmp_path: Path, world: World) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    first, second = world.registries[FIRST], world.registries[SECOND]
    upload(image, run)
    publish(image, run)
    assert first.blobs == second.blobs
    assert first.manifests == second.manifests
    sign(image, run)
    tag(image, run)
    for tag_name in ("abc1234", "main"):
        assert first.manifests[tag_name] == second.manifests[tag_name]
        assert _tag_digest(world, FIRST, tag_name) == image.digest
    assert set(image.published) == {FIRST, SECOND}
    for place in image.published.values():
        assert place.digest == image.digest
        assert place.tags_moved == ("abc1234", "main")
        assert place.signatures == ("sig", "bundle")
        assert place.previous == ()
        assert place.blobs_uploaded == 5
    assert image.signed


def test_all_manifests_and_signatures_are_in_place_before_the_first_tag(
    tmp_path: Path, world: World
) -> None:
    order: list[tuple[str, str]] = []
    for name, repository in world.registries.items():
        repository.after_push = _recorder(order, name)
    _run_all(make_judged_image(tmp_path), make_context(tmp_path, world))
    is_tag = [not is_digest(ref) and not ref.startswith("sha256-") for _, ref in order]
    assert is_tag == sorted(is_tag)
    assert is_tag.count(True) == 4
    assert {name for (name, _), named in zip(order, is_tag, strict=True) if not named} == {
        FIRST,
        SECOND,
    }


def test_upload_names_nothing(tmp_path: Path, world: World) -> None:
    image = make_judged_image(tmp_path)
    image.decision = None
    done = upload(image, make_context(tmp_path, world))
    assert done.status is StepStatus.PASSED
    assert all(not repository.manifests for repository in world.registries.values())
    assert image.published == {}
    assert f"{FIRST}: 5 sent" in done.cases[0].body


def test_what_is_there_already_is_not_sent_again(tmp_path: Path, world: World) -> None:
    run = make_context(tmp_path, world)
    _run_all(make_judged_image(tmp_path), run)
    before = len(world.registries[FIRST].writes)
    (tmp_path / "image-app").rmdir()
    again = make_judged_image(tmp_path)
    _run_all(again, run)
    place = again.published[FIRST]
    assert (place.blobs_uploaded, place.blobs_present) == (0, 5)
    assert place.tags_moved == ("abc1234", "main")
    assert again.signed
    after = [call for call in world.registries[FIRST].writes[before:] if call[0] != "push"]
    assert after == [], "no blob and no signature is written twice"


def test_results_stand_in_the_order_of_the_settings(tmp_path: Path, world: World) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    second_is_done = threading.Event()
    world.registries[FIRST].before_push = lambda _reference: _wait_for(second_is_done)
    world.registries[SECOND].after_push = lambda _reference: second_is_done.set()
    _run_all(image, run)
    assert [place.name for place in image.places] == [FIRST, SECOND]
    assert [p.name for p in image_result(image, (), run).published] == [FIRST, SECOND]


def test_a_destination_that_takes_no_blob_does_not_hold_up_the_others(
    tmp_path: Path, world: World
) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    layout = image.layout
    assert layout is not None
    wanted = {blob.digest for blob in blobs_of(manifests_of(layout, layout.root()))}
    first, second = world.registries[FIRST], world.registries[SECOND]
    second_has_all = threading.Event()
    push_to_first, push_to_second = first.push_blob, second.push_blob

    def slowly(*args: Any, **more: Any) -> PushedBlob:
        _wait_for(second_has_all)
        return push_to_first(*args, **more)

    def watched(*args: Any, **more: Any) -> PushedBlob:
        pushed = push_to_second(*args, **more)
        if wanted <= set(second.blobs):
            second_has_all.set()
        return pushed

    first.push_blob, second.push_blob = slowly, watched  # type: ignore[method-assign]
    upload(image, run)
    assert first.blobs == second.blobs


# --- the guard next to the writing


@pytest.mark.parametrize("step", [publish, sign, tag])
@pytest.mark.parametrize("verdict", [Verdict.BLOCK, Verdict.INCOMPLETE, None])
def test_nothing_is_written_without_a_verdict_that_lets_through(
    tmp_path: Path,
    world: World,
    step: Callable[[ImageRun, RunContext], object],
    verdict: Verdict | None,
) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    upload(image, run)
    image.published = dict(image.uploads)
    image.decision = make_decision(verdict) if verdict else None
    with pytest.raises(AssertionError):
        step(image, run)
    assert all(not repository.manifests for repository in world.registries.values())


def test_audit_mode_signs_nothing_that_enforce_would_block(tmp_path: Path, world: World) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    image.decision = make_decision(Verdict.WARN, enforced=Verdict.BLOCK)
    upload(image, run)
    publish(image, run)
    done = sign(image, run)
    assert done.status is StepStatus.SKIPPED
    assert not image.signed
    assert world.registries[FIRST].tags() == ()


def test_nothing_happens_when_the_plan_pushes_nothing(tmp_path: Path, world: World) -> None:
    plan = make_plan(push=False, push_reason="push is never", sign=False, sign_reason="no push")
    image, run = make_judged_image(tmp_path, plan=plan), make_context(tmp_path, world)
    for step in (upload, publish, sign, tag):
        done = step(image, run)
        assert done.status is StepStatus.SKIPPED
        assert done.reason
    assert all(not r.calls and not r.blobs for r in world.registries.values())


def test_by_digest_gives_no_tag(tmp_path: Path, world: World) -> None:
    plan = make_plan(by_digest=True, sign=False, sign_reason="by the merge")
    image, run = make_judged_image(tmp_path, plan=plan), make_context(tmp_path, world)
    _other_image(world.registries[FIRST], "abc1234")
    _run_all(image, run)
    assert _image_tags(world.registries[FIRST]) == ["abc1234"]
    assert _tag_digest(world, FIRST, "abc1234") != image.digest
    assert world.registries[SECOND].resolve(image.digest or "") is not None


# --- tags that are meant never to move


def test_a_fixed_tag_with_another_image_stops_before_any_manifest(
    tmp_path: Path, world: World
) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    _other_image(world.registries[SECOND], "abc1234")
    upload(image, run)
    with pytest.raises(AccessError, match="abc1234 exists and is another image") as caught:
        publish(image, run)
    assert caught.value.exit_code is ExitCode.CONFIG
    assert "keep or overwrite" in caught.value.hint
    assert not any(call[0] == "push" for r in world.registries.values() for call in r.calls)
    assert image.published == {}


def test_a_fixed_tag_is_kept_when_asked_to_and_the_others_move(
    tmp_path: Path, world: World
) -> None:
    run = make_context(tmp_path, world, on_existing=OnExisting.KEEP)
    image = make_judged_image(tmp_path)
    other = _other_image(world.registries[FIRST], "abc1234")
    upload(image, run)
    publish(image, run)
    sign(image, run)
    done = tag(image, run)
    assert _tag_digest(world, FIRST, "abc1234") == other
    assert _tag_digest(world, SECOND, "abc1234") is None, "one name never means two images"
    assert _tag_digest(world, SECOND, "main") == image.digest
    assert image.published[FIRST].tags_moved == ("main",)
    by_name = {case.name: case for case in done.cases}
    assert by_name["tag {sha}"].status is CaseStatus.SKIPPED
    assert "is kept" in by_name["tag {sha}"].message
    assert by_name["tag {version}"].message == "this event has no version"
    assert by_name["tag {branch}"].status is CaseStatus.PASSED


def test_a_fixed_tag_is_moved_when_asked_to_and_its_past_recorded(
    tmp_path: Path, world: World
) -> None:
    run = make_context(tmp_path, world, on_existing=OnExisting.OVERWRITE)
    image = make_judged_image(tmp_path)
    other = _other_image(world.registries[FIRST], "abc1234")
    _run_all(image, run)
    assert _tag_digest(world, FIRST, "abc1234") == image.digest
    assert image.published[FIRST].previous == (("abc1234", other),)
    assert image.published[SECOND].previous == ()


def test_a_moving_tag_is_moved_and_its_past_recorded(tmp_path: Path, world: World) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    other = _other_image(world.registries[FIRST], "main")
    _run_all(image, run)
    assert _tag_digest(world, FIRST, "main") == image.digest
    assert image.published[FIRST].previous == (("main", other),)


def test_an_equal_digest_under_a_fixed_tag_is_success(tmp_path: Path, world: World) -> None:
    run = make_context(tmp_path, world)
    _run_all(make_judged_image(tmp_path), run)
    (tmp_path / "image-app").rmdir()
    again = make_judged_image(tmp_path)
    _run_all(again, run)
    assert again.published[FIRST].tags_moved == ("abc1234", "main")
    assert again.published[FIRST].previous == ()


def test_a_fixed_tag_taken_by_another_run_meanwhile_is_not_moved(
    tmp_path: Path, world: World
) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    upload(image, run)
    publish(image, run)
    sign(image, run)
    other = _other_image(world.registries[FIRST], "abc1234")
    with pytest.raises(AccessError, match="is another image"):
        tag(image, run)
    assert _tag_digest(world, FIRST, "abc1234") == other
    assert _image_tags(world.registries[SECOND]) == []


def test_a_fixed_tag_taken_meanwhile_is_kept_when_asked_to(tmp_path: Path, world: World) -> None:
    run = make_context(tmp_path, world, on_existing=OnExisting.KEEP)
    image = make_judged_image(tmp_path)
    upload(image, run)
    publish(image, run)
    sign(image, run)
    other = _other_image(world.registries[FIRST], "abc1234")
    done = tag(image, run)
    assert _tag_digest(world, FIRST, "abc1234") == other
    assert done.cases[0].status is CaseStatus.SKIPPED
    assert "abc1234" not in image.published[FIRST].tags_moved


# --- trouble


def test_a_tag_that_fails_lists_what_was_moved_and_rolls_nothing_back(
    tmp_path: Path, world: World
) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    old = _other_image(world.registries[SECOND], "main")

    def fail(reference: str) -> None:
        if reference == "main":
            raise NetworkError("mirror.example: connection reset", hint="try again")

    world.registries[SECOND].before_push = fail
    upload(image, run)
    publish(image, run)
    sign(image, run)
    with pytest.raises(NetworkError) as caught:
        tag(image, run)
    assert caught.value.hint == (
        f"already moved: {FIRST}:abc1234, {FIRST}:main, {SECOND}:abc1234. try again"
    )
    assert _tag_digest(world, FIRST, "main") == image.digest
    assert _tag_digest(world, SECOND, "main") == old
    assert image.published[SECOND].tags_moved == ("abc1234",)
    assert image.published[SECOND].previous == ()


def test_each_moved_tag_is_listed_with_where_it_was(tmp_path: Path, world: World) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    old = _other_image(world.registries[FIRST], "main")

    def fail(reference: str) -> None:
        if reference == "main":
            raise NetworkError("mirror.example: connection reset", hint="try again")

    world.registries[SECOND].before_push = fail
    for step in (upload, publish, sign):
        step(image, run)
    with pytest.raises(NetworkError) as caught:
        tag(image, run)
    assert f"{FIRST}:main (was {old})" in caught.value.hint
    assert caught.value.exit_code == ExitCode.INFRASTRUCTURE
    world.registries[SECOND].before_push = lambda _reference: None
    tag(image, run)
    for place in (FIRST, SECOND):
        assert _tag_digest(world, place, "main") == image.digest


def test_a_tag_whose_answer_was_lost_counts_as_moved(tmp_path: Path, world: World) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    old = _other_image(world.registries[FIRST], "main")

    def lose_the_answer(reference: str) -> None:
        if reference == "main":
            raise NetworkError("registry.example: connection reset")

    world.registries[FIRST].after_push = lose_the_answer
    for step in (upload, publish, sign, tag):
        step(image, run)
    assert "main" in image.published[FIRST].tags_moved
    assert image.published[FIRST].previous == (("main", str(old)),)


def test_a_tag_that_points_elsewhere_after_the_move_is_an_error_and_named(
    tmp_path: Path, world: World
) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)

    def lie(reference: str) -> None:
        if reference == "abc1234":
            _other_image(world.registries[FIRST], "abc1234")

    world.registries[FIRST].after_push = lie
    upload(image, run)
    publish(image, run)
    sign(image, run)
    with pytest.raises(RegistryError, match="points at another image after it was moved") as caught:
        tag(image, run)
    assert caught.value.hint == f"already moved: {FIRST}:abc1234."
    assert image.published[FIRST].tags_moved == ()


def test_after_a_cancel_no_tag_moves(tmp_path: Path, world: World) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    upload(image, run)
    publish(image, run)
    sign(image, run)
    run.cancel.set("SIGTERM")
    with pytest.raises(CancelledError):
        tag(image, run)
    assert _image_tags(world.registries[FIRST]) == []
    assert _image_tags(world.registries[SECOND]) == []


def test_a_cancel_between_two_tags_stops_there_and_says_what_was_moved(
    tmp_path: Path, world: World
) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    upload(image, run)
    publish(image, run)
    sign(image, run)
    world.registries[FIRST].after_push = lambda _reference: run.cancel.set("SIGINT")
    with pytest.raises(CancelledError) as caught:
        tag(image, run)
    assert caught.value.hint == f"already moved: {FIRST}:abc1234."
    assert _image_tags(world.registries[FIRST]) == ["abc1234"]
    assert _image_tags(world.registries[SECOND]) == []


def test_a_destination_that_fails_stops_signing_and_tagging_everywhere(
    tmp_path: Path, world: World
) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)

    def fail(_reference: str) -> None:
        raise RegistryError("507 no space", status=507)

    world.registries[SECOND].before_push = fail
    upload(image, run)
    with pytest.raises(RegistryError, match="507"):
        publish(image, run)
    assert all(_image_tags(repository) == [] for repository in world.registries.values())
    assert SECOND not in image.published


class _BrokenSigner:
    """Signs with another key than the one it shows."""

    public_key_pem = make_signer().public_key_pem

    def sign(self, payload: bytes) -> bytes:
        return make_signer("another").sign(payload)


def test_a_signature_that_does_not_verify_leaves_no_tag(tmp_path: Path, world: World) -> None:
    image, run = make_judged_image(tmp_path), make_context(tmp_path, world)
    image.signer = _BrokenSigner()
    upload(image, run)
    publish(image, run)
    with pytest.raises((SignatureError, RegistryError, AccessError)) as caught:
        sign(image, run)
    assert caught.value.exit_code is ExitCode.SIGNATURE
    assert not image.signed
    assert image.published[FIRST].signatures == ()
    assert _image_tags(world.registries[FIRST]) == []


def test_index_and_platforms_are_signed_for_the_names_they_will_get(
    tmp_path: Path, world: World
) -> None:
    image = make_judged_image(tmp_path)
    run = make_context(tmp_path, world, sign_format=SignFormat.SIG)
    _run_all(image, run)
    signed = [name for name in world.registries[FIRST].tags() if name.endswith(".sig")]
    assert image.inspected is not None
    expected = [
        image.inspected.root.digest,
        *(p.manifest.digest for p in image.inspected.platforms),
    ]
    assert signed == sorted(f"{digest.replace(':', '-')}.sig" for digest in expected)
    assert image.published[FIRST].signatures == ("sig",)
    payloads = b"".join(world.registries[FIRST].blobs.values())
    assert f'"{FIRST}:main"'.encode() in payloads
    assert f'"{SECOND}:main"'.encode() not in payloads


def test_unsigned_publication_is_said(tmp_path: Path, world: World) -> None:
    plan = make_plan(sign=False, sign_reason="no key: env://COSIGN_PRIVATE_KEY is not set")
    image, run = make_judged_image(tmp_path, plan=plan), make_context(tmp_path, world)
    upload(image, run)
    publish(image, run)
    done = sign(image, run)
    assert done.status is StepStatus.SKIPPED
    assert done.cases[0].message == "no key: env://COSIGN_PRIVATE_KEY is not set"
    assert isinstance(image.signer, NativeSigner), "the key was there all the same"
    tag(image, run)
    assert not image.signed
    assert image.published[FIRST].tags_moved == ("abc1234", "main")


def test_one_platform_needs_no_index(tmp_path: Path, world: World) -> None:
    plan = make_plan(tags=(SHA_TAG, replace(BRANCH_TAG, tag="dev")))
    image = make_judged_image(tmp_path, platforms=1, plan=plan)
    _run_all(image, make_context(tmp_path, world))
    assert image.inspected is not None
    assert image.digest == image.inspected.platforms[0].manifest.digest
    assert image.published[SECOND].tags_moved == ("abc1234", "dev")

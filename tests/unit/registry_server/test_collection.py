"""Garbage collection: what is reachable or was told of stays, everything else goes."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.registry_server import manifests
from ci_registry.registry_server.catalog import TOUCH_STEP_S
from ci_registry.registry_server.message import BodyInterruptedError
from ci_registry.registry_server.store import GRACE_S, FolderStore, MemoryStore
from tests.support.asking import Asked, content_of

GRACE = 100.0
EMPTY = digest_of(b"{}")
REPOSITORIES = ("a", "b")
BLOBS = tuple(f"blob {number}".encode() for number in range(4))
TAGS = ("one", "two")


class Clock:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Made:
    """A manifest as the model knows it."""

    digest: Digest
    body: bytes
    needs: frozenset[Digest]
    subject: str


@dataclass
class Model:
    """What a registry of our rules has, in plain sets."""

    blobs: dict[tuple[str, Digest], float] = field(default_factory=dict)
    manifests: dict[tuple[str, Digest], float] = field(default_factory=dict)
    tags: dict[tuple[str, str], Digest] = field(default_factory=dict)
    known: dict[Digest, Made] = field(default_factory=dict)

    def live(self, cutoff: float) -> set[tuple[str, Digest]]:
        roots = {(name, digest) for (name, _), digest in self.tags.items()}
        roots |= {key for key, told in self.manifests.items() if told >= cutoff}
        while True:
            more = {
                (name, other)
                for name, digest in roots
                for other in self.known
                if (name, other) in self.manifests
                and (other in self.known[digest].needs or self.known[other].subject == digest)
            }
            if more <= roots:
                return roots
            roots |= more

    def collect(self, cutoff: float) -> None:
        live = self.live(cutoff)
        self.manifests = {key: told for key, told in self.manifests.items() if key in live}
        needed = {(name, need) for name, digest in live for need in self.known[digest].needs}
        self.blobs = {k: told for k, told in self.blobs.items() if told >= cutoff or k in needed}

    def untag(self, name: str, tag: str, now: float) -> None:
        digest = self.tags.pop((name, tag), None)
        if digest is not None:
            self.manifests[name, digest] = now


class Pair:
    """A registry and its model, which do the same."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ask = Asked(MemoryStore(clock=self.clock))
        self.model = Model()

    def upload(self, name: str, data: bytes) -> None:
        self.ask.blob(name, data)
        self.model.blobs[name, digest_of(data)] = self.clock.now

    def head_blob(self, name: str, digest: Digest) -> None:
        status = self.ask("HEAD", f"/v2/{name}/blobs/{digest}").status
        assert status == (200 if (name, digest) in self.model.blobs else 404)
        if status == 200:
            self.model.blobs[name, digest] = self.clock.now

    def head_manifest(self, name: str, digest: Digest) -> None:
        status = self.ask("HEAD", f"/v2/{name}/manifests/{digest}").status
        assert status == (200 if (name, digest) in self.model.manifests else 404)
        if status == 200:
            self.model.manifests[name, digest] = self.clock.now

    def mount(self, name: str, digest: Digest) -> None:
        there = any(digest == found for _, found in self.model.blobs)
        target = f"/v2/{name}/blobs/uploads/?mount={digest}"
        assert self.ask("POST", target).status == (201 if there else 202)
        if there:
            self.model.blobs[name, digest] = self.clock.now

    def push(self, name: str, made: Made, media_type: str, tag: str) -> None:
        """Put a manifest; what it needs may be missing, then it must be refused."""
        answer = self.ask(
            "PUT",
            f"/v2/{name}/manifests/{tag or made.digest}",
            made.body,
            {"content-type": media_type},
        )
        has = {d for n, d in (*self.model.blobs, *self.model.manifests) if n == name}
        whole = made.needs <= has
        assert answer.status == (201 if whole else 400), (answer, made)
        if whole:
            if tag:
                self.model.untag(name, tag, self.clock.now)
                self.model.tags[name, tag] = made.digest
            self.model.known[made.digest] = made
            self.model.manifests[name, made.digest] = self.clock.now

    def delete_tag(self, name: str, tag: str) -> None:
        there = (name, tag) in self.model.tags
        status = self.ask("DELETE", f"/v2/{name}/manifests/{tag}").status
        assert status == (202 if there else 404)
        self.model.untag(name, tag, self.clock.now)

    def delete_manifest(self, name: str, digest: Digest) -> None:
        self.ask("DELETE", f"/v2/{name}/manifests/{digest}")
        self.model.manifests.pop((name, digest), None)
        gone = [k for k, v in self.model.tags.items() if k[0] == name and v == digest]
        for key in gone:
            del self.model.tags[key]

    def collect(self) -> None:
        self.ask.store.collect(self.clock.now, GRACE)
        young = self.clock.now - GRACE < 1_000_000.0
        self.model.collect(self.clock.now - GRACE - (TOUCH_STEP_S if young else 0))
        self.compare()

    def compare(self) -> None:
        """The registry has exactly what the model has, and the right bytes."""
        store = self.ask.store
        for name in REPOSITORIES:
            for digest, data in ((digest_of(data), data) for data in (*BLOBS, b"{}")):
                size = store.catalog.blob_size(name, digest)
                assert (size is not None) == ((name, digest) in self.model.blobs)
                if size is not None:
                    assert store.part(digest, 0, size) == data
            for digest, made in self.model.known.items():
                found = store.catalog.manifest(name, digest)
                assert (found is not None) == ((name, digest) in self.model.manifests)
                if found is not None:
                    assert store.part(digest, 0, found.size) == made.body
        stored = {d for _, d in (*self.model.blobs, *self.model.manifests)}
        assert store.catalog.known({*stored, *self.model.known}) == stored


def _image(layers: tuple[Digest, ...], subject: Digest | None, number: int) -> tuple[Made, str]:
    def entry(digest: Digest) -> dict[str, object]:
        return {"mediaType": "application/x", "digest": digest, "size": 2}

    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": entry(EMPTY),
        "layers": [entry(layer) for layer in layers],
        "annotations": {"number": str(number)},
    }
    if subject is not None:
        document["subject"] = entry(subject)
    body = json.dumps(document).encode()
    needs = frozenset({EMPTY, *layers})
    return Made(digest_of(body), body, needs, subject or ""), media_types.OCI_MANIFEST


def _index(children: tuple[Digest, ...], subject: Digest | None) -> tuple[Made, str]:
    entries = [
        {"mediaType": media_types.OCI_MANIFEST, "digest": child, "size": 2} for child in children
    ]
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": entries,
    }
    if subject is not None:
        document["subject"] = {"mediaType": "application/x", "digest": subject, "size": 2}
    body = json.dumps(document).encode()
    return Made(digest_of(body), body, frozenset(children), subject or ""), media_types.OCI_INDEX


def _step(draw: st.DrawFn, pair: Pair) -> None:
    """Do one random thing."""
    name = draw(st.sampled_from(REPOSITORIES))
    data = draw(st.sampled_from((*BLOBS, b"{}", b"{}")))
    known = sorted(pair.model.known)
    pick = draw(st.sampled_from(known)) if known else digest_of(b"nothing")
    tag = draw(st.sampled_from((*TAGS, "")))
    subject = draw(st.sampled_from([None, pick]))
    layers = tuple(digest_of(blob) for blob in draw(st.sets(st.sampled_from(BLOBS), max_size=2)))
    children = tuple(sorted(draw(st.sets(st.sampled_from(known), max_size=2)))) if known else ()
    match draw(st.integers(0, 11)):
        case 0 | 1:
            pair.upload(name, data)
        case 2:
            pair.head_blob(name, digest_of(data))
        case 3:
            pair.head_manifest(name, pick)
        case 4:
            pair.mount(name, digest_of(data))
        case 5 | 6:
            pair.upload(name, b"{}")
            pair.push(name, *_image(layers, subject, draw(st.integers(0, 2))), tag)
        case 7:
            pair.push(name, *_index(children, subject), tag)
        case 8:
            pair.delete_tag(name, draw(st.sampled_from(TAGS)))
        case 9:
            pair.delete_manifest(name, pick)
        case 10:
            pair.clock.now += draw(st.sampled_from((1.0, GRACE / 2, GRACE, 2 * TOUCH_STEP_S)))
        case _:
            pair.collect()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_collection_removes_what_nothing_protects_and_nothing_else(data: st.DataObject) -> None:
    pair = Pair()
    draw: st.DrawFn = data.draw  # type: ignore[assignment]
    for _ in range(draw(st.integers(1, 30))):
        _step(draw, pair)
    pair.clock.now += draw(st.sampled_from((0.0, GRACE, 2 * TOUCH_STEP_S)))
    pair.collect()
    pair.ask.store.close()


# --- one by one


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "folder"])
def ask(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Asked]:
    memory = request.param == "memory"
    store = MemoryStore(clock=clock) if memory else FolderStore(tmp_path / "r", clock=clock)
    yield Asked(store)
    store.close()


def _later(ask: Asked, clock: Clock) -> None:
    """Let the default grace period pass, also what a restart adds to it, and collect."""
    clock.now += GRACE_S + TOUCH_STEP_S + 1
    ask.store.collect(clock.now)


def test_an_upload_that_never_got_a_manifest_goes_after_a_day(ask: Asked, clock: Clock) -> None:
    digest = ask.blob("a", b"data")
    clock.now += GRACE_S - 1
    assert ask.store.collect(clock.now).content == ()
    assert ask.store.catalog.blob_size("a", digest) == 4
    clock.now += TOUCH_STEP_S + 2
    found = ask.store.collect(clock.now)
    assert (found.blobs, found.size_bytes, found.content) == (1, 4, (digest,))
    assert ask("HEAD", f"/v2/a/blobs/{digest}").status == 404
    assert ask.store.catalog.used_bytes == 0


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_who_was_told_that_a_blob_exists_finds_it_a_day_long(
    ask: Asked, clock: Clock, method: str
) -> None:
    digest = ask.blob("a", b"data")
    clock.now += GRACE_S - 1
    assert ask(method, f"/v2/a/blobs/{digest}").status == 200
    clock.now += GRACE_S - 1
    ask.store.collect(clock.now)
    assert ask.store.catalog.blob_size("a", digest) == 4


def test_a_tagged_index_keeps_its_children_their_layers_and_what_refers_to_them(
    ask: Asked, clock: Clock
) -> None:
    layer = ask.blob("a", b"layer")
    child, _ = ask.manifest(
        "a", layers=[{"mediaType": "application/x", "digest": layer, "size": 5}]
    )
    made, media_type = _index((child,), None)
    ask("PUT", "/v2/a/manifests/v1", made.body, {"content-type": media_type})
    subject = {"mediaType": media_types.OCI_MANIFEST, "digest": child, "size": 2}
    referrer, _ = ask.manifest("a", subject=subject)
    further = {"mediaType": media_types.OCI_MANIFEST, "digest": referrer, "size": 2}
    second, _ = ask.manifest("a", subject=further)
    _later(ask, clock)
    for digest in (made.digest, child, referrer, second):
        assert ask.store.catalog.manifest("a", digest) is not None
    assert ask.store.catalog.blob_size("a", layer) == 5
    ask("DELETE", f"/v2/a/manifests/{made.digest}")
    _later(ask, clock)
    assert not ask.store.catalog.has_repository("a")
    assert ask.store.catalog.used_bytes == 0


def test_a_cache_index_keeps_the_blobs_that_it_lists(ask: Asked, clock: Clock) -> None:
    layer = ask.blob("a", b"layer")
    made, media_type = _index((layer,), None)
    assert ask("PUT", "/v2/a/manifests/c", made.body, {"content-type": media_type}).status == 201
    _later(ask, clock)
    assert ask.store.catalog.blob_size("a", layer) == 5


def test_an_image_stays_for_a_day_after_its_tag_moved_or_went(ask: Asked, clock: Clock) -> None:
    first, _ = ask.manifest("a", "v1", annotations={"n": "1"})
    second, _ = ask.manifest("a", "v2", annotations={"n": "2"})
    clock.now += 10 * GRACE_S
    ask.manifest("a", "v1", annotations={"n": "3"})
    ask("DELETE", "/v2/a/manifests/v2")
    clock.now += GRACE_S - 1
    ask.store.collect(clock.now)
    assert ask.store.catalog.manifest("a", first) is not None
    assert ask.store.catalog.manifest("a", second) is not None
    clock.now += 2
    found = ask.store.collect(clock.now)
    assert found.manifests == 2


def test_bytes_that_another_repository_has_stay(ask: Asked, clock: Clock) -> None:
    digest = ask.blob("a", b"shared")
    clock.now += GRACE_S
    ask("POST", f"/v2/b/blobs/uploads/?mount={digest}&from=a")
    clock.now += TOUCH_STEP_S + 1
    found = ask.store.collect(clock.now)
    assert (found.blobs, found.content) == (1, ())
    assert content_of(ask("GET", f"/v2/b/blobs/{digest}")) == b"shared"
    assert ask("GET", f"/v2/a/blobs/{digest}").status == 404


def test_an_abandoned_upload_ends_and_one_that_goes_on_does_not(ask: Asked, clock: Clock) -> None:
    left, used = (ask("POST", "/v2/a/blobs/uploads/").header("location") for _ in range(2))
    ask("PATCH", left, b"x" * 10)
    ask("PATCH", used, b"x" * 10)
    clock.now += GRACE_S - 1
    ask("GET", used)
    clock.now += 2
    assert ask.store.collect(clock.now).uploads == 1
    assert ask("GET", left).status == 404
    assert ask("PATCH", left, b"y").status == 404
    assert ask("GET", used).header("range") == "0-9"
    assert ask.store.pending_bytes() == 10


def test_an_upload_that_is_just_being_written_is_not_abandoned(ask: Asked, clock: Clock) -> None:
    location = ask("POST", "/v2/a/blobs/uploads/").header("location")

    class Slow:
        parts = iter((b"one", b"two", b""))

        def read(self, size: int, /) -> bytes:
            clock.now += 2 * GRACE_S
            assert ask.store.collect(clock.now).uploads == 0
            return next(self.parts)

    assert ask("PATCH", location, Slow()).status == 202
    assert ask("GET", location).header("range") == "0-5"


def test_a_request_that_waited_for_an_upload_that_ended_is_404(ask: Asked) -> None:
    location = ask("POST", "/v2/a/blobs/uploads/").header("location")
    waiting = threading.Event()
    answers = []

    class Gone:
        def read(self, size: int, /) -> bytes:
            thread.start()
            waiting.wait(5)
            upload = ask.store.find_upload("a", location.rpartition("/")[2])
            assert upload is not None
            ask.store.cancel_upload(upload)
            raise BodyInterruptedError

    def second() -> None:
        waiting.set()
        answers.append(ask("PATCH", location, b"late").status)

    thread = threading.Thread(target=second)
    with pytest.raises(BodyInterruptedError):
        ask("PATCH", location, Gone())
    thread.join()
    assert answers == [404]


def test_pushes_that_race_with_collections_lose_nothing_that_they_were_told_of(
    tmp_path: Path, clock: Clock
) -> None:
    store = FolderStore(tmp_path, durable=False, clock=clock)
    ask = Asked(store)
    rounds, pushers, over = 15, 4, threading.Event()

    def next_round() -> None:
        clock.now += 2 * (GRACE_S + TOUCH_STEP_S)  # all that was told before counts no more

    barrier = threading.Barrier(pushers, action=next_round)
    failures: list[object] = []

    def push(number: int) -> None:
        try:
            for turn in range(rounds):
                barrier.wait(30)
                layer = BLOBS[turn % 2]
                digest = digest_of(layer)
                for data in (b"{}", layer):
                    told = digest_of(data)
                    if ask("HEAD", f"/v2/a/blobs/{told}").status == 404:
                        ask.blob("a", data)
                made, media_type = _image((digest,), None, number)
                answer = ask.put("a", f"t{number}", made.body, content_type=media_type)
                assert answer.status == 201, answer
                assert content_of(ask("GET", f"/v2/a/blobs/{digest}")) == layer
                assert ask("DELETE", f"/v2/a/manifests/{made.digest}").status in (202, 404)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)
            barrier.abort()

    def collect() -> None:
        while not over.is_set():
            store.collect(clock.now)

    collector = threading.Thread(target=collect)
    threads = [threading.Thread(target=push, args=(number,)) for number in range(pushers)]
    for thread in (collector, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    collector.join()
    store.close()
    assert failures == []


def test_nothing_is_collected_between_the_check_of_a_manifest_and_its_storing(
    ask: Asked, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = ask.blob("a", b"layer")
    ask.blob("a", b"{}")
    clock.now += 2 * (GRACE_S + TOUCH_STEP_S)  # the client knows by itself that it is there
    check = manifests._check_tags
    threads = []

    def check_during_a_collection(*given: Any) -> None:
        thread = threading.Thread(target=ask.store.collect, args=(clock.now,))
        thread.start()
        thread.join(0.2)
        threads.append(thread)
        check(*given)

    monkeypatch.setattr(manifests, "_check_tags", check_during_a_collection)
    made, media_type = _image((layer,), None, 0)
    assert ask.put("a", "v1", made.body, content_type=media_type).status == 201
    threads[0].join()
    assert ask.store.catalog.blob_size("a", layer) == 5


def test_what_was_told_shortly_before_a_crash_counts_afterwards(
    tmp_path: Path, clock: Clock
) -> None:
    """Times are written in steps of an hour; after a restart the grace period is so much longer."""
    store = FolderStore(tmp_path / "one", clock=clock)
    ask = Asked(store)
    digest = ask.blob("a", b"data")
    clock.now += TOUCH_STEP_S - 1
    assert ask("HEAD", f"/v2/a/blobs/{digest}").status == 200  # this time is in memory only
    (tmp_path / "two").mkdir()
    for name in ("registry.sqlite", "registry.sqlite-wal"):
        (tmp_path / "two" / name).write_bytes((tmp_path / "one" / name).read_bytes())
    file = tmp_path / "two" / "blobs" / "sha256" / digest.hex
    file.parent.mkdir(parents=True)
    file.write_bytes(b"data")
    store.close()
    clock.now += GRACE_S - 10
    again = FolderStore(tmp_path / "two", clock=clock)
    assert again.collect(clock.now).content == ()
    clock.now += TOUCH_STEP_S + GRACE_S
    assert again.collect(clock.now).content == (digest,)
    again.close()


def test_a_collection_that_is_stopped_leaves_files_that_the_next_start_removes(
    tmp_path: Path, clock: Clock
) -> None:
    store = FolderStore(tmp_path, clock=clock)
    digest = Asked(store).blob("a", b"data")
    clock.now += 2 * (GRACE_S + TOUCH_STEP_S)
    found = store.collect(clock.now, is_stopped=lambda: True)
    file = tmp_path / "blobs" / "sha256" / digest.hex
    assert found.content == (digest,)
    assert file.exists()
    store.close()
    FolderStore(tmp_path).close()
    assert not file.exists()


def test_content_that_comes_back_during_a_collection_is_kept(tmp_path: Path, clock: Clock) -> None:
    store = FolderStore(tmp_path, clock=clock)
    ask = Asked(store)
    digest = ask.blob("a", b"data")
    clock.now += 2 * (GRACE_S + TOUCH_STEP_S)

    def bring_back() -> bool:
        ask.blob("a", b"data")
        return False

    assert store.collect(clock.now, is_stopped=bring_back).content == (digest,)
    assert content_of(ask("GET", f"/v2/a/blobs/{digest}")) == b"data"
    store.close()

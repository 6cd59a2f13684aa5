"""In which order bytes of a source and requests to a target follow each other, and who waits for whom."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.content import CheckedSource, verified
from ci_registry.registry.interface import BlobOutcome, Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.remote import RemoteRepository
from ci_registry.registry.transfer import blobs_of, copy_image, manifests_of
from ci_registry.registry_server.options import Answer, Corrupt, Fault, TokenAuth
from tests.support.images import ImageSpec, make_layout
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import login, remote_repository

SMALL = b"small" * 100


def blob(data: bytes) -> Descriptor:
    return Descriptor(media_type="application/x", digest=digest_of(data), size=len(data))


def push(repository: Repository, data: bytes) -> BlobOutcome:
    return repository.push_blob(blob(data), lambda: iter((data,))).outcome


def methods(registry: RunningRegistry) -> list[str]:
    found = [one.method for one in registry.seen]
    registry.seen.clear()
    return found


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An image with a config and two layers."""
    return Layout(make_layout(tmp_path / "l", ImageSpec(layers=[{"a": "1"}, {"b": "2"}])).layout)


@dataclass
class Sink:
    """A registry that opens uploads and counts what it is sent, whatever that is."""

    host: str
    body_bytes: int = 0


@contextlib.contextmanager
def raw_sink() -> Iterator[Sink]:
    """Serve one connection after another until the test ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sink = Sink(host=f"127.0.0.1:{server.getsockname()[1]}")

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        _answer(client, sink)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield sink
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def _answer(client: socket.socket, sink: Sink) -> None:
    with client.makefile("rb") as file:
        while line := file.readline():
            method = line.split(b" ")[0]
            while file.readline().strip():
                pass
            if method == b"PUT":
                while data := file.read1():
                    sink.body_bytes += len(data)
                return
            status = b"202 Accepted\r\nLocation: /upload" if method == b"POST" else b"404 Not Found"
            client.sendall(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)


def test_the_last_piece_waits_until_the_digest_has_matched() -> None:
    good = [b"a" * 1000, b"b" * 1000, b""]
    name = digest_of(b"".join(good))
    assert b"".join(verified(iter(good), name, what="blob")) == b"".join(good)
    pieces = verified(iter((good[0], b"c" * 1000, b"")), name, what="blob")
    assert next(pieces) == good[0]
    with pytest.raises(IntegrityError, match="have digest"):
        next(pieces)


def test_damaged_bytes_of_a_registry_never_reach_the_end_of_an_upload(layout: Layout) -> None:
    root = layout.root()
    with (
        running_registry() as first,
        raw_sink() as sink,
        remote_repository(first.host, "a/b") as source,
        remote_repository(sink.host, "a/b", retries=0) as target,
    ):
        copy_image(layout, source, root, cancel=Cancel(), on_event=lambda _: None, image="app")
        layer = blobs_of(manifests_of(layout, root))[1]
        first.faults.add(Fault(action=Corrupt(), method="GET", path="/blobs/", times=0))
        with pytest.raises(IntegrityError, match="have digest"):
            target.push_blob(layer, CheckedSource(lambda: source.open(layer.digest)))
        assert sink.body_bytes < layer.size


def test_the_upload_is_opened_when_bytes_of_the_source_are_in_hand(layout: Layout) -> None:
    order: list[str] = []
    with running_registry() as registry, remote_repository(registry.host, "a/b") as target:

        def slow_source() -> Iterator[bytes]:
            order.append("source opened")
            assert registry.count("POST") == 0
            yield SMALL

        assert isinstance(target, RemoteRepository)
        target.push_blob(blob(SMALL), slow_source, is_new=True)
        assert order == ["source opened"]
        assert methods(registry) == ["POST", "PUT"]


def test_an_upload_that_waited_too_long_for_its_source_is_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running_registry() as registry, remote_repository(registry.host, "a/b") as target:
        clock = [0.0]
        monkeypatch.setattr(target._session.client, "monotonic", lambda: clock[0])

        def slow_source() -> Iterator[bytes]:
            clock[0] += 30.0
            yield SMALL

        target.push_blob(blob(SMALL), slow_source)
        assert methods(registry) == ["POST", "DELETE", "POST", "PUT"]


def test_a_retried_put_opens_the_source_again() -> None:
    opened: list[int] = []
    with running_registry() as registry, remote_repository(registry.host, "a/b") as target:
        registry.faults.add(Fault(action=Answer(status=503), method="PUT"))

        def source() -> Iterator[bytes]:
            opened.append(1)
            yield SMALL

        assert target.push_blob(blob(SMALL), source).outcome is BlobOutcome.UPLOADED
        assert len(opened) == 2
        assert b"".join(target.open(digest_of(SMALL))) == SMALL


def test_a_blob_that_another_thread_sends_is_waited_for() -> None:
    sending, go_on = threading.Event(), threading.Event()

    def slow_source() -> Iterator[bytes]:
        sending.set()
        go_on.wait(10)
        yield SMALL

    def unused() -> Iterator[bytes]:
        raise AssertionError("the bytes travel already")

    with (
        running_registry() as registry,
        remote_repository(registry.host, "a/b") as target,
        ThreadPoolExecutor(2) as pool,
    ):
        leader = pool.submit(target.push_blob, blob(SMALL), slow_source)
        sending.wait(10)
        waiter = pool.submit(target.push_blob, blob(SMALL), unused)
        with pytest.raises(TimeoutError):
            waiter.result(0.2)
        go_on.set()
        assert leader.result(10).outcome is BlobOutcome.UPLOADED
        assert waiter.result(10).outcome is BlobOutcome.PRESENT
        assert methods(registry) == ["POST", "PUT"]


def test_who_waited_for_an_upload_that_failed_sends_the_blob_itself() -> None:
    sending, go_on = threading.Event(), threading.Event()

    def broken_source() -> Iterator[bytes]:
        sending.set()
        go_on.wait(10)
        raise IntegrityError("the source is damaged")

    with (
        running_registry() as registry,
        remote_repository(registry.host, "a/b") as target,
        ThreadPoolExecutor(2) as pool,
    ):
        leader = pool.submit(target.push_blob, blob(SMALL), broken_source)
        sending.wait(10)
        waiter = pool.submit(target.push_blob, blob(SMALL), lambda: iter((SMALL,)))
        go_on.set()
        with pytest.raises(IntegrityError):
            leader.result(10)
        assert waiter.result(10).outcome is BlobOutcome.UPLOADED


def test_a_token_that_may_end_during_a_long_upload_is_renewed_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    auth = TokenAuth(key=b"k" * 32, lifetime_s=300.0)
    data = bytes(200 << 20)
    with (
        running_registry(users={"ci": "pw"}, token_auth=auth, clock=lambda: clock[0]) as registry,
        remote_repository(
            registry.host, "a/b", credentials=login(registry.host, "ci", "pw")
        ) as target,
    ):
        monkeypatch.setattr(target._session._authorizer, "_monotonic", lambda: clock[0])
        push(target, SMALL)
        before = registry.count("GET", "/token")
        push(target, SMALL[1:])
        assert registry.count("GET", "/token") == before
        clock[0] += 250.0  # still good for half a minute, and 200 MiB may take longer
        push(target, data)
        assert registry.count("GET", "/token") == before + 1
        assert registry.count("PUT") == 3
        assert {one.status for one in registry.seen if one.method == "PUT"} == {201}

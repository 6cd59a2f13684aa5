"""What our transport does on the wire: connections kept, requests repeated, bodies, odd servers."""

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import CancelledError, IntegrityError, NetworkError
from ci_registry.network.client import HttpClient
from ci_registry.network.connection import LiveSockets, Route
from ci_registry.network.message import Request
from ci_registry.network.transport import SocketTransport
from tests.support.raw_server import Script, Wire, answering, ok, serving
from tests.support.remote import QuickCancel, quick_client

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(wire: Wire, method: str = "GET") -> Request:
    return Request(method=method, url=wire.url)


def put(wire: Wire, *chunks: bytes, size_bytes: int | None = None, method: str = "PUT") -> Request:
    size_bytes = sum(map(len, chunks)) if size_bytes is None else size_bytes
    return Request(method=method, url=wire.url, body=lambda: iter(chunks), size_bytes=size_bytes)


def gets(client: HttpClient, request: Request, count: int) -> None:
    for _ in range(count):
        assert client.request(request).ok


def test_one_thread_uses_one_connection() -> None:
    with serving(answering(*[ok()] * 20)) as wire, quick_client() as client:
        gets(client, get(wire), 10)
        client.request(put(wire, b"x"))
        assert client.request(get(wire)).body == b"hello"
    assert wire.connections == 1
    assert len(wire.seen) == 12


def test_a_connection_serves_the_threads_that_come_after() -> None:
    with serving(answering(*[ok()] * 20)) as wire, quick_client() as client:
        for _ in range(3):
            thread = threading.Thread(target=gets, args=(client, get(wire), 2))
            thread.start()
            thread.join()
    assert wire.connections == 1


def test_threads_at_work_have_a_connection_each() -> None:
    together = threading.Barrier(3)

    def script(sock: socket.socket, wire: Wire) -> None:
        while wire.read_request(sock):
            together.wait(10)
            sock.sendall(ok())

    with serving(script) as wire, quick_client() as client:
        threads = [
            threading.Thread(target=gets, args=(client, get(wire), 4), daemon=True)
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wire.connections == 3
    assert len(wire.seen) == 12


def test_an_answer_that_was_not_read_takes_its_connection_with_it() -> None:
    with serving(answering(*[ok(b"x" * 1_000_000)] * 5)) as wire, quick_client() as client:
        with client.stream(get(wire)) as response:
            next(response.chunks)
        gets(client, get(wire), 2)
    assert wire.connections == 2


def test_a_connection_that_the_server_closed_meanwhile_is_not_tried() -> None:
    with serving(answering(ok())) as wire, quick_client(retries=0) as client:
        client.request(get(wire))
        time.sleep(0.05)  # its end has arrived
        client.request(get(wire, "POST"))
    assert wire.connections == 2


def dying(sock: socket.socket, wire: Wire) -> None:
    """Answer once, then take a request and close without a word."""
    wire.read_request(sock)
    sock.sendall(ok())
    wire.read_request(sock)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_kept_connection_that_dies_is_replaced_without_a_word(method: str) -> None:
    cancel = QuickCancel()
    with serving(dying, answering(ok(), ok())) as wire, quick_client(cancel=cancel) as client:
        client.request(get(wire))
        request = put(wire, b"ab", b"cd") if method == "PUT" else get(wire, method)
        assert client.request(request).ok
        assert [one.partition(b" ")[0].decode() for one in wire.seen] == ["GET", method, method]
        assert wire.seen[1] == wire.seen[2]
    assert cancel.slept == []
    assert wire.connections == 2


def test_what_may_have_been_done_is_not_done_again() -> None:
    for method, retry in (("POST", True), ("PATCH", True), ("PUT", False)):
        with serving(dying, answering(ok())) as wire, quick_client(retries=0) as client:
            client.request(get(wire))
            with pytest.raises(NetworkError, match="connection lost"):
                client.request(put(wire, b"x", method=method), retry=retry)
            assert len(wire.seen) == 2


def test_a_body_that_cannot_be_opened_again_is_not_sent_again() -> None:
    def route(origin: object) -> Route:
        return Route(origin=origin, context=None)  # type: ignore[arg-type]

    with (
        serving(dying, answering(ok())) as wire,
        httpx.Client(
            transport=SocketTransport(route, LiveSockets()), trust_env=False, timeout=5
        ) as client,
    ):
        client.get(wire.url)
        once = (piece for piece in (b"a", b"b"))
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            client.put(wire.url, content=once, headers={"Content-Length": "2"})
    assert wire.connections == 1
    assert len(wire.seen) == 2


def test_a_fresh_connection_that_dies_is_not_replaced() -> None:
    with (
        serving(answering(b"")) as wire,
        quick_client(retries=0) as client,
        pytest.raises(NetworkError, match="without an answer"),
    ):
        client.request(get(wire))
    assert wire.connections == 1


def test_an_answer_cut_in_its_head_is_not_asked_for_twice() -> None:
    def script(sock: socket.socket, wire: Wire) -> None:
        wire.read_request(sock)
        sock.sendall(ok())
        wire.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nCont")

    with (
        serving(script) as wire,
        quick_client(retries=0) as client,
    ):
        client.request(get(wire))
        with pytest.raises(NetworkError, match="connection lost: its header is cut short"):
            client.request(get(wire))
    assert len(wire.seen) == 2


def test_a_body_goes_out_whole_with_its_length() -> None:
    chunks = [b"a", b"b" * 100_000, b"", b"c" * 300_000, b"d" * 1_000_000, b"e"]
    with serving(answering(ok())) as wire, quick_client() as client:
        client.request(put(wire, *chunks))
    head, _, body = wire.seen[0].partition(b"\r\n\r\n")
    assert body == b"".join(chunks)
    assert b"Content-Length: 1400002" in head.split(b"\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert head.count(b"Host: ") == 1


@pytest.mark.parametrize("size_bytes", [2, 4])
def test_a_body_of_another_length_than_announced_ends_the_request(size_bytes: int) -> None:
    with (
        serving(answering(ok())) as wire,
        quick_client() as client,
        pytest.raises(NetworkError, match="could not be formed"),
    ):
        client.request(put(wire, b"abc", size_bytes=size_bytes))
    assert wire.seen == []


def test_an_error_of_the_source_is_raised_as_it_is() -> None:
    def body() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise IntegrityError("damaged")

    with (
        serving(answering(ok())) as wire,
        quick_client() as client,
        pytest.raises(IntegrityError, match="damaged"),
    ):
        client.request(Request(method="PUT", url=wire.url, body=body, size_bytes=200_000))


def test_a_refusal_in_the_middle_of_a_body_is_read() -> None:
    def script(sock: socket.socket, _wire: Wire) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\ntoo much")
        sock.shutdown(socket.SHUT_RD)
        while sock.recv(1_000_000):  # without unread bytes the end is no reset
            pass

    piece = b"x" * 256 * 1024
    with serving(script) as wire, quick_client() as client:
        response = client.request(
            Request(
                method="PUT",
                url=wire.url,
                body=lambda: (piece for _ in range(400)),
                size_bytes=400 * len(piece),
            ),
            retry=False,
        )
    assert (response.status, response.body) == (413, b"too much")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", b"ab"),
        (
            CHUNKED + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n",
            b"abcde",
        ),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x"),
    ],
)
def test_bodies_end_as_their_head_says(answer: bytes, body: bytes) -> None:
    with serving(answering(answer)) as wire, quick_client(retries=0) as client:
        assert client.request(get(wire)).body == body


def test_a_chunked_answer_leaves_its_connection_usable() -> None:
    chunked = CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
    with serving(answering(chunked, chunked, ok())) as wire, quick_client() as client:
        gets(client, get(wire), 3)
    assert wire.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        CHUNKED + b"5\r\nabc",
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"zz\r\nabc",
    ],
)
def test_a_body_cut_short_is_never_taken_for_whole(answer: bytes) -> None:
    cancel = QuickCancel()
    with serving(answering(answer)) as wire, quick_client(retries=2, cancel=cancel) as client:
        with pytest.raises(NetworkError, match="connection lost"):
            client.request(get(wire))
        with client.stream(get(wire)) as response, pytest.raises(NetworkError):
            assert b"".join(response.chunks) == b"abc"
    assert len(cancel.slept) == 2


def test_what_came_before_the_cut_is_handed_out() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n" + b"x" * 300_000
    received: list[int] = []
    with (
        serving(answering(answer)) as wire,
        quick_client() as client,
        client.stream(get(wire)) as response,
        pytest.raises(NetworkError, match="100000 bytes of the body are missing"),
    ):
        received.extend(len(chunk) for chunk in response.chunks)
    assert sum(received) == 300_000


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        (b"X-Owner: caf\xe9\r\n", "X-Owner is not UTF-8"),
        (b"A: b\r\n" * 300, "more than 256 header fields"),
        (b"A: " + b"x" * 200_000 + b"\r\n", "larger than 131072 bytes"),
        (b"Content-Length: 1\r\nContent-Length: 2\r\n", "not one number"),
        (b"Transfer-Encoding: gzip\r\n", "not chunked"),
    ],
)
def test_a_head_out_of_bounds_is_refused_at_once_and_said(fields: bytes, match: str) -> None:
    cancel = QuickCancel()
    with (
        serving(answering(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")) as wire,
        quick_client(cancel=cancel) as client,
        pytest.raises(NetworkError, match=match) as caught,
    ):
        client.request(get(wire))
    assert caught.value.message.startswith(f"127.0.0.1:{wire.port}: the answer is refused")
    assert cancel.slept == []


def test_text_beyond_ascii_is_read_as_utf_8() -> None:
    answer = "HTTP/1.1 200 OK\r\nX-Owner: café\r\nContent-Length: 0\r\n\r\n".encode()
    with serving(answering(answer)) as wire, quick_client() as client:
        assert client.request(get(wire)).headers.get("x-owner") == "café"


def test_a_trickling_server_does_not_outlast_the_budget() -> None:
    def script(sock: socket.socket, wire: Wire) -> None:
        wire.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            sock.sendall(b"x")
            time.sleep(0.02)

    with (
        serving(script) as wire,
        quick_client(budget_s=0.2) as client,
        pytest.raises(NetworkError, match=r"no whole answer after 0\.2 s"),
    ):
        client.request(get(wire))


def test_silence_in_the_middle_of_a_body_is_a_time_out() -> None:
    def script(sock: socket.socket, wire: Wire) -> None:
        wire.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        sock.recv(1)

    with (
        serving(script) as wire,
        quick_client(retries=0, read_timeout_s=0.1) as client,
        client.stream(get(wire)) as response,
        pytest.raises(NetworkError, match=r"nothing heard for 0\.1 s"),
    ):
        assert list(response.chunks) == [b"abc"]


def silent_in_its_answer(sock: socket.socket, wire: Wire) -> None:
    wire.read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    wire.stopped.wait()


def deaf(sock: socket.socket, wire: Wire) -> None:
    wire.seen.append(sock.recv(100))
    wire.stopped.wait()


@pytest.mark.parametrize("script", [silent_in_its_answer, deaf])
def test_cancelling_wakes_a_reader_and_a_writer(script: Script) -> None:
    cancel = Cancel()
    ended: list[BaseException] = []
    piece = b"x" * 256 * 1024

    def work() -> None:
        request = Request(
            method="PUT",
            url=wire.url,
            body=lambda: (piece for _ in range(1000)),
            size_bytes=1000 * len(piece),
        )
        try:
            client.request(request if script is deaf else get(wire))
        except CancelledError as error:
            ended.append(error)

    with serving(script) as wire, quick_client(cancel=cancel) as client:
        thread = threading.Thread(target=work)
        thread.start()
        while not wire.seen:
            time.sleep(0.01)
        time.sleep(0.05)
        cancel.set("test")
        thread.join(5)
        assert not thread.is_alive()
    assert len(ended) == 1


def test_nothing_is_sent_after_a_cancel() -> None:
    cancel = Cancel()
    with serving(answering(ok())) as wire, quick_client(cancel=cancel) as client:
        cancel.set("test")
        with pytest.raises(CancelledError):
            client.request(get(wire))
    assert wire.seen == []


def test_any_httpx_client_can_use_it() -> None:
    def route(origin: object) -> Route:
        return Route(origin=origin, context=None)  # type: ignore[arg-type]

    with (
        serving(answering(ok(b"one"), ok(b"two"))) as wire,
        httpx.Client(
            transport=SocketTransport(route, LiveSockets()), trust_env=False, timeout=5
        ) as client,
    ):
        assert client.get(wire.url).text == "one"
        assert client.post(wire.url, content=b"data").text == "two"
    assert wire.seen[1].endswith(b"\r\n\r\ndata")
    assert wire.connections == 1


def test_a_header_that_would_begin_another_is_not_sent() -> None:
    with (
        serving(answering(ok())) as wire,
        quick_client() as client,
        pytest.raises(NetworkError, match="could not be formed") as caught,
    ):
        client.request(Request(method="GET", url=wire.url, headers={"X": "secret\r\nY: z"}))
    assert "secret" not in str(caught.value)
    assert wire.seen == []

"""The registry over real sockets: streaming, faults on the wire, start and stop."""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import NetworkError, UsageError
from ci_registry.events import Event
from ci_registry.oci.digest import digest_of
from ci_registry.registry_server.contents import PIECE_BYTES, MemoryContents, Upload
from ci_registry.registry_server.message import Request
from ci_registry.registry_server.options import Answer, Corrupt, Fault, Reset, Stall, Truncate
from ci_registry.registry_server.serve import EmbeddedRegistry, serve_forever
from ci_registry.registry_server.store import FolderStore, MemoryStore
from tests.support.registry import RunningRegistry, running_registry

DATA = b"0123456789" * 10
DIGEST = digest_of(DATA)
BLOB = f"/v2/a/blobs/{DIGEST}"


def _ask(
    host: str,
    method: str,
    target: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def _push(host: str, data: bytes = DATA) -> None:
    target = f"/v2/a/blobs/uploads/?digest={digest_of(data)}"
    assert _ask(host, "POST", target, data)[0] == 201


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        _push(running.host)
        yield running


_SERVER = (
    "import sys\n"
    "from pathlib import Path\n"
    "from ci_registry.registry_server.serve import EmbeddedRegistry\n"
    "from ci_registry.registry_server.store import FolderStore\n"
    "with EmbeddedRegistry(FolderStore(Path(sys.argv[1]))) as r:\n"
    "    print(r.host, flush=True)\n"
    "    sys.stdin.readline()\n"
    "    status = Path('/proc/self/status').read_text()\n"  # ru_maxrss starts at the parent's
    "    print(status.partition('VmHWM:')[2].split()[0], flush=True)\n"
)


@contextlib.contextmanager
def _server_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    acknowledged: list[bytes] = []
    with _server_process(tmp_path) as (process, host):

        def push() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                for number in range(100_000):
                    data = f"{threading.get_ident()} {number}".encode() * 2000
                    _push(host, data)
                    acknowledged.append(data)

        threads = [threading.Thread(target=push) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(acknowledged) < 40:
            time.sleep(0.01)
        process.kill()
        for thread in threads:
            thread.join()
    store = FolderStore(tmp_path)
    with running_registry(store=store) as registry:
        for data in acknowledged:
            assert _ask(registry.host, "GET", f"/v2/a/blobs/{digest_of(data)}")[1] == data
    store.close()


def test_a_large_blob_streams_through_a_folder_in_little_memory(tmp_path: Path) -> None:
    with _server_process(tmp_path) as (process, host):
        piece, count = os.urandom(1 << 20), 128
        digest = hashlib.sha256(piece * count).hexdigest()
        connection = http.client.HTTPConnection(host)
        connection.request("POST", "/v2/a/blobs/uploads/")
        answer = connection.getresponse()
        answer.read()
        connection.request(
            "PUT",
            f"{answer.headers['location']}?digest=sha256:{digest}",
            (piece for _ in range(count)),
            {"Content-Length": str(count << 20)},
        )
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (201, b"")
        connection.request("GET", f"/v2/a/blobs/sha256:{digest}")
        answer, found = connection.getresponse(), hashlib.sha256()
        while part := answer.read(1 << 20):
            found.update(part)
        assert found.hexdigest() == digest
        connection.close()
        peak_kib = int(process.communicate("stop\n", timeout=30)[0])
        assert peak_kib < 100 * 1024


def test_a_chunked_body_is_taken(registry: RunningRegistry) -> None:
    connection = http.client.HTTPConnection(registry.host)
    connection.request("POST", "/v2/b/blobs/uploads/")
    answer = connection.getresponse()
    answer.read()
    target = f"{answer.headers['location']}?digest={DIGEST}"
    connection.request(
        "PUT",
        target,
        iter([DATA[:7], DATA[7:]]),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    assert connection.getresponse().status == 201
    connection.close()


def test_one_connection_serves_many_requests_also_after_errors_and_empty_blobs(
    registry: RunningRegistry,
) -> None:
    _push(registry.host, b"")
    connection = http.client.HTTPConnection(registry.host)
    connection.connect()
    port = connection.sock.getsockname()[1]
    expected = [
        ("HEAD", BLOB, 200, b""),
        ("HEAD", "/v2/a/manifests/none", 404, b""),
        ("GET", f"/v2/a/blobs/{digest_of(b'')}", 200, b""),
        ("GET", BLOB, 200, DATA),
        ("DELETE", "/v2/a/manifests/none", 404, None),
        ("GET", "/v2/", 200, b"{}"),
    ]
    for method, target, status, body in expected:
        connection.request(method, target)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == status
        assert body is None or content == body
    assert connection.sock.getsockname()[1] == port
    connection.close()


def test_an_upload_refused_by_its_head_is_not_read(registry: RunningRegistry) -> None:
    """`Expect: 100-continue`: the refusal comes before any byte of the body."""
    with socket.create_connection(registry.host.split(":"), timeout=20) as sock:  # type: ignore[arg-type]
        sock.sendall(
            b"PUT /v2/a/blobs/uploads/none?digest=x HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert sock.recv(100).startswith(b"HTTP/1.1 404")


def test_a_lost_client_leaves_a_resumable_upload(registry: RunningRegistry) -> None:
    data = os.urandom(4 << 20)
    location = _ask(registry.host, "POST", "/v2/a/blobs/uploads/")[2]["location"]
    host, _, port = registry.host.rpartition(":")
    with socket.create_connection((host, int(port))) as sock:
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        sock.sendall(head.encode() + data[: 3 << 20])
    end = time.monotonic() + 20
    size = 0
    while size < 2 << 20 and time.monotonic() < end:
        size = int(_ask(registry.host, "GET", location)[2]["range"].removeprefix("0-")) + 1
    assert 2 << 20 <= size <= 3 << 20
    rest = {"Content-Range": f"{size}-{len(data) - 1}"}
    target = f"{location}?digest={digest_of(data)}"
    assert _ask(registry.host, "PUT", target, data[size:], rest)[0] == 201


def _half_sent(host: str) -> socket.socket:
    """Begin an upload of two bytes and send one of them."""
    location = _ask(host, "POST", "/v2/a/blobs/uploads/")[2]["location"]
    name, _, port = host.rpartition(":")
    sock = socket.create_connection((name, int(port)))
    sock.sendall(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1".encode())
    return sock


def test_clients_that_send_slowly_keep_nobody_else_waiting(registry: RunningRegistry) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.callback(_half_sent(registry.host).close)
        assert _ask(registry.host, "GET", BLOB)[1] == DATA
        assert _ask(registry.host, "HEAD", BLOB)[0] == 200


def test_a_stop_cuts_an_upload_off_and_is_no_bug() -> None:
    told: list[Event] = []
    store = MemoryStore()
    with EmbeddedRegistry(store, events=told.append, drain_s=0.1) as registry:
        sock = _half_sent(registry.host)
        while not any(upload.lock.locked() for upload in store._uploads.values()):
            time.sleep(0.01)
    sock.close()
    store.close()
    assert not registry.is_running
    assert told == []


def test_bodies_come_in_pieces_of_a_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = MemoryContents.new_upload

    def new_upload(contents: MemoryContents, upload_id: str, repository: str) -> Upload:
        upload = real(contents, upload_id, repository)
        append = upload.append

        def counted(piece: bytes) -> None:
            sizes.append(len(piece))
            append(piece)

        upload.append = counted  # type: ignore[method-assign]
        return upload

    monkeypatch.setattr(MemoryContents, "new_upload", new_upload)
    data = bytes(10 << 20)
    with running_registry() as registry:
        target = f"/v2/a/blobs/uploads/?digest={digest_of(data)}"
        assert _ask(registry.host, "POST", target, data)[0] == 201
    assert sum(sizes) == len(data)
    assert min(sizes[:-1]) >= PIECE_BYTES


def test_faults_reach_the_wire(registry: RunningRegistry) -> None:
    limited = Answer(status=429, headers=(("Retry-After", "3"),), body=b"<html>no</html>")
    registry.faults.add(
        Fault(action=limited), Fault(action=Corrupt()), Fault(action=Truncate(size_bytes=5))
    )
    status, body, headers = _ask(registry.host, "GET", BLOB)
    assert (status, body, headers["retry-after"]) == (429, b"<html>no</html>", "3")
    assert _ask(registry.host, "GET", BLOB)[1] == DATA[:-1] + b"8"
    assert _ask(registry.host, "GET", BLOB)[1] == DATA[:5]
    assert _ask(registry.host, "GET", BLOB)[1] == DATA


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Reset(), (ConnectionResetError, http.client.RemoteDisconnected)),
        (Reset(response_bytes=0), (ConnectionResetError, http.client.IncompleteRead)),
        (Reset(response_bytes=40), (ConnectionResetError, http.client.IncompleteRead)),
    ],
)
def test_a_connection_is_reset(
    registry: RunningRegistry, action: Reset, error: tuple[type[Exception], ...]
) -> None:
    registry.faults.add(Fault(action=action))
    with pytest.raises(error):
        _ask(registry.host, "GET", BLOB)
    assert _ask(registry.host, "GET", BLOB)[1] == DATA


def test_a_connection_is_reset_in_the_middle_of_an_upload(registry: RunningRegistry) -> None:
    location = _ask(registry.host, "POST", "/v2/a/blobs/uploads/")[2]["location"]
    registry.faults.add(Fault(action=Reset(request_bytes=1 << 20), method="PATCH"))
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        _ask(registry.host, "PATCH", location, b"x" * (5 << 20))
    assert _ask(registry.host, "GET", location)[2]["range"] == f"0-{(1 << 20) - 1}"


def test_a_stalled_answer_does_not_keep_the_server_from_stopping() -> None:
    with running_registry(faults=[Fault(action=Stall(duration_s=3600))]) as registry:
        host, _, port = registry.host.rpartition(":")
        sock = socket.create_connection((host, int(port)))
        sock.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        while not registry.seen:
            time.sleep(0.01)
    sock.close()
    assert not registry.server.is_running


def test_a_body_stops_in_the_middle_and_goes_on(registry: RunningRegistry) -> None:
    registry.faults.add(Fault(action=Stall(duration_s=0.3, after_bytes=40), method="GET"))
    connection = http.client.HTTPConnection(registry.host, timeout=0.1)
    connection.request("GET", BLOB)
    answer = connection.getresponse()
    assert answer.read(40) == DATA[:40]
    with pytest.raises(TimeoutError):
        answer.read(1)
    connection.close()
    registry.faults.add(Fault(action=Stall(duration_s=0.01, after_bytes=40), method="GET"))
    assert _ask(registry.host, "GET", BLOB)[1] == DATA


def test_every_answer_has_one_date(registry: RunningRegistry) -> None:
    connection = http.client.HTTPConnection(registry.host, timeout=20)
    connection.request("GET", BLOB)
    answer = connection.getresponse()
    assert len(answer.headers.get_all("date", [])) == 1
    connection.close()


def test_requests_are_recorded(registry: RunningRegistry) -> None:
    _ask(registry.host, "HEAD", BLOB)
    assert [(s.method, s.path, s.status) for s in registry.seen][1:] == [("HEAD", BLOB, 200)]
    assert registry.count("HEAD", "/blobs/") == 1


def test_many_clients_at_once_write_one_registry(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    failures: list[object] = []
    with running_registry(store=store) as registry:

        def work(number: int) -> None:
            data = b"shared" if number % 2 else str(number).encode()
            try:
                _push(registry.host, data)
                assert _ask(registry.host, "GET", f"/v2/a/blobs/{digest_of(data)}")[1] == data
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert store.catalog.used_bytes == 6 + sum(len(str(n)) for n in range(0, 40, 2))
    store.close()


def test_a_bug_in_the_handler_is_answered_and_told() -> None:
    events: list[Event] = []

    class Broken(MemoryStore):
        def begin_upload(self, repository: str) -> None:  # type: ignore[override]
            raise RuntimeError("broken")

    with EmbeddedRegistry(Broken(), events=events.append) as registry:
        status, body, _ = _ask(registry.host, "POST", "/v2/a/blobs/uploads/")
    assert (status, json.loads(body)["errors"][0]["code"]) == (500, "UNKNOWN")
    assert "RuntimeError: broken" in str(events)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])
def test_only_loopback_is_served(host: str) -> None:
    with (
        pytest.raises(UsageError, match="this machine only"),
        EmbeddedRegistry(MemoryStore(), host=host),
    ):
        pass


def test_a_port_that_is_taken_is_an_error(registry: RunningRegistry) -> None:
    port = int(registry.host.rpartition(":")[2])
    with (
        pytest.raises(NetworkError, match="cannot listen"),
        EmbeddedRegistry(MemoryStore(), port=port),
    ):
        pass


def test_serving_ends_when_it_is_cancelled_and_leaves_signals_alone() -> None:
    cancel, hosts = Cancel(), []
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def started(host: str) -> None:
        hosts.append(host)
        assert _ask(host, "GET", "/v2/")[0] == 200
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        cancel.set("enough")

    serve_forever(MemoryStore(), cancel=cancel, port=0, on_started=started)
    with pytest.raises(ConnectionError):
        _ask(hosts[0], "GET", "/v2/")


def test_an_observer_sees_the_head_of_requests() -> None:
    seen: list[Request] = []
    with EmbeddedRegistry(MemoryStore(), observer=lambda request, _: seen.append(request)) as r:
        _ask(r.host, "GET", "/v2/a%2fb/tags/list?n=1", headers={"X-Test": "yes"})
    assert (seen[0].path, seen[0].query, seen[0].header("x-test")) == (
        "/v2/a%2fb/tags/list",
        "n=1",
        "yes",
    )


def test_importing_the_server_loads_no_uvicorn() -> None:
    program = "import sys, ci_registry.registry_server.serve; print('uvicorn' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"

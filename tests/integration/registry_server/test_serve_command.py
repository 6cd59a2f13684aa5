"""`ci-registry serve` as people start it: TLS, users, tokens, logs, metrics, collections, what is refused."""

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest
from cryptography.hazmat.primitives import serialization

from ci_registry.cancel import Cancel
from ci_registry.errors import SetupError, StorageError, UsageError
from ci_registry.events import Event, Log
from ci_registry.oci.digest import digest_of
from ci_registry.registry_server.options import Options
from ci_registry.registry_server.serve import EmbeddedRegistry, Exposure, TlsFiles, serve_forever
from ci_registry.registry_server.store import MemoryStore
from tests.support.tls import Authority
from tests.support.wire import wire

DATA = b"0123456789"
DIGEST = digest_of(DATA)
PASSWORD = "correct horse"


@dataclass
class Served:
    """A server process and what it has to say."""

    host: str
    process: "subprocess.Popen[str]"

    def stop(self) -> list[str]:
        """Interrupt it; returns the lines on stderr."""
        self.process.send_signal(signal.SIGTERM)
        _, text = self.process.communicate(timeout=30)
        return text.splitlines()


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """The environment of the command line."""
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}


def _call(env: dict[str, str], *argv: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    command = (sys.executable, "-m", "ci_registry", *argv)
    return subprocess.run(
        command, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


@contextlib.contextmanager
def _served(env: dict[str, str], *argv: str) -> Iterator[Served]:
    command = (sys.executable, "-m", "ci_registry", "serve", "--port", "0", *argv)
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            yield Served(process.stdout.readline().strip(), process)
        finally:
            process.kill()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls(authority: Authority) -> TlsFiles:
    issued = authority.issue("server")
    return TlsFiles(certificate=issued.certificate, key=issued.key)


@pytest.fixture
def users(tmp_path: Path, program: dict[str, str]) -> Path:
    """A users file made with the command line."""
    done = _call(program, "serve", "hash-password", "ann", stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ann:scrypt$")
    (tmp_path / "users").write_text(done.stdout)
    return tmp_path / "users"


def _basic(password: str = PASSWORD) -> dict[str, str]:
    text = base64.b64encode(f"ann:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


@pytest.mark.parametrize("tokens", [False, True])
def test_a_server_with_tls_and_users(
    tmp_path: Path,
    program: dict[str, str],
    authority: Authority,
    users: Path,
    tokens: bool,
) -> None:
    issued = authority.issue("server")
    files = ("--tls-cert", str(issued.certificate), "--tls-key", str(issued.key))
    options = (
        "--users",
        str(users),
        "--folder",
        str(tmp_path / "r"),
        "--access-log",
        *(["--token-auth"] * tokens),
    )
    context = ssl.create_default_context(cafile=authority.file)
    with _served(program, *files, *options) as served:
        login = ("ann", PASSWORD) if tokens else None
        with wire(served.host, context=context, login=login) as ask:
            refused = ask.send("GET", "/v2/")
            assert refused.status == 401
            kind = "Bearer realm=" if tokens else "Basic realm="
            assert refused["www-authenticate"].startswith(kind)
            target = f"/v2/a/blobs/uploads/?digest={DIGEST}"
            answer = ask("POST", target, DATA, headers={} if tokens else _basic())
            assert answer.status == 201
            place = "/token" if tokens else "/v2/"
            assert ask.send("GET", place, headers=_basic("wrong")).status == 401
            metrics = ask.send("GET", "/metrics", headers=_basic()).body.decode()
        lines = served.stop()
    assert 'ci_registry_server_requests_total{method="POST",status="201"} 1\n' in metrics
    assert "ci_registry_server_stored_bytes 10\n" in metrics
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    (upload,) = [entry for entry in entries if entry["status"] == 201]
    assert (upload["user"], upload["received_bytes"], upload["path"]) == (
        "ann",
        10,
        "/v2/a/blobs/uploads/",
    )
    (wrong,) = [
        e for e in entries if (e["status"], e["path"]) == (401, place) and e is not entries[0]
    ]
    assert wrong["user"] == ""
    text = "\n".join(lines)
    assert PASSWORD not in text
    assert _basic()["Authorization"] not in text
    assert (tmp_path / "r" / "index.json").exists()
    assert served.process.returncode == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--host", "0.0.0.0"], "served on this machine only, not on 0.0.0.0"),
        (["--host", "0.0.0.0", "--allow-public"], "there are no TLS and users"),
        (["--host", "0.0.0.0", "--allow-public", "--users", "USERS"], "there are no TLS\n"),
        (
            ["--host", "0.0.0.0", "--allow-public", *("--tls-cert", "C", "--tls-key", "K")],
            "no users",
        ),
        (["--tls-cert", "C"], "--tls-cert and --tls-key belong together"),
        (["--tls-cert", "K", "--tls-key", "C"], "cannot use"),
        (["--token-auth"], "--token-auth needs --users"),
        (["--gc-grace", "0s"], "not a duration"),
        (["--drain-timeout", "never"], "not a duration"),
        (["--users", "C"], "neither NAME:scrypt"),
        (["--port", "1", "export", "--folder", "."], "--port is not for `serve export`"),
    ],
)
def test_what_is_refused_is_refused_before_anything_listens(
    program: dict[str, str], tls: TlsFiles, users: Path, argv: list[str], words: str
) -> None:
    files = {"C": str(tls.certificate), "K": str(tls.key), "USERS": str(users)}
    done = _call(program, "serve", *(files.get(word, word) for word in argv))
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_any_address_is_served_with_tls_and_users_or_when_nobody_cares(tls: TlsFiles) -> None:
    options = Options(users={"ann": PASSWORD})
    with EmbeddedRegistry(
        MemoryStore(), host="0.0.0.0", options=options, tls=tls, exposure=Exposure.PROTECTED
    ) as registry:
        assert registry.is_running
    with EmbeddedRegistry(MemoryStore(), host="0.0.0.0", exposure=Exposure.UNPROTECTED) as registry:
        assert registry.is_running
    with (
        pytest.raises(UsageError, match="no TLS and users"),
        EmbeddedRegistry(MemoryStore(), host="0.0.0.0", exposure=Exposure.PROTECTED),
    ):
        pass


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tls: TlsFiles) -> None:
    key = serialization.load_pem_private_key(tls.key.read_bytes(), None)
    tls.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with (
        pytest.raises(SetupError, match="has a password"),
        EmbeddedRegistry(MemoryStore(), tls=tls),
    ):
        pass


def test_plain_http_is_not_answered_where_tls_is_spoken(tls: TlsFiles) -> None:
    with EmbeddedRegistry(MemoryStore(), tls=tls) as registry, wire(registry.host) as ask:
        with pytest.raises((ConnectionError, OSError, ValueError)):
            ask.send("GET", "/v2/")
        assert registry.is_running


class _Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("read_only", [False, True])
def test_garbage_is_collected_while_serving_unless_nothing_may_change(read_only: bool) -> None:
    clock, cancel, events = _Clock(), Cancel(), list[Event]()
    store = MemoryStore(clock=clock)
    with EmbeddedRegistry(store) as registry, wire(registry.host) as ask:
        ask.blob("a", DATA)
    started = threading.Event()

    def run() -> None:
        serve_forever(
            store,
            cancel=cancel,
            port=0,
            options=Options(read_only=read_only),
            on_started=lambda _host: started.set(),
            events=events.append,
            grace_s=3600.0,
        )

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(20)
    clock.now += 3 * 3600 + 2
    if not read_only:
        while store.catalog.used_bytes:
            time.sleep(0.05)
    else:
        time.sleep(1.5)  # long enough for a collection that must not come
    cancel.set("enough")
    thread.join()
    told = [event.message for event in events if isinstance(event, Log)]
    if read_only:
        assert store.catalog.used_bytes == len(DATA)
        assert told == []
    else:
        text = "garbage collection: 0 manifests, 1 blobs and 0 uploads removed, 10 bytes freed"
        assert told == [text]
        assert 'gc_removed_total{kind="blob"} 1\n' in store.metrics.text(
            stored_bytes=0, pending_uploads=0
        )


def test_a_collection_that_fails_is_told_and_the_server_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, cancel, events, answers = _Clock(), Cancel(), list[Event](), list[int]()
    store = MemoryStore(clock=clock)

    def fail(*_given: object, **_named: object) -> None:
        raise StorageError("the disk is gone")

    monkeypatch.setattr(store, "collect", fail)

    def tell(event: Event) -> None:
        events.append(event)
        with wire(hosts[0]) as ask:
            answers.append(ask.send("GET", "/v2/").status)
        cancel.set("enough")

    hosts: list[str] = []

    def started(host: str) -> None:
        hosts.append(host)
        threading.Timer(0.2, lambda: setattr(clock, "now", clock.now + 7200)).start()

    serve_forever(store, cancel=cancel, port=0, on_started=started, events=tell)
    assert answers == [200]
    assert "garbage collection failed: the disk is gone" in str(events)
    text = store.metrics.text(stored_bytes=0, pending_uploads=0)
    assert 'gc_runs_total{result="failed"} 1\n' in text


def test_a_second_server_of_a_folder_ends_at_once_and_names_the_first(
    tmp_path: Path, program: dict[str, str]
) -> None:
    folder = str(tmp_path / "r")
    with _served(program, "--folder", folder) as first:
        second = _call(program, "serve", "--port", "0", "--folder", folder)
        assert (second.returncode, second.stdout) == (4, "")
        assert f"served by another process (pid {first.process.pid})" in second.stderr
        with wire(first.host) as ask:
            ask.image("team/app", "v1")  # the first one is none the worse for it
        first.process.kill()
        first.process.wait()
    with _served(program, "--folder", folder) as third, wire(third.host) as ask:
        assert ask("GET", "/v2/team/app/tags/list").json["tags"] == ["v1"]


def test_users_of_an_htpasswd_file_log_in(tmp_path: Path, program: dict[str, str]) -> None:
    text = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"ann:{text.replace('$2b$', '$2y$')}\n")
    with (
        _served(program, "--users", str(tmp_path / "htpasswd")) as served,
        wire(served.host) as ask,
    ):
        assert ask.send("GET", "/v2/", headers=_basic()).status == 200
        assert ask.send("GET", "/v2/", headers=_basic("wrong")).status == 401


def test_sigterm_waits_for_a_running_download_as_long_as_it_may(
    tmp_path: Path, program: dict[str, str]
) -> None:
    data = os.urandom(1 << 20) * 48  # more than sockets hold on the way
    folder = str(tmp_path / "r")
    for drain, is_whole in (("60s", True), ("0s", False)):
        with _served(program, "--folder", folder, "--drain-timeout", drain) as served:
            with wire(served.host) as ask:
                digest = ask.blob("a", data)
            connection = http.client.HTTPConnection(served.host, timeout=60)
            connection.request("GET", f"/v2/a/blobs/{digest}")
            answer = connection.getresponse()
            first = answer.read(1000)
            served.process.send_signal(signal.SIGTERM)
            _wait_until_refused(served.host)
            if not is_whole:
                served.process.wait(timeout=30)
            rest, is_cut = b"", False
            try:
                rest = answer.read()
            except (http.client.IncompleteRead, ConnectionError):
                is_cut = True
            served.process.communicate(timeout=30)
            connection.close()
            assert is_cut != is_whole
            assert (first + rest == data) == is_whole


def _wait_until_refused(host: str) -> None:
    """Wait until nobody listens any more."""
    name, _, port = host.rpartition(":")
    while True:
        try:
            socket.create_connection((name, int(port)), timeout=5).close()
        except OSError:
            return
        time.sleep(0.01)


def test_a_folder_is_exported_when_nobody_serves_it(
    tmp_path: Path, program: dict[str, str]
) -> None:
    folder = tmp_path / "r"
    with _served(program, "--folder", str(folder)) as served:
        with wire(served.host) as ask:
            digest = ask.image("team/app", "v1")
        busy = _call(program, "serve", "export", "--folder", str(folder))
        assert busy.returncode == 4
        assert f"served by another process (pid {served.process.pid})" in busy.stderr
        served.process.kill()
        served.process.wait()
    assert not (folder / "index.json").exists()
    done = _call(program, "serve", "export", "--folder", str(folder))
    assert (done.returncode, done.stdout) == (0, f"{folder / 'index.json'}\n")
    (entry,) = json.loads((folder / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == digest
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "team/app:v1"}
    wrong = _call(program, "serve", "export", "--folder", str(tmp_path))
    assert wrong.returncode == 4
    assert "is no folder of `ci-registry serve`" in wrong.stderr

"""certs.d folders, client certificates, and tunnels through proxies, over real sockets."""

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.errors import NetworkError, SetupError
from ci_registry.network.message import Request
from tests.support.raw_server import Script, Wire, answering, ok, serving
from tests.support.remote import QuickCancel, quick_client
from tests.support.tls import Authority, with_tls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def https(wire: Wire) -> Request:
    return Request(method="GET", url=wire.url.replace("http:", "https:"))


def test_a_large_body_comes_whole_over_tls(authority: Authority) -> None:
    body = bytes(range(256)) * 20_000
    server = with_tls(authority.issue("server"), answering(ok(body), ok(body)))
    with serving(server) as wire, quick_client(ca_file=authority.file) as client:
        assert client.request(https(wire)).body == body
        request = Request(
            method="PUT", url=https(wire).url, body=lambda: iter((body,)), size_bytes=len(body)
        )
        client.request(request)
    assert wire.seen[1].endswith(body)
    assert wire.connections == 1


def test_a_folder_for_the_host_names_its_ca_and_our_certificate(
    authority: Authority, tmp_path: Path
) -> None:
    mine = authority.issue("client")
    server = with_tls(authority.issue("server"), answering(ok()), client_ca=authority.file)
    with serving(server) as wire:
        place = tmp_path / "second" / f"127.0.0.1:{wire.port}"
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes(authority.file.read_bytes())
        roots = (tmp_path / "absent", tmp_path / "second")
        with (
            quick_client(certs_dirs=roots, retries=0) as client,
            pytest.raises(NetworkError, match=r"connection lost|no TLS connection"),
        ):
            client.request(https(wire))
        (place / "client.cert").write_bytes(mine.certificate.read_bytes())
        (place / "client.key").write_bytes(mine.key.read_bytes())
        with quick_client(certs_dirs=roots) as client:
            assert client.request(https(wire)).body == b"hello"


def test_the_folder_of_another_host_is_not_used(authority: Authority, tmp_path: Path) -> None:
    place = tmp_path / "127.0.0.1:1"
    place.mkdir()
    (place / "ca.crt").write_bytes(authority.file.read_bytes())
    with (
        serving(with_tls(authority.issue("server"), answering(ok()))) as wire,
        quick_client(certs_dirs=(tmp_path,)) as client,
        pytest.raises(NetworkError, match="not trusted"),
    ):
        client.request(https(wire))


@pytest.mark.parametrize(
    ("name", "content"),
    [("ca.crt", "no PEM"), ("client.cert", "no PEM"), ("client.cert", "without its key")],
)
def test_a_folder_that_cannot_be_used_is_named(
    authority: Authority, tmp_path: Path, name: str, content: str
) -> None:
    place = tmp_path / "127.0.0.1:1"
    place.mkdir()
    mine = authority.issue("client").certificate.read_text()
    (place / name).write_text(content if content == "no PEM" else mine)
    with (
        quick_client(certs_dirs=(tmp_path,)) as client,
        pytest.raises(SetupError, match=name) as caught,
    ):
        client.request(Request(method="GET", url="https://127.0.0.1:1/"))
    assert caught.value.hint


def test_the_store_of_certificates_is_read_once_and_only_for_https(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ssl.SSLContext] = []
    real = ssl.create_default_context

    def counting() -> ssl.SSLContext:
        made.append(real())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", counting)
    server = authority.issue("server")
    with (
        serving(answering(ok())) as plain,
        serving(with_tls(server, answering(ok()))) as first,
        serving(with_tls(server, answering(ok()))) as second,
        quick_client(ca_file=authority.file) as client,
    ):
        client.request(Request(method="GET", url=plain.url))
        assert made == []
        client.request(https(first))
        client.request(https(second))
    assert len(made) == 1


def tunnelling(port: int, *, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Script:
    """Be a proxy: answer a CONNECT, then pass bytes on to a port of this machine."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def script(sock: socket.socket, wire: Wire) -> None:
        wire.read_request(sock)
        sock.sendall(answer)
        with socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=pump, args=(server, sock))
            back.start()
            pump(sock, server)
            back.join()

    return script


@pytest.fixture
def registry(authority: Authority) -> Iterator[Wire]:
    """A server that is called registry.test."""
    certified = authority.issue("registry", "registry.test")
    with serving(with_tls(certified, answering(ok(), ok()))) as wire:
        yield wire


def test_https_goes_through_a_tunnel_that_sees_no_request(
    authority: Authority, registry: Wire
) -> None:
    with serving(tunnelling(registry.port)) as proxy:
        env = {"https_proxy": f"http://us%40er:p%3Aw@127.0.0.1:{proxy.port}"}
        with quick_client(proxy_env=env, ca_file=authority.file) as client:
            for _ in range(2):
                answer = client.request(Request(method="GET", url="https://registry.test/v2/"))
                assert answer.body == b"hello"
    login = base64.b64encode(b"us@er:p:w").decode()
    assert proxy.seen == [
        b"CONNECT registry.test:443 HTTP/1.1\r\nHost: registry.test:443\r\n"
        b"Proxy-Authorization: Basic " + login.encode() + b"\r\n\r\n"
    ]
    assert registry.seen[0].startswith(b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\n")
    assert b"Proxy-Authorization" not in registry.seen[0]


def test_a_proxy_that_refuses_is_told_from_the_registry(authority: Authority) -> None:
    cancel = QuickCancel()
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with serving(answering(refusal)) as proxy:
        env = {"https_proxy": f"http://u:hidden@127.0.0.1:{proxy.port}"}
        with (
            quick_client(proxy_env=env, ca_file=authority.file, cancel=cancel) as client,
            pytest.raises(NetworkError, match=r"registry\.test: the proxy refused: HTTP 407") as e,
        ):
            client.request(Request(method="GET", url="https://registry.test/v2/"))
    assert "hidden" not in f"{e.value.message}{e.value.hint}"
    assert cancel.slept == []


def test_a_proxy_may_itself_be_spoken_to_by_tls(authority: Authority, registry: Wire) -> None:
    through = with_tls(authority.issue("proxy"), tunnelling(registry.port))
    with serving(through) as proxy:
        env = {"https_proxy": f"https://127.0.0.1:{proxy.port}"}
        with quick_client(proxy_env=env, ca_file=authority.file) as client:
            answer = client.request(Request(method="GET", url="https://registry.test/v2/"))
            assert answer.body == b"hello"
    assert proxy.seen[0].startswith(b"CONNECT registry.test:443 ")

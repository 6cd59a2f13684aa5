"""TLS and proxies over real sockets."""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ci_registry.errors import NetworkError, SetupError
from ci_registry.network.message import Request
from tests.support.remote import QuickCancel, quick_client


class Handler(BaseHTTPRequestHandler):
    """Answers GET with what it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.seen.append((self.path, self.headers.get("Proxy-Authorization", "")))
        body = b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Remembers targets and proxy logins."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str]] = []

    def handle_error(self, *_: object) -> None:
        """A client that breaks a handshake off is what is tested."""


@contextlib.contextmanager
def running(certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    with Server() as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private


def test_an_untrusted_certificate_is_refused_at_once_and_said(
    certificate: tuple[Path, Path],
) -> None:
    cancel = QuickCancel()
    with running(certificate) as server, quick_client(cancel=cancel) as client:
        with pytest.raises(NetworkError, match="certificate is not trusted") as caught:
            client.request(Request(method="GET", url=f"https://127.0.0.1:{server.server_port}/"))
        assert server.seen == []
    assert "network.ca_file" in caught.value.hint
    assert cancel.slept == []


def test_a_certificate_of_the_given_ca_file_is_trusted(certificate: tuple[Path, Path]) -> None:
    with running(certificate) as server, quick_client(ca_file=certificate[0]) as client:
        url = f"https://127.0.0.1:{server.server_port}/"
        assert client.request(Request(method="GET", url=url)).body == b"hello"


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with (
        quick_client(ca_file=tmp_path / "ca.pem") as client,
        pytest.raises(SetupError, match=r"ca\.pem"),
    ):
        client.request(Request(method="GET", url="https://127.0.0.1:1/"))


def test_a_server_without_tls_is_told_from_a_lost_connection() -> None:
    cancel = QuickCancel()
    with (
        running() as server,
        quick_client(cancel=cancel) as client,
        pytest.raises(NetworkError, match="no TLS connection") as caught,
    ):
        client.request(Request(method="GET", url=f"https://127.0.0.1:{server.server_port}/"))
    assert "network.plain_http" in caught.value.hint
    assert cancel.slept == []


def test_a_proxy_gets_the_whole_url_and_its_own_login() -> None:
    with running() as proxy:
        env = {"http_proxy": f"http://u:p@127.0.0.1:{proxy.server_port}"}
        with quick_client(proxy_env=env, plain_http=("registry.test",)) as client:
            url = "http://registry.test/v2/a?_state=a%2Fb"
            assert client.request(Request(method="GET", url=url)).body == b"hello"
        assert proxy.seen == [(url, "Basic dTpw")]

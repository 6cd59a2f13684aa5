"""Registries on this machine, with and without TLS: found out by one answer, never with credentials."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.errors import NetworkError
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry_server.options import TokenAuth
from ci_registry.registry_server.serve import TlsFiles
from tests.support.cli import Project
from tests.support.images import ImageSpec, make_layout
from tests.support.raw_server import Script, Wire, answering, ok, serving
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import QuickCancel, login, remote_repository
from tests.support.tls import Authority, with_tls

TAGS = ok(b'{"name":"a/b","tags":["v1"]}')
ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
GO = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
NGINX = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 61\r\nConnection: close\r\n\r\n"
    b"<html>The plain HTTP request was sent to HTTPS port</html>\r\n\r\n"
)
BLOB = b"x" * 100_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def secured(authority: Authority) -> Iterator[RunningRegistry]:
    """The embedded registry with TLS and a user."""
    made = authority.issue("registry")
    files = TlsFiles(certificate=made.certificate, key=made.key)
    with running_registry(tls=files, users={"u": "p"}) as registry:
        yield registry


def greeted(sock: socket.socket, wire: Wire) -> None:
    """Answer a TLS greeting as a server does that speaks TLS."""
    wire.seen.append(sock.recv(4096))
    sock.sendall(ALERT)


@pytest.mark.parametrize("refusal", [ALERT, b"", GO, NGINX], ids=["alert", "close", "go", "nginx"])
def test_a_registry_that_speaks_tls_is_found_out_and_the_login_waits_for_it(
    authority: Authority, refusal: bytes
) -> None:
    challenge = (
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
    )
    inside = with_tls(authority.issue("server"), answering(challenge, TAGS, TAGS))
    cancel = QuickCancel()
    with serving(answering(refusal), greeted, inside) as wire:
        host = f"127.0.0.1:{wire.port}"
        with remote_repository(
            host,
            "a/b",
            ca_file=authority.file,
            cancel=cancel,
            credentials=login(host, "u", "secret"),
        ) as repository:
            assert repository.tags() == ("v1",)
            assert repository.tags() == ("v1",)
    secret = base64.b64encode(b"u:secret")
    plain, greeting, *by_tls = wire.seen
    assert plain.startswith(b"GET /v2/a/b/tags/list")
    assert greeting[:2] == b"\x16\x03"
    assert [secret in seen for seen in (plain, greeting, *by_tls)] == [False] * 3 + [True] * 2
    assert wire.connections == 3  # and not one more for the second list
    assert cancel.slept == []


def test_a_plain_registry_costs_one_connection_and_no_greeting() -> None:
    with serving(answering(TAGS, TAGS)) as wire:
        with remote_repository(f"127.0.0.1:{wire.port}", "a/b") as repository:
            repository.tags()
            repository.tags()
        assert wire.connections == 1
    assert len(wire.seen) == 2


@pytest.mark.parametrize("trouble", [b"", b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"])
def test_trouble_of_a_plain_registry_is_not_taken_for_tls(trouble: bytes) -> None:
    def puzzled(sock: socket.socket, _wire: Wire) -> None:
        sock.recv(4096)
        sock.sendall(GO)

    with serving(answering(trouble), puzzled, answering(TAGS, TAGS)) as wire:
        with remote_repository(f"127.0.0.1:{wire.port}", "a/b") as repository:
            if trouble:
                with pytest.raises(Exception, match="HTTP 400"):
                    repository.tags()
            assert repository.tags() == ("v1",)
        assert wire.connections == 3


def test_what_answered_without_tls_once_is_not_greeted_later() -> None:
    bad = b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"
    with serving(answering(TAGS, bad, TAGS)) as wire:
        with remote_repository(f"127.0.0.1:{wire.port}", "a/b") as repository:
            repository.tags()
            with pytest.raises(Exception, match="HTTP 400"):
                repository.tags()
            repository.tags()
        assert wire.connections == 1


def test_a_certificate_that_nobody_vouches_for_is_no_reason_to_go_without(
    secured: RunningRegistry,
) -> None:
    cancel = QuickCancel()
    with (
        remote_repository(secured.host, "a/b", cancel=cancel) as repository,
        pytest.raises(NetworkError, match="certificate is not trusted") as caught,
    ):
        repository.tags()
    assert "network.ca_file" in caught.value.hint
    assert secured.seen == []
    assert cancel.slept == []


def test_a_folder_with_certificates_for_it_means_tls_from_the_start(
    authority: Authority, tmp_path: Path
) -> None:
    with serving(with_tls(authority.issue("server"), answering(TAGS))) as wire:
        folder = tmp_path / f"127.0.0.1:{wire.port}"
        folder.mkdir()
        (folder / "ca.crt").write_bytes(authority.file.read_bytes())
        with remote_repository(folder.name, "a/b", certs_dirs=(tmp_path,)) as repository:
            assert repository.tags() == ("v1",)
        assert wire.connections == 1


def test_a_host_that_is_named_as_plain_is_never_greeted(authority: Authority) -> None:
    def close(sock: socket.socket, wire: Wire) -> None:
        wire.seen.append(sock.recv(4096))

    scripts: list[Script] = [close]
    with serving(*scripts) as wire:
        host = f"127.0.0.1:{wire.port}"
        with (
            remote_repository(
                host, "a/b", plain_http=(host,), ca_file=authority.file, retries=1
            ) as repository,
            pytest.raises(NetworkError, match="connection lost"),
        ):
            repository.tags()
    assert [seen[:3] for seen in wire.seen] == [b"GET", b"GET"]


def test_blobs_and_manifests_go_both_ways_and_the_password_only_by_tls(
    secured: RunningRegistry, authority: Authority
) -> None:
    blob = Descriptor(media_type="application/x", digest=digest_of(BLOB), size=len(BLOB))
    credentials = login(secured.host, "u", "p")
    settings = {"credentials": credentials, "ca_file": authority.file}
    with remote_repository(secured.host, "a/b", **settings) as repository:  # type: ignore[arg-type]
        repository.push_blob(blob, lambda: iter((BLOB,)))
    with remote_repository(secured.host, "a/b", **settings) as repository:  # type: ignore[arg-type]
        assert b"".join(repository.open(blob.digest)) == BLOB  # a download may be the first request


def test_threads_that_come_at_once_all_end_up_with_tls(
    secured: RunningRegistry, authority: Authority
) -> None:
    found: list[object] = []
    together = threading.Barrier(8)
    with remote_repository(
        secured.host, "a/b", credentials=login(secured.host, "u", "p"), ca_file=authority.file
    ) as repository:

        def ask() -> None:
            together.wait(10)
            found.append(repository.size_of(digest_of(b"absent")))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [None] * 8


def test_a_token_service_of_a_registry_with_tls_must_have_tls_too(authority: Authority) -> None:
    made = authority.issue("registry")
    files = TlsFiles(certificate=made.certificate, key=made.key)
    auth = TokenAuth(key=b"k" * 32, realm="http://127.0.0.1:9/token")
    with (
        running_registry(tls=files, users={"u": "p"}, token_auth=auth) as registry,
        remote_repository(
            registry.host,
            "a/b",
            credentials=login(registry.host, "u", "p"),
            ca_file=authority.file,
        ) as repository,
        pytest.raises(Exception, match="token service without TLS"),
    ):
        repository.tags()


def test_the_commands_reach_it_with_a_ca_of_its_own(
    secured: RunningRegistry, authority: Authority, tmp_path: Path
) -> None:
    project = Project(base=tmp_path)
    for name in ("project", "home", "work", "tmp"):
        (tmp_path / name).mkdir()
    make_layout(project.folder / "image", ImageSpec(layers=[{"a": "1"}]))
    docker = tmp_path / "home" / ".docker"
    docker.mkdir()
    auth = base64.b64encode(b"u:p").decode()
    (docker / "config.json").write_text(json.dumps({"auths": {secured.host: {"auth": auth}}}))
    name = f"{secured.host}/team/app"
    env = {"CIREG_NETWORK_CA_FILE": str(authority.file)}
    for arguments in (("copy", "image", f"{name}:v1"), ("copy", f"{name}:v1", "oci:back")):
        outcome = project.run(*arguments, env=env)
        assert outcome.exit_code == 0, outcome.stderr
    assert project.run("ls", name, env=env).stdout == "v1\n"
    by_system = project.run("ls", name, env={"SSL_CERT_FILE": str(authority.file)})
    assert by_system.stdout == "v1\n", by_system.stderr  # the system's store, wherever that is
    refused = project.run("ls", name)
    assert refused.exit_code == 4
    assert "its TLS certificate is not trusted" in refused.stderr
    assert "network.ca_file" in refused.stderr
    folder = tmp_path / "home" / ".config" / "containers" / "certs.d" / secured.host
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(authority.file.read_bytes())
    assert project.run("ls", name).stdout == "v1\n"


def test_the_commands_go_through_the_proxy_of_the_environment(tmp_path: Path) -> None:
    project = Project(base=tmp_path)
    for name in ("project", "home", "work", "tmp"):
        (tmp_path / name).mkdir()
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with serving(answering(refusal)) as proxy:
        url = f"http://user:hidden@127.0.0.1:{proxy.port}"
        outcome = project.run("ls", "registry.test:5000/a/b", env={"HTTPS_PROXY": url})
    assert outcome.exit_code == 4
    assert "registry.test:5000: the proxy refused: HTTP 403" in outcome.stderr
    assert "hidden" not in outcome.stderr
    assert proxy.seen[0].startswith(b"CONNECT registry.test:5000 HTTP/1.1\r\n")
    login_bytes = base64.b64encode(b"user:hidden")
    assert b"Proxy-Authorization: Basic " + login_bytes in proxy.seen[0]

"""What is very large, or breaks the rules: bounded time and memory, and an error that says what is wrong."""

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ci_registry
from ci_registry.errors import IntegrityError, RegistryError
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import MAX_MANIFEST_BYTES, parse_descriptor
from ci_registry.registry_server.catalog import StoredManifest
from ci_registry.registry_server.options import Answer, Fault
from tests.support.cli import Outcome, Project
from tests.support.raw_server import Script, Wire, answering, ok, serving
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import remote_repository

MEBIBYTE = bytes(1 << 20)
SIZE = 6 << 30
ZEROS = "sha256:5c32c2b28999325bc5ad39d6530bcb46fbdf1f86375a991b7269764c50b0d109"
"""Of `SIZE` zero bytes."""
MOST_KIB = 100 * 1024


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty folder outside of any repository."""
    project = Project(base=tmp_path)
    for name in ("project", "home", "work", "tmp"):
        (tmp_path / name).mkdir()
    return project


def bad(outcome: Outcome, exit_code: int, message: str) -> None:
    assert outcome.exit_code == exit_code, (outcome.stdout, outcome.stderr)
    assert message in outcome.stderr, outcome.stderr
    assert "Traceback" not in outcome.stderr


# --- a blob of 6 GiB

CLIENT = """
import sys
from pathlib import Path
from ci_registry.cancel import Cancel
from ci_registry.network.client import HttpClient
from ci_registry.network.settings import HttpSettings
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.remote import RemoteRegistry

host, doing, digest, size_bytes = sys.argv[1:]
blob = Descriptor(media_type="application/x", digest=Digest(digest), size=int(size_bytes))
piece = bytes(1 << 18)
with HttpClient(HttpSettings(), Cancel()) as client:
    repository = RemoteRegistry(client).repository(f"{host}/a/b")
    if doing == "pull":
        found = sum(len(part) for part in repository.open(blob.digest))
    else:
        pieces = lambda: (piece for _ in range(blob.size // len(piece)))
        found = repository.push_blob(blob, pieces, is_new=True).bytes_sent
status = Path("/proc/self/status").read_text()
print(found, status.partition("VmHWM:")[2].split()[0])
"""


def sending(size_bytes: int) -> Script:
    def script(sock: socket.socket, wire: Wire) -> None:
        while head := wire.read_request(sock):
            if head.startswith(b"GET"):
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size_bytes)
                for _ in range(size_bytes >> 20):
                    sock.sendall(MEBIBYTE)
            else:
                sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    return script


def receiving(received: list[int]) -> Script:
    """Open an upload, then take the body of a PUT in a buffer of its own."""

    def script(sock: socket.socket, wire: Wire) -> None:
        buffer = bytearray(1 << 20)
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                new = sock.recv(65536)
                if not new:
                    return
                head += new
            wire.seen.append(head.partition(b"\r\n")[0])
            if head.startswith(b"PUT"):
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                done = len(head.partition(b"\r\n\r\n")[2])
                while done < length:
                    done += sock.recv_into(buffer)
                received.append(done)
                sock.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            else:
                sock.sendall(
                    b"HTTP/1.1 202 Accepted\r\nLocation: /u/1\r\nContent-Length: 0\r\n\r\n"
                )

    return script


def client(wire: Wire, doing: str) -> tuple[int, int]:
    """Move the blob in a process of its own; returns bytes, and the peak of its memory in KiB."""
    root = str(Path(ci_registry.__file__).parents[1])
    done = subprocess.run(
        (sys.executable, "-c", CLIENT, f"127.0.0.1:{wire.port}", doing, ZEROS, str(SIZE)),
        env={"PYTHONPATH": root},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found, peak_kib = done.stdout.split()
    return int(found), int(peak_kib)


def test_six_gibibytes_are_pulled_in_little_memory() -> None:
    with serving(sending(SIZE)) as wire:
        size_bytes, peak_kib = client(wire, "pull")
    assert size_bytes == SIZE
    assert peak_kib < MOST_KIB


def test_six_gibibytes_are_pushed_by_one_put_in_little_memory() -> None:
    received: list[int] = []
    with serving(receiving(received)) as wire:
        size_bytes, peak_kib = client(wire, "push")
    assert (size_bytes, received) == (SIZE, [SIZE])
    assert [line.split()[0] for line in wire.seen] == [b"POST", b"PUT"]
    assert peak_kib < MOST_KIB


# --- long lists


def index_body() -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": []}).encode()


def put_tags(registry: RunningRegistry, tags: tuple[str, ...]) -> None:
    body = index_body()
    stored = StoredManifest(
        digest=digest_of(body), media_type=media_types.OCI_INDEX, size=len(body)
    )
    registry.store.put_manifest("team/app", stored, body, tags)


@pytest.mark.parametrize("link", [True, False], ids=["with Link", "without Link"])
def test_a_hundred_thousand_tags_come_fifty_at_a_time(link: bool) -> None:
    tags = tuple(f"build-{number:06}" for number in range(100_000))
    with running_registry(page_limit=50, paging_link=link) as registry:
        put_tags(registry, tags)
        with remote_repository(registry.host, "team/app") as repository:
            assert repository.tags() == tags
        assert registry.count("GET", "/tags/list") <= 2001


def test_a_list_of_tags_that_leads_in_a_circle_ends(registry: RunningRegistry) -> None:
    headers = (("Link", '</v2/team/app/tags/list?n=1000&last=x>; rel="next"'),)
    body = b'{"name":"team/app","tags":["v1","x"]}'
    registry.faults.add(Fault(action=Answer(status=200, headers=headers, body=body), times=0))
    with (
        remote_repository(registry.host, "team/app") as repository,
        pytest.raises(RegistryError, match="without an end"),
    ):
        repository.tags()
    assert registry.count("GET", "/tags/list") == 2


def test_a_list_that_is_larger_than_anybodys_is_refused(registry: RunningRegistry) -> None:
    body = b'{"tags":["' + b'","'.join(b"%0128d" % number for number in range(140_000)) + b'"]}'
    registry.faults.add(Fault(action=Answer(status=200, body=body), times=0))
    with (
        remote_repository(registry.host, "team/app") as repository,
        pytest.raises(IntegrityError, match="more than 16777216 bytes"),
    ):
        repository.tags()


def test_five_thousand_referrers_come_from_the_server_in_pages_that_any_client_reads(
    registry: RunningRegistry,
) -> None:
    subject = digest_of(index_body())
    for number in range(5000):
        body = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": media_types.OCI_INDEX,
                "manifests": [],
                "subject": {"mediaType": media_types.OCI_INDEX, "digest": subject, "size": 33},
                "annotations": {"number": str(number), "text": "x" * 1000},
            }
        ).encode()
        stored = StoredManifest(
            digest=digest_of(body),
            media_type=media_types.OCI_INDEX,
            size=len(body),
            subject=subject,
            annotations={"number": str(number), "text": "x" * 1000},
        )
        registry.store.catalog.add_manifest("team/app", stored, ())
    found: set[str] = set()
    path, pages = f"/v2/team/app/referrers/{subject}", 0
    with socket.create_connection(("127.0.0.1", int(registry.host.rpartition(":")[2]))) as sock:
        while path:
            head, body = ask(sock, f"GET {path} HTTP/1.1".encode())
            assert len(body) <= MAX_MANIFEST_BYTES
            found |= {entry["digest"] for entry in json.loads(body)["manifests"]}
            link = head.partition(b"link: <")[2].partition(b">")[0]
            path, pages = link.decode(), pages + 1
    assert len(found) == 5000
    assert pages <= 20
    with (
        remote_repository(registry.host, "team/app") as repository,
        pytest.raises(IntegrityError, match=f"more than 1000 referrers of {subject}") as caught,
    ):
        repository.referrers(subject)
    assert "ci-registry rm" in caught.value.hint


def ask(sock: socket.socket, line: bytes, *fields: bytes) -> tuple[bytes, bytes]:
    """Send a request without a body as these bytes; returns head (in lower case) and body of the answer."""
    sock.sendall(b"\r\n".join([line, b"Host: x", *fields, b"", b""]))
    data = b""
    while b"\r\n\r\n" not in data:
        new = sock.recv(1 << 20)
        if not new:
            return data.lower(), b""
        data += new
    head, _, body = data.partition(b"\r\n\r\n")
    head = head.lower()
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += sock.recv(1 << 20)
    return head, body


# --- manifests that break the rules


def test_a_manifest_of_four_mebibytes_and_a_byte_is_never_sent(
    project: Project, registry: RunningRegistry
) -> None:
    body = index_body()
    full = body + b" " * (MAX_MANIFEST_BYTES - len(body))
    with remote_repository(registry.host, "team/app") as repository:
        repository.push("full", full, media_types.OCI_INDEX)
        assert repository.fetch("full").body == full
        with pytest.raises(IntegrityError, match="4194305 bytes"):
            repository.push("v1", full + b" ", media_types.OCI_INDEX)
        assert registry.count("PUT") == 1
    layout = project.folder / "image"
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / digest_of(full + b" ").hex).write_bytes(full + b" ")
    entry = {"mediaType": media_types.OCI_INDEX, "digest": digest_of(full + b" "), "size": 4194305}
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    bad(project.run("copy", "image", f"{registry.host}/team/app:v1"), 4, "too large for a manifest")
    assert registry.count("PUT") == 1


def test_an_index_that_contains_itself_is_refused_by_every_command(
    project: Project, registry: RunningRegistry
) -> None:
    """Only a registry that lies can have one: whatever it is asked for, it gives the same index."""
    entry = {"mediaType": media_types.OCI_INDEX, "digest": digest_of(b"itself"), "size": 300}
    body = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    said = (("Content-Type", media_types.OCI_INDEX), ("Docker-Content-Digest", digest_of(body)))
    answer = Answer(status=200, headers=said, body=body)
    registry.faults.add(Fault(action=answer, path="/manifests/", times=0))
    name = f"{registry.host}/team/app:v1"
    for arguments in (("copy", name, "oci:x"), ("inspect", name)):
        bad(project.run(*arguments), 4, f"expected {digest_of(b'itself')}")
    assert registry.count("GET", "/manifests/") <= 8


def test_foreign_layers_are_named_and_nobody_asks_for_them(
    project: Project, registry: RunningRegistry
) -> None:
    config = b'{"architecture":"amd64","os":"windows","rootfs":{"type":"layers","diff_ids":[]}}'
    with serving(answering(ok())) as elsewhere:
        layer = {
            "mediaType": media_types.DOCKER_FOREIGN_LAYER,
            "digest": digest_of(b"windows"),
            "size": 7,
            "urls": [elsewhere.url],
        }
        body = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": media_types.DOCKER_MANIFEST,
                "config": {
                    "mediaType": media_types.DOCKER_CONFIG,
                    "digest": digest_of(config),
                    "size": len(config),
                },
                "layers": [layer],
            }
        ).encode()
        with running_registry() as source, remote_repository(source.host, "win/app") as repository:
            document = json.loads(body)
            blob = parse_descriptor(document["config"], what="config")
            repository.push_blob(blob, lambda: iter((config,)))
            repository.push("v1", body, media_types.DOCKER_MANIFEST)
            outcome = project.run(
                "copy", f"{source.host}/win/app:v1", f"{registry.host}/win/app:v1"
            )
            assert outcome.exit_code == 0, outcome.stderr
            assert digest_of(b"windows") in outcome.stderr
            assert source.count("GET", digest_of(b"windows")) == 0
        assert elsewhere.connections == 0
    with remote_repository(registry.host, "win/app") as copied:
        assert copied.fetch("v1").body == body


# --- names and headers that break the rules


def test_names_that_break_the_rules_go_nowhere(project: Project, registry: RunningRegistry) -> None:
    host, long = registry.host, "t" * 129
    for arguments, message in (
        (("ls", f"{host}/team/../app"), "is not a repository"),
        (("copy", f"{host}/../app:v1", "oci:x"), "is not a repository"),
        (("inspect", f"{host}/team/app:{long}"), "is not a tag"),
        (("untag", f"{host}/team/app:{long}"), "is not a tag"),
    ):
        bad(project.run(*arguments), 2, message)
    with remote_repository(host, "team/app") as repository:
        for name in (long, "../v1", "a/b"):
            with pytest.raises(IntegrityError, match="neither a tag nor a digest"):
                repository.fetch(name)
        assert registry.seen == []
        body = json.dumps({"name": "team/app", "tags": ["v1", long]}).encode()
        registry.faults.add(Fault(action=Answer(status=200, body=body), times=0))
        with pytest.raises(IntegrityError, match="holds what is no tag"):
            repository.tags()


@pytest.mark.parametrize(
    "field",
    [
        b"Docker-Content-Digest: sha256:\xff\xfe",
        b"Content-Type: application/\xe9",
        b"WWW-Authenticate: Basic realm=\xc3\x28",
    ],
)
def test_answers_with_header_fields_that_are_not_utf_8_are_refused(
    project: Project, field: bytes
) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + field + b"\r\nContent-Length: 2\r\n\r\n{}"
    with serving(answering(answer)) as wire:
        name = field.partition(b":")[0].decode().lower()
        host = f"127.0.0.1:{wire.port}"
        for command in ("ls", "inspect"):
            target = f"{host}/team/app" + ("" if command == "ls" else ":v1")
            outcome = project.run(command, target)
            bad(outcome, 4, "the answer is refused")
            assert f"header field {name} is not utf-8" in outcome.stderr.lower()


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (b"GET /v2/a/tags/list HTTP/1.1", (b"Authorization: Basic \xff\xfe",)),
        (b"GET /v2/a/tags/list HTTP/1.1", (b"Authorization: Bearer \xc3\x28",)),
        (b"GET /v2/a/manifests/v1 HTTP/1.1", (b"Accept: \xe9",)),
        (b"GET /v2/a/manifests/v1 HTTP/1.1", (b"If-None-Match: \xe9",)),
        (b"GET /v2/a/blobs/sha256:%b HTTP/1.1" % (b"0" * 64), (b"Range: bytes=\xb2-",)),
        (b"GET /v2/\xff\xfe/tags/list HTTP/1.1", ()),
        (b"GET /v2/%FF%FE/tags/list HTTP/1.1", ()),
        (b"GET /v2/a/../b/tags/list HTTP/1.1", ()),
        (b"GET /v2/a/%2e%2e/b/tags/list HTTP/1.1", ()),
        (b"GET /v2/a/manifests/" + b"t" * 129 + b" HTTP/1.1", ()),
        (b"GET /v2/a/tags/list?n=\xb2 HTTP/1.1", ()),
        (b"GET /v2/a/tags/list?last=%FF HTTP/1.1", ()),
        (b"GET /v2/" + b"a" * 100_000 + b"/tags/list HTTP/1.1", ()),
        (b"GET /v2/a/tags/list HTTP/1.1", (b"X: " + b"y" * 200_000,)),
    ],
)
@pytest.mark.parametrize("users", [{}, {"u": "p"}], ids=["open", "login"])
def test_requests_that_break_the_rules_are_refused_and_the_server_goes_on(
    line: bytes, fields: tuple[bytes, ...], users: dict[str, str]
) -> None:
    login = b"Authorization: Basic " + base64.b64encode(b"u:p")
    own = (login,) if users and not any(f.startswith(b"Authorization") for f in fields) else ()
    with running_registry(users=users) as registry:
        port = int(registry.host.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as sock:
            head, _ = ask(sock, line, *fields, *own)
            assert head.split()[1] in (b"400", b"401", b"404", b"414", b"431"), head
        with socket.create_connection(("127.0.0.1", port)) as sock:
            head, _ = ask(sock, b"GET /v2/ HTTP/1.1", *((login,) if users else ()))
            assert head.split()[1] == b"200"

"""Every fault of the embedded registry against every operation of a client: attempts, outcome, message.

The table below is complete: a fault has an expectation for each operation, its own or the fault's.
"""

import email.utils
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from ci_registry.errors import (
    AccessError,
    CiRegistryError,
    IntegrityError,
    NetworkError,
    RegistryError,
)
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.interface import BlobOutcome
from ci_registry.registry.remote import RemoteRepository
from ci_registry.registry_server.message import Request
from ci_registry.registry_server.options import (
    Action,
    Answer,
    Corrupt,
    Fault,
    FaultScript,
    Redirect,
    Reset,
    Stall,
    TokenAuth,
    Truncate,
)
from ci_registry.registry_server.store import MemoryStore
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import QuickCancel, login, remote_repository

OTHER = "team/other"
HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
WRONG = "sha256:" + "0" * 64


def blob_bytes(name: str) -> bytes:
    return name.encode() * (100_000 // len(name))


def blob(name: str) -> Descriptor:
    data = blob_bytes(name)
    return Descriptor(media_type="application/x", digest=digest_of(data), size=len(data))


def manifest(name: str) -> bytes:
    return b'{"schemaVersion":2,"mediaType":"%s","manifests":[],"annotations":{"n":"%s"}}' % (
        media_types.OCI_INDEX.encode(),
        name.encode(),
    )


# --- operations: each is run once to warm up (login, connection), then with a fault

Call = Callable[[RemoteRepository, str], object]
"""Does it with what is called `warm` or `real`."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing that a client does, and the request in which the fault strikes."""

    method: str
    path: str
    """Regular expression."""
    call: Call
    is_warmed_up: bool = True


def upload(repository: RemoteRepository, name: str) -> object:
    pushed = repository.push_blob(
        blob(f"new-{name}"), lambda: iter((blob_bytes(f"new-{name}"),)), is_new=True
    )
    assert pushed.outcome is BlobOutcome.UPLOADED
    return b"".join(repository.open(pushed.digest)) == blob_bytes(f"new-{name}")


def mount(repository: RemoteRepository, name: str) -> object:
    registry = repository.name.partition("/")[0]
    data = blob_bytes(f"far-{name}")
    return repository.push_blob(
        blob(f"far-{name}"), lambda: iter((data,)), is_new=True, mount_from=(f"{registry}/{OTHER}",)
    ).outcome.name


def download(repository: RemoteRepository, name: str) -> object:
    return b"".join(repository.open(blob(name).digest)) == blob_bytes(name)


def put(repository: RemoteRepository, name: str) -> object:
    return repository.push(
        f"put-{name}", manifest(f"put-{name}"), media_types.OCI_INDEX
    ).digest == digest_of(manifest(f"put-{name}"))


def delete(repository: RemoteRepository, name: str) -> object:
    repository.delete(digest_of(manifest(f"old-{name}")))
    return repository.resolve(digest_of(manifest(f"old-{name}"))) is None


def untag(repository: RemoteRepository, name: str) -> object:
    repository.untag(f"gone-{name}")
    return repository.resolve(f"gone-{name}") is None


OPERATIONS: Mapping[str, Operation] = {
    "resolve": Operation(
        method="HEAD",
        path="/manifests/v1",
        call=lambda r, _: (
            (found := r.resolve("v1")) is not None and found.digest == digest_of(manifest("v1"))
        ),
    ),
    "fetch": Operation(
        method="GET",
        path="/manifests/v1",
        call=lambda r, _: r.fetch("v1").body == manifest("v1"),
    ),
    "blob": Operation(method="GET", path="/blobs/sha256", call=download),
    "exists": Operation(
        method="HEAD",
        path="/blobs/sha256",
        call=lambda r, name: r.size_of(blob(name).digest) == blob(name).size,
    ),
    "mount": Operation(method="POST", path="mount=.*from=team%2Fother", call=mount),
    "post": Operation(method="POST", path="/blobs/uploads/$", call=upload),
    "put": Operation(method="PUT", path="/blobs/uploads/", call=upload),
    "manifest": Operation(method="PUT", path="/manifests/put-", call=put),
    "tags": Operation(method="GET", path=r"/tags/list\?n=\d+$", call=lambda r, _: "v1" in r.tags()),
    "tags 2": Operation(method="GET", path="/tags/list.*last=", call=lambda r, _: "v1" in r.tags()),
    "untag": Operation(method="DELETE", path="/manifests/gone-", call=untag),
    "delete": Operation(method="DELETE", path="/manifests/sha256", call=delete),
    "referrers": Operation(
        method="GET",
        path="/referrers/",
        call=lambda r, _: r.referrers(digest_of(manifest("v1")), with_fallback=False) == (),
    ),
    "token": Operation(
        method="GET", path="^/token", call=lambda r, _: "v1" in r.tags(), is_warmed_up=False
    ),
}
HEADS = ("resolve", "exists")
WRITES = ("mount", "post", "put", "manifest", "untag", "delete")


def fill(repository: RemoteRepository, other: RemoteRepository) -> None:
    """Push what the operations read, move and delete."""
    for name in ("warm", "real"):
        data = blob_bytes(name)
        repository.push_blob(blob(name), lambda data=data: iter((data,)))  # type: ignore[misc]
        far = blob_bytes(f"far-{name}")
        other.push_blob(blob(f"far-{name}"), lambda far=far: iter((far,)))  # type: ignore[misc]
        old = manifest(f"old-{name}")
        repository.push(digest_of(old), old, media_types.OCI_INDEX)
        repository.push(f"gone-{name}", manifest(f"gone-{name}"), media_types.OCI_INDEX)
    repository.push("v1", manifest("v1"), media_types.OCI_INDEX)


# --- faults and what is expected of them


@dataclass(frozen=True, kw_only=True)
class Expect:
    """What one operation makes of a fault."""

    attempts: int
    """Requests of that kind that reached the registry."""
    error: type[CiRegistryError] | None = None
    """None: it succeeds."""
    message: str = ""
    """Regular expression for the error's message."""
    result: object = True


Good = Expect
EXIT_CODES = {AccessError: 2, RegistryError: 4, NetworkError: 4, IntegrityError: 4}


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A fault, and its row of the table."""

    action: Action | Callable[[str, str], Action | None]
    """What happens, or what happens to an operation: from the registry's URL and the operation's name."""
    usual: Expect
    but: Mapping[str, Expect] = field(default_factory=dict)
    """Operations for which something else is expected."""
    times: int = 0
    slept: tuple[float, ...] | None = None
    """The pauses, for operations that have the usual expectation."""
    retries: int = 2
    read_timeout_s: float = 20.0


def each(names: tuple[str, ...], expect: Expect) -> dict[str, Expect]:
    return dict.fromkeys(names, expect)


def challenge(url: str, _: str) -> Answer:
    value = f'Bearer realm="{url}/token",service="ci-registry"'
    return Answer(status=401, headers=(("WWW-Authenticate", value),))


def reset_inside(_: str, name: str) -> Action:
    """Break off within the body of whichever side has one."""
    if name == "put":
        return Reset(request_bytes=40_000)
    if name == "manifest":
        return Reset(request_bytes=10)
    if name == "blob":
        return Reset(response_bytes=40_000)
    return Reset(response_bytes=5) if name in READS else Reset()


def wrong_digest(_: str, name: str) -> Action:
    said = (("Docker-Content-Digest", WRONG),)
    if name in ("put", "manifest"):
        return Answer(status=201, headers=said)
    if name == "resolve":
        return Answer(status=200, headers=(("Docker-Content-Digest", "sha256:zz"),))
    return Corrupt()


def wrong_length(_: str, name: str) -> Action:
    if name == "exists":
        return Answer(status=200, headers=(("Content-Length", "10"),))
    return Truncate(size_bytes=10)


def stall_inside(_: str, name: str) -> Action:
    return Stall(duration_s=20, after_bytes=5) if name in READS else Stall(duration_s=20)


def retry_date(_: str, __: str) -> Action:
    """Ask for a pause by the registry's clock; that of these clients stands in August 2026."""
    when = email.utils.formatdate(time.time() + 20, usegmt=True)
    return Answer(status=429, headers=(("Retry-After", when),))


READS = ("fetch", "blob", "tags", "tags 2", "referrers", "token")
GONE_TWICE = "connection lost"
TROUBLES: Mapping[str, Trouble] = {
    "nothing": Trouble(
        action=lambda *_: None,
        usual=Good(attempts=1),
        but={"mount": Good(attempts=1, result="MOUNTED")},
        slept=(),
    ),
    "401 midway": Trouble(
        action=challenge,
        times=1,
        usual=Good(attempts=2),
        but={
            "mount": Good(attempts=2, result="MOUNTED"),
            "token": Expect(attempts=1, error=AccessError, message="refuses the login of 'u'"),
        },
        slept=(),
    ),
    "401 always": Trouble(
        action=challenge,
        usual=Expect(attempts=2, error=AccessError, message="HTTP 401"),
        but={
            "mount": Good(attempts=2, result="UPLOADED"),
            "token": Expect(attempts=1, error=AccessError, message="refuses the login of 'u'"),
        },
        slept=(),
    ),
    "429 with Retry-After": Trouble(
        action=Answer(status=429, headers=(("Retry-After", "7"),)),
        times=2,
        usual=Good(attempts=3),
        but={"mount": Good(attempts=3, result="MOUNTED")},
        slept=(7.0, 7.0),
    ),
    "429 with a date": Trouble(
        action=retry_date,
        times=1,
        usual=Good(attempts=2),
        but={"mount": Good(attempts=2, result="MOUNTED")},
    ),
    "429 without Retry-After": Trouble(
        action=Answer(status=429),
        usual=Expect(attempts=3, error=RegistryError, message="HTTP 429"),
        slept=(0.25, 0.5),
    ),
    "503 once": Trouble(
        action=Answer(status=503),
        times=1,
        usual=Good(attempts=2),
        but={"mount": Good(attempts=2, result="MOUNTED")},
        slept=(0.25,),
    ),
    "503 always": Trouble(
        action=Answer(status=503),
        usual=Expect(attempts=3, error=RegistryError, message="HTTP 503"),
        slept=(0.25, 0.5),
    ),
    # A kept connection that dies without an answer is replaced once, without a pause, when that is safe.
    "reset once": Trouble(
        action=Reset(),
        times=1,
        usual=Good(attempts=2),
        but={
            "mount": Good(attempts=2, result="MOUNTED"),
            "put": Good(attempts=1),  # it had arrived, which HEAD tells
        },
    ),
    "reset always": Trouble(
        action=Reset(),
        usual=Expect(attempts=4, error=NetworkError, message=GONE_TWICE),
        but={
            **each(("mount", "post"), Expect(attempts=3, error=NetworkError, message=GONE_TWICE)),
            "put": Good(attempts=1),
        },
        slept=(0.25, 0.5),
    ),
    "reset after n bytes, once": Trouble(
        action=reset_inside,
        times=1,
        usual=Good(attempts=2),
        but={"mount": Good(attempts=2, result="MOUNTED")},
    ),
    "reset after n bytes, always": Trouble(
        action=reset_inside,
        usual=Expect(attempts=3, error=NetworkError, message=GONE_TWICE),
        but={
            "blob": Good(attempts=3),  # 40,000 bytes each time: it goes on where it was
            **each(
                ("resolve", "exists", "manifest", "untag", "delete"),
                Expect(attempts=4, error=NetworkError, message=GONE_TWICE),
            ),
        },
        slept=(0.25, 0.5),
    ),
    "stalled": Trouble(
        action=stall_inside,
        usual=Expect(attempts=2, error=NetworkError, message=r"nothing heard for 0\.4 s"),
        but={"put": Good(attempts=1)},  # it had arrived
        slept=(0.25,),
        retries=1,
        read_timeout_s=0.4,
    ),
    "wrong digest": Trouble(
        action=wrong_digest,
        usual=Good(attempts=1),  # nothing in the answer depends on it
        but={
            "fetch": Expect(attempts=1, error=IntegrityError, message="expected sha256"),
            "blob": Expect(attempts=1, error=IntegrityError, message="expected sha256"),
            "put": Expect(attempts=1, error=IntegrityError, message=f"stored {WRONG} instead"),
            "manifest": Expect(attempts=1, error=IntegrityError, message="another manifest"),
            **each(
                ("tags", "tags 2", "referrers"),
                Expect(attempts=1, error=IntegrityError, message="not valid JSON"),
            ),
            "token": Expect(attempts=1, error=RegistryError, message="is not JSON"),
            "mount": Good(attempts=1, result="MOUNTED"),
        },
        slept=(),
    ),
    "wrong length": Trouble(
        action=wrong_length,
        usual=Good(attempts=1),
        but={
            "fetch": Expect(attempts=1, error=IntegrityError, message="expected sha256"),
            "blob": Expect(attempts=1, error=IntegrityError, message="expected sha256"),
            "exists": Good(attempts=1, result=False),  # a push refuses a blob of another size
            **each(
                ("tags", "tags 2", "referrers"),
                Expect(attempts=1, error=IntegrityError, message="not valid JSON"),
            ),
            "token": Expect(attempts=1, error=RegistryError, message="is not JSON"),
            "mount": Good(attempts=1, result="MOUNTED"),
        },
        slept=(),
    ),
    "HTML error page": Trouble(
        action=Answer(status=502, body=HTML),
        usual=Expect(
            attempts=3, error=RegistryError, message="HTTP 502: an HTML page, '502 Bad Gateway'$"
        ),
        but=each(HEADS, Expect(attempts=3, error=RegistryError, message="HTTP 502$")),
        slept=(0.25, 0.5),
    ),
    "HTML page with status 200": Trouble(
        action=Answer(status=200, body=HTML),
        usual=Expect(
            attempts=1, error=RegistryError, message="HTTP 200: an HTML page, '502 Bad Gateway'$"
        ),
        but={
            "resolve": Good(attempts=1),  # says too little: GET is asked
            "exists": Good(attempts=1, result=False),
            "blob": Expect(attempts=1, error=IntegrityError, message="expected sha256"),
            "token": Expect(attempts=1, error=RegistryError, message="is not JSON"),
        },
        slept=(),
    ),
    "redirect to another host": Trouble(
        action=lambda url, _: Redirect(to=url),
        usual=Good(attempts=1),
        but={
            "mount": Good(attempts=1, result="MOUNTED"),
            "tags": Expect(attempts=1, error=RegistryError, message="a list on another host"),
            "token": Expect(attempts=1, error=RegistryError, message="HTTP 404"),
        },
        slept=(),
    ),
}


class Script(FaultScript):
    """Remembers every request, answered or not."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[tuple[str, str]] = []

    def take(self, request: Request) -> Action | None:
        """Count, and go on."""
        self.targets.append(
            (request.method, request.path + (f"?{request.query}" if request.query else ""))
        )
        return super().take(request)

    def attempts(self, operation: Operation) -> int:
        """How many requests were of an operation."""
        return sum(
            method == operation.method and re.search(operation.path, target) is not None
            for method, target in self.targets
        )


@dataclass(kw_only=True)
class Scene:
    """A registry with token service, a second one without login over the same content, and a clock."""

    registry: RunningRegistry
    elsewhere: RunningRegistry
    script: Script
    now: list[float]
    count: int = 0

    @property
    def name(self) -> str:
        """The repository of the current test."""
        return f"team/app-{self.count}"


@pytest.fixture(scope="module")
def running() -> Iterator[Scene]:
    now, script, store = [0.0], Script(), MemoryStore()
    with (
        running_registry(
            store=store,
            users={"u": "p"},
            token_auth=TokenAuth(key=b"k" * 32, lifetime_s=300),
            clock=lambda: now[0],
            page_limit=2,
            faults=script,
        ) as registry,
        running_registry(store=store, page_limit=2) as elsewhere,
    ):
        yield Scene(registry=registry, elsewhere=elsewhere, script=script, now=now)


@pytest.fixture
def scene(running: Scene) -> Scene:
    running.script.clear()
    running.now[0] = time.time()
    running.count += 1
    host = running.elsewhere.host
    with (
        remote_repository(host, running.name) as repository,
        remote_repository(host, OTHER) as other,
    ):
        fill(repository, other)
    running.elsewhere.seen.clear()
    return running


def run(
    scene: Scene, trouble: Trouble, operation: Operation, spoil: Callable[[], None]
) -> tuple[object, list[float]]:
    """Run an operation with a fault; returns its result or error, and the pauses."""
    cancel = QuickCancel()
    host = scene.registry.host
    with remote_repository(
        host,
        scene.name,
        credentials=login(host, "u", "p"),
        cancel=cancel,
        retries=trouble.retries,
        read_timeout_s=trouble.read_timeout_s,
    ) as repository:
        if operation.is_warmed_up:
            operation.call(repository, "warm")
        spoil()
        scene.script.targets.clear()
        cancel.slept.clear()
        try:
            return operation.call(repository, "real"), cancel.slept
        except CiRegistryError as error:
            return error, cancel.slept


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("fault", TROUBLES)
def test_every_fault_of_every_operation(scene: Scene, fault: str, name: str) -> None:
    trouble, operation = TROUBLES[fault], OPERATIONS[name]
    expected = trouble.but.get(name, trouble.usual)

    def spoil() -> None:
        action = trouble.action
        url = scene.elsewhere.url if fault.startswith("redirect") else scene.registry.url
        what = action(url, name) if callable(action) else action
        if what is not None:
            strike = Fault(
                action=what, method=operation.method, path=operation.path, times=trouble.times
            )
            scene.script.add(strike)

    found, slept = run(scene, trouble, operation, spoil)
    check(expected, found)
    assert scene.script.attempts(operation) == expected.attempts
    if trouble.slept is not None and expected is trouble.usual:
        assert tuple(slept) == trouble.slept
    if fault == "429 with a date":
        assert 15 < slept[0] < 25
    assert not any(seen.authorization for seen in scene.elsewhere.seen)


def check(expected: Expect, found: object) -> None:
    """Compare what happened with what is expected: a result, or class, exit code and text of an error."""
    if expected.error is None:
        assert found == expected.result, found
        return
    assert isinstance(found, expected.error), found
    assert found.exit_code == EXIT_CODES[expected.error]
    assert re.search(expected.message, found.message), found.message
    assert "\n" not in found.message


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_expired_token_is_replaced_once(scene: Scene, name: str) -> None:
    """By the registry's clock its tokens are too old; ours knows nothing of it."""
    operation = OPERATIONS[name]

    def expire() -> None:
        scene.now[0] += 1000

    found, slept = run(scene, TROUBLES["nothing"], operation, expire)
    check(Good(attempts=1, result="MOUNTED" if name == "mount" else True), found)
    first_of_its_kind = name not in ("token", "put", "tags 2")  # the request before was refused
    assert scene.script.attempts(operation) == (2 if first_of_its_kind else 1)
    assert slept == []


@pytest.mark.parametrize("hours", [-26, 26])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_registry_whose_clock_is_wrong_gives_tokens_that_work(
    scene: Scene, name: str, hours: int
) -> None:
    scene.now[0] += hours * 3600
    operation = OPERATIONS[name]
    found, slept = run(scene, TROUBLES["nothing"], operation, lambda: None)
    check(Good(attempts=1, result="MOUNTED" if name == "mount" else True), found)
    assert scene.script.attempts(operation) == 1
    assert slept == []


def test_a_server_that_sends_a_little_and_falls_silent_does_not_hold_us(scene: Scene) -> None:
    """Some bytes each time are no progress that earns new retries."""
    trouble = TROUBLES["stalled"]
    scene.script.add(
        Fault(action=Reset(response_bytes=100), method="GET", path="/blobs/sha256", times=0)
    )
    found, _ = run(scene, TROUBLES["nothing"], OPERATIONS["resolve"], lambda: None)
    assert found is True
    found, slept = run(
        scene,
        TROUBLES["reset always"],
        Operation(method="GET", path="/blobs/sha256", call=download, is_warmed_up=False),
        lambda: None,
    )
    check(Expect(attempts=3, error=NetworkError, message="connection lost"), found)
    assert len(slept) == trouble.retries + 1

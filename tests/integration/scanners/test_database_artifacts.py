"""Advisory databases in registries, over real sockets: trust, fallbacks, the cache, and every way to go wrong."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard

import ci_registry
from ci_registry.advisories.artifact import (
    LAYER_TYPE,
    ArtifactConfig,
    write_config,
    write_manifest,
)
from ci_registry.advisories.compiled import open_compiled
from ci_registry.advisories.compiled_file import DATABASE_FILE
from ci_registry.cancel import Cancel
from ci_registry.errors import (
    AccessError,
    CiRegistryError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    RegistryError,
    SetupError,
    SignatureError,
    UsageError,
)
from ci_registry.findings import Gap
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.reference import parse_reference
from ci_registry.registry_server.options import Answer, Corrupt, Fault, Reset, Stall, Truncate
from ci_registry.scanners.osv import OsvScanner
from ci_registry.secret import Masker
from ci_registry.wiring.basis import Caller, read_basis
from ci_registry.wiring.caching import open_cache
from ci_registry.wiring.database_transfer import PushedDatabase, pull_database, push_database
from ci_registry.wiring.databases import open_osv_source
from ci_registry.wiring.registries import open_registries
from tests.support.advisories import inventory, pypi
from tests.support.cli import wait_until
from tests.support.databases import build
from tests.support.registry import RunningRegistry, running_registry
from tests.support.signing import PASSWORD, key_pair

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
"""Twelve hours after the databases of these tests were made."""


class Place:
    """A folder to run commands in, as a job of some trust."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.said: list[str] = []
        self.now = NOW

    def caller(self, *, change: bool = False, trust: str = "ours", **options: Any) -> Caller:
        pair = key_pair(trust or "ours")
        env = {
            "HOME": str(self.base / "home"),
            "PATH": "/usr/bin:/bin",
            "CIREG_CACHE_DIR": str(self.base / "cache"),
            "CIREG_WORK_DIR": str(self.base / "work"),
            "CIREG_NETWORK_RETRIES": "0",
            "COSIGN_PRIVATE_KEY": pair.private_pem.reveal(),
            "COSIGN_PASSWORD": PASSWORD.reveal(),
        }
        if trust:
            env["COSIGN_PUBLIC_KEY"] = pair.public_pem.decode()
        if change:
            event = self.base / "event.json"
            event.write_text(json.dumps({"pull_request": {"head": {"repo": {"full_name": "a/b"}}}}))
            env |= {
                "GITHUB_ACTIONS": "true",
                "GITHUB_EVENT_NAME": "pull_request",
                "GITHUB_EVENT_PATH": str(event),
                "GITHUB_REPOSITORY": "a/b",
                "GITHUB_SHA": "0" * 40,
            }
        return Caller(
            env=env,
            options=options,
            folder=self.base,
            cancel=Cancel(),
            masker=Masker(),
            on_event=lambda event: self.said.append(str(getattr(event, "message", ""))),
            now=lambda: self.now,
            random=bytes,
            print_command=print,
        )

    def push(self, *references: str, key: str = "ours", sign: bool = True) -> PushedDatabase:
        """Build a database and push it."""
        if not (self.base / "db").exists():
            build(self.base / "db")
        return push_database(self.caller(trust=key), "db", references, sign=sign)[0]

    def pull(self, *references: str, **options: Any) -> Path:
        return pull_database(self.caller(**options), references, None, trivy=False).folder

    def cached(self, tree: str = "trusted") -> list[str]:
        """What stands in a tree of the cache."""
        folder = self.base / "cache" / "advisories" / tree
        names = (path.name for path in folder.iterdir()) if folder.exists() else ()
        return sorted(name for name in names if name not in (".lock", "refs"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


@pytest.fixture
def reference(registry: RunningRegistry) -> str:
    return f"{registry.host}/sec/advisories:latest"


# --- push and pull


def test_what_is_pulled_is_what_was_pushed(place: Place, reference: str) -> None:
    pushed = place.push(reference)
    folder = place.pull(reference)
    assert (folder / DATABASE_FILE).read_bytes() == (place.base / "db" / DATABASE_FILE).read_bytes()
    assert place.cached() == [pushed.digest.hex]


def test_second_push_sends_nothing_and_changes_nothing(place: Place, reference: str) -> None:
    first = place.push(reference)
    again = place.push(reference)
    assert (again.digest, again.bytes_sent) == (first.digest, 0)


def test_tag_moves_last(place: Place, registry: RunningRegistry, reference: str) -> None:
    build(place.base / "db", trivy=True)
    place.push(reference)
    puts = [
        seen.path for seen in registry.seen if seen.method == "PUT" and "manifests" in seen.path
    ]
    tags = [path.rpartition("/")[2] for path in puts if "sha256" not in path.rpartition("/")[2]]
    assert tags == ["latest-trivy", "latest"]
    assert [path.rpartition("/")[2] for path in puts[-2:]] == tags


def test_second_pull_fetches_no_layer(
    place: Place, registry: RunningRegistry, reference: str
) -> None:
    place.push(reference)
    first = place.pull(reference)
    with _repository(place, reference) as repository:
        layer = repository.fetch("latest").layers[0].digest
    assert registry.count("GET", layer) == 1
    assert place.pull(reference) == first
    assert registry.count("GET", layer) == 1


def test_digest_needs_no_signature_and_then_no_network(place: Place, reference: str) -> None:
    pushed = place.push(reference, sign=False)
    pinned = f"{reference}@{pushed.digest}"
    first = place.pull(pinned, trust="")
    gone = pinned.replace(reference.partition("/")[0], "127.0.0.1:1")
    assert place.pull(gone, trust="") == first


# --- trust


def test_unsigned_database_is_refused(place: Place, reference: str) -> None:
    place.push(reference, sign=False)
    with pytest.raises(SignatureError):
        place.pull(reference)
    assert place.cached() == []


def test_database_signed_by_another_key_is_refused_and_no_fallback_is_tried(
    place: Place, registry: RunningRegistry, reference: str
) -> None:
    place.push(reference, key="others")
    good = f"{registry.host}/sec/good:latest"
    place.push(good)
    with pytest.raises(SignatureError):
        place.pull(reference, good)
    assert place.pull(good, reference).exists()


def test_signature_of_another_repository_does_not_count(
    place: Place, registry: RunningRegistry, reference: str
) -> None:
    pushed = place.push(reference)
    other = f"{registry.host}/sec/staging:latest"
    copied = place.push(other, sign=False)
    assert copied.digest == pushed.digest
    with pytest.raises(SignatureError):
        place.pull(other)


def test_without_a_public_key_a_tag_is_refused(place: Place, reference: str) -> None:
    place.push(reference)
    with pytest.raises(SetupError, match="there is no public key") as caught:
        place.pull(reference, trust="")
    assert "scan.db_signature" in caught.value.hint


def test_signatures_can_be_waived_and_that_is_said(place: Place, reference: str) -> None:
    place.push(reference, sign=False)
    waived: dict[str, Any] = {"scan-db-signature": "off"}
    caller = place.caller(trust="", **waived)
    fetched = pull_database(caller, (reference,), None, trivy=False)
    assert fetched.notes == (
        f"nobody was asked to vouch for {reference}: scan.db_signature is off",
    )


def test_push_without_a_key_must_be_asked_for(place: Place, reference: str) -> None:
    build(place.base / "db")
    caller = place.caller()
    caller = replace(caller, env={**caller.env, "COSIGN_PRIVATE_KEY": ""})
    with pytest.raises(SetupError, match="would be unsigned") as caught:
        push_database(caller, "db", (reference,), sign=True)
    assert "--no-sign" in caught.value.hint


def test_change_request_signs_no_database(place: Place, reference: str) -> None:
    build(place.base / "db")
    with pytest.raises(UsageError, match="never signs an advisory database"):
        push_database(place.caller(change=True), "db", (reference,), sign=True)


def test_database_is_pushed_to_a_tag(place: Place, reference: str) -> None:
    with pytest.raises(UsageError, match="names a digest"):
        place.push(f"{reference}@sha256:{'0' * 64}")


# --- fallbacks


@pytest.mark.parametrize("status", [404, 429, 500, 502, 503])
def test_next_reference_is_tried_when_a_registry_fails(
    place: Place, registry: RunningRegistry, reference: str, status: int
) -> None:
    place.push(reference)
    with running_registry(faults=[Fault(action=Answer(status=status), times=0)]) as broken:
        caller = place.caller()
        first = f"{broken.host}/sec/advisories:latest"
        fetched = pull_database(caller, (first, reference), None, trivy=False)
    assert fetched.location.startswith(registry.host)
    assert [note.partition(":")[0] for note in fetched.notes] == ["not used"]
    assert any(f"{first} can't be had" in text for text in place.said)


def test_next_reference_is_tried_when_an_answer_never_comes(
    place: Place, registry: RunningRegistry, reference: str
) -> None:
    place.push(reference)
    with running_registry(faults=[Fault(action=Reset(), times=0)]) as broken:
        folder = place.pull(f"{broken.host}/sec/advisories:latest", reference)
    assert folder.exists()


def test_next_reference_is_tried_when_nobody_listens(place: Place, reference: str) -> None:
    place.push(reference)
    assert place.pull("127.0.0.1:1/sec/advisories:latest", reference).exists()


def test_refused_login_is_no_reason_for_another_source(place: Place, reference: str) -> None:
    place.push(reference)
    faults = [Fault(action=Answer(status=403), times=0)]
    with running_registry(faults=faults) as broken, pytest.raises(AccessError):
        place.pull(f"{broken.host}/sec/advisories:latest", reference)


def test_first_failure_is_told_when_all_fail(place: Place) -> None:
    with running_registry() as empty, pytest.raises(NotFoundError, match="sec/one"):
        place.pull(f"{empty.host}/sec/one:latest", "127.0.0.1:1/sec/two:latest")


def test_young_database_of_the_cache_stands_in_and_an_old_one_does_not(place: Place) -> None:
    with running_registry() as registry:
        name = f"{registry.host}/sec/advisories:latest"
        place.push(name)
        folder = place.pull(name)
    fetched = pull_database(place.caller(), (name,), None, trivy=False)
    assert fetched.folder == folder
    assert "is young enough" in fetched.notes[0]
    assert "(cached)" in fetched.location
    place.now = NOW + timedelta(hours=48)
    with pytest.raises((NetworkError, RegistryError)):
        place.pull(name)


def test_database_of_the_cache_that_a_lost_key_signed_does_not_stand_in(place: Place) -> None:
    with running_registry() as registry:
        name = f"{registry.host}/sec/advisories:latest"
        place.push(name)
        place.pull(name)
    with pytest.raises(NetworkError):
        place.pull(name, trust="others")


# --- damage


Change = Callable[[dict[str, Any]], None]


def put(
    registry: RunningRegistry,
    reference: str,
    place: Place,
    *,
    layer: bytes | None = None,
    info: Any = None,
    change: Change | None = None,
    size_bytes: int | None = None,
) -> str:
    """Put an artifact by hand, wrong in some way; returns it by digest."""
    build(place.base / "db")
    file = place.base / "db" / DATABASE_FILE
    database = open_compiled(file)
    packed = zstandard.compress(file.read_bytes()) if layer is None else layer
    blob = Descriptor(media_type=LAYER_TYPE, digest=digest_of(packed), size=len(packed))
    size = file.stat().st_size if size_bytes is None else size_bytes
    config = write_config(ArtifactConfig(info=info or database.info, size_bytes=size))
    body = write_manifest(config, blob, database.info.built_at)
    if change is not None:
        document = json.loads(body)
        change(document)
        body = json.dumps(document).encode()
    with _repository(place, reference) as repository:
        repository.push_blob(blob, lambda: iter((packed,)))
        described = Descriptor(media_type="x/y", digest=digest_of(config), size=len(config))
        repository.push_blob(described, lambda: iter((config,)))
        repository.push(digest_of(body), body, "")
    return f"{parse_reference(reference).name}@{digest_of(body)}"


@contextlib.contextmanager
def _repository(place: Place, reference: str) -> Iterator[Any]:
    caller = place.caller()
    basis = read_basis(caller, needs_images=False)
    with open_registries(caller, basis) as registries:
        yield registries.open(parse_reference(reference))


def _other_type(document: dict[str, Any]) -> None:
    document["artifactType"] = "application/vnd.example"


def _two_layers(document: dict[str, Any]) -> None:
    document["layers"] *= 2


def _huge_layer(document: dict[str, Any]) -> None:
    document["layers"][0]["size"] = 1 << 40


def _other_config(document: dict[str, Any]) -> None:
    document["config"]["mediaType"] = "application/json"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": b"no archive at all"}, "can't be unpacked"),
        ({"layer": zstandard.compress(b"x" * 20_000)}, "unpacks to"),
        ({"layer": zstandard.compress(bytes(50_000_000))}, "unpacks to more"),
        ({"size_bytes": 1 << 50}, "too large"),
        ({"change": _other_type}, "is no advisory database"),
        ({"change": _two_layers}, "exactly one layer"),
        ({"change": _huge_layer}, "too large"),
        ({"change": _other_config}, "its config"),
    ],
)
def test_wrong_artifact_is_refused_and_leaves_nothing(
    place: Place,
    registry: RunningRegistry,
    reference: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    pinned = put(registry, reference, place, **changes)
    with pytest.raises(IntegrityError, match=message):
        place.pull(pinned)
    assert place.cached() == []


def test_database_that_is_not_the_described_one_is_refused(
    place: Place, registry: RunningRegistry, reference: str
) -> None:
    info = replace(build(place.base / "other"), built_at=NOW)
    pinned = put(registry, reference, place, info=info)
    with pytest.raises(IntegrityError, match="not the one that its config describes"):
        place.pull(pinned)


@pytest.mark.parametrize("action", [Corrupt(), Truncate(size_bytes=100)])
def test_layer_that_changes_on_the_way_is_refused_and_no_fallback_is_tried(
    place: Place, registry: RunningRegistry, reference: str, action: Corrupt | Truncate
) -> None:
    pushed = place.push(reference)
    with _repository(place, reference) as repository:
        layer = repository.fetch("latest").layers[0].digest
    registry.faults.add(Fault(method="GET", path=layer, action=action))
    with pytest.raises(IntegrityError):
        place.pull(f"{reference}@{pushed.digest}", f"{reference}@{pushed.digest}")
    assert place.cached() == []


def test_damaged_entry_of_the_cache_is_fetched_again(place: Place, reference: str) -> None:
    place.push(reference)
    file = place.pull(reference) / DATABASE_FILE
    good = file.read_bytes()
    file.write_bytes(good[:-1] + b"!")
    assert (place.pull(reference) / DATABASE_FILE).read_bytes() == good
    assert any("fetched again" in text for text in place.said)


def test_left_overs_of_a_killed_pull_are_no_entry_and_go(place: Place, reference: str) -> None:
    pushed = place.push(reference)
    dead = place.base / "cache" / "advisories" / "trusted" / ".new-dead"
    dead.mkdir(parents=True)
    (dead / DATABASE_FILE).write_bytes(b"half")
    half = dead.with_name(pushed.digest.hex)
    half.mkdir()
    (half / "unpacked.sqlite").write_bytes(b"half")
    folder = place.pull(reference)
    assert place.cached() == [pushed.digest.hex]
    assert open_compiled(folder).info.records_count == 1


def test_pull_that_is_killed_in_the_middle_is_made_good_by_the_next(tmp_path: Path) -> None:
    stall = Fault(method="GET", path="/blobs/", action=Stall(duration_s=30, after_bytes=9), times=0)
    place = Place(tmp_path)
    with running_registry() as registry:
        name = f"{registry.host}/sec/advisories:latest"
        pushed = place.push(name)
        pinned = f"{name}@{pushed.digest}"
        registry.faults.add(replace(stall, after=1))  # the config comes through
        env = {**place.caller().env, "PYTHONPATH": str(Path(ci_registry.__file__).parents[1])}
        argv = (sys.executable, "-m", "ci_registry", "db", "pull", pinned)
        with subprocess.Popen(
            argv, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            wait_until(lambda: any(n.startswith(".new-") for n in place.cached()), "the download")
            process.kill()
        assert [n[:5] for n in place.cached()] == [".new-"]
        registry.faults.clear()
        folder = place.pull(pinned)
    assert place.cached() == [pushed.digest.hex]
    assert open_compiled(folder).info.records_count == 1


def test_pulls_at_the_same_time_fetch_once(
    place: Place, registry: RunningRegistry, reference: str
) -> None:
    pushed = place.push(reference)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(place.pull(reference))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert place.cached() == [pushed.digest.hex]


# --- what a scan gets


def _source(place: Place, **options: Any) -> Any:
    caller = place.caller(**options)
    basis = read_basis(caller, needs_images=False)
    with open_registries(caller, basis) as registries:
        cache = open_cache(basis.settings, basis.ci, caller.env)
        return open_osv_source(caller, basis, registries, cache)


def test_auto_uses_the_configured_databases(place: Place, reference: str) -> None:
    pushed = place.push(reference)
    (place.base / ".ci-registry.yml").write_text(
        json.dumps({"scan": {"databases": ["127.0.0.1:1/a/b:c", reference]}})
    )
    facts = _source(place).facts()
    assert facts.database.location == f"{reference.rpartition(':')[0]}@{pushed.digest}"
    assert facts.database.ecosystems == ("PyPI",)
    assert "not used" in facts.notes[0]


def test_references_can_be_named_at_once(place: Place, reference: str) -> None:
    place.push(reference)
    found = _source(place, **{"scan-db": f"127.0.0.1:1/a/b:c, oci://{reference}"})
    assert found.facts().present


def test_local_file_and_folder_are_opened(place: Place) -> None:
    build(place.base / "db")
    for name in ("db", f"db/{DATABASE_FILE}"):
        assert _source(place, **{"scan-db": name}).facts().database.location == name


def test_offline_uses_what_was_pulled_and_asks_nobody(place: Place) -> None:
    with running_registry() as registry:
        name = f"{registry.host}/sec/advisories:latest"
        place.push(name)
        place.pull(name)
    for options in ({"scan-db": "offline"}, {"offline": True}):
        assert _source(place, **options).facts().database.ecosystems == ("PyPI",)


def test_change_never_writes_what_a_trusted_run_reads(place: Place) -> None:
    with running_registry() as registry:
        name = f"{registry.host}/sec/advisories:latest"
        place.push(name, sign=False)
        options = {"scan-db-signature": "off"}
        place.pull(name, change=True, trust="", **options)
    assert place.cached() == []
    assert len(place.cached("changes")) == 1
    assert not _source(place, **{"scan-db": "offline", **options}).facts().present
    with pytest.raises(CiRegistryError):
        place.pull(name, **options)


def test_future_database_is_a_gap(place: Place, reference: str) -> None:
    place.push(reference)
    source = _source(place, **{"scan-db": reference})
    for days, gaps in (
        (-2, [Gap.DATABASE_UNDATED]),
        (0, []),
        (3, [Gap.DATABASE_STALE]),
    ):
        place.now = NOW + timedelta(days=days)
        scanner = OsvScanner(source=source, now=lambda: place.now, max_db_age=timedelta(hours=48))
        found = scanner.match(inventory(pypi("demo", "1.0"))).coverage.gaps
        assert [item.gap for item in found if item.gap is not Gap.NO_PACKAGES] == gaps

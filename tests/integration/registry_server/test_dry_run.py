"""`run --dry-run` sees the real destination, asks it with GET and HEAD only, and writes nothing to it."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_registry.registry_server.options import Answer, Fault, TokenAuth
from ci_registry.registry_server.store import MemoryStore, Store
from tests.support.cli import Project, assert_stopped, commit_all, make_project, tags_of
from tests.support.registry import RunningRegistry, running_registry

READS = {"GET", "HEAD"}


@pytest.fixture
def store() -> Iterator[Store]:
    store = MemoryStore()
    yield store
    store.close()


@pytest.fixture
def filled(tmp_path: Path, store: Store) -> Store:
    """The store of a destination that has the image `v1` already."""
    with running_registry(store=store) as registry:
        done = _project(tmp_path / "first", registry).run("run")
        assert done.exit_code == 0, done.stderr
        assert set(tags_of(registry)) == {"v1", "latest"}
    return store


def _project(base: Path, registry: RunningRegistry, **settings: Any) -> Project:
    return make_project(base, registry, network={"retries": 0}, **settings)


def _wrote_nothing(registry: RunningRegistry) -> bool:
    assert registry.seen
    assert {seen.method for seen in registry.seen} <= READS
    return True


def test_an_image_that_is_there_already_is_found_there(tmp_path: Path, filled: Store) -> None:
    with running_registry(store=filled, read_only=True) as registry:
        before = tags_of(registry)
        project = _project(tmp_path / "second", registry)
        done = project.run("run", "--dry-run")
        assert done.exit_code == 0, done.stderr
        assert _wrote_nothing(registry)
        assert registry.count("GET", "/blobs/") == 0  # what exists is not fetched to know that
        assert registry.count("HEAD", "/blobs/") > 0
        assert tags_of(registry) == before
    (image,) = project.result()["images"]
    (upload,) = [s for s in image["steps"] if s["step"] == "upload"]
    assert "0 sent (0 bytes), 0 mounted" in str(upload)


def test_a_new_image_is_kept_from_the_destination(tmp_path: Path, store: Store) -> None:
    with running_registry(store=store, read_only=True) as registry:
        done = _project(tmp_path / "p", registry).run("run", "--dry-run")
        assert done.exit_code == 0, done.stderr
        assert _wrote_nothing(registry)
        assert store.catalog.repositories(after="", limit=9) == ()


def test_a_fixed_tag_on_another_image_stops_the_dry_run_too(tmp_path: Path, filled: Store) -> None:
    with running_registry(store=filled, read_only=True) as registry:
        images = {"app": {"tags": ["{sha}", "latest"]}}
        project = _project(tmp_path / "second", registry, images=images)
        project.write("rootfs/etc/motd", "another image\n")
        commit = commit_all(project)
        _retag(filled, commit)
        done = project.run("run", "--dry-run")
        assert done.exit_code == 2, done.stderr
        assert f"{commit} exists and must turn out to be the same image" in done.stderr
        assert f"{commit} exists and is another image" in done.stderr
        assert _wrote_nothing(registry)


def _retag(store: Store, tag: str) -> None:
    """Give the image at v1 another tag."""
    digest = store.catalog.tag("team/app", "v1")
    assert digest is not None
    manifest = store.catalog.manifest("team/app", digest)
    assert manifest is not None
    body = store.part(digest, 0, manifest.size)
    assert isinstance(body, bytes)
    store.put_manifest("team/app", manifest, body, (tag,))


def test_offline_asks_nobody_and_says_what_that_leaves_open(tmp_path: Path, filled: Store) -> None:
    with running_registry(store=filled) as registry:
        done = _project(tmp_path / "second", registry).run("run", "--dry-run", "--offline")
        assert done.exit_code == 0, done.stderr
        assert registry.seen == []
    assert "the tags and blobs that exist there (--offline)" in done.stdout


def test_a_destination_in_trouble_is_an_error_and_never_taken_for_empty(
    tmp_path: Path, filled: Store
) -> None:
    faults = [Fault(action=Answer(status=503), times=0)]
    with running_registry(store=filled, faults=faults) as registry:
        project = _project(tmp_path / "second", registry)
        done = project.run("run", "--dry-run")
        name = f"{registry.host}/team/app"
        assert_stopped(
            project,
            done,
            4,
            rf"the dry run cannot read the real destination: cannot look up {name}:\S+: HTTP 503",
            hint="run with --offline",
        )
        assert _wrote_nothing(registry)


def test_a_destination_that_wants_a_login_says_so(tmp_path: Path, filled: Store) -> None:
    with running_registry(store=filled, users={"ann": "secret"}) as registry:
        project = _project(tmp_path / "second", registry)
        done = project.run("run", "--dry-run")
        message = "the dry run cannot read the real destination: .*HTTP 401"
        assert_stopped(project, done, 2, message, hint=r"log in .*; or run with --offline")
        assert _wrote_nothing(registry)


def test_with_a_login_only_tokens_are_asked_for_beside_reading(
    tmp_path: Path, filled: Store
) -> None:
    auth, password = TokenAuth(key=secrets.token_bytes(16)), secrets.token_hex(8)
    with running_registry(store=filled, users={"ann": password}, token_auth=auth) as registry:
        env = {"CIREG_REGISTRY_USERNAME": "ann", "CIREG_REGISTRY_PASSWORD": password}
        project = _project(tmp_path / "second", registry)
        done = project.run("run", "--dry-run", env=env)
        assert done.exit_code == 0, done.stderr
        assert _wrote_nothing(registry)
        assert registry.count("GET", "/token") > 0
        assert registry.count("HEAD", "/blobs/") > 0

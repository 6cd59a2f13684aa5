"""Registries that refuse, fail and break off: the right exit code, one line, no tag; what retries cure passes."""

import json
import os
from pathlib import Path

import pytest

from ci_registry.registry_server.options import Answer, Fault, Reset
from tests.support.cli import (
    Project,
    assert_stopped,
    commit_all,
    has_manifests,
    make_project,
    tags_of,
)
from tests.support.registry import RunningRegistry, running_registry

PASSWORD = "right-password-4711"
LOGIN = {"CIREG_REGISTRY_USERNAME": "ci", "CIREG_REGISTRY_PASSWORD": PASSWORD}
QUICK = {"CIREG_NETWORK_RETRIES": "2", "CIREG_NETWORK_RETRY_BUDGET": "20s"}


def error(status: int, code: str, **headers: str) -> Answer:
    pairs = (("Content-Type", "application/json"), *headers.items())
    body = f'{{"errors":[{{"code":"{code}","message":"no"}}]}}'.encode()
    return Answer(status=status, headers=pairs, body=body)


def test_a_wrong_password_stops_before_anything_is_built(tmp_path: Path) -> None:
    with running_registry(users={"ci": PASSWORD}) as registry:
        project = make_project(tmp_path, registry)
        done = project.run("run", env={**LOGIN, "CIREG_REGISTRY_PASSWORD": "wrong-password-0815"})
        assert_stopped(project, done, 2, rf".*{registry.host}.*(password|credentials|login)")
        assert not has_manifests(registry)
        assert registry.count("POST", "/blobs/uploads/") <= 1
        assert "✗ app preflight" in done.stderr
        assert "wrong-password-0815" not in done.stdout + done.stderr


def test_no_password_at_all_says_how_to_give_one(tmp_path: Path) -> None:
    with running_registry(users={"ci": PASSWORD}) as registry:
        project = make_project(tmp_path, registry)
        done = project.run("run")
        assert_stopped(
            project, done, 2, rf".*{registry.host}", hint="CIREG_REGISTRY_PASSWORD|login"
        )


def test_the_right_password_passes(tmp_path: Path) -> None:
    with running_registry(users={"ci": PASSWORD}) as registry:
        project = make_project(tmp_path, registry)
        assert project.run("run", env=LOGIN).exit_code == 0
        assert set(tags_of(registry)) == {"v1", "latest"}


def test_no_right_to_push_stops_before_anything_is_built(tmp_path: Path) -> None:
    denied = Fault(action=error(403, "DENIED"), method="POST|PUT|PATCH", times=0)
    with running_registry(faults=[denied]) as registry:
        project = make_project(tmp_path, registry)
        done = project.run("run")
        message = rf"cannot upload to {registry.host}/team/app: HTTP 403"
        assert_stopped(project, done, 2, message, hint="log in first")
        assert "✗ app preflight" in done.stderr


def test_a_registry_that_does_not_answer_is_infrastructure(tmp_path: Path) -> None:
    with running_registry() as registry:
        host = registry.host
    project = make_project(tmp_path, host)
    done = project.run("run", env=QUICK)
    assert_stopped(project, done, 4, rf".*{host}.*refused")


@pytest.mark.parametrize("status", [500, 507])
def test_a_registry_that_is_full_is_infrastructure(tmp_path: Path, status: int) -> None:
    full = Fault(action=error(status, "UNKNOWN"), method="PUT", path="/blobs/uploads/", times=0)
    with running_registry(faults=[full]) as registry:
        project = make_project(tmp_path, registry)
        done = project.run("run", env=QUICK)
        assert_stopped(project, done, 4, rf".*{registry.host}.*{status}")
        assert tags_of(registry) == {}
        assert not has_manifests(registry)


def test_a_registry_that_runs_full_while_layers_arrive_is_infrastructure(tmp_path: Path) -> None:
    with running_registry(storage_limit_bytes=200_000) as registry:
        project = make_project(tmp_path, registry)
        project.write("rootfs/noise", os.urandom(1 << 20))
        done = project.run("run", env=QUICK)
        assert_stopped(project, done, 4, rf".*{registry.host}.*(507|full|space)")
        assert tags_of(registry) == {}


def test_too_many_requests_are_tried_again_when_the_registry_says(tmp_path: Path) -> None:
    busy = [
        Fault(action=error(429, "TOOMANYREQUESTS", **{"Retry-After": "1"}), method=m, path=p)
        for m, p in (
            ("POST", "/blobs/uploads/"),
            ("PUT", "/blobs/uploads/"),
            ("PUT", "/manifests/v1"),
        )
    ]
    with running_registry(faults=busy) as registry:
        project = make_project(tmp_path, registry)
        done = project.run("run")
        assert done.exit_code == 0, done.stderr
        assert done.stderr.count("HTTP 429; trying again in 1.") == 3
        assert set(tags_of(registry)) == {"v1", "latest"}


def test_a_connection_that_breaks_in_a_layer_is_taken_up_again(tmp_path: Path) -> None:
    broken = [
        Fault(
            action=Reset(request_bytes=300_000), method="PUT|PATCH", path="/blobs/uploads/", times=2
        ),
        Fault(action=Reset(), method="PUT", path="/manifests/latest"),
    ]
    with running_registry(faults=broken) as registry:
        project = make_project(tmp_path, registry)
        project.write("rootfs/noise", os.urandom(1 << 20))
        done = project.run("run")
        assert done.exit_code == 0, done.stderr
        assert set(tags_of(registry)) == {"v1", "latest"}


def push_first(project: Project) -> None:
    """Give `v1` to the image as it is, then change the image."""
    assert project.run("run", "--tags", "v1").exit_code == 0
    project.write("rootfs/change", "another image")


def test_an_immutable_tag_that_is_taken_stops_the_run(tmp_path: Path) -> None:
    with running_registry(immutable_tags=True) as registry:
        project = make_project(tmp_path, registry)
        push_first(project)
        before = tags_of(registry)
        done = project.run("run", "--tags", "v1")
        assert_stopped(project, done, 2, rf"tag v1 of {registry.host}/team/app exists")
        assert tags_of(registry) == before


def with_fixed_tag(base: Path, registry: RunningRegistry) -> tuple[Project, str]:
    """Push an image under its commit, then change it without a commit; returns the tag."""
    project = make_project(base, registry)
    commit = commit_all(project)
    tags = ("--tags", "{sha},latest")
    assert project.run("run", *tags).exit_code == 0
    assert set(tags_of(registry)) == {commit, "latest"}
    project.write("rootfs/change", "another image")
    return project, commit


def test_a_fixed_tag_at_another_image_stops_the_run_before_any_name(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    project, commit = with_fixed_tag(tmp_path, registry)
    before = tags_of(registry)
    done = project.run("run", "--tags", "{sha},latest")
    assert_stopped(project, done, 2, rf".*team/app:{commit} exists", hint="on_existing")
    assert tags_of(registry) == before


def test_a_fixed_tag_at_another_image_is_kept_when_asked(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    project, commit = with_fixed_tag(tmp_path, registry)
    before = tags_of(registry)
    done = project.run("run", "--tags", "{sha},latest", "--on-existing", "keep")
    assert done.exit_code == 0, done.stderr
    assert tags_of(registry)[commit] == before[commit]
    assert tags_of(registry)["latest"] != before["latest"]
    assert any("kept" in text for text in project.junit()["skipped"])


def test_a_fixed_tag_at_another_image_is_moved_when_asked(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    project, commit = with_fixed_tag(tmp_path, registry)
    before = tags_of(registry)
    done = project.run("run", "--tags", "{sha},latest", "--on-existing", "overwrite")
    assert done.exit_code == 0, done.stderr
    assert tags_of(registry)[commit] != before[commit]
    (place,) = project.result()["images"][0]["published"]
    assert before[commit] in json.dumps(place)


def test_the_same_image_under_its_fixed_tag_is_success(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    project, commit = with_fixed_tag(tmp_path, registry)
    (project.folder / "rootfs" / "change").unlink()
    before = tags_of(registry)
    assert project.run("run", "--tags", "{sha},latest").exit_code == 0
    assert tags_of(registry) == before
    assert commit in before

"""Keys that are missing, locked or garbage are found before anything is built."""

import pytest

from tests.support.cli import (
    Project,
    assert_stopped,
    has_manifests,
    signing_environment,
    tags_of,
)
from tests.support.registry import RunningRegistry

GARBAGE = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nbm90IGEga2V5\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"


def assert_nothing_built(project: Project, registry: RunningRegistry) -> None:
    steps = {step["step"]: step["status"] for step in project.result()["images"][0]["steps"]}
    assert steps["preflight"] == "error"
    assert steps["build"] == "skipped"
    assert not has_manifests(registry)


def test_a_key_with_a_wrong_password_stops_before_building(
    project: Project, registry: RunningRegistry
) -> None:
    env = signing_environment() | {"COSIGN_PASSWORD": "not-the-password"}
    done = project.run("run", env=env)
    assert_stopped(project, done, 2, r".*password", hint="COSIGN_PASSWORD")
    assert_nothing_built(project, registry)
    assert "not-the-password" not in done.stdout + done.stderr


@pytest.mark.parametrize("key", ["hello, I am a key", GARBAGE], ids=["text", "pem"])
def test_a_key_that_is_none_stops_before_building(
    project: Project, registry: RunningRegistry, key: str
) -> None:
    env = signing_environment() | {"COSIGN_PRIVATE_KEY": key}
    done = project.run("run", env=env)
    assert_stopped(project, done, 2, r".*key")
    assert_nothing_built(project, registry)
    assert "hello, I am" not in done.stdout + done.stderr


def test_a_key_file_that_is_missing_stops_before_building(
    project: Project, registry: RunningRegistry
) -> None:
    done = project.run("run", "--sign", "key", "--sign-key", "keys/release.key")
    assert_stopped(project, done, 2, r".*keys/release\.key")
    assert_nothing_built(project, registry)


def test_signing_that_is_demanded_without_a_key_stops_before_building(
    project: Project, registry: RunningRegistry
) -> None:
    done = project.run("run", "--sign", "key")
    assert_stopped(project, done, 2, r".*COSIGN_PRIVATE_KEY is not set")
    assert_nothing_built(project, registry)


def test_without_a_key_the_image_is_pushed_unsigned_and_that_is_said(
    project: Project, registry: RunningRegistry
) -> None:
    done = project.run("run", "--sign", "auto")
    assert done.exit_code == 0, done.stderr
    assert set(tags_of(registry)) == {"v1", "latest"}
    assert project.result()["images"][0]["signed"] is False
    assert any("COSIGN_PRIVATE_KEY is not set" in text for text in project.junit()["skipped"])
    assert "not signed" in done.stdout


def test_with_a_key_the_image_is_signed_and_the_signature_verifies(
    project: Project, registry: RunningRegistry
) -> None:
    env = signing_environment()
    done = project.run("run", env=env)
    assert done.exit_code == 0, done.stderr
    assert project.result()["images"][0]["signed"] is True
    public = {"COSIGN_PUBLIC_KEY": env["COSIGN_PUBLIC_KEY"]}
    checked = project.run("verify", f"{registry.host}/team/app:v1", env=public)
    assert checked.exit_code == 0, checked.stdout


def test_an_unsigned_image_does_not_verify(project: Project, registry: RunningRegistry) -> None:
    assert project.run("run").exit_code == 0
    public = {"COSIGN_PUBLIC_KEY": signing_environment()["COSIGN_PUBLIC_KEY"]}
    done = project.run("verify", f"{registry.host}/team/app:v1", env=public)
    assert done.exit_code == 6, done.stdout
    assert "Traceback" not in done.stderr


def test_verifying_without_a_public_key_says_which_one_is_missing(
    project: Project, registry: RunningRegistry
) -> None:
    done = project.run("verify", f"{registry.host}/team/app:v1")
    assert done.exit_code == 2
    assert "COSIGN_PUBLIC_KEY" in done.troubles[0]

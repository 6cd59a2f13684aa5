"""What other programs get to see: fakes that are first on PATH write down their arguments and environment."""

import base64
import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ci_registry.advisories.trivy_db import write_trivy_db
from tests.support.canaries import (
    BUILD_SECRET,
    FILE_SECRET,
    PULL_PASSWORD,
    REGISTRY_PASSWORD,
    SCANNER_SETTINGS,
    TOKENS,
    USER,
    Canaries,
    docker_config,
)
from tests.support.cli import SETTINGS, Outcome, Project, make_project
from tests.support.fake_programs import NAMES, Programs, install_programs
from tests.support.images import ImageSpec, make_layout
from tests.support.registry import RunningRegistry, running_registry
from tests.support.trivy_cases import ADVISORIES

BUILD_SECRETS = {"secret_envs": ["BUILD_SECRET"], "secret_files": {"npmrc": ".npmrc"}}
ALLOWED = {"PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
BASE_HOST = "base.example:5000"
DOCKERFILE = f"FROM {BASE_HOST}/debian:12\nRUN --mount=type=secret,id=BUILD_SECRET true\n"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A project with all fakes, a user's Docker configuration, a base image and a trivy database."""

    project: Project
    registry: RunningRegistry
    canaries: Canaries

    @property
    def programs(self) -> Programs:
        return Programs(folder=self.project.base / "bin")

    def run(self, *arguments: str, **env: str) -> Outcome:
        every = self.canaries.env | {"BUILD_SECRET": BUILD_SECRET} | env
        every |= {"PATH": self.programs.path(os.environ["PATH"])}
        return self.project.run("run", *arguments, env=every)

    def calls(self, program: str) -> list[dict[str, Any]]:
        found = self.programs.calls(program)
        assert found, f"{program} was never started"
        return found

    def builds(self) -> list[dict[str, Any]]:
        """The starts that build something."""
        return [c for c in self.programs.calls() if {"build", "bud"} & set(c["argv"][:8])]

    def set_image(self, settings: dict[str, Any], **more: Any) -> None:
        path = self.project.folder / SETTINGS
        document = json.loads(path.read_text())
        document["images"]["app"] = {"tags": ["v1"], **settings}
        path.write_text(json.dumps(document | more))

    def fork(self, event: str) -> dict[str, str]:
        """The environment of a pull request from a fork."""
        file = self.project.base / "event.json"
        payload = {"pull_request": {"head": {"repo": {"full_name": "evil/app"}}}}
        file.write_text(json.dumps(payload))
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": event,
            "GITHUB_REPOSITORY": "acme/app",
            "GITHUB_EVENT_PATH": str(file),
        }


@contextlib.contextmanager
def open_place(base: Path, canaries: Canaries) -> Iterator[Place]:
    with running_registry(users={USER: REGISTRY_PASSWORD}) as registry:
        image = {"tags": ["v1"], **BUILD_SECRETS}
        project = make_project(base, registry, images={"app": image})
        project.write("Dockerfile", DOCKERFILE)
        project.write(".npmrc", FILE_SECRET)
        project.write(".trivyignore", "CVE-2026-90001\n")
        spec = ImageSpec(layers=[{"etc/os-release": "ID=debian\n"}])
        made = make_layout(base / "made", spec)
        programs = install_programs(
            base / "bin", *NAMES, layout=made.layout, pull_password=PULL_PASSWORD
        )
        docker = base / "home" / ".docker"
        (docker / "cli-plugins").mkdir(parents=True)
        (docker / "cli-plugins" / "docker-buildx").symlink_to(programs.folder / "docker-buildx")
        config = json.loads(docker_config({"elsewhere.example": "password-of-elsewhere"}))
        config["credHelpers"] = {BASE_HOST: "canary"}
        (docker / "config.json").write_text(json.dumps(config))
        now, later = datetime.now(UTC), datetime.now(UTC) + timedelta(days=1)
        write_trivy_db(base / "trivy", ADVISORIES, [], updated_at=now, next_update=later)
        yield Place(project=project, registry=registry, canaries=canaries)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A place after one run."""

    place: Place
    done: Outcome


@pytest.fixture
def place(tmp_path: Path, canaries: Canaries) -> Iterator[Place]:
    with open_place(tmp_path, canaries) as opened:
        yield opened


@pytest.fixture(scope="module", params=["buildx", "buildah"])
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, canaries: Canaries
) -> Iterator[Ran]:
    """One run with each builder, with all details on stderr."""
    with open_place(tmp_path_factory.mktemp("built"), canaries) as opened:
        yield Ran(place=opened, done=opened.run("--builder", request.param, "-v"))


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, canaries: Canaries) -> Iterator[Ran]:
    """One run with trivy."""
    with open_place(tmp_path_factory.mktemp("scanned"), canaries) as opened:
        database = str(opened.project.base / "trivy")
        yield Ran(
            place=opened,
            done=opened.run("--builder", "buildx", "--scanner", "trivy", "--scan-db", database),
        )


def assert_clean(call: dict[str, Any], canaries: Canaries, *, but: tuple[str, ...] = ()) -> None:
    """Check that neither arguments nor environment hold a secret or a setting of scanners."""
    assert canaries.found_in(json.dumps(call["argv"], ensure_ascii=False)) == []
    assert canaries.found_in(json.dumps(call["env"], ensure_ascii=False), but=but) == []
    foreign = ("COSIGN_", "ACTIONS_", "SIGSTORE_", "GITHUB_", "CI_", "TRIVY_", "GRYPE_")
    names = [n for n in call["env"] if n.startswith(foreign)]
    own = [n for n in call["env"] if n.startswith("CIREG_") and not n.startswith("CIREG_SECRET_")]
    assert names + own == []


def test_scanner_sees_no_secret_no_setting_and_no_engine(scanned: Ran) -> None:
    assert scanned.done.exit_code == 5, scanned.done.stderr  # the fake scanner saw no package
    for call in scanned.place.calls("trivy"):
        assert_clean(call, scanned.place.canaries)
        assert set(call["env"]) <= ALLOWED
        assert not {"DOCKER_HOST", "BUILD_SECRET", *TOKENS, *SCANNER_SETTINGS} & set(call["env"])


def test_scanner_runs_in_empty_private_folders_without_files_of_the_project(scanned: Ran) -> None:
    project = scanned.place.project
    (scan,) = [call for call in scanned.place.calls("trivy") if call["argv"][0] == "image"]

    assert scan["here"] == []
    assert set(scan["home"]) == {"."}
    assert scan["env"]["HOME"] not in (str(project.base / "home"), scan["cwd"])
    for folder in (scan["cwd"], scan["env"]["HOME"]):
        assert folder.startswith(str(project.work))
        assert not Path(folder).exists()
    assert {"--config", "--ignorefile", "--skip-db-update", "--offline-scan"} <= set(scan["argv"])
    notes = json.dumps(project.result()["images"][0]["scans"])
    assert ".trivyignore is in the tree and was not applied" in notes


def test_builder_sees_its_own_secrets_alone_and_none_in_its_arguments(built: Ran) -> None:
    own = tuple(BUILD_SECRET.splitlines())

    (build,) = built.place.builds()
    for call in built.place.calls(build["program"]):
        assert_clean(call, built.place.canaries, but=own if call == build else ())
        assert call["env"]["HOME"] != str(built.place.project.base / "home")
        assert "BUILD_SECRET" not in call["env"]
        values = {v for n, v in call["env"].items() if n.startswith("CIREG_SECRET_")}
        assert values <= ({BUILD_SECRET} if call["argv"] == build["argv"] else set())
    assert any("id=BUILD_SECRET" in argument for argument in build["argv"])


def test_builder_gets_the_logins_of_the_hosts_that_it_needs_and_no_other(built: Ran) -> None:
    (build,) = built.place.builds()

    text = build["auth_file"] or build["docker_config"]["config.json"][1]
    pair = base64.b64encode(f"puller:{PULL_PASSWORD}".encode()).decode()
    assert json.loads(text)["auths"] == {BASE_HOST: {"auth": pair}}
    every = json.dumps([build["docker_config"], build["auth_file"]])
    assert "elsewhere" not in every
    assert base64.b64encode(f"{USER}:{REGISTRY_PASSWORD}".encode()).decode() not in every


def test_private_docker_configuration_is_for_us_alone_and_goes_away(built: Ran) -> None:
    for call in built.place.programs.calls():
        if "DOCKER_CONFIG" in call["env"]:
            folder = Path(call["env"]["DOCKER_CONFIG"])
            assert folder.is_relative_to(built.place.project.work)
            assert call["docker_config"]["."][0] == "0o700"
            assert call["docker_config"]["config.json"][0] == "0o600"
            assert not folder.exists()
    assert built.place.project.left_overs == []


def test_careless_build_that_prints_its_secret_shows_stars(built: Ran) -> None:
    canaries = built.place.canaries

    assert canaries.found_in(built.done.stdout + built.done.stderr) == []
    assert "***" in built.done.stderr
    assert canaries.found_below(built.place.project.reports) == []


def test_output_of_a_build_drives_no_terminal(built: Ran) -> None:
    assert "::error::forged" in built.done.stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", built.done.stderr)


def test_credential_helpers_see_the_host_and_no_secret_of_ours(built: Ran) -> None:
    for call in built.place.calls("docker-credential-canary"):
        assert_clean(call, built.place.canaries)
        assert (call["argv"], call["stdin"]) == (["get"], BASE_HOST)


def test_git_sees_no_secret(place: Place) -> None:
    (place.project.folder / ".git").mkdir()

    place.run("--builder", "buildx")

    for call in place.calls("git"):
        assert_clean(call, place.canaries)
        assert not {"DOCKER_HOST", "BUILD_SECRET"} & set(call["env"])


def test_change_from_a_fork_is_built_without_the_login_of_the_push_and_exports_no_cache(
    place: Place,
) -> None:
    place.set_image({})

    place.run("--builder", "buildx", "--push", "always", **place.fork("pull_request"))

    (build,) = place.builds()
    assert "--cache-to" not in build["argv"]
    pair = base64.b64encode(f"{USER}:{REGISTRY_PASSWORD}".encode()).decode()
    assert pair not in json.dumps(build["docker_config"])
    assert place.registry.seen == []


@pytest.mark.parametrize("name", ["CIREG_REGISTRY_PASSWORD", "MY_KEY"])
def test_change_cannot_ask_for_a_signing_key_or_the_password_as_a_build_secret(
    place: Place, name: str
) -> None:
    place.set_image({"secret_envs": [f"harmless={name}"]}, sign={"key": "env://MY_KEY"})

    done = place.run("--builder", "buildx", MY_KEY=place.canaries.private_key)

    assert done.exit_code == 2
    assert f"{name} is never given to a build" in done.stderr
    assert place.builds() == []


@pytest.mark.parametrize(
    "secrets", [BUILD_SECRETS, {"secret_files": {"config": "../home/.docker/config.json"}}]
)
def test_fork_gets_no_build_secret(place: Place, secrets: dict[str, Any]) -> None:
    place.set_image(secrets)

    done = place.run("--builder", "buildx", **place.fork("pull_request_target"))

    assert done.exit_code == 2
    assert "is not given to a change from a fork" in done.stderr
    assert place.builds() == []

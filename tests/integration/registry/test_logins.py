"""Where the command line finds logins, and where they never go."""

import base64
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import ToolError
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.process import ProcessRunner
from ci_registry.registry.credentials import DockerConfigCredentials
from ci_registry.registry.layout import Layout
from ci_registry.registry_server.options import Answer, Fault, Redirect, TokenAuth
from tests.integration.registry.test_commands import bad, good
from tests.support.cli import Project
from tests.support.images import ImageSpec, make_layout
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import login, remote_repository

USER, PASSWORD = "ci", "hunter2"
PAIR = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
WRONG = base64.b64encode(b"ci:wrong").decode()
NAME = "team/app"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder with a layout `image`, outside of any repository."""
    for name in ("project", "home", "work", "tmp", "run", "bin"):
        (tmp_path / name).mkdir()
    project = Project(base=tmp_path)
    make_layout(project.folder / "image", ImageSpec(layers=[{"a": "1"}]))
    return project


@pytest.fixture
def closed() -> Iterator[RunningRegistry]:
    """A registry that wants a password and has nothing."""
    with running_registry(users={USER: PASSWORD}) as registry:
        yield registry


def write(path: Path, document: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return str(path)


def helper(project: Project, name: str, script: str) -> dict[str, str]:
    """Install `docker-credential-NAME`; returns the environment in which it is found."""
    program = project.base / "bin" / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{project.env['PATH']}"}


def _docker(project: Project, host: str) -> dict[str, str]:
    write(project.base / "home/.docker/config.json", {"auths": {host: {"auth": PAIR}}})
    return {}


def _docker_config(project: Project, host: str) -> dict[str, str]:
    write(project.base / "docker/config.json", {"auths": {f"http://{host}/v2/": {"auth": PAIR}}})
    return {"DOCKER_CONFIG": str(project.base / "docker")}


def _path_scoped(project: Project, host: str) -> dict[str, str]:
    auths = {host: WRONG, f"{host}/team": WRONG, f"{host}/team/app": PAIR, f"{host}/tea": WRONG}
    document = {"auths": {key: {"auth": value} for key, value in auths.items()}}
    return {"REGISTRY_AUTH_FILE": write(project.base / "auth.json", document)}


def _auth_config(_project: Project, host: str) -> dict[str, str]:
    return {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {host: {"auth": PAIR}}})}


def _podman(project: Project, host: str) -> dict[str, str]:
    write(project.base / "run/containers/auth.json", {"auths": {host: {"auth": PAIR}}})
    return {"XDG_RUNTIME_DIR": str(project.base / "run")}


def _podman_home(project: Project, host: str) -> dict[str, str]:
    write(project.base / "home/.config/containers/auth.json", {"auths": {host: {"auth": PAIR}}})
    return {}


def _own_names(_project: Project, _host: str) -> dict[str, str]:
    return {"CIREG_REGISTRY_USERNAME": USER, "CIREG_REGISTRY_PASSWORD": PASSWORD}


def _gitlab(_project: Project, host: str) -> dict[str, str]:
    return {
        "GITLAB_CI": "true",
        "CI_PIPELINE_ID": "1",
        "CI_COMMIT_SHA": "a" * 40,
        "CI_COMMIT_BRANCH": "main",
        "CI_REGISTRY": host,
        "CI_REGISTRY_USER": USER,
        "CI_REGISTRY_PASSWORD": PASSWORD,
    }


def _cred_helper(project: Project, host: str) -> dict[str, str]:
    answer = json.dumps({"ServerURL": host, "Username": USER, "Secret": PASSWORD})
    script = f'test "$1" = get && test "$(cat)" = "{host}" && echo \'{answer}\''
    document = {"credHelpers": {host: "test"}, "credsStore": "absent"}
    write(project.base / "home/.docker/config.json", document)
    return helper(project, "test", script)


def _store_without_it(project: Project, host: str) -> dict[str, str]:
    document = {"credsStore": "test", "auths": {host: {"auth": PAIR}}}
    write(project.base / "home/.docker/config.json", document)
    return helper(project, "test", "echo 'credentials not found in native keychain'; exit 1")


SOURCES = (
    _docker,
    _docker_config,
    _path_scoped,
    _auth_config,
    _podman,
    _podman_home,
    _own_names,
    _gitlab,
    _cred_helper,
    _store_without_it,
)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__.strip("_"))
def test_a_login_is_found(
    project: Project,
    closed: RunningRegistry,
    source: Callable[[Project, str], dict[str, str]],
) -> None:
    to = f"{closed.host}/{NAME}:v1"
    bad(project.run("copy", "image", to), 2, "401")
    good(project.run("copy", "image", to, env=source(project, closed.host)))


def test_a_job_token_is_a_login_for_gitlabs_registry_alone(project: Project) -> None:
    env = {
        "GITLAB_CI": "true",
        "CI_PIPELINE_ID": "1",
        "CI_COMMIT_SHA": "a" * 40,
        "CI_JOB_TOKEN": "job",
    }
    with running_registry(users={"gitlab-ci-token": "job"}) as own:
        env["CI_REGISTRY"] = own.host
        good(project.run("copy", "image", f"{own.host}/{NAME}:v1", env=env))
        with running_registry(users={"gitlab-ci-token": "job"}) as other:
            bad(project.run("copy", "image", f"{other.host}/{NAME}:v1", env=env), 2, "401")
            assert not any(seen.authorization for seen in other.seen)


# --- helpers


@pytest.mark.parametrize(
    ("script", "exit_code", "message"),
    [
        ("echo no AWS credentials >&2; exit 1", 2, "has no login for"),
        ("echo not json", 4, "is not JSON"),
        ('echo \'{"Username":"x"}\'', 4, "lacks Username or Secret"),
        ("head -c 3000000 /dev/zero", 4, "is not JSON"),
        ("kill -9 $$", 2, "has no login for"),
    ],
)
def test_a_helper_that_fails_stops_and_is_named(
    project: Project, closed: RunningRegistry, script: str, exit_code: int, message: str
) -> None:
    write(project.base / "home/.docker/config.json", {"credHelpers": {closed.host: "test"}})
    outcome = project.run("ls", f"{closed.host}/{NAME}", env=helper(project, "test", script))
    bad(outcome, exit_code, message)
    assert "docker-credential-test" in outcome.stderr


def test_a_helper_that_hangs_is_ended(project: Project) -> None:
    env = helper(project, "test", "sleep 600")
    source = DockerConfigCredentials(
        origin="config.json",
        auths={},
        helpers={},
        store="test",
        env=env,
        runner=ProcessRunner(cancel=Cancel()),
        helper_timeout_s=0.3,
    )
    with pytest.raises(ToolError, match=r"docker-credential-test gave no answer for ghcr\.io"):
        source.find("ghcr.io", "a/b")


def test_a_refresh_token_of_a_helper_is_exchanged(project: Project) -> None:
    """As ACR does: `<token>` as user name, POST of the refresh token, a token for each scope."""
    with running_registry() as tokens:
        auth = TokenAuth(key=b"k" * 32, realm=f"{tokens.url}/oauth2/token")
        with running_registry(users={USER: PASSWORD}, token_auth=auth) as registry:
            token = _token(registry)
            answer = Answer(status=200, body=json.dumps({"access_token": token}).encode())
            tokens.faults.add(Fault(action=answer, method="POST", path="/oauth2/token", times=0))
            script = 'echo \'{"Username":"<token>","Secret":"refresh"}\''
            document = {"credHelpers": {registry.host: "acr-env"}}
            write(project.base / "home/.docker/config.json", document)
            env = helper(project, "acr-env", script)
            good(project.run("copy", "image", f"{registry.host}/{NAME}:v1", env=env))
        assert {seen.method for seen in tokens.seen} == {"POST"}
        assert not any("refresh" in seen.path for seen in tokens.seen)


def _token(registry: RunningRegistry) -> str:
    scope = f"repository:{NAME}:pull,push"
    request = urllib.request.Request(
        f"{registry.url}/token?service=ci-registry&scope={scope}",
        headers={"Authorization": f"Basic {PAIR}"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(json.load(answer)["token"])


# --- where logins never go


def test_the_given_login_does_not_go_to_the_source(project: Project) -> None:
    with (
        running_registry(users={USER: PASSWORD}) as thief,
        running_registry(users={USER: PASSWORD}) as target,
    ):
        outcome = project.run(
            "copy",
            f"{thief.host}/{NAME}:v1",
            f"{target.host}/{NAME}:v1",
            env=_own_names(project, ""),
        )
        bad(outcome, 2, "401")
        assert thief.seen
        assert not any(seen.authorization for seen in thief.seen)


def test_an_upload_that_is_sent_elsewhere_goes_without_a_login(closed: RunningRegistry) -> None:
    data = b"x" * 100
    blob = Descriptor(media_type="application/x", digest=digest_of(data), size=len(data))
    with running_registry(users={USER: PASSWORD}) as thief:
        location = (("Location", f"{thief.url}/v2/{NAME}/blobs/uploads/1"),)
        closed.faults.add(
            Fault(action=Answer(status=202, headers=location), method="POST", times=0)
        )
        with remote_repository(
            closed.host, NAME, credentials=login(closed.host, USER, PASSWORD), retries=0
        ) as repository:
            repository.resolve("v1")  # so that the login is known
            assert any(seen.authorization for seen in closed.seen)
            with pytest.raises(Exception, match="upload"):
                repository.push_blob(blob, lambda: iter((data,)))
        assert thief.seen
        assert not any(seen.authorization for seen in thief.seen)


def test_a_token_service_that_redirects_elsewhere_loses_the_password() -> None:
    with running_registry(users={USER: PASSWORD}) as thief, running_registry() as tokens:
        tokens.faults.add(Fault(action=Redirect(to=thief.url), path="/token", times=0))
        auth = TokenAuth(key=b"k" * 32, realm=f"{tokens.url}/token")
        with (
            running_registry(users={USER: PASSWORD}, token_auth=auth) as registry,
            remote_repository(
                registry.host, NAME, credentials=login(registry.host, USER, PASSWORD)
            ) as repository,
            pytest.raises(Exception, match="token service"),
        ):
            repository.resolve("v1")
        assert thief.seen
        assert not any(seen.authorization for seen in thief.seen)


def test_the_address_of_a_foreign_layer_is_never_asked(
    project: Project, closed: RunningRegistry
) -> None:
    layout = Layout(project.folder / "image")
    manifest = json.loads(layout.fetch(layout.root().digest).body)
    with running_registry(users={USER: PASSWORD}) as thief:
        manifest["layers"].append(
            {
                "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "digest": digest_of(b"windows"),
                "size": 7,
                "urls": [f"{thief.url}/v2/{NAME}/blobs/{digest_of(b'windows')}"],
            }
        )
        layout.push("windows", json.dumps(manifest).encode(), media_types.OCI_MANIFEST)
        env = _own_names(project, "")
        to = f"{closed.host}/{NAME}:v1"
        assert "is foreign" in project.run("copy", "oci:image:windows", to, env=env).stderr
        good(project.run("inspect", to, env=env))
        good(project.run("copy", to, "oci:back:v1", env=_auth_config(project, closed.host)))
        assert thief.seen == []

"""The private Docker configuration and environment of a build."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ci_registry.builders.docker_config import context_host, prepare_docker_home
from ci_registry.builders.interface import BuildRequest
from ci_registry.errors import StorageError


def request(tmp_path: Path, **more: Any) -> BuildRequest:
    values: dict[str, Any] = {
        "image": "api",
        "context": tmp_path,
        "dockerfile": tmp_path / "Dockerfile",
        "layout": tmp_path / "layout",
        "work": tmp_path / "work",
    }
    return BuildRequest(**(values | more))


def user_folder(tmp_path: Path, config: dict[str, Any]) -> Path:
    folder = tmp_path / "user"
    (folder / "cli-plugins").mkdir(parents=True)
    (folder / "cli-plugins" / "docker-buildx").write_text("plugin")
    (folder / "contexts").mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_only_what_reaches_an_engine_is_passed_on(tmp_path: Path) -> None:
    env = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "DOCKER_HOST": "unix:///x.sock",
        "HTTPS_PROXY": "http://proxy",
        "DOCKER_DEFAULT_PLATFORM": "linux/arm64",
        "BUILDKIT_SYNTAX": "x",
        "BUILDKIT_SANDBOX_HOSTNAME": "x",
        "SOURCE_DATE_EPOCH": "5",
        "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY": "x",
        "BUILDX_EXPERIMENTAL": "1",
        "CIREG_REGISTRY_PASSWORD": "hunter22",
        "COSIGN_PASSWORD": "hunter22",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hunter22",
    }
    private = prepare_docker_home(request(tmp_path), env)
    work = tmp_path / "work"
    assert private.env == {
        "PATH": "/bin",
        "HOME": str(work / "home"),
        "DOCKER_HOST": "unix:///x.sock",
        "HTTPS_PROXY": "http://proxy",
        "DOCKER_CONFIG": str(work / "docker"),
        "BUILDX_CONFIG": str(work / "docker" / "buildx"),
    }


def test_credentials_are_those_of_the_request_never_the_users(tmp_path: Path) -> None:
    user = user_folder(
        tmp_path,
        {
            "auths": {"mine.example": {"auth": "dXNlcjpodW50ZXIyMg=="}},
            "credsStore": "desktop",
            "currentContext": "colima",
            "proxies": {"default": {"httpProxy": "http://proxy"}},
        },
    )
    given = tmp_path / "given"
    given.mkdir()
    (given / "config.json").write_text('{"auths":{"ghcr.io":{"auth":"x"}}}')
    private = prepare_docker_home(
        request(tmp_path, docker_config=given), {"DOCKER_CONFIG": str(user)}
    )
    path = private.config / "config.json"
    assert json.loads(path.read_text()) == {
        "auths": {"ghcr.io": {"auth": "x"}},
        "currentContext": "colima",
        "proxies": {"default": {"httpProxy": "http://proxy"}},
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert private.config.stat().st_mode & 0o777 == 0o700
    assert (private.config / "cli-plugins" / "docker-buildx").read_text() == "plugin"
    assert (private.config / "contexts").is_dir()


def test_builders_of_the_user_are_known_but_not_the_node_id(tmp_path: Path) -> None:
    user = user_folder(tmp_path, {})
    buildx = user / "buildx"
    (buildx / "instances").mkdir(parents=True)
    (buildx / "instances" / "farm").write_text('{"Name":"farm"}')
    (buildx / "current").write_text('{"Name":"farm"}')
    (buildx / ".buildNodeID").write_text("0123456789abcdef")
    private = prepare_docker_home(request(tmp_path), {"DOCKER_CONFIG": str(user)})
    copied = Path(private.env["BUILDX_CONFIG"])
    assert (copied / "instances" / "farm").is_file()
    assert (copied / "current").is_file()
    assert not (copied / ".buildNodeID").exists()


@pytest.mark.parametrize(("driver", "named"), [("kubernetes", True), ("remote", False)])
def test_kubeconfig_is_named_only_for_a_kubernetes_builder(
    driver: str, named: bool, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    (home / ".kube" / "config").write_text("x")
    instances = home / ".docker" / "buildx" / "instances"
    instances.mkdir(parents=True)
    (instances / "b").write_text(json.dumps({"Name": "b", "Driver": driver}))
    private = prepare_docker_home(request(tmp_path), {"HOME": str(home)})
    assert ("KUBECONFIG" in private.env) is named


def test_tls_material_of_the_users_folder_is_named(tmp_path: Path) -> None:
    user = user_folder(tmp_path, {})
    env = {"DOCKER_CONFIG": str(user), "DOCKER_TLS_VERIFY": "1", "DOCKER_HOST": "tcp://h:2376"}
    private = prepare_docker_home(request(tmp_path), env)
    assert private.env["DOCKER_CERT_PATH"] == str(user)


def test_broken_configuration_is_told_with_its_path(tmp_path: Path) -> None:
    user = user_folder(tmp_path, {})
    (user / "config.json").write_text("{")
    with pytest.raises(StorageError, match=r"user/config\.json"):
        prepare_docker_home(request(tmp_path), {"DOCKER_CONFIG": str(user)})


def test_preparing_twice_is_fine(tmp_path: Path) -> None:
    env = {"DOCKER_CONFIG": str(user_folder(tmp_path, {}))}
    first = prepare_docker_home(request(tmp_path), env)
    assert prepare_docker_home(request(tmp_path), env) == first


def test_current_context_names_the_engine(tmp_path: Path) -> None:
    user = user_folder(tmp_path, {"currentContext": "colima"})
    meta = user / "contexts" / "meta" / hashlib.sha256(b"colima").hexdigest()
    meta.mkdir(parents=True)
    endpoint = {"Name": "colima", "Endpoints": {"docker": {"Host": "unix:///c.sock"}}}
    (meta / "meta.json").write_text(json.dumps(endpoint))
    assert context_host({"DOCKER_CONFIG": str(user)}) == "unix:///c.sock"
    assert context_host({"DOCKER_CONFIG": str(user), "DOCKER_CONTEXT": "default"}) == ""
    assert context_host({"DOCKER_CONFIG": str(tmp_path / "absent")}) == ""

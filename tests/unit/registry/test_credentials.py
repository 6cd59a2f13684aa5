"""Where logins come from."""

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ci_registry.errors import AccessError, SetupError, ToolError
from ci_registry.process import Command, Completed
from ci_registry.registry.credentials import (
    Credentials,
    GivenCredentials,
    credential_sources,
    write_docker_config,
)
from ci_registry.secret import Secret


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


class FakeHelper:
    """Answers as `docker-credential-…` does, and records how it was started."""

    def __init__(
        self, exit_code: int, stdout: str, stderr: str = "", *, timed_out: bool = False
    ) -> None:
        self.commands: list[Command] = []
        self._timed_out = timed_out
        self._answer = (exit_code, stdout.encode(), stderr.encode())

    def __call__(
        self, command: Command, *, on_stderr_line: Callable[[str], None] | None = None
    ) -> Completed:
        self.commands.append(command)
        exit_code, stdout, stderr = self._answer
        return Completed(
            argv=command.argv,
            exit_code=exit_code,
            stdout=stdout,
            stderr=stderr,
            duration_s=0.0,
            timed_out=self._timed_out,
        )


NO_HELPER = FakeHelper(1, "no helper expected")


def docker_env(folder: Path, document: object) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(document))
    return {"DOCKER_CONFIG": str(folder)}


def with_helper(tmp_path: Path, document: object, name: str) -> dict[str, str]:
    program = tmp_path / "bin" / f"docker-credential-{name}"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return docker_env(tmp_path / "docker", document) | {
        "PATH": str(program.parent),
        "HOME": str(tmp_path),
        "AWS_PROFILE": "ci",
        "COSIGN_PASSWORD": "must not be seen",
    }


def pair(found: Credentials | None) -> tuple[str, str] | None:
    return (found.username, found.password.reveal()) if found is not None else None


def test_without_any_source_everybody_is_anonymous(tmp_path: Path) -> None:
    chain = credential_sources({"HOME": str(tmp_path)}, NO_HELPER)
    assert chain.find("ghcr.io", "a/b") is None


def test_home_docker_config_is_read(tmp_path: Path) -> None:
    docker_env(tmp_path / ".docker", {"auths": {"ghcr.io": auth("u", "p:with:colons")}})
    chain = credential_sources({"HOME": str(tmp_path)}, NO_HELPER)
    assert pair(chain.find("ghcr.io", "a/b")) == ("u", "p:with:colons")
    assert chain.find("quay.io", "a/b") is None


@pytest.mark.parametrize(
    "key",
    [
        "https://index.docker.io/v1/",
        "index.docker.io",
        "docker.io",
        "registry-1.docker.io",
        "https://registry-1.docker.io/v2/",
    ],
)
def test_docker_hub_has_many_names(tmp_path: Path, key: str) -> None:
    env = docker_env(tmp_path, {"auths": {key: auth("hub", "x")}})
    assert pair(credential_sources(env, NO_HELPER).find("docker.io", "library/a")) == ("hub", "x")


@pytest.mark.parametrize("key", ["r.example:5000", "https://r.example:5000", "r.example:5000/v2/"])
def test_keys_may_carry_scheme_and_version(tmp_path: Path, key: str) -> None:
    env = docker_env(tmp_path, {"auths": {key: auth("u", "p")}})
    assert pair(credential_sources(env, NO_HELPER).find("r.example:5000", "a")) == ("u", "p")


def test_the_most_specific_path_wins(tmp_path: Path) -> None:
    auths = {
        "r.example": auth("host", "1"),
        "r.example/team": auth("team", "2"),
        "r.example/team/app": auth("app", "3"),
    }
    chain = credential_sources(docker_env(tmp_path, {"auths": auths}), NO_HELPER)
    assert pair(chain.find("r.example", "team/app")) == ("app", "3")
    assert pair(chain.find("r.example", "team/app2")) == ("team", "2")
    assert pair(chain.find("r.example", "teams/app")) == ("host", "1")


def test_sources_are_asked_in_order(tmp_path: Path) -> None:
    other = tmp_path / "auth.json"
    other.write_text(json.dumps({"auths": {"b": auth("file", "1"), "c": auth("file", "1")}}))
    env = docker_env(tmp_path, {"auths": {h: auth("docker", "2") for h in "abcd"}}) | {
        "DOCKER_AUTH_CONFIG": json.dumps({"auths": {"c": auth("variable", "3")}}),
        "REGISTRY_AUTH_FILE": str(other),
    }
    given = GivenCredentials(
        hosts=frozenset({"a"}), credentials=Credentials(username="given", password=Secret("0"))
    )
    chain = credential_sources(env, NO_HELPER, given=(given,))
    assert [pair(chain.find(host, "x")) for host in "abcd"] == [
        ("given", "0"),
        ("file", "1"),
        ("variable", "3"),
        ("docker", "2"),
    ]


def test_tokens_are_told_from_passwords(tmp_path: Path) -> None:
    auths = {
        "acr.example": auth("00000000-0000-0000-0000-000000000000", "")
        | {"identitytoken": "refresh"},
        "reg.example": {"registrytoken": "ready"},
    }
    chain = credential_sources(docker_env(tmp_path, {"auths": auths}), NO_HELPER)
    refresh, ready = chain.find("acr.example", "a"), chain.find("reg.example", "a")
    assert refresh is not None
    assert refresh.identity_token.reveal() == "refresh"
    assert ready is not None
    assert ready.registry_token.reveal() == "ready"


def test_an_empty_entry_is_no_login(tmp_path: Path) -> None:
    chain = credential_sources(docker_env(tmp_path, {"auths": {"ghcr.io": {}}}), NO_HELPER)
    assert chain.find("ghcr.io", "a") is None


@pytest.mark.parametrize("text", ["{", '{"auths": [1]}', '{"auths": {}, "auths": {}}', "[]"])
def test_a_broken_config_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(SetupError, match=r"config\.json"):
        credential_sources({"DOCKER_CONFIG": str(tmp_path)}, NO_HELPER)


def test_a_login_that_is_no_base64_is_not_printed(tmp_path: Path) -> None:
    env = docker_env(tmp_path, {"auths": {"ghcr.io": {"auth": "p@ssw0rd!"}}})
    with pytest.raises(SetupError, match="not valid base64") as caught:
        credential_sources(env, NO_HELPER).find("ghcr.io", "a")
    assert "p@ssw0rd" not in caught.value.message


def test_a_helper_is_asked_as_docker_does_and_sees_only_what_it_needs(tmp_path: Path) -> None:
    helper = FakeHelper(0, '{"ServerURL":"x","Username":"AWS","Secret":"token"}')
    document = {"credHelpers": {"1.dkr.ecr.eu-west-1.amazonaws.com": "ecr-login"}}
    env = with_helper(tmp_path, document, "ecr-login")
    chain = credential_sources(env, helper)
    assert pair(chain.find("1.dkr.ecr.eu-west-1.amazonaws.com", "app")) == ("AWS", "token")
    (command,) = helper.commands
    assert command.argv[1:] == ("get",)
    assert command.argv[0].endswith("/docker-credential-ecr-login")
    assert command.stdin == b"1.dkr.ecr.eu-west-1.amazonaws.com"
    assert command.env["AWS_PROFILE"] == "ci"
    assert "COSIGN_PASSWORD" not in command.env
    assert chain.find("other.example", "app") is None
    assert len(helper.commands) == 1


def test_the_store_is_asked_for_docker_hub_under_its_old_name(tmp_path: Path) -> None:
    helper = FakeHelper(0, '{"Username":"<token>","Secret":"refresh"}')
    env = with_helper(tmp_path, {"credsStore": "desktop"}, "desktop")
    found = credential_sources(env, helper).find("docker.io", "library/alpine")
    assert found is not None
    assert found.identity_token.reveal() == "refresh"
    assert helper.commands[0].stdin == b"https://index.docker.io/v1/"


def test_a_helper_that_knows_nothing_means_the_file_is_asked(tmp_path: Path) -> None:
    helper = FakeHelper(1, "credentials not found in native keychain\n")
    document = {"credsStore": "pass", "auths": {"ghcr.io": auth("u", "p")}}
    chain = credential_sources(with_helper(tmp_path, document, "pass"), helper)
    assert pair(chain.find("ghcr.io", "a")) == ("u", "p")
    assert chain.find("quay.io", "a") is None


def test_a_helper_that_fails_is_an_error_not_anonymous_access(tmp_path: Path) -> None:
    helper = FakeHelper(1, "", "\nno AWS credentials in the environment\n")
    env = with_helper(tmp_path, {"credHelpers": {"ecr.example": "ecr-login"}}, "ecr-login")
    with pytest.raises(AccessError, match="no AWS credentials") as caught:
        credential_sources(env, helper).find("ecr.example", "a")
    assert "docker-credential-ecr-login get" in caught.value.hint


@pytest.mark.parametrize("answer", ["not json", '{"Username":"u"}', '{"Username":1,"Secret":"s"}'])
def test_a_helper_that_babbles_is_a_tool_error(tmp_path: Path, answer: str) -> None:
    env = with_helper(tmp_path, {"credsStore": "pass"}, "pass")
    with pytest.raises(ToolError) as caught:
        credential_sources(env, FakeHelper(0, answer)).find("ghcr.io", "a")
    assert answer not in caught.value.message


def test_a_helper_that_hangs_is_a_tool_error(tmp_path: Path) -> None:
    env = with_helper(tmp_path, {"credsStore": "pass"}, "pass")
    with pytest.raises(ToolError, match=r"docker-credential-pass gave no answer for ghcr\.io"):
        credential_sources(env, FakeHelper(-9, "", timed_out=True)).find("ghcr.io", "a")


def test_an_empty_helper_switches_the_store_off_for_one_host(tmp_path: Path) -> None:
    helper = FakeHelper(0, '{"Username":"store","Secret":"s"}')
    document = {
        "credsStore": "pass",
        "credHelpers": {"ghcr.io": ""},
        "auths": {"ghcr.io": auth("u", "p")},
    }
    chain = credential_sources(with_helper(tmp_path, document, "pass"), helper)
    assert pair(chain.find("ghcr.io", "a")) == ("u", "p")
    assert pair(chain.find("quay.io", "a")) == ("store", "s")


def test_a_helper_that_is_missing_is_named(tmp_path: Path) -> None:
    env = docker_env(tmp_path, {"credsStore": "osxkeychain"}) | {"PATH": str(tmp_path)}
    with pytest.raises(ToolError, match="docker-credential-osxkeychain, which is not on PATH"):
        credential_sources(env, NO_HELPER).find("ghcr.io", "a")


def test_a_helper_name_is_no_path(tmp_path: Path) -> None:
    env = docker_env(tmp_path, {"credsStore": "x/../../evil"}) | {"PATH": "/bin"}
    with pytest.raises(ToolError, match="not on PATH"):
        credential_sources(env, NO_HELPER).find("ghcr.io", "a")


def test_a_private_docker_config_can_be_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    logins = {
        "docker.io": Credentials(username="hub", password=Secret("1")),
        "r.example": Credentials(username="u", password=Secret("2")),
        "acr.example": Credentials(identity_token=Secret("refresh")),
    }
    path = write_docker_config(folder, logins)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "https://index.docker.io/v1/" in json.loads(path.read_text())["auths"]
    chain = credential_sources({"DOCKER_CONFIG": str(folder)}, NO_HELPER)
    assert {host: chain.find(host, "a/b") for host in logins} == logins


def test_logins_do_not_print() -> None:
    login = Credentials(username="u", password=Secret("hidden"))
    assert "hidden" not in repr(login)
    assert login.basic.reveal() == "Basic dTpoaWRkZW4="


def test_logins_of_podman_are_found_after_those_of_docker(tmp_path: Path) -> None:
    def write(path: Path, *hosts: str) -> None:
        pair = base64.b64encode(f"{path.parts[-3]}:p".encode()).decode()
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"auths": {host: {"auth": pair} for host in hosts}}))

    write(tmp_path / "home/.docker/config.json", "a.example")
    write(tmp_path / "run/containers/auth.json", "a.example", "b.example")
    write(tmp_path / "home/.config/containers/auth.json", "b.example", "c.example/team")
    env = {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}

    def user(env: dict[str, str], host: str, repository: str = "team/app") -> str:
        found = credential_sources(env, NO_HELPER).find(host, repository)
        return found.username if found else ""

    assert [user(env, f"{name}.example") for name in "abc"] == ["home", "run", ".config"]
    assert user(env, "c.example", "other/app") == ""
    assert user(env | {"XDG_CONFIG_HOME": str(tmp_path / "none")}, "c.example") == ""

"""When the builder `buildx` may do without the Docker CLI, and that it asks it everywhere else."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_registry.builders.buildx import Buildx
from ci_registry.builders.buildx_shortcuts import Shortcuts, default_engine, find_plugin
from ci_registry.builders.interface import BuildRequest, Probe
from ci_registry.cache import DiskCache
from ci_registry.oci.platform import Platform
from ci_registry.process import Command, Completed
from ci_registry.registry.known_blobs import DamagedOfferError
from ci_registry.secret import Masker
from tests.support.images import ImageSpec, make_layout

CONTAINERD = [["driver-type", "io.containerd.snapshotter.v1"]]
INFO = {"OSType": "linux", "Architecture": "x86_64", "DriverStatus": CONTAINERD}
INSPECT = "Name: default\nDriver: docker\nPlatforms: linux/amd64, linux/386\n"


class World:
    """A user's Docker configuration, the programs, and an engine that answers on its socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "home" / ".docker"
        self.plugin = self.config / "cli-plugins" / "docker-buildx"
        self.bin = folder / "bin"
        for program in (self.plugin, self.bin / "docker"):
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(f"#!/bin/false {program.name}\n")
            program.chmod(0o755)
        context = folder / "src"
        context.mkdir()
        (context / "Dockerfile").write_text("FROM scratch\nCOPY a /\n")
        self.env = {"PATH": str(self.bin), "HOME": str(folder / "home")}
        self.info: object = INFO
        self.asked: list[tuple[str, str]] = []
        self.ran: list[tuple[str, ...]] = []
        self.plugin_works = True
        self.cache = DiskCache(folder=folder / "cache", max_bytes=1 << 20)

    def run(
        self, command: Command, *, on_stderr_line: Callable[[str], None] | None = None
    ) -> Completed:
        del on_stderr_line
        words = (Path(command.argv[0]).name, *command.argv[1:])
        self.ran.append(words)
        code, out = 0, ""
        if words[0] == "docker-buildx" and not self.plugin_works:
            code = 1
        elif "version" in words:
            out = "github.com/docker/buildx v0.29.1 abc\n"
        elif "inspect" in words:
            out = INSPECT
        elif "info" in words:
            out = json.dumps(CONTAINERD)
        elif "build" in words:
            output = words[words.index("--output") + 1]
            make_layout(
                Path(output.split("dest=")[1].split(",")[0]), ImageSpec(layers=[{"a": "b"}])
            )
        return Completed(
            argv=command.argv, exit_code=code, stdout=out.encode(), stderr=b"", duration_s=1.0
        )

    def ask(self, socket: Path, target: str) -> bytes | None:
        self.asked.append((str(socket), target))
        return None if self.info is None else json.dumps(self.info).encode()

    def builder(self) -> Buildx:
        shortcuts = Shortcuts(ask_engine=self.ask, cache=self.cache, plugin_folders=())
        return Buildx(
            run=self.run,
            env=self.env,
            on_event=lambda _event: None,
            masker=Masker(),
            hash_context=lambda _c, _d: "hash",
            cleanup=self.run,
            shortcuts=shortcuts,
        )

    def request(self, **more: Any) -> BuildRequest:
        values: dict[str, Any] = {
            "image": "api",
            "context": self.folder / "src",
            "dockerfile": self.folder / "src" / "Dockerfile",
            "layout": self.folder / "layout",
            "work": self.folder / "work",
        }
        return BuildRequest(**(values | more))

    def probe(self, **more: Any) -> Probe:
        return self.builder().probe(self.request(**more))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_plugin_builds_and_the_socket_answers_without_the_docker_cli(world: World) -> None:
    builder = world.builder()
    probe = builder.probe(world.request())
    builder.build(world.request())
    assert probe.reason == "buildx 0.29.1, driver docker, exports OCI layouts"
    assert probe.program.endswith("/cli-plugins/docker-buildx")
    assert [words[:2] for words in world.ran] == [
        ("docker-buildx", "version"),
        ("docker-buildx", "build"),
    ]
    assert world.asked == [("/var/run/docker.sock", "/info")]


def test_the_version_is_asked_once_per_program_and_not_once_per_run(world: World) -> None:
    for _ in range(3):
        assert world.probe().version == "0.29.1"
    assert len(world.ran) == 1
    world.plugin.write_text("#!/bin/false another release\n")
    world.probe()
    assert len(world.ran) == 2


def test_a_plugin_that_needs_the_docker_cli_gets_it(world: World) -> None:
    world.plugin_works = False
    probe = world.probe()
    assert probe.usable
    assert probe.program.endswith("/bin/docker")
    assert ("docker", "buildx", "version") in world.ran


def test_a_platform_that_may_need_emulation_is_asked_about(world: World) -> None:
    builder = world.builder()
    assert builder.probe(world.request()).notes == ()
    (note,) = builder.probe(world.request(platforms=(Platform("linux", "arm64"),))).notes
    assert note.startswith("linux/arm64 cannot be executed here")
    assert ("docker-buildx", "inspect") in world.ran


@pytest.mark.parametrize(
    "info",
    [
        None,
        [],
        {"OSType": "linux"},
        INFO | {"DriverStatus": [["Backing Filesystem", "extfs"]]},
        INFO | {"DriverStatus": None},
        INFO | {"Architecture": "aarch64"},
    ],
    ids=["no answer", "a list", "half", "classic store", "no status", "other machine"],
)
def test_an_engine_that_says_too_little_is_asked_by_command(world: World, info: object) -> None:
    world.info = info
    assert world.probe().usable
    assert ("docker-buildx", "inspect") in world.ran


@pytest.mark.parametrize(
    ("more", "socket"),
    [
        ({}, "/var/run/docker.sock"),
        ({"DOCKER_HOST": "unix:///run/user/7/docker.sock"}, "/run/user/7/docker.sock"),
        ({"DOCKER_CONTEXT": "default"}, "/var/run/docker.sock"),
        ({"DOCKER_HOST": "unix:///a.sock", "DOCKER_CONTEXT": "remote"}, "/a.sock"),
        ({"DOCKER_CONTEXT": "remote"}, None),
        ({"DOCKER_HOST": "tcp://10.0.0.1:2376"}, None),
        ({"DOCKER_HOST": "ssh://host"}, None),
        ({"DOCKER_HOST": "unix://relative.sock"}, None),
        ({"BUILDX_BUILDER": "mine"}, None),
    ],
)
def test_only_the_default_builder_on_a_socket_of_this_machine_is_asked_there(
    tmp_path: Path, more: dict[str, str], socket: str | None
) -> None:
    env = {"DOCKER_CONFIG": str(tmp_path), "BUILDX_CONFIG": str(tmp_path / "buildx")} | more
    assert default_engine(env) == (Path(socket) if socket else None)


@pytest.mark.parametrize("config", ['{"currentContext": "remote"}', "no JSON", "[]"])
def test_a_context_or_an_unreadable_configuration_is_left_to_the_docker_cli(
    tmp_path: Path, config: str
) -> None:
    (tmp_path / "config.json").write_text(config)
    assert default_engine({"DOCKER_CONFIG": str(tmp_path)}) is None


def test_a_builder_of_the_users_is_left_to_buildx(tmp_path: Path) -> None:
    (tmp_path / "buildx" / "instances").mkdir(parents=True)
    env = {"DOCKER_CONFIG": str(tmp_path), "BUILDX_CONFIG": str(tmp_path / "buildx")}
    assert default_engine(env) is not None
    (tmp_path / "buildx" / "instances" / "mine").write_text("{}")
    assert default_engine(env) is None


def test_plugins_are_looked_for_where_the_docker_cli_does_and_in_its_order(tmp_path: Path) -> None:
    config, system, extra = (tmp_path / name for name in ("config", "system", "extra"))
    env = {"DOCKER_CONFIG": str(config)}
    found = []
    for folder in (system, config / "cli-plugins", extra):
        folder.mkdir(parents=True)
        (folder / "docker-buildx").write_text("x")
        found.append(find_plugin(env, (system,)))
    assert found == [system / "docker-buildx", *[config / "cli-plugins" / "docker-buildx"] * 2]
    (config / "config.json").write_text(json.dumps({"cliPluginsExtraDirs": [str(extra)]}))
    assert find_plugin(env, (system,)) == extra / "docker-buildx"
    (config / "config.json").write_text(json.dumps({"cliPluginsExtraDirs": "text"}))
    assert find_plugin(env, (system,)) is None


class _Offer:
    """Known blobs of which one proves to be damaged when the build has ended."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.offered = 0

    @contextlib.contextmanager
    def offered_to(self, layout: Path) -> Iterator[None]:
        assert not layout.exists()
        self.offered += 1
        yield
        for error in self.errors:
            raise error


def test_known_blobs_are_offered_to_an_empty_layout(world: World) -> None:
    world.request().layout.mkdir()
    offer = _Offer()
    world.builder().build(world.request(known_blobs=offer))
    assert offer.offered == 1
    assert [words[1] for words in world.ran].count("build") == 1


def test_after_a_damaged_offer_the_image_is_built_again_without_one(world: World) -> None:
    offer = _Offer(DamagedOfferError("blob x was damaged"))
    world.builder().build(world.request(known_blobs=offer))
    assert offer.offered == 1
    assert [words[1] for words in world.ran].count("build") == 2

"""What is read before anything is decided: every mistake becomes a problem with its place."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci_registry.builders.interface import BuildRequest, Probe
from ci_registry.config.model import BuilderChoice, BuildSettings, ImageSettings, Settings
from ci_registry.errors import CancelledError, ExitCode, NetworkError
from ci_registry.oci.platform import Platform
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.pipeline.decide import decide_image
from ci_registry.pipeline.gather import Sources, gather_image
from ci_registry.pipeline.plan import GatheredImage, GatheredRun, ImagePlan
from ci_registry.registry.interface import Repository
from ci_registry.results import BuildOutcome
from tests.support.memory_repository import MemoryRepository
from tests.support.pipeline import MAIN
from tests.support.signing import add_image

RUN = GatheredRun(
    key_present=False,
    key_source="env://COSIGN_PRIVATE_KEY",
    policy_source="built-in",
    scanner="osv",
    database="osv.dev",
)


class _Builder:
    def __init__(self, name: str, *, usable: bool, reason: str = "because") -> None:
        self.name = name
        self.asked: list[BuildRequest] = []
        self._probe = Probe(usable=usable, reason=reason, exit_code=ExitCode.INFRASTRUCTURE)

    def probe(self, request: BuildRequest) -> Probe:
        self.asked.append(request)
        return self._probe

    def build(self, request: BuildRequest) -> BuildOutcome:
        raise AssertionError("gathering builds nothing")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a Dockerfile."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Dockerfile").write_text("ARG BASE=debian:12\nFROM ${BASE} AS base\nFROM base\n")
    return folder


def _gather(
    project: Path, image: ImageSettings | None = None, *builders: _Builder, **changes: Any
) -> GatheredImage:
    image = image or ImageSettings()
    choice = changes.pop("choice", BuilderChoice.AUTO)
    registry = changes.pop("registry", "ghcr.io/acme")
    target = changes.pop("target", None)
    sources = Sources(
        project=project,
        work=project,
        builders={b.name: b for b in builders or (_Builder("buildx", usable=True),)},
        target=target,
    )
    settings = Settings(
        images={"app": image}, registry=registry, build=BuildSettings(builder=choice)
    )
    return gather_image("app", image, settings, MAIN, sources, **changes)


def _messages(gathered: GatheredImage) -> list[str]:
    return [str(problem) for problem in gathered.problems]


def _plan(gathered: GatheredImage, choice: BuilderChoice = BuilderChoice.AUTO) -> ImagePlan:
    settings = Settings(
        images={"app": gathered.settings},
        registry="ghcr.io/acme",
        build=BuildSettings(builder=choice),
    )
    return decide_image(gathered, RUN, settings, MAIN)


def test_a_good_project_has_no_problems(project: Path) -> None:
    gathered = _gather(project)
    assert _messages(gathered) == []
    assert gathered.bases == ("debian:12",)
    assert gathered.dockerfile_name == "Dockerfile"
    assert [place.name for place in gathered.destinations] == ["ghcr.io/acme/app"]
    assert {tag.tag for tag in gathered.tags if tag.tag} == {"a" * 40, "main", "latest"}


def test_each_platform_may_have_other_bases(project: Path) -> None:
    (project / "Dockerfile").write_text("FROM example/${TARGETARCH}:1\n")
    platforms = (Platform("linux", "amd64"), Platform("linux", "arm64"))
    gathered = _gather(project, ImageSettings(platforms=platforms))
    assert gathered.bases == ("example/amd64:1", "example/arm64:1")


def test_mistakes_are_told_all_at_once_with_their_place(project: Path) -> None:
    (project / "Dockerfile").write_text("FROM debian:12\nRUNN true\n")
    image = ImageSettings(tags=("{brnch}",), repository="Bad Name")
    gathered = _gather(project, image)
    problems = {problem.exit_code: problem for problem in gathered.problems}
    assert problems[ExitCode.BUILD].file == "Dockerfile"
    assert problems[ExitCode.BUILD].line == 2
    messages = " ".join(_messages(gathered))
    assert "{brnch}" in messages
    assert "did you mean {branch}?" in messages
    assert "bad name" in messages
    assert len(gathered.problems) == 3
    assert gathered.probes == (), "no builder is asked about a file that is wrong"


def test_no_builder_is_blamed_when_none_was_asked(project: Path) -> None:
    plan = _plan(_gather(project, ImageSettings(tags=("{brnch}",))))
    assert len(plan.problems) == 1
    assert "no builder" not in plan.problems[0].message


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (ImageSettings(context="none"), "the build context none is no folder"),
        (ImageSettings(context="Dockerfile"), "the build context Dockerfile is no folder"),
        (ImageSettings(dockerfile="Containerfile"), "there is no Containerfile"),
    ],
)
def test_a_missing_file_is_named_as_the_user_named_it(
    project: Path, image: ImageSettings, message: str
) -> None:
    assert [problem.message for problem in _gather(project, image).problems] == [message]


def test_a_context_of_its_own_has_its_own_dockerfile(project: Path) -> None:
    (project / "web").mkdir()
    gathered = _gather(project, ImageSettings(context="web"))
    assert [problem.message for problem in gathered.problems] == ["there is no web/Dockerfile"]
    assert gathered.problems[0].hint == "name it with --dockerfile"


# --- images that exist already


def test_a_pulled_image_needs_neither_dockerfile_nor_builder(tmp_path: Path) -> None:
    builder = _Builder("buildx", usable=True)
    gathered = _gather(tmp_path, None, builder, pull=parse_reference("alpine:3.18"))
    assert _messages(gathered) == []
    assert builder.asked == []
    plan = _plan(gathered)
    assert (plan.action, plan.builder, plan.dockerfile) == ("import", "registry", "")
    assert plan.reason == "the registry has docker.io/library/alpine:3.18"


def test_a_layout_that_is_none_is_told_before_anything_runs(project: Path) -> None:
    gathered = _gather(project, ImageSettings(from_layout="out"))
    assert _messages(gathered)[0].startswith("out is no OCI layout: it has no index.json")
    (project / "out").mkdir()
    (project / "out" / "index.json").write_text("{}")
    assert _messages(_gather(project, ImageSettings(from_layout="out"))) == []


def test_the_engine_gives_one_platform(project: Path) -> None:
    platforms = (Platform("linux", "amd64"), Platform("linux", "arm64"))
    one = ImageSettings(from_engine="app:dev")
    assert _messages(_gather(project, one)) == []
    (message,) = _messages(_gather(project, replace(one, platforms=platforms)))
    assert message.startswith("from_engine gives one platform, linux/amd64, linux/arm64")


# --- builders


def test_auto_asks_until_one_is_usable(project: Path) -> None:
    builders = (
        _Builder("buildx", usable=False, reason="no docker"),
        _Builder("buildah", usable=True, reason="found"),
        _Builder("assemble", usable=True),
    )
    gathered = _gather(project, None, *builders)
    assert [name for name, _ in gathered.probes] == ["buildx", "buildah"]
    assert builders[2].asked == []
    plan = _plan(gathered)
    assert plan.builder == "buildah"
    assert plan.builder_reason == "found (buildx: no docker)"


def test_a_named_builder_is_the_only_one_asked(project: Path) -> None:
    builders = (_Builder("buildx", usable=True), _Builder("buildah", usable=False, reason="no"))
    gathered = _gather(project, None, *builders, choice=BuilderChoice.BUILDAH)
    assert [name for name, _ in gathered.probes] == ["buildah"]
    plan = _plan(gathered, BuilderChoice.BUILDAH)
    assert plan.builder == ""
    (problem,) = plan.problems
    assert problem.message == "no builder here can build Dockerfile: buildah: no"
    assert problem.exit_code is ExitCode.INFRASTRUCTURE


def test_no_usable_builder_is_one_problem_with_every_reason(project: Path) -> None:
    builders = (
        _Builder("buildx", usable=False, reason="no docker"),
        _Builder("assemble", usable=False, reason="the Dockerfile has a RUN"),
    )
    plan = _plan(_gather(project, None, *builders))
    (problem,) = plan.problems
    assert "buildx: no docker; assemble: the Dockerfile has a RUN" in problem.message
    assert problem.exit_code is ExitCode.CONFIG


# --- tags that exist


def test_existing_tags_are_looked_up(project: Path) -> None:
    repository = MemoryRepository(name="ghcr.io/acme/app")
    descriptor = add_image(repository)
    repository.manifests["main"] = repository.manifests[descriptor.digest]

    def target(_place: Reference) -> Repository:
        return repository

    gathered = _gather(project, target=target)
    assert [(tag.tag, tag.digest) for tag in gathered.existing] == [("main", descriptor.digest)]
    assert repository.writes == []


def test_a_registry_that_can_not_be_read_is_a_note(project: Path) -> None:
    def target(_place: Reference) -> Repository:
        raise NetworkError("connection refused\nmore")

    gathered = _gather(project, target=target)
    assert gathered.existing == ()
    assert gathered.notes == ("tags of ghcr.io/acme/app can't be read: connection refused",)


def test_a_cancel_while_looking_up_tags_is_no_note(project: Path) -> None:
    def target(_place: Reference) -> Repository:
        raise CancelledError("interrupted: SIGINT")

    with pytest.raises(CancelledError):
        _gather(project, target=target)

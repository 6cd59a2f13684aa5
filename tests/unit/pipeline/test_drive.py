"""A whole command from the plan to the reports: whatever happens, there are reports and one exit code."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ci_registry.builders.interface import BuildRequest, Probe
from ci_registry.config.model import (
    ImageSettings,
    ReportFormat,
    Settings,
    SignMode,
    SignSettings,
)
from ci_registry.errors import (
    BuildError,
    CancelledError,
    ConfigError,
    ExitCode,
    NetworkError,
    Problem,
)
from ci_registry.pipeline.drive import Opened, Work, run_command
from ci_registry.pipeline.plan import GatheredRun
from ci_registry.pipeline.report import Reporter
from ci_registry.results import BuildOutcome, RunResult, SettingValue, Verdict
from ci_registry.secret import Masker
from tests.support.findings import NOW
from tests.support.images import ImageSpec, debian_layer, make_layout
from tests.support.pipeline import World, make_context

BASE = RunResult(
    tool_version="1",
    command="run",
    dry_run=False,
    started_at=NOW,
    duration_s=0.0,
    verdict=Verdict.INCOMPLETE,
    exit_code=ExitCode.OK,
    images=(),
)
GATHERED = GatheredRun(
    key_present=True,
    key_source="env://COSIGN_PRIVATE_KEY",
    policy_source="built-in",
    scanner="fake",
    database="none",
)


class _Builder:
    name = "buildx"

    def __init__(self, failing: dict[str, Exception]) -> None:
        self.failing = failing
        self.secrets: dict[str, str] = {}

    def probe(self, request: BuildRequest) -> Probe:
        return Probe(usable=True, reason="works")

    def build(self, request: BuildRequest) -> BuildOutcome:
        for secret in request.secrets:
            self.secrets[secret.id] = secret.value.reveal() if secret.value else ""
        if request.image in self.failing:
            raise self.failing[request.image]
        make_layout(request.layout, ImageSpec(layers=[debian_layer(("zlib1g", "1.2", ""))]))
        return BuildOutcome(builder="buildx", builder_version="1")


@dataclass
class _Harness:
    folder: Path
    world: World
    failing: dict[str, Exception] = field(default_factory=dict)
    images: dict[str, ImageSettings] = field(default_factory=lambda: {"app": ImageSettings()})
    env: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    opening: Callable[[], None] = lambda: None
    closing: Callable[[], None] = lambda: None

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    def reporter(self, folder: Path) -> Reporter:
        return Reporter(
            folder=folder,
            formats=(ReportFormat.JUNIT,),
            env={},
            masker=Masker(),
            delimiter="d" * 20,
            print_command=self.said.append,
        )

    @contextlib.contextmanager
    def open(self) -> Iterator[Opened]:
        self.opening()
        self.builder = _Builder(self.failing)
        self.world.builders = {"buildx": self.builder}
        run = make_context(self.folder, self.world, env=self.env)
        (run.project / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
        settings = Settings(
            images=self.images, registry="ghcr.io/acme", sign=SignSettings(mode=SignMode.KEY)
        )
        yield Opened(
            context=replace(run, settings=settings),
            gathered=GATHERED,
            selected=tuple(self.images),
            values=(SettingValue(key="registry", value="ghcr.io/acme", source="a.yml:1"),),
            notes=("a note",),
            reporter=self.reporter(self.reports),
            ask_destinations=True,
        )
        self.closing()

    def go(self, command: str = "run", **work: Any) -> tuple[RunResult, tuple[Path, ...]]:
        return run_command(
            Work(command=command, **work),
            self.open,
            fallback=self.reporter(self.folder / "fallback"),
            base=replace(BASE, command=command),
            say=self.said.append,
        )

    def saved(self, folder: str = "reports") -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads((self.folder / folder / "result.json").read_text())
        return parsed


@pytest.fixture
def harness(tmp_path: Path) -> _Harness:
    return _Harness(tmp_path, World())


def _raise(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_a_passing_run_publishes_signs_tags_and_reports(harness: _Harness) -> None:
    result, files = harness.go()
    (image,) = result.images
    assert image.error == ""
    assert (result.exit_code, result.verdict) == (ExitCode.OK, Verdict.PASS)
    assert {path.name for path in files} >= {"result.json", "summary.md", "junit-ci-registry.xml"}
    assert image.signed
    assert set(harness.world.registries["ghcr.io/acme/app"].tags()) >= {"a" * 40, "main", "latest"}
    assert result.notes == ("a note",)
    assert result.ci["commit"] == "a" * 40
    assert harness.saved()["exit_code"] == 0
    assert harness.said == []
    assert result.duration_s > 0


def test_the_worst_image_decides_and_the_others_go_on(harness: _Harness) -> None:
    harness.images = {"bad": ImageSettings(), "good": ImageSettings()}
    harness.failing = {"bad": BuildError("RUN false failed", file="Dockerfile", line=2)}
    result, _ = harness.go()
    bad, good = result.images
    assert (bad.exit_code, good.exit_code) == (ExitCode.BUILD, ExitCode.OK)
    assert (result.exit_code, result.verdict) == (ExitCode.BUILD, Verdict.INCOMPLETE)
    assert bad.error == "Dockerfile:2: RUN false failed"
    assert (
        "ghcr.io/acme/bad" not in harness.world.registries
        or not harness.world.registries["ghcr.io/acme/bad"].tags()
    )


def test_settings_that_are_wrong_end_in_reports_beside_the_project(harness: _Harness) -> None:
    problems = (
        Problem(message="unknown key 'x'", file="a.yml", line=3),
        Problem(message="no images"),
    )
    harness.opening = _raise(ConfigError(problems, hint="see the reference"))
    result, files = harness.go()
    assert result.exit_code is ExitCode.CONFIG
    assert result.error == "a.yml:3: unknown key 'x'\nno images"
    assert harness.said == [
        "a.yml:3: unknown key 'x'",
        "no images",
        "hint: see the reference",
    ]
    assert all(path.parent.name == "fallback" for path in files)
    assert harness.saved("fallback")["exit_code"] == 2


def test_a_bug_before_any_image_is_70_with_reports_and_traceback(harness: _Harness) -> None:
    harness.opening = _raise(KeyError("oops"))
    result, files = harness.go()
    assert result.exit_code is ExitCode.BUG
    assert result.error == "bug in ci-registry: KeyError: 'oops'"
    assert files
    assert "KeyError: 'oops'" in (harness.folder / "fallback" / "traceback.txt").read_text()


def test_an_operating_system_error_is_infrastructure(harness: _Harness) -> None:
    harness.opening = _raise(PermissionError(13, "Permission denied", "/work"))
    result, _ = harness.go()
    assert result.exit_code is ExitCode.INFRASTRUCTURE
    assert result.error == "cannot read or write /work: Permission denied"


def test_an_interruption_while_gathering_is_130_with_reports(harness: _Harness) -> None:
    harness.opening = _raise(CancelledError("interrupted: SIGTERM"))
    result, files = harness.go()
    assert result.exit_code is ExitCode.INTERRUPTED
    assert files


def test_an_error_while_closing_keeps_what_the_images_came_to(harness: _Harness) -> None:
    harness.closing = _raise(NetworkError("the embedded registry hangs"))
    result, _ = harness.go()
    assert result.exit_code is ExitCode.INFRASTRUCTURE
    assert [image.verdict for image in result.images] == [Verdict.PASS]
    assert result.verdict is Verdict.INCOMPLETE
    assert harness.saved()["images"]


def test_reports_that_can_not_be_written_are_said_and_change_the_code(
    harness: _Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.reports.write_text("a file is in the way")
    result, files = harness.go()
    assert result.exit_code is ExitCode.INFRASTRUCTURE
    assert files == ()
    assert any("the reports are not complete" in line for line in harness.said)


def test_a_bug_in_one_report_is_70_and_the_others_are_there(
    harness: _Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_result: object) -> str:
        raise ValueError("bad column")

    monkeypatch.setattr("ci_registry.reports.junit.render_junit", crash)
    result, files = harness.go()
    assert result.exit_code is ExitCode.BUG
    assert {path.name for path in files} == {"result.json", "summary.md"}


def test_no_image_at_all_is_no_pass(harness: _Harness) -> None:
    harness.images = {}
    result, _ = harness.go()
    assert result.verdict is Verdict.INCOMPLETE


def test_a_single_build_judges_and_writes_nothing(harness: _Harness) -> None:
    result, _ = harness.go("build", keep_layouts=harness.folder / "out")
    assert (result.exit_code, result.verdict) == (ExitCode.OK, Verdict.INCOMPLETE)
    assert (harness.folder / "out" / "app" / "index.json").is_file()
    assert not harness.world.registries.get("ghcr.io/acme/app", None) or not (
        harness.world.registries["ghcr.io/acme/app"].writes
    )


def test_build_secrets_reach_the_builder_and_nothing_else(harness: _Harness) -> None:
    (harness.folder / "project").mkdir()
    (harness.folder / "project" / "npmrc").write_text("//registry/:_authToken=f1le-t0ken\n")
    harness.images = {
        "app": ImageSettings(secret_envs=("id=TOKEN",), secret_files={"npmrc": "npmrc"})
    }
    harness.env = {"TOKEN": "hunter2222"}
    error = BuildError("RUN failed: hunter2222 and //registry/:_authToken=f1le-t0ken")
    harness.failing = {"app": error}
    result, files = harness.go()
    assert harness.builder.secrets["id"] == "hunter2222"
    assert result.images[0].error == "RUN failed: *** and ***"
    for path in files:
        text = path.read_text()
        assert "hunter2222" not in text
        assert "f1le-t0ken" not in text

"""The table of steps run for several images: what an error, a bug, a skip and a signal lead to."""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ci_registry.config.model import UploadMode
from ci_registry.errors import (
    AccessError,
    BuildError,
    CiRegistryError,
    ExitCode,
    IncompleteError,
    IntegrityError,
    NetworkError,
    SetupError,
    SignatureError,
    ToolError,
)
from ci_registry.events import StepEnded, StepStarted
from ci_registry.pipeline.images import run_images
from ci_registry.pipeline.state import Done, ImageRun, RunContext, StepSpec, skipped
from ci_registry.pipeline.steps import COMMANDS, STEPS, steps_of
from ci_registry.results import Case, ImageResult, Step, StepStatus, Verdict
from tests.support.pipeline import World, make_context, make_image
from tests.support.results import make_decision

Action = Callable[[ImageRun, RunContext], Done]


def _fine(_image: ImageRun, _run: RunContext) -> Done:
    return Done()


def _raise(error: BaseException) -> Action:
    def action(_image: ImageRun, _run: RunContext) -> Done:
        raise error

    return action


def _decide(verdict: Verdict) -> Action:
    def action(image: ImageRun, _run: RunContext) -> Done:
        image.decision = make_decision(verdict, reasons=("because",))
        if verdict.lets_through:
            return Done()
        return Done(status=StepStatus.FAILED, exit_code=verdict.exit_code, reason="because")

    return action


def _specs(**actions: Action) -> tuple[StepSpec, ...]:
    """The real table with fake actions: everything that is not given is fine."""
    given = {"judge": _decide(Verdict.PASS), **actions}
    return tuple(
        dataclasses.replace(spec, action=given.get(spec.step.value, _fine))
        for spec in steps_of("run", UploadMode.OVERLAP)
    )


class _Harness:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World()
        self.run = make_context(folder, self.world)
        self.tracebacks: list[str] = []

    def save(self, text: str) -> Path | None:
        self.tracebacks.append(text)
        return self.folder / "traceback.txt"

    def go(self, specs: tuple[StepSpec, ...], *names: str) -> tuple[ImageResult, ...]:
        images = tuple(make_image(self.folder, name) for name in names or ("app",))
        return run_images(images, specs, self.run, self.save)


@pytest.fixture
def harness(tmp_path: Path) -> _Harness:
    return _Harness(tmp_path)


def _statuses(result: ImageResult) -> dict[str, StepStatus]:
    return {str(step.step): step.status for step in result.steps}


def test_a_run_without_trouble_passes_every_step_in_the_order_of_the_table(
    harness: _Harness,
) -> None:
    (result,) = harness.go(_specs())
    assert [step.step for step in result.steps] == [spec.step for spec in STEPS]
    assert {step.status for step in result.steps} == {StepStatus.PASSED}
    assert (result.exit_code, result.verdict, result.error) == (ExitCode.OK, Verdict.PASS, "")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BuildError("RUN failed"), StepStatus.ERROR),
        (SetupError("no key"), StepStatus.ERROR),
        (AccessError("401"), StepStatus.ERROR),
        (ToolError("crashed"), StepStatus.ERROR),
        (NetworkError("reset"), StepStatus.ERROR),
        (IntegrityError("other bytes"), StepStatus.ERROR),
        (IncompleteError("stale"), StepStatus.ERROR),
        (SignatureError("does not verify"), StepStatus.FAILED),
    ],
)
def test_an_error_ends_the_image_with_its_own_code_and_first_line(
    harness: _Harness, error: CiRegistryError, status: StepStatus
) -> None:
    error.message += "\nmore"
    error.hint = "do this"
    (result,) = harness.go(_specs(build=_raise(error)))
    step = next(step for step in result.steps if step.step is Step.OBTAIN)
    assert (step.status, step.exit_code, step.hint) == (status, error.exit_code, "do this")
    assert result.exit_code is error.exit_code
    assert result.error == step.reason == error.message.split("\n", 1)[0]
    assert result.failed_step == "build"
    assert result.verdict is Verdict.INCOMPLETE
    assert harness.tracebacks == []


def test_what_comes_after_a_failed_step_never_starts_and_says_why(harness: _Harness) -> None:
    (result,) = harness.go(_specs(scan=_raise(ToolError("crashed"))))
    assert _statuses(result) == {
        "preflight": "passed",
        "build": "passed",
        "inspect": "passed",
        "scan": "error",
        "upload": "passed",
        "judge": "skipped",
        "publish": "skipped",
        "sign": "skipped",
        "tag": "skipped",
    }
    by_name = {str(step.step): step for step in result.steps}
    assert by_name["judge"].reason == "scan did not pass"
    assert by_name["tag"].reason == "sign did not pass"
    assert by_name["judge"].started_at is None


@pytest.mark.parametrize("verdict", [Verdict.BLOCK, Verdict.INCOMPLETE])
def test_nothing_is_named_when_the_verdict_does_not_let_through(
    harness: _Harness, verdict: Verdict
) -> None:
    (result,) = harness.go(_specs(judge=_decide(verdict)))
    statuses = _statuses(result)
    assert [statuses[name] for name in ("publish", "sign", "tag")] == [StepStatus.SKIPPED] * 3
    assert result.verdict is verdict
    assert result.exit_code is verdict.exit_code


def test_an_upload_that_fails_keeps_a_passing_image_from_being_published(
    harness: _Harness,
) -> None:
    (result,) = harness.go(_specs(upload=_raise(NetworkError("reset"))))
    assert _statuses(result)["publish"] is StepStatus.SKIPPED
    assert result.exit_code is ExitCode.INFRASTRUCTURE
    assert result.decision is not None
    assert result.decision.verdict is Verdict.PASS
    assert result.verdict is Verdict.INCOMPLETE, "nobody may read pass of an image that is nowhere"


def test_a_block_stays_a_block_when_the_upload_fails_too(harness: _Harness) -> None:
    (result,) = harness.go(
        _specs(judge=_decide(Verdict.BLOCK), upload=_raise(NetworkError("reset")))
    )
    assert (result.verdict, result.exit_code) == (Verdict.BLOCK, ExitCode.INFRASTRUCTURE)


def test_a_step_that_skips_itself_stops_nobody(harness: _Harness) -> None:
    def skip(_image: ImageRun, _run: RunContext) -> Done:
        return skipped("push is never", Case(name="x"))

    (result,) = harness.go(_specs(upload=skip, publish=skip, sign=skip))
    statuses = _statuses(result)
    assert statuses["sign"] is StepStatus.SKIPPED
    assert statuses["tag"] is StepStatus.PASSED
    assert result.exit_code is ExitCode.OK


def test_a_bug_is_70_with_its_traceback_saved(harness: _Harness) -> None:
    (result,) = harness.go(_specs(inspect=_raise(KeyError("no such layer"))))
    assert result.exit_code is ExitCode.BUG
    assert result.error == "bug in step inspect: KeyError: 'no such layer'"
    assert "traceback.txt" in next(s.hint for s in result.steps if s.step is Step.INSPECT)
    assert "KeyError: 'no such layer'" in harness.tracebacks[0]
    assert "Traceback" in harness.tracebacks[0]


def test_a_bug_whose_traceback_can_not_be_saved_is_still_70(harness: _Harness) -> None:
    images = (make_image(harness.folder),)
    specs = _specs(inspect=_raise(AssertionError()))
    (result,) = run_images(images, specs, harness.run, lambda _text: None)
    assert result.exit_code is ExitCode.BUG
    assert next(s.hint for s in result.steps if s.step is Step.INSPECT) == ""


def test_an_operating_system_error_is_infrastructure_with_its_file(harness: _Harness) -> None:
    error = PermissionError(13, "Permission denied", "/some/file")
    (result,) = harness.go(_specs(inspect=_raise(error)))
    assert result.exit_code is ExitCode.INFRASTRUCTURE
    assert result.error == "cannot read or write /some/file: Permission denied"


def test_a_full_disk_is_said(harness: _Harness) -> None:
    (result,) = harness.go(_specs(inspect=_raise(OSError(28, "No space left on device"))))
    assert result.error.startswith("no space left")
    assert result.exit_code is ExitCode.INFRASTRUCTURE


def test_a_cancelled_run_is_130_and_starts_nothing_more(harness: _Harness) -> None:
    started: list[str] = []

    def interrupt(_image: ImageRun, run: RunContext) -> Done:
        run.cancel.set("SIGTERM")
        run.cancel.check()
        return Done()

    def record(_image: ImageRun, _run: RunContext) -> Done:
        started.append("x")
        return Done()

    (result,) = harness.go(_specs(build=interrupt, inspect=record, tag=record))
    assert result.exit_code is ExitCode.INTERRUPTED
    assert result.error == "interrupted: SIGTERM"
    assert started == []


def test_130_beats_a_bug(harness: _Harness) -> None:
    def both(_image: ImageRun, run: RunContext) -> Done:
        run.cancel.set("SIGINT")
        raise KeyError("x")

    (result,) = harness.go(_specs(build=both))
    assert result.exit_code is ExitCode.INTERRUPTED


def test_a_signal_while_the_last_step_ends_well_is_130_all_the_same(harness: _Harness) -> None:
    def interrupt(_image: ImageRun, run: RunContext) -> Done:
        run.cancel.set("SIGINT")
        return Done()

    (result,) = harness.go(_specs(tag=interrupt))
    assert result.exit_code is ExitCode.INTERRUPTED
    assert result.verdict is Verdict.INCOMPLETE


def test_one_image_that_fails_does_not_stop_another(harness: _Harness) -> None:
    def build(image: ImageRun, _run: RunContext) -> Done:
        if image.name == "bad":
            raise BuildError("RUN failed")
        return Done()

    bad, good = harness.go(_specs(build=build), "bad", "good")
    assert (bad.name, bad.exit_code) == ("bad", ExitCode.BUILD)
    assert (good.name, good.exit_code, good.verdict) == ("good", ExitCode.OK, Verdict.PASS)


def test_scan_and_upload_run_beside_each_other(harness: _Harness) -> None:
    meeting = threading.Barrier(2, timeout=30)

    def meet(_image: ImageRun, _run: RunContext) -> Done:
        meeting.wait()
        return Done()

    (result,) = harness.go(_specs(scan=meet, upload=meet))
    assert result.exit_code is ExitCode.OK


def test_no_more_builds_run_at_once_than_allowed(harness: _Harness) -> None:
    lock, running, most = threading.Lock(), [], [0]

    def build(image: ImageRun, _run: RunContext) -> Done:
        with lock:
            running.append(image.name)
            most[0] = max(most[0], len(running))
        threading.Event().wait(0.01)
        with lock:
            running.remove(image.name)
        return Done()

    harness.go(_specs(build=build), *(f"app{n}" for n in range(8)))
    assert 1 <= most[0] <= harness.run.settings.build.max_parallel


def test_each_step_that_starts_also_ends_in_the_events(harness: _Harness) -> None:
    harness.go(_specs(scan=_raise(ToolError("crashed\nsecond line"))))
    started = [e.step for e in harness.world.events if isinstance(e, StepStarted)]
    ended = {e.step: e for e in harness.world.events if isinstance(e, StepEnded)}
    assert sorted(started) == sorted(ended)
    assert ended["scan"].reason == "crashed"
    assert ended["scan"].status == "error"
    assert "judge" not in ended


# --- the table


def test_blobs_wait_for_the_verdict_when_asked_to() -> None:
    needs = {spec.step: spec.needs for spec in steps_of("run", UploadMode.AFTER_VERDICT)}
    assert needs[Step.UPLOAD] == (Step.JUDGE,)
    assert Step.UPLOAD in needs[Step.PUBLISH]


def test_blobs_travel_beside_the_scan_otherwise() -> None:
    needs = {spec.step: spec.needs for spec in steps_of("run", UploadMode.OVERLAP)}
    assert needs[Step.UPLOAD] == (Step.INSPECT,)


def test_after_verdict_sends_nothing_of_a_blocked_image(harness: _Harness) -> None:
    given = {Step.JUDGE: _decide(Verdict.BLOCK)}
    specs = tuple(
        dataclasses.replace(spec, action=given.get(spec.step, _fine))
        for spec in steps_of("run", UploadMode.AFTER_VERDICT)
    )
    (result,) = harness.go(specs)
    assert _statuses(result)["upload"] is StepStatus.SKIPPED


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("mode", list(UploadMode))
def test_every_command_is_a_subset_whose_needs_are_in_it(command: str, mode: UploadMode) -> None:
    specs = steps_of(command, mode)
    names = [spec.step for spec in specs]
    assert tuple(names) == COMMANDS[command]
    for spec in specs:
        assert set(spec.needs) <= set(names[: names.index(spec.step)]) | {Step.JUDGE}


@pytest.mark.parametrize("mode", list(UploadMode))
def test_every_write_with_a_name_stands_behind_the_verdict(mode: UploadMode) -> None:
    needs = {spec.step: spec.needs for spec in steps_of("run", mode)}

    def before(step: Step) -> set[Step]:
        return set(needs[step]).union(*(before(need) for need in needs[step]))

    for step in (Step.PUBLISH, Step.SIGN, Step.TAG):
        assert {Step.PREFLIGHT, Step.INSPECT, Step.SCAN, Step.JUDGE} <= before(step)
    assert before(Step.TAG) >= {Step.PUBLISH, Step.SIGN}


def test_single_steps_write_nothing() -> None:
    writing = {Step.UPLOAD, Step.PUBLISH, Step.SIGN, Step.TAG}
    for command in ("build", "scan"):
        assert writing.isdisjoint(COMMANDS[command])

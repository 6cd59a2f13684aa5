"""Runs the table of steps for every image and makes the results of it."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path

from ci_registry.errors import BuildError, CiRegistryError, ExitCode, StorageError, worst_exit_code
from ci_registry.events import StepEnded, StepStarted
from ci_registry.files import storage_error
from ci_registry.pipeline.engine import Task, run_graph
from ci_registry.pipeline.state import Done, ImageRun, RunContext, StepSpec, not_run
from ci_registry.results import ImageResult, StepResult, StepStatus, Verdict

_WORKERS_PER_IMAGE = 2
_LIMITS = {"inspect": 2, "scan": 2, "upload": 4}


def run_images(
    images: tuple[ImageRun, ...],
    specs: tuple[StepSpec, ...],
    run: RunContext,
    save_traceback: Callable[[str], Path | None],
) -> tuple[ImageResult, ...]:
    """Run all steps of all images; one image's failure never stops another.

    Args:
        images: in the order of the settings.
        specs: the lines of the table that this command has.
        run: shared by all.
        save_traceback: stores the traceback of a bug and returns where.
    """

    def task(image: ImageRun, spec: StepSpec) -> Task[StepResult]:
        return Task(
            id=f"{image.name}/{spec.step}",
            needs=tuple(f"{image.name}/{need}" for need in spec.needs),
            action=lambda: _run_step(image, spec, run, save_traceback),
            skip=lambda need: not_run(spec.step, f"{need.rpartition('/')[2]} did not pass"),
            limit=spec.limit,
        )

    results = run_graph(
        tuple(task(image, spec) for image in images for spec in specs),
        went_well=lambda result: result.status is StepStatus.PASSED or _was_optional(result),
        limits={"build": run.settings.build.max_parallel, **_LIMITS},
        workers=_WORKERS_PER_IMAGE * max(1, len(images)),
    )
    return tuple(
        image_result(image, tuple(results[f"{image.name}/{spec.step}"] for spec in specs), run)
        for image in images
    )


def _was_optional(result: StepResult) -> bool:
    """A step that chose to skip itself stops nobody; one that never started does."""
    return result.status is StepStatus.SKIPPED and result.started_at is not None


def _run_step(
    image: ImageRun,
    spec: StepSpec,
    run: RunContext,
    save_traceback: Callable[[str], Path | None],
) -> StepResult:
    started_at, started = run.now(), time.monotonic()
    run.on_event(StepStarted(image=image.name, step=spec.step))
    try:
        run.cancel.check()
        done = spec.action(image, run)
    except CiRegistryError as error:
        done = _stopped(error)
    except OSError as error:
        done = _stopped(_os_error(error))
    except Exception as error:  # noqa: BLE001 - a bug of ours ends one image, with exit code 70
        where = save_traceback("".join(traceback.format_exception(error)))
        hint = f"please report it with {where}" if where else ""
        reason = f"bug in step {spec.step}: {type(error).__name__}: {error}"
        done = Done(status=StepStatus.ERROR, reason=reason, hint=hint, exit_code=ExitCode.BUG)
    duration_s = time.monotonic() - started
    run.on_event(
        StepEnded(
            image=image.name,
            step=spec.step,
            status=done.status,
            duration_s=duration_s,
            reason=done.reason,
        )
    )
    return StepResult(
        step=spec.step,
        status=done.status,
        reason=done.reason,
        hint=done.hint,
        detail=done.detail,
        line=done.line,
        exit_code=done.exit_code,
        started_at=started_at,
        duration_s=duration_s,
        cases=done.cases,
    )


def _os_error(error: OSError) -> StorageError:
    return storage_error(error, error.filename or "a file", "read or write")


def _stopped(error: CiRegistryError) -> Done:
    status = StepStatus.FAILED if error.exit_code is ExitCode.SIGNATURE else StepStatus.ERROR
    rest = error.message.partition("\n")[2]
    log = error.log if isinstance(error, BuildError) else ""
    return Done(
        status=status,
        reason=error.headline,
        hint=error.hint,
        detail="\n".join(text for text in (rest, log) if text),
        line=error.line,
        exit_code=error.exit_code,
    )


def _verdict(image: ImageRun, exit_code: ExitCode) -> Verdict:
    """Return the verdict; nobody may read `pass` of an image that did not get where it should."""
    if image.decision is None:
        return Verdict.INCOMPLETE
    verdict = image.decision.verdict
    return Verdict.INCOMPLETE if verdict.lets_through and exit_code else verdict


def image_result(image: ImageRun, steps: tuple[StepResult, ...], run: RunContext) -> ImageResult:
    """Put together what the steps of one image did."""
    stopped = next((s for s in steps if s.status in (StepStatus.FAILED, StepStatus.ERROR)), None)
    exit_code = worst_exit_code(tuple(step.exit_code for step in steps))
    if run.cancel.is_set:
        exit_code = ExitCode.INTERRUPTED
    inspected = image.inspected
    plan = image.plan
    return ImageResult(
        name=image.name,
        dockerfile=plan.dockerfile,
        destinations=tuple(place.name for place in plan.destinations),
        planned_tags=tuple((tag.template, tag.tag) for tag in plan.tags),
        action=plan.action,
        action_reason=plan.reason,
        steps=steps,
        build=image.build,
        digest=image.digest,
        platforms=inspected.platforms if inspected else (),
        scans=image.scans,
        bases=image.bases,
        decision=image.decision,
        published=image.places,
        signed=image.signed,
        verdict=_verdict(image, exit_code),
        exit_code=exit_code,
        error=stopped.reason if stopped else "",
        failed_step=str(stopped.step) if stopped else "",
    )

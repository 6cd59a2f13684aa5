"""Drives a whole command: gather, decide, the table of steps for every image, the result, the reports."""

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from ci_registry.ci.tags import oci_labels
from ci_registry.config.model import ImageSettings
from ci_registry.errors import CiRegistryError, ExitCode, StorageError, worst_exit_code
from ci_registry.events import Level, Log
from ci_registry.files import read_file, storage_error
from ci_registry.oci.reference import Reference
from ci_registry.pipeline.decide import decide_image
from ci_registry.pipeline.gather import Sources, gather_image
from ci_registry.pipeline.given import GivenImage, given_plan
from ci_registry.pipeline.images import run_images
from ci_registry.pipeline.plan import GatheredRun, ImagePlan
from ci_registry.pipeline.preflight import MAX_SECRET_BYTES
from ci_registry.pipeline.report import Reporter, ReportsError
from ci_registry.pipeline.state import ImageRun, RunContext
from ci_registry.pipeline.steps import COMMANDS, steps_of
from ci_registry.results import ImageResult, RunResult, SettingValue, Step, Verdict
from ci_registry.secret import Secret

_SHORTEST_SECRET_LINE = 8


_KILLED = "the run did not come to its end: something killed it"
"""What reports say from the start on; the end replaces them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A run that is ready to start: made by wiring, used inside its context."""

    context: RunContext
    gathered: GatheredRun
    selected: tuple[str, ...]
    values: tuple[SettingValue, ...]
    notes: tuple[str, ...]
    reporter: Reporter
    ask_destinations: bool
    """Whether existing tags may be looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one call works on, beyond its settings."""

    command: str
    pull: Reference | None = None
    keep_layouts: Path | None = None
    given: Callable[[Opened], tuple[GivenImage, ...]] | None = None
    """Finds the inventories when no image is read; the images of the settings are left alone then."""


def make_plans(
    opened: Opened, images: Mapping[str, ImageSettings], *, pull: Reference | None = None
) -> tuple[ImagePlan, ...]:
    """Gather and decide for every image; nothing is written and nothing is built."""
    run = opened.context
    sources = Sources(
        project=run.project,
        work=run.work,
        builders=run.parts.builders,
        target=run.parts.target if opened.ask_destinations else None,
    )
    return tuple(
        decide_image(
            gather_image(name, images[name], run.settings, run.ci, sources, pull=pull),
            opened.gathered,
            run.settings,
            run.ci,
        )
        for name in images
    )


def run_command(
    work: Work,
    open_run: Callable[[], AbstractContextManager[Opened]],
    *,
    fallback: Reporter,
    base: RunResult,
    say: Callable[[str], None],
) -> tuple[RunResult, tuple[Path, ...]]:
    """Run a command to its end and write the reports, whatever happened.

    Args:
        work: what to do.
        open_run: reads the settings and opens everything; its errors end the run before any image.
        fallback: where reports go when the settings can't be read.
        base: result of a run that did nothing, with what is known from the start.
        say: tells people, line by line, what stopped the run before any image, and when even the
            reports can't be written.

    Returns:
        The result, without any secret, and the report files. Exit code and files are right even
        when writing failed.
    """
    started, reporter, result = time.monotonic(), fallback, base
    try:
        with open_run() as opened:
            reporter = opened.reporter
            reporter.prepare(replace(base, error=_KILLED, exit_code=ExitCode.INTERRUPTED))
            result = _run(work, opened, base)
    except CiRegistryError as error:
        result = _failed(result, error)
    except OSError as error:
        result = _failed(result, storage_error(error, error.filename or "a file", "read or write"))
    except Exception as error:  # noqa: BLE001 - a bug of ours: reports all the same, exit code 70
        result = _bug(result, error, reporter)
    hints = (f"hint: {line}" for line in result.error_hint.splitlines())
    for line in (*result.error.splitlines(), *hints):
        say(line)
    result = replace(result, verdict=_verdict(result), duration_s=time.monotonic() - started)
    result = reporter.masked(result)
    try:
        return result, reporter.write(result)
    except ReportsError as error:
        say(f"the reports are not complete: {error.headline}")
        if error.hint:
            say(f"hint: {error.hint}")
        code = worst_exit_code((result.exit_code, error.exit_code))
        return _with_exit_code(result, code, error.headline), error.written


def _run(work: Work, opened: Opened, base: RunResult) -> RunResult:
    run = opened.context
    chosen = {name: run.settings.images[name] for name in opened.selected}
    gathered = opened.gathered
    run.on_event(Log(message=f"scanner {gathered.scanner}, advisories: {gathered.database}"))
    if work.given is not None:
        return _result(base, opened, _match_given(work, opened, work.given(opened)))
    plans = make_plans(opened, chosen, pull=work.pull)
    if Step.PUBLISH not in COMMANDS[work.command]:
        why = f"`{work.command}` writes to no registry"
        plans = tuple(plan.without_writes(why) for plan in plans)
    images = tuple(_image_run(work, opened, plan, chosen[plan.name]) for plan in plans)
    for image in images:
        for note in image.plan.notes:
            run.on_event(Log(message=note, image=image.name, step="plan", level=Level.WARNING))
        what = f"{image.plan.action} with {image.plan.builder or 'no builder'}"
        run.on_event(Log(message=f"{what}: {image.plan.builder_reason}", image=image.name))
    specs = steps_of(work.command, run.settings.publish.upload)
    results = run_images(images, specs, run, opened.reporter.save_traceback)
    return _result(base, opened, results)


def _match_given(
    work: Work, opened: Opened, given: tuple[GivenImage, ...]
) -> tuple[ImageResult, ...]:
    """Match and judge inventories."""
    images = tuple(
        ImageRun(
            plan=given_plan(image, opened.gathered),
            settings=ImageSettings(),
            work=opened.context.work,
            given=image,
        )
        for image in given
    )
    specs = steps_of(work.command, opened.context.settings.publish.upload)
    return run_images(images, specs, opened.context, opened.reporter.save_traceback)


def _image_run(work: Work, opened: Opened, plan: ImagePlan, settings: ImageSettings) -> ImageRun:
    run = opened.context
    folder = run.work / f"image-{plan.name}"
    folder.mkdir()
    secrets = _build_secrets(settings, run)
    for secret in (*secrets.values(), *_lines_of_secret_files(settings, run.project)):
        opened.reporter.masker.add(secret)
    return ImageRun(
        plan=plan,
        settings=settings,
        work=folder,
        labels=oci_labels(run.ci),
        secrets=secrets,
        pull=work.pull,
        keep_layout=work.keep_layouts / plan.name if work.keep_layouts else None,
    )


def _build_secrets(settings: ImageSettings, run: RunContext) -> dict[str, Secret]:
    """Return the values of the build secrets that come from the environment, by variable."""
    variables = [item.partition("=")[2] or item for item in settings.secret_envs]
    return {name: Secret(run.env[name]) for name in variables if run.env.get(name)}


def _lines_of_secret_files(settings: ImageSettings, project: Path) -> Iterator[Secret]:
    """Return what must not be shown of the build secrets in files; what can't be read fails later."""
    for path in settings.secret_files.values():
        with contextlib.suppress(StorageError):
            data = read_file(project / path, max_bytes=MAX_SECRET_BYTES)
            for line in data.decode(errors="ignore").splitlines():
                if len(line.strip()) >= _SHORTEST_SECRET_LINE:
                    yield Secret(line.strip())


def _result(base: RunResult, opened: Opened, images: tuple[ImageResult, ...]) -> RunResult:
    verdicts = (image.verdict for image in images)
    verdict = max(verdicts, key=lambda v: v.rank, default=Verdict.INCOMPLETE)
    return replace(
        base,
        dry_run=opened.context.dry_run,
        verdict=verdict,
        exit_code=worst_exit_code(tuple(image.exit_code for image in images)),
        images=images,
        settings=opened.values,
        ci=_ci_facts(opened),
        notes=opened.notes,
    )


def _ci_facts(opened: Opened) -> dict[str, str]:
    ci = opened.context.ci
    facts = {
        "provider": ci.provider,
        "event": ci.event,
        "commit": ci.commit,
        "branch": ci.branch,
        "tag": ci.tag,
        "base_branch": ci.base_branch,
        "change": ci.change,
        "fork": str(ci.is_fork).lower(),
        "protected": str(ci.is_protected).lower(),
        "run_url": ci.run_url,
        "repository_url": ci.repository_url,
    }
    return {key: str(value) for key, value in facts.items() if value}


def _failed(result: RunResult, error: CiRegistryError) -> RunResult:
    """Add what stopped the run; what its images came to before that stays."""
    _, newline, rest = error.message.partition("\n")
    message = f"{error.headline}{newline}{rest}"
    code = worst_exit_code((result.exit_code, ExitCode(error.exit_code)))
    return replace(result, error=message, error_hint=error.hint, exit_code=code)


def _bug(result: RunResult, error: Exception, reporter: Reporter) -> RunResult:
    where = reporter.save_traceback("".join(traceback.format_exception(error)))
    return replace(
        result,
        error=f"bug in ci-registry: {type(error).__name__}: {error}",
        error_hint=f"please report it with {where}" if where else "",
        exit_code=worst_exit_code((result.exit_code, ExitCode.BUG)),
    )


def _verdict(result: RunResult) -> Verdict:
    """Return the verdict; nobody may read `pass` of a run that something else stopped."""
    is_broken = result.verdict.lets_through and result.exit_code
    return Verdict.INCOMPLETE if is_broken else result.verdict


def _with_exit_code(result: RunResult, code: ExitCode, reason: str) -> RunResult:
    return replace(result, exit_code=code, error=result.error or reason)

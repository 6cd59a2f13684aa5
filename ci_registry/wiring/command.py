"""Opens a run from the command line's values and drives it: what `run`, `plan`, `build` and `scan` call."""

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry import __version__
from ci_registry.cache import DiskCache
from ci_registry.config.model import ReportSettings, SignMode
from ci_registry.errors import CiRegistryError, ExitCode, UsageError
from ci_registry.events import Level, Log
from ci_registry.files import work_folder, work_root
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.pipeline.drive import Opened, Work, make_plans, run_command
from ci_registry.pipeline.plan import GatheredRun, ImagePlan
from ci_registry.pipeline.report import Reporter
from ci_registry.pipeline.state import RunContext
from ci_registry.results import RunResult, Verdict
from ci_registry.wiring.ahead import Ahead
from ci_registry.wiring.baseline_file import released_at, stored_baseline
from ci_registry.wiring.basis import Basis, Caller, project_folder
from ci_registry.wiring.begin import Begun, begin_run
from ci_registry.wiring.caching import open_cache
from ci_registry.wiring.database_choice import describe_databases
from ci_registry.wiring.parts import open_parts
from ci_registry.wiring.registries import may_log_in
from ci_registry.wiring.scanners import scanners_are_asked

if TYPE_CHECKING:
    from ci_registry.verification.trust import TrustedKeys

_DRY_RUN_KEY = "a throw-away key"


def run_pipeline(
    caller: Caller, work: Work, begun: Ahead[Begun] | None = None
) -> tuple[RunResult, tuple[Path, ...]]:
    """Run a command of the pipeline; returns its result and the report files.

    `begun` may have been started before this module was imported.
    """
    base = RunResult(
        tool_version=__version__,
        command=work.command,
        dry_run=False,
        started_at=caller.now(),
        duration_s=0.0,
        verdict=Verdict.INCOMPLETE,
        exit_code=ExitCode.OK,
        images=(),
    )
    folder = caller.folder
    with contextlib.suppress(CiRegistryError):
        folder = project_folder(caller)
    named = caller.options.get("report-dir") or caller.env.get("CIREG_REPORT_DIR")
    fallback = _reporter(caller, folder / str(named or ReportSettings().dir), ReportSettings())

    def say(text: str) -> None:
        caller.on_event(Log(message=text, level=Level.ERROR))

    opener = functools.partial(open_run, caller, begun or begin_run(caller))
    return run_command(work, opener, fallback=fallback, base=base, say=say)


def plan_pipeline(caller: Caller) -> tuple[tuple[ImagePlan, ...], tuple[str, ...]]:
    """Gather and decide only; returns the plans and what people should know."""
    with open_run(caller, begin_run(caller), plan_only=True) as opened:
        chosen = {name: opened.context.settings.images[name] for name in opened.selected}
        return make_plans(opened, chosen), opened.notes


@contextlib.contextmanager
def open_run(caller: Caller, begun: Ahead[Begun], *, plan_only: bool = False) -> Iterator[Opened]:
    """Read the settings and open everything that the run needs; all is closed at the end."""
    basis, signer = begun().basis, begun().signer
    settings = basis.settings
    dry_run = basis.loaded.run.dry_run
    env = dict(caller.env)
    if settings.work_dir:
        env["CIREG_WORK_DIR"] = settings.work_dir
    cache = open_cache(settings, basis.ci, env)
    for note in basis.notes:
        caller.on_event(Log(message=note, level=Level.WARNING))
    with (
        _trimmed(cache, caller),
        work_folder(work_root(env)) as folder,
        open_parts(
            caller, basis, folder, cache, signer=signer, dry_run=dry_run and not plan_only
        ) as parts,
    ):
        context = RunContext(
            settings=settings,
            ci=basis.ci,
            policy=basis.policy,
            waivers=basis.waivers,
            parts=parts,
            project=basis.project,
            work=folder,
            cache=cache,
            env=caller.env,
            now=caller.now,
            cancel=caller.cancel,
            on_event=caller.on_event,
            dry_run=dry_run,
            trusted_keys=Ahead(lambda: _trusted_keys(caller, basis)),
            stored_baseline=stored_baseline(basis),
            released_at=released_at(caller, basis),
            scan_notes=Ahead(lambda: _ignored(basis.project)),
        )
        notes = basis.notes + (_dry_run_notes(basis) if dry_run else ())
        yield Opened(
            context=context,
            gathered=_gathered(caller, basis, dry_run=dry_run),
            selected=basis.loaded.selected,
            values=basis.loaded.values,
            notes=notes,
            reporter=_reporter(caller, basis.project / settings.report.dir, settings.report),
            ask_destinations=not settings.runtime.offline and may_log_in(basis),
        )


@contextlib.contextmanager
def _trimmed(cache: DiskCache, caller: Caller) -> Iterator[None]:
    """Keep the cache within its limit, whatever a run put into it."""
    try:
        yield
    finally:
        cache.trim(caller.now().timestamp())


def _reporter(caller: Caller, folder: Path, settings: ReportSettings) -> Reporter:
    return Reporter(
        folder=folder,
        formats=settings.formats,
        env=caller.env,
        masker=caller.masker,
        delimiter=f"ci_registry_{caller.random(16).hex()}",
        print_command=caller.print_command,
        dotenv_prefix=caller.env.get("CIREG_DOTENV_PREFIX") or "IMAGE_",
    )


def _trusted_keys(caller: Caller, basis: Basis) -> "TrustedKeys | None":
    from ci_registry.verification.trust import find_trust

    return find_trust(basis.settings.trust, caller.env, basis.trusted.read)


def _ignored(project: Path) -> tuple[str, ...]:
    from ci_registry.scanners.ignored import ignored_files

    return tuple(f"{name} is in the tree and was not applied" for name in ignored_files(project))


def _gathered(caller: Caller, basis: Basis, *, dry_run: bool) -> GatheredRun:
    from ci_registry.signers.keys import read_key_source

    settings = basis.settings
    source = _DRY_RUN_KEY if dry_run else settings.sign.key
    present = dry_run
    if not dry_run and settings.sign.mode is not SignMode.OFF:
        present = read_key_source(settings.sign.key, caller.env, folder=basis.project) is not None
    asked = scanners_are_asked(caller)
    scanners = settings.scan.scanner if asked else ()
    databases = (describe_databases(settings, basis.project),) if asked else ()
    return GatheredRun(
        key_present=present,
        key_source=source,
        policy_source=basis.policy.source,
        is_policy_trusted=basis.trusted.label != "untrusted",
        is_dry_run=dry_run,
        scanner="+".join((*(("report",) if caller.reports else ()), *scanners)),
        database="; ".join((*map(str, caller.reports), *databases)),
    )


def _dry_run_notes(basis: Basis) -> tuple[str, ...]:
    """Say what a dry run can't check."""
    settings = basis.settings
    notes = ["dry run: everything was written to a registry inside this process, which is gone now"]
    unknown = "the right to push to the real destinations"
    if settings.runtime.offline:
        unknown += ", and the tags and blobs that exist there (--offline)"
    notes.append(f"not checked: {unknown}")
    if settings.sign.mode is not SignMode.OFF:
        notes.append(f"not checked: the real key ({settings.sign.key}); a throw-away key signed")
    return tuple(notes)


def scan_settings(caller: Caller, target: str) -> tuple[Caller, Reference | None]:
    """Turn the argument of `scan` into the settings of one image: a layout folder, or a reference.

    Raises:
        UsageError: it is neither.
    """
    options = dict(caller.options) | {"only": ()}
    path = (caller.folder / target).resolve()
    if (path / "index.json").is_file():
        name = re.sub(r"[^a-z0-9]+", "-", path.name.lower()).strip("-") or "image"
        options |= {"image": name, "from-layout": str(path), "push": "never"}
        return replace(caller, options=options, lone_image=True), None
    if path.is_dir() or target.startswith((".", "/")):
        what = "is no OCI layout: it has no index.json" if path.is_dir() else "does not exist"
        raise UsageError(
            f"{target} {what}",
            hint="name a layout folder, or an image such as docker.io/library/alpine:3.20",
        )
    reference = parse_reference(target)
    options |= {"image": reference.name, "push": "never"}
    return replace(caller, options=options, lone_image=True), reference

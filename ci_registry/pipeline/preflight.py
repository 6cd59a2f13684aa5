"""Preflight: everything that can fail late fails now, before anything is built or written."""

from collections.abc import Callable

from ci_registry.errors import (
    CancelledError,
    CiRegistryError,
    SetupError,
    StorageError,
    worst_exit_code,
)
from ci_registry.files import free_bytes, read_file, storage_error
from ci_registry.oci.reference import Reference
from ci_registry.pipeline.sizes import last_size
from ci_registry.pipeline.state import Done, ImageRun, RunContext
from ci_registry.results import Case, CaseStatus, StepStatus
from ci_registry.scanners.interface import ReadsRegistry

_MINIMUM_FREE_BYTES = 64 * 1024 * 1024
_FREE_FACTOR = 2.5
MAX_SECRET_BYTES = 512 * 1024
"""BuildKit takes no larger secrets."""
_NEVER_FOR_BUILDS = (
    "CIREG_",
    "COSIGN_",
    "SIGSTORE_",
    "ACTIONS_ID_TOKEN_REQUEST_",
    "ACTIONS_RUNTIME_TOKEN",
)


def preflight(image: ImageRun, run: RunContext) -> Done:
    """Check builder, credentials, push right, scanner, policy, key and space; report all at once."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("plan complete", lambda: _plan_problems(image)),
        ("builder available", lambda: _builder(image)),
        ("build secrets present", lambda: _secrets(image, run)),
        ("enough free space", lambda: _space(image, run)),
        ("scanner available", lambda: _scanner(image, run)),
        ("policy and waivers readable", lambda: f"policy from {run.policy.source}"),
        ("push allowed", lambda: _push_right(image, run)),
        ("signing key usable", lambda: _key(image, run)),
    )
    cases, failures = [], []
    for name, check in checks:
        try:
            text = _checked(check)
        except CancelledError:
            raise
        except CiRegistryError as error:
            failures.append(error)
            body = f"{error.message}\n{error.hint}" if error.hint else error.message
            cases.append(
                Case(
                    name=name,
                    status=CaseStatus.ERROR,
                    message=error.headline,
                    body=body,
                    kind="setup",
                    line=error.line,
                )
            )
        else:
            is_skip = text.startswith("skipped: ")
            status = CaseStatus.SKIPPED if is_skip else CaseStatus.PASSED
            cases.append(
                Case(
                    name=name,
                    status=status,
                    message=text.removeprefix("skipped: "),
                    body="" if is_skip else text,
                )
            )
    if not failures:
        return Done(cases=tuple(cases))
    code = worst_exit_code(tuple(error.exit_code for error in failures))
    worst = next(error for error in failures if error.exit_code is code)
    return Done(
        status=StepStatus.ERROR,
        reason="; ".join(error.headline for error in failures),
        hint=worst.hint,
        exit_code=code,
        cases=tuple(cases),
    )


def _checked(check: Callable[[], str]) -> str:
    try:
        return check()
    except OSError as error:
        raise storage_error(error, error.filename or "a file", "read or write") from error


def _builder(image: ImageRun) -> str:
    if not image.plan.builder:
        return "skipped: no builder was chosen, see the problems of the plan"
    return image.plan.builder_reason


def _plan_problems(image: ImageRun) -> str:
    """Raise all problems of the plan; many readers see only the first line, so it has all of them."""
    problems = image.plan.problems
    if not problems:
        return image.plan.reason
    first, *others = problems
    message = first.message
    if others:
        headlines = (problem.message.split("\n", 1)[0] for problem in problems)
        message = "; ".join(headlines) + "".join(f"\n{problem}" for problem in problems)
    error = CiRegistryError(message, hint=first.hint, file=first.file, line=first.line)
    error.exit_code = worst_exit_code(tuple(problem.exit_code for problem in problems))
    raise error


def _secrets(image: ImageRun, run: RunContext) -> str:
    """Check the build secrets; which ones an image gets stands in files that a change may edit."""
    wanted = image.settings.secret_envs
    names = [item.partition("=")[2] or item for item in wanted]
    _refuse_secrets(image, run, names)
    missing = [name for name in names if name not in image.secrets]
    if missing:
        what = "build secret" if len(missing) == 1 else "build secrets"
        raise SetupError(
            f"{what} {', '.join(missing)}: not set in the environment",
            hint="secret_envs holds names of variables; set them in the CI's secret settings",
        )
    for name, path in image.settings.secret_files.items():
        try:
            read_file(run.project / path, max_bytes=MAX_SECRET_BYTES)
        except StorageError as error:
            raise SetupError(f"build secret {name}: {error.message}") from error
    count = len(wanted) + len(image.settings.secret_files)
    return f"{count} build secrets" if count else "skipped: this image has no build secrets"


def _refuse_secrets(image: ImageRun, run: RunContext, names: list[str]) -> None:
    key = run.settings.sign.key
    signing = {key.removeprefix("env://")}
    files = {path: (run.project / path).resolve() for path in image.settings.secret_files.values()}
    if not key.startswith("env://"):
        key_file = (run.project / key).resolve()
        signing |= {path for path, file in files.items() if file == key_file}
    for name in (*names, *files):
        if name in signing or name.startswith(_NEVER_FOR_BUILDS):
            raise SetupError(
                f"{name} is never given to a build: it is for signing and publishing",
                hint="take it out of secret_envs or secret_files",
            )
    inside = run.project.resolve()
    outside = [path for path, file in files.items() if not file.is_relative_to(inside)]
    if run.ci.is_fork and (names or outside):
        raise SetupError(
            f"build secret {(*names, *outside)[0]} is not given to a change from a fork",
            hint="its own Dockerfile could send it anywhere; build the change from a branch of this"
            " repository once somebody has read it",
        )


def _space(image: ImageRun, run: RunContext) -> str:
    wanted = max(_MINIMUM_FREE_BYTES, int(_FREE_FACTOR * last_size(run.cache, image.name)))
    free = free_bytes(run.work)
    if free < wanted:
        raise StorageError(
            f"{run.work} has {free // 2**20} MiB free, this image needs {wanted // 2**20} MiB",
            hint="free some space, or set CIREG_WORK_DIR to a larger disk",
        )
    return f"{free // 2**20} MiB free, {wanted // 2**20} MiB wanted"


def _scanner(image: ImageRun, run: RunContext) -> str:
    scanner = run.parts.open_scanner()
    info = scanner.probe()
    if isinstance(scanner, ReadsRegistry):
        scanner.check_place(image.pull)
    program = f" ({info.program}, sha256 {info.sha256[:12]})" if info.program else ""
    return f"{info.name} {info.version}{program}; {info.database}"


def _push_right(image: ImageRun, run: RunContext) -> str:
    if not image.plan.push:
        return f"skipped: {image.plan.push_reason}"
    refusals = [refusal for place in image.plan.destinations if (refusal := _refusal(run, place))]
    if refusals:
        worst = worst_exit_code(tuple(refusal.exit_code for refusal in refusals))
        error = CiRegistryError(
            "; ".join(refusal.headline for refusal in refusals),
            hint=next(refusal.hint for refusal in refusals if refusal.exit_code is worst),
        )
        error.exit_code = worst
        raise error
    return ", ".join(place.name for place in image.plan.destinations)


def _refusal(run: RunContext, place: Reference) -> CiRegistryError | None:
    """Return why this destination can't be pushed to, None when it can."""
    try:
        run.parts.check_push(place)
    except CancelledError:
        raise
    except CiRegistryError as error:
        return error
    return None


def _key(image: ImageRun, run: RunContext) -> str:
    if not image.plan.sign:
        return f"skipped: {image.plan.sign_reason}"
    image.signer = run.parts.load_signer()
    if image.signer is None:
        raise SetupError(
            f"sign.mode is key, but {run.settings.sign.key} is not set",
            hint="set the variable, or `sign.mode: auto` to publish unsigned",
        )
    return image.plan.sign_reason

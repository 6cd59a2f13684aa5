"""The one list of suites and cases that every report reads."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ci_registry.errors import ExitCode
from ci_registry.reports.compared import base_cases, comparison_cases
from ci_registry.reports.escape import one_line
from ci_registry.reports.finding_cases import coverage_cases, finding_cases, judge_cases, reported
from ci_registry.reports.totals import is_resting
from ci_registry.reports.wording import clipped
from ci_registry.results import (
    Case,
    CaseStatus,
    ImageResult,
    RunResult,
    Step,
    StepResult,
    StepStatus,
)

STAGES = (
    Step.PREFLIGHT,
    Step.OBTAIN,
    Step.INSPECT,
    Step.SCAN,
    Step.UPLOAD,
    Step.JUDGE,
    Step.PUBLISH,
    Step.SIGN,
    Step.TAG,
)
MAX_FINDING_CASES = 2000
"""Most cases of findings in one report; each image that has more gets one case for the rest."""
RUN = "run"
"""Stands for the image when the run stopped before any image was begun."""
MAX_BODY_CHARS = 8000

_CASE_NAMES = {
    Step.PREFLIGHT: "preflight",
    Step.OBTAIN: "build",
    Step.INSPECT: "inspect",
    Step.SCAN: "scan",
    Step.UPLOAD: "blobs uploaded",
    Step.JUDGE: "verdict",
    Step.PUBLISH: "manifests stored, digest equal",
    Step.SIGN: "signature",
    Step.TAG: "tags",
}
_KINDS = {
    ExitCode.BLOCK: "policy",
    ExitCode.CONFIG: "configuration",
    ExitCode.BUILD: "build",
    ExitCode.INFRASTRUCTURE: "infrastructure",
    ExitCode.INCOMPLETE: "coverage",
    ExitCode.SIGNATURE: "signature",
    ExitCode.BUG: "bug",
    ExitCode.INTERRUPTED: "interrupted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The cases of one stage of one image; there is always at least one."""

    image: str
    stage: Step
    classname: str
    cases: tuple[Case, ...]
    """Names are unique; texts are printable and bounded."""
    file: str
    """The Dockerfile, or the settings file for an image without one."""
    started_at: datetime
    duration_s: float = 0.0

    @property
    def name(self) -> str:
        """The name of the suite."""
        return f"ci-registry: {self.image} {self.stage}"


def is_bad(case: Case) -> bool:
    """Whether a case speaks against the image, or could not decide."""
    return case.status in (CaseStatus.FAILURE, CaseStatus.ERROR)


def suites_of(result: RunResult) -> tuple[Suite, ...]:
    """Return one suite per image and stage in the order of the pipeline, never none.

    A run with an exit code other than 0 has at least one failure or error in its suites.
    """
    suites = tuple(_suites(result))
    if result.exit_code and not any(is_bad(case) for suite in suites for case in suite.cases):
        suites = (_run_suite(result), *suites)
    return suites


def _suites(result: RunResult) -> Iterator[Suite]:
    if result.error or not result.images:
        yield _run_suite(result)
    names = _class_names(image.name for image in result.images)
    limits = _shares([len(reported(image)) for image in result.images], MAX_FINDING_CASES)
    for image, name, limit in zip(result.images, names, limits, strict=True):
        yield from _image_suites(result, image, name, limit)


def _class_names(images: Iterable[str]) -> list[str]:
    """Return names without dots (Jenkins splits there), unique."""
    names: list[str] = []
    for image in images:
        base = one_line(image, 100).replace(".", "_") or "image"
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def _shares(wanted: Sequence[int], total: int) -> list[int]:
    """Share `total` so that small wishes are met in full and large ones equally."""
    shares = [0] * len(wanted)
    left = total
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for position, index in enumerate(order):
        shares[index] = min(wanted[index], left // (len(order) - position))
        left -= shares[index]
    return shares


def _run_suite(result: RunResult) -> Suite:
    name = "the run could start"
    case = Case(name=name)
    if result.error or result.exit_code:
        text = result.error or f"the run ended with exit code {int(result.exit_code)}"
        case = _bad_case(name, result.exit_code, text, result.error_hint)
    elif not result.images:
        case = Case(name=name, status=CaseStatus.SKIPPED, message="no image was asked for")
    return Suite(
        image=RUN,
        stage=Step.GATHER,
        classname=f"ci-registry.{RUN}.{Step.GATHER}",
        cases=(_tidy(case),),
        file=".ci-registry.yml",
        started_at=result.started_at,
    )


def _image_suites(result: RunResult, image: ImageResult, name: str, limit: int) -> Iterator[Suite]:
    steps = {step.step: step for step in image.steps}
    early = [s for s in image.steps if s.step not in STAGES and not is_resting(s.status)]
    extra = {
        Step.PREFLIGHT: tuple(case for step in early for case in _step_cases(step, str(step.step))),
        Step.SCAN: (*finding_cases(image, limit), *coverage_cases(image), *base_cases(image)),
        Step.JUDGE: (*judge_cases(image), *comparison_cases(image)),
    }
    found = {stage: _stage_cases(image, stage, steps, extra.get(stage, ())) for stage in STAGES}
    if image.exit_code and not any(is_bad(c) for cases in found.values() for c in cases):
        stage = next((s for s in STAGES if s == image.failed_step), Step.PREFLIGHT)
        text = image.error or f"ended with exit code {int(image.exit_code)}"
        found[stage] = (*found[stage], _bad_case("outcome", image.exit_code, text, ""))
    for stage in STAGES:
        step = steps.get(stage)
        yield Suite(
            image=one_line(image.name, 100),
            stage=stage,
            classname=f"ci-registry.{name}.{stage}",
            cases=_unique(found[stage]),
            file=one_line(image.dockerfile) or ".ci-registry.yml",
            started_at=(step and step.started_at) or result.started_at,
            duration_s=step.duration_s if step else 0.0,
        )


def _stage_cases(
    image: ImageResult, stage: Step, steps: dict[Step, StepResult], extra: tuple[Case, ...]
) -> tuple[Case, ...]:
    step = steps.get(stage)
    if step is not None:
        return _step_cases(step, _CASE_NAMES[stage], extra)
    if extra:
        return extra
    reason = f"not reached: {image.error}" if image.error else "not part of this command"
    return (Case(name=_CASE_NAMES[stage], status=CaseStatus.SKIPPED, message=reason),)


def _step_cases(step: StepResult, name: str, extra: tuple[Case, ...] = ()) -> tuple[Case, ...]:
    """Return the cases of a step; one that did not pass has a case that says so."""
    cases = (*step.cases, *extra)
    if step.status is StepStatus.SKIPPED and not cases:
        reason = step.reason or "skipped"
        return (Case(name=name, status=CaseStatus.SKIPPED, message=reason),)
    if is_resting(step.status):
        return cases or (Case(name=name, duration_s=step.duration_s),)
    if any(is_bad(case) for case in cases):
        return cases
    status = CaseStatus.FAILURE if step.status is StepStatus.FAILED else CaseStatus.ERROR
    bad = _bad_case(name, step.exit_code, step.reason or f"{step.step} failed", step.hint)
    body = f"{bad.body}\n{step.detail}".rstrip()
    return (
        *cases,
        replace(bad, status=status, duration_s=step.duration_s, body=body, line=step.line),
    )


def _bad_case(name: str, code: ExitCode, message: str, hint: str) -> Case:
    decided = code in (ExitCode.BLOCK, ExitCode.SIGNATURE)
    return Case(
        name=name,
        status=CaseStatus.FAILURE if decided else CaseStatus.ERROR,
        message=message,
        body=f"{message}\n{hint}".rstrip(),
        kind=_KINDS.get(code, "infrastructure"),
    )


def _unique(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """Return tidy cases with unique names: readers drop the second case of a name."""
    seen: set[str] = set()
    result = []
    for case in map(_tidy, cases):
        name, number = case.name, 2
        while name in seen:
            name, number = f"{case.name} #{number}", number + 1
        seen.add(name)
        result.append(replace(case, name=name))
    return tuple(result)


def _tidy(case: Case) -> Case:
    """Bound the texts of a case; a bad case has a message, and its body starts with it."""
    message = one_line(case.message.split("\n", 1)[0])
    body = clipped(case.body, MAX_BODY_CHARS)
    if is_bad(case):
        message = message or one_line(case.body.split("\n", 1)[0]) or "failed"
        if not body.startswith(message):
            body = f"{message}\n{body}".rstrip()
    return replace(
        case,
        name=one_line(case.name, 300) or "case",
        message=message,
        body=body,
        kind=one_line(case.kind, 50),
        duration_s=max(case.duration_s, 0.001),
    )

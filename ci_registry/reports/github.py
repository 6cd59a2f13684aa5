"""What GitHub Actions reads: annotations, and the outputs of the step."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ci_registry.errors import IntegrityError
from ci_registry.reports.cases import Suite, is_bad, suites_of
from ci_registry.reports.escape import clip, command_data, command_property, one_line, printable
from ci_registry.reports.result_json import image_summary, summary_of
from ci_registry.reports.totals import judged, written_images
from ci_registry.reports.wording import finding_headline, gap_line, worst_first
from ci_registry.results import ImageResult, RunResult, Step, Treatment, Verdict

PER_KIND = 10
"""GitHub shows ten annotations of a kind per step."""
MAX_CHARS = 4096
_FILES = ("junit", "report-dir", "result")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Annotation:
    title: str
    message: str
    file: str = ""
    line: int = 0

    def command(self, kind: str) -> str:
        """Return the workflow command."""
        properties = {"title": one_line(self.title, 200)}
        if self.file:
            properties = {"file": one_line(self.file), "line": str(self.line or 1)} | properties
        listed = ",".join(f"{name}={command_property(text)}" for name, text in properties.items())
        return f"::{kind} {listed}::{command_data(clip(printable(self.message), MAX_CHARS))}"


def annotations(result: RunResult) -> tuple[str, ...]:
    """Return workflow command lines: at most ten errors and ten warnings, what blocks first."""
    return (
        *_commands("error", tuple(_errors(result))),
        *_commands("warning", tuple(_warnings(result))),
    )


def _commands(kind: str, found: tuple[_Annotation, ...]) -> Iterator[str]:
    shown = found if len(found) <= PER_KIND else found[: PER_KIND - 1]
    yield from (annotation.command(kind) for annotation in shown)
    if len(shown) < len(found):
        text = f"{len(found) - len(shown)} more in the report"
        yield _Annotation(title="ci-registry", message=text).command(kind)


def _errors(result: RunResult) -> Iterator[_Annotation]:
    """Yield the failing cases: findings most severe first, then what could not be decided or done."""
    suites = suites_of(result)
    cases = [(suite, case) for suite in suites for case in suite.cases if is_bad(case)]
    cases.sort(key=lambda pair: pair[1].kind != "vulnerability")
    said: set[tuple[str, str]] = set()
    for suite, case in cases:
        is_finding = case.kind == "vulnerability"
        text = case.message if is_finding else case.body or case.message
        if is_finding and (suite.image, text) in said:
            continue  # the same on another platform
        said.add((suite.image, text))
        yield _Annotation(
            title=f"{suite.image}: {case.name}", message=text, file=_file(suite), line=case.line
        )


def _file(suite: Suite) -> str:
    return "" if suite.stage is Step.GATHER else suite.file


def _warnings(result: RunResult) -> Iterator[_Annotation]:
    for image in result.images:
        items = [i for i in judged(image) if i.treatment is Treatment.WARN]
        for item in {finding_headline(i): i for i in sorted(items, key=worst_first)}.values():
            name = f"{item.finding.id} in {item.finding.package.name}"
            yield _about(image, name, finding_headline(item))
    for image in result.images:
        if image.decision is not None:
            for note in image.decision.waiver_notes:
                title = f"{image.name}: waiver {note.waiver_id}"
                yield _Annotation(title=title, message=note.message, file=note.file, line=note.line)
            for gap in image.decision.gaps:
                if gap.verdict is not Verdict.INCOMPLETE:
                    yield _about(image, f"coverage {gap.platform}", gap_line(gap))
        for text in image.build.warnings if image.build is not None else ():
            yield _about(image, "build", text)


def _about(image: ImageResult, what: str, message: str) -> _Annotation:
    file = image.dockerfile or ".ci-registry.yml"
    return _Annotation(title=f"{image.name}: {what}", message=message, file=file, line=1)


def outputs(result: RunResult, files: Mapping[str, str]) -> dict[str, str]:
    """Return the outputs of the action, all of them in every outcome.

    Args:
        result: the run.
        files: output name → path, for `junit`, `report-dir` and `result`; what is missing becomes
            empty.
    """
    found = {name.replace("_", "-"): _text(value) for name, value in summary_of(result).items()}
    found |= {name: files.get(name, "") for name in _FILES}
    found["plan"] = _text(
        [
            {
                "image": image.name,
                "action": image.action,
                "reason": image.action_reason,
                "destinations": list(image.destinations),
                "tags": [tag for _, tag in image.planned_tags if tag],
            }
            for image in result.images
        ]
    )
    builds = [image.build for image in result.images if image.build is not None]
    found["cache"] = _text(
        {
            "hits": sum(build.steps_cached for build in builds),
            "misses": sum(build.steps_total - build.steps_cached for build in builds),
            "seconds": round(sum(build.duration_s for build in builds), 3),
        }
    )
    found["images"] = _text({i.name: image_summary(i) for i in written_images(result)})
    return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def render_output_file(outputs: Mapping[str, str], delimiter: str) -> str:
    """Return what to append to `$GITHUB_OUTPUT`.

    Args:
        outputs: names and values.
        delimiter: random text that no value can contain by accident.

    Raises:
        IntegrityError: a value contains the delimiter, or a name is no name.
    """
    parts = []
    for name, value in outputs.items():
        if delimiter in value or not name.replace("-", "").replace("_", "").isalnum():
            raise IntegrityError(f"output {name[:50]!r} could forge other outputs: not written")
        parts.append(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")
    return "".join(parts)

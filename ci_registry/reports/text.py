"""The end-of-run summary for a terminal, as plain text."""

from collections.abc import Iterator

from ci_registry.reports.compared import base_lines, comparison_lines, fixed_lines, owner_line
from ci_registry.reports.escape import one_line, printable
from ci_registry.reports.finding_cases import reported
from ci_registry.reports.totals import counts_lines, judged, plural
from ci_registry.reports.wording import (
    finding_headline,
    gap_line,
    unsaid_error,
    waiver_for,
    worst_first,
)
from ci_registry.results import (
    Decision,
    ImageResult,
    JudgedFinding,
    PublishedReference,
    RunResult,
    StepStatus,
    Treatment,
)

_SHOWN = 20


def render_text(result: RunResult) -> str:
    """Return the summary: verdict and reasons per image, what blocks, the gaps, what was written."""
    lines: list[str] = []
    if result.error:
        lines += [f"ERROR  {one_line(line)}" for line in result.error.splitlines()]
        lines += [f"  hint: {one_line(result.error_hint)}"] if result.error_hint else []
    for image in result.images:
        lines += [*([""] if lines else []), *_image_lines(image, dry_run=result.dry_run)]
    if result.notes:
        lines += ["", *(f"note: {one_line(note)}" for note in result.notes)]
    words = {image.word for image in result.images}
    said = "built, not judged" if words == {"built"} else str(result.verdict)
    word = f"{said}, exit code {int(result.exit_code)}"
    if result.dry_run:
        word += " (dry run: nothing left this machine)"
    lines += ["", f"{result.command}: {word}"]
    return printable("\n".join(lines)) + "\n"


def _image_lines(image: ImageResult, *, dry_run: bool) -> Iterator[str]:
    digest = f"  {image.digest}" if image.digest else ""
    yield f"{image.word.upper()}  {one_line(image.name, 200)}{digest}"
    if image.action_reason:
        yield f"  {one_line(image.action)}: {one_line(image.action_reason)}"
    if image.error:
        yield f"  stopped in {image.failed_step or 'preflight'}{unsaid_error(image)}"
        for step in image.steps:
            if step.status in (StepStatus.FAILED, StepStatus.ERROR):
                lines = step.detail.splitlines()[-_SHOWN:]
                yield from (f"    {one_line(line, 200)}" for line in lines)
                yield from [f"  hint: {one_line(step.hint)}"] if step.hint else []
    if image.decision is not None:
        yield from _decision_lines(image, image.decision)
    yield from _written(image, dry_run=dry_run)


def _decision_lines(image: ImageResult, decision: Decision) -> Iterator[str]:
    for reason in decision.reasons:
        yield f"  {one_line(reason)}"
    if decision.mode == "audit":
        yield f"  mode audit: enforce would say {decision.enforced_verdict}"
    findings = sorted(judged(image), key=worst_first)
    yield from _section("blocking", [f for f in findings if f.treatment is Treatment.BLOCK])
    yield from _section("warnings", [f for f in findings if f.treatment is Treatment.WARN])
    blocking = [f for f in findings if f.treatment is Treatment.BLOCK]
    if blocking:
        yield "  to accept the first one until a day, add to the waiver file:"
        today = decision.decided_at.date()
        yield from (f"    {line}" for line in waiver_for(blocking[0], today).splitlines())
    if decision.gaps:
        yield "  not covered:"
        yield from (f"    {gap.platform} {gap_line(gap)}" for gap in decision.gaps[:_SHOWN])
    waived = [f for f in reported(image) if f.treatment is Treatment.WAIVED]
    if waived:
        yield "  waived:"
        for item in waived[:_SHOWN]:
            text = f"{item.finding.id} in {item.finding.package.name}: {item.waiver_id}"
            yield f"    {one_line(f'{text} {item.reason}')}"
        yield from _more(len(waived))
    fixed = fixed_lines(decision.comparison)
    if fixed:
        yield "  fixed since the baseline:"
        yield from (f"    {line}" for line in fixed)
    for note in decision.waiver_notes:
        where = f" ({note.file}:{note.line})" if note.file else ""
        yield f"  {one_line(f'waiver {note.waiver_id}: {note.message}{where}')}"
    yield from (f"  {one_line(line)}" for line in counts_lines(image))
    yield from (f"  {line}" for line in (owner_line(image), *comparison_lines(image)) if line)
    yield from (f"  {line}" for line in base_lines(image))
    yield f"  policy {one_line(decision.policy_name)} from {one_line(decision.policy_source)}"


def _section(title: str, items: list[JudgedFinding]) -> Iterator[str]:
    if not items:
        return
    yield f"  {title}:"
    platforms: dict[str, list[str]] = {}
    for item in items:
        platforms.setdefault(finding_headline(item), []).append(one_line(item.platform, 50))
    for headline in list(platforms)[:_SHOWN]:
        yield f"    {headline} [{', '.join(dict.fromkeys(platforms[headline]))}]"
    yield from _more(len(platforms))


def _more(count: int) -> Iterator[str]:
    if count > _SHOWN:
        yield f"    and {count - _SHOWN} more in the report"


def _written(image: ImageResult, *, dry_run: bool) -> Iterator[str]:
    pushed, tagged = ("would push", "would tag") if dry_run else ("pushed", "tagged")
    for place in image.published:
        yield f"  {pushed} {place.name}@{place.digest}{_amount(place)}"
        previous = dict(place.previous)
        for tag in place.tags_moved:
            before = f" (was {previous[tag]})" if tag in previous else ""
            yield f"  {tagged} {one_line(f'{place.name}:{tag}')}{before}"
        if place.signatures:
            key = " with a throw-away key" if dry_run else ""
            yield f"  signed{key}: {one_line(', '.join(place.signatures))}"
    if image.published and not image.signed:
        yield "  not signed"


def _amount(place: PublishedReference) -> str:
    blobs = f"{plural(place.blobs_uploaded, 'blob')} sent, {place.blobs_mounted} mounted"
    return f" ({blobs}, {place.blobs_present} already there)"

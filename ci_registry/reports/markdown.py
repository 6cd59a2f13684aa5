"""Writes the Markdown summary for `$GITHUB_STEP_SUMMARY` and `summary.md`, within a byte budget."""

from collections.abc import Iterator

from ci_registry.reports.compared import (
    base_lines,
    change_of,
    comparison_lines,
    fixed_lines,
    owner_line,
    owner_of,
)
from ci_registry.reports.escape import markdown, web_link
from ci_registry.reports.totals import counts_lines, image_ref, judged, written_images
from ci_registry.reports.wording import gap_line, unsaid_error, worst_first
from ci_registry.results import (
    Decision,
    ImageResult,
    JudgedFinding,
    RunResult,
    StepStatus,
    Treatment,
    Verdict,
)

MAX_SUMMARY_BYTES = 900_000
"""GitHub drops a whole summary above 1 MiB."""
_MAX_ROWS = 500
"""Most findings in the table of one image."""
_POINTER = "\n*Cut here: the rest is in `result.json` and in the JUnit report.*\n"
_FURTHER = (("From", owner_of), ("Change", change_of))
"""Columns that stand there when somebody knows."""
_SIGNS = {
    Verdict.PASS: "✅",
    Verdict.WARN: "⚠️",
    Verdict.BLOCK: "⛔",
    Verdict.INCOMPLETE: "❔",
}


def render_summary(result: RunResult, *, max_bytes: int = MAX_SUMMARY_BYTES) -> str:
    """Return the summary, at most `max_bytes` of UTF-8; what had to be cut is pointed to."""
    left = max_bytes - len(_POINTER.encode())
    kept: list[str] = []
    for line in _lines(result):
        left -= len(line.encode()) + 1
        if left < 0:
            return "\n".join(kept) + _POINTER
        kept.append(line)
    return "\n".join(kept) + "\n"


def _lines(result: RunResult) -> Iterator[str]:
    """Yield whole lines, the important ones first: first all verdicts, then the images' details."""
    dry = " (dry run)" if result.dry_run else ""
    yield f"## {_SIGNS[result.verdict]} ci-registry {markdown(result.command)}{dry}: {result.verdict}"
    yield ""
    if result.error:
        yield f"**{markdown(result.error)}**"
        yield from ("", markdown(result.error_hint)) if result.error_hint else ()
        yield ""
    if result.images:
        yield "| | Image | Verdict | Why | Pushed |"
        yield "|---|---|---|---|---|"
        yield from (_overview(image) for image in written_images(result))
        yield ""
    for image in result.images:
        yield from _image(image, dry_run=result.dry_run)
    if result.notes:
        yield "### Notes"
        yield ""
        yield from (f"- {markdown(note)}" for note in result.notes)
        yield ""
    yield f"<sub>ci-registry {markdown(result.tool_version)}, exit code {int(result.exit_code)}</sub>"


def _overview(image: ImageResult) -> str:
    why = image.decision.reasons[0] if image.decision and image.decision.reasons else image.error
    pushed = f"<code>{markdown(image_ref(image))}</code>" if image.published else "no"
    cells = (_SIGNS[image.verdict], markdown(image.name), image.word, markdown(why), pushed)
    return f"| {' | '.join(cells)} |"


def _image(image: ImageResult, *, dry_run: bool) -> Iterator[str]:
    yield f"### {_SIGNS[image.verdict]} {markdown(image.name)}: {image.word}"
    yield ""
    yield from _facts(image, dry_run=dry_run)
    if image.decision is not None:
        yield from _decision(image, image.decision)


def _facts(image: ImageResult, *, dry_run: bool) -> Iterator[str]:
    if image.digest:
        yield f"- digest <code>{image.digest}</code>"
    if image.action_reason:
        yield f"- {markdown(image.action)}: {markdown(image.action_reason)}"
    if image.error:
        where = markdown(image.failed_step or "preflight")
        yield f"- stopped in **{where}**{markdown(unsaid_error(image))}"
    for step in image.steps:
        if step.hint and step.status in (StepStatus.FAILED, StepStatus.ERROR):
            yield f"- to do: {markdown(step.hint)}"
    for place in image.published:
        tags = ", ".join(f"<code>{markdown(tag)}</code>" for tag in place.tags_moved) or "no tag"
        yield f"- {'would push' if dry_run else 'pushed'} <code>{markdown(place.name)}</code>, {tags}"
    if image.published and not dry_run:
        yield f"- {'signed' if image.signed else 'not signed'}"
    yield ""


def _decision(image: ImageResult, decision: Decision) -> Iterator[str]:
    yield from (f"- {markdown(reason)}" for reason in decision.reasons)
    if decision.mode == "audit":
        yield f"- mode audit: enforce would say **{decision.enforced_verdict}**"
    yield f"- policy {markdown(decision.policy_name)} from {markdown(decision.policy_source)}"
    yield ""
    if decision.gaps:
        yield "**Not covered**"
        yield ""
        for gap in decision.gaps:
            yield f"- {markdown(gap.platform)}: {gap.verdict}: {markdown(gap_line(gap))}"
        yield ""
    for line in counts_lines(image):
        yield markdown(line)
        yield ""
    yield from _compared(image, decision)
    findings = sorted(judged(image), key=worst_first)
    yield from _table([f for f in findings if f.treatment is not Treatment.WAIVED])
    waived = [f for f in findings if f.treatment is Treatment.WAIVED]
    if waived or decision.waiver_notes:
        yield "**Waivers**"
        yield ""
        for item in waived[:_MAX_ROWS]:
            text = f"{item.finding.id} in {item.finding.package.name} ({item.platform})"
            yield f"- {markdown(text)}: {markdown(item.waiver_id)} {markdown(item.reason)}"
        yield from _more(len(waived))
        for note in decision.waiver_notes:
            yield f"- {markdown(note.waiver_id)}: {markdown(note.message)}"
        yield ""


def _compared(image: ImageResult, decision: Decision) -> Iterator[str]:
    lines = (owner_line(image), *comparison_lines(image), *base_lines(image))
    for line in lines:
        if line:
            yield markdown(line)
            yield ""
    fixed = fixed_lines(decision.comparison)
    if fixed:
        yield "**Fixed since the baseline**"
        yield ""
        yield from (f"- {markdown(line)}" for line in fixed)
        yield ""


def _table(items: list[JudgedFinding]) -> Iterator[str]:
    if items:
        further = [
            column for column in _FURTHER if any(column[1](item) for item in items[:_MAX_ROWS])
        ]
        names = "".join(f" {name} |" for name, _ in further)
        yield f"| | Vulnerability | Severity | Package | Installed | Fixed in | Platform | Rule |{names}"
        yield "|---|---|---|---|---|---|---|---|" + "---|" * len(further)
        for item in items[:_MAX_ROWS]:
            yield _row(item) + "".join(f" {markdown(text(item), 100)} |" for _, text in further)
        yield from _more(len(items))
        yield ""


def _more(count: int) -> Iterator[str]:
    if count > _MAX_ROWS:
        yield ""
        yield f"*{count - _MAX_ROWS} more: all of them are in `result.json`.*"


def _row(item: JudgedFinding) -> str:
    finding = item.finding
    name, link = markdown(finding.id, 100), web_link(finding.url)
    versions = ", ".join(item.versions[:5]) or finding.package.version
    cells = (
        {Treatment.BLOCK: "⛔", Treatment.WARN: "⚠️"}.get(item.treatment, ""),
        f'<a href="{link.replace("&", "&amp;")}">{name}</a>' if link else name,
        f"{item.effective_severity}{', **exploited**' if finding.known_exploited else ''}",
        markdown(finding.package.name, 200),
        markdown(versions, 200),
        markdown(", ".join(finding.fixed_versions[:5]), 200) or "no fix",
        markdown(item.platform, 50),
        markdown(item.rule_id, 100),
    )
    return f"| {' | '.join(cells)} |"

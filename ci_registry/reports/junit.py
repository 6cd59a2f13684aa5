"""Writes the JUnit report: one file, one suite per image and stage, written for five readers at once."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from ci_registry.reports.cases import Suite, suites_of
from ci_registry.reports.compared import base_lines, change_counts, comparison_lines
from ci_registry.reports.escape import clip, one_line
from ci_registry.results import Case, CaseStatus, ImageResult, RunResult

MAX_BYTES = 30 * 1024 * 1024
"""GitLab reads no larger file."""
_BODY_CHARS = (8000, 2000, 500, 0)
"""Bodies are cut to the first of these that keeps the file within the limit."""


def render_junit(result: RunResult) -> str:
    """Return the JUnit XML of a run, at most 30 MB; `tests/schemas/junit.xsd` describes it."""
    suites = suites_of(result)
    facts = {image.name: _properties(result, image) for image in result.images}
    text = ""
    for max_chars in _BODY_CHARS:
        text = _render(suites, facts, result, max_chars)
        if len(text.encode()) <= MAX_BYTES:
            break
    return text


def _render(
    suites: Sequence[Suite], facts: dict[str, dict[str, str]], result: RunResult, max_chars: int
) -> str:
    import junit_xml  # noqa: PLC0415 - late: only a run that writes it pays for it

    made = [
        junit_xml.TestSuite(
            suite.name,
            [_case(junit_xml, suite, case, max_chars) for case in suite.cases],
            timestamp=suite.started_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            properties=facts.get(suite.image, {"tool": f"ci-registry {result.tool_version}"}),
        )
        for suite in suites
    ]
    xml: str = junit_xml.to_xml_report_string(made, prettyprint=False, encoding="utf-8")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml.strip()}\n'


def _case(junit_xml: Any, suite: Suite, case: Case, max_chars: int) -> Any:
    body = clip(case.body, max_chars) if max_chars else ""
    passed = case.status is CaseStatus.PASSED
    made = junit_xml.TestCase(
        case.name,
        suite.classname,
        elapsed_sec=case.duration_s,
        stdout=body if passed else None,
        file=suite.file,
        line=str(case.line or 1),
    )
    if case.status is CaseStatus.FAILURE:
        made.add_failure_info(case.message, body or case.message, case.kind or "policy")
    elif case.status is CaseStatus.ERROR:
        made.add_error_info(case.message, body or case.message, case.kind or "infrastructure")
    elif case.status is CaseStatus.SKIPPED:
        reason = case.message or "skipped"
        made.add_skipped_info(reason, f"{reason}\n{body}".rstrip())
    return made


def _properties(result: RunResult, image: ImageResult) -> dict[str, str]:
    """Return what a reader needs to repeat the verdict."""
    found = {
        "tool": f"ci-registry {result.tool_version}",
        "dry_run": str(result.dry_run).lower(),
        "verdict": str(image.verdict),
        "digest": str(image.digest or ""),
    }
    if image.decision is not None:
        decision = image.decision
        found["policy"] = f"{decision.policy_name} ({decision.mode}) from {decision.policy_source}"
        found["policy_digest"] = decision.policy_digest
        found["decided_at"] = decision.decided_at.astimezone(UTC).isoformat()
    found |= {f"findings_{word}": str(n) for word, n in change_counts((image,)).items()}
    found["baseline"] = next(iter(comparison_lines(image)), "")
    found["base_image"] = "; ".join(base_lines(image))
    for scan in image.scans[:1]:
        found["scanner"] = f"{scan.scanner} {scan.scanner_version}".strip()
        for number, database in enumerate(scan.coverage.databases, 1):
            built = database.built_at
            age = built.astimezone(UTC).isoformat() if built else "undated"
            found["database" if number == 1 else f"database_{number}"] = f"{database.name} {age}"
        for item in scan.coverage.lists:
            date = item.built_at.astimezone(UTC).isoformat() if item.built_at else "undated"
            found[item.name] = date
    return {name: one_line(value, 300) for name, value in found.items() if value}

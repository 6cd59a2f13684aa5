"""Every report of every kind of run, compared with what stands in `tests/golden/reports/<run>/`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ci_registry.reports.github import annotations, outputs, render_output_file
from ci_registry.reports.gitlab import render_container_scanning, render_dotenv
from ci_registry.reports.junit import render_junit
from ci_registry.reports.markdown import render_summary
from ci_registry.reports.text import render_text
from ci_registry.results import RunResult
from tests.support.golden import assert_golden, golden_cases
from tests.support.results import sample_runs

REPORTS: dict[str, Callable[[RunResult], str]] = {
    "junit.xml": lambda run: (
        render_junit(run)
        .replace("<testsuite ", "\n<testsuite ")
        .replace("<testcase ", "\n<testcase ")
    ),
    "summary.md": render_summary,
    "terminal.txt": render_text,
    "annotations.txt": lambda run: "\n".join([*annotations(run), ""]),
    "github-output.txt": lambda run: render_output_file(outputs(run, {"junit": "r/j.xml"}), "EOF"),
    "image.env": render_dotenv,
    "gl-container-scanning-report.json": render_container_scanning,
}


def test_every_sample_has_a_folder() -> None:
    assert {path.name for path in golden_cases("reports")} == set(sample_runs())


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("case", golden_cases("reports"), ids=lambda path: path.name)
def test_report_is_as_expected(case: Path, report: str) -> None:
    assert_golden(case, REPORTS[report](sample_runs()[case.name]), report)

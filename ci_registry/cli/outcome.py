"""The end of a command that ran the pipeline: what is printed, and the exit code."""

import os
from pathlib import Path

from ci_registry.cli.console import clean
from ci_registry.cli.streams import write_out
from ci_registry.reports.result_json import render_result
from ci_registry.reports.text import render_text
from ci_registry.results import RunResult


def finish(result: RunResult, files: tuple[Path, ...], output_format: str) -> int:
    """Print the result to stdout and return the exit code."""
    if output_format == "json":
        write_out(render_result(result) + "\n")
        return int(result.exit_code)
    write_out(render_text(result))
    for path in files:
        write_out(f"report: {clean(_shown(path))}\n")
    return int(result.exit_code)


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)

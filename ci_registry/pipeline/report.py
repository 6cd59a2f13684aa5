"""Writes the reports of a run: in every outcome, also after a crash."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_registry.config.model import ReportFormat
from ci_registry.errors import CiRegistryError, StorageError
from ci_registry.files import storage_error, write_atomic
from ci_registry.reports.github import annotations, outputs, render_output_file
from ci_registry.reports.gitlab import render_container_scanning, render_dotenv
from ci_registry.reports.junit import render_junit
from ci_registry.reports.markdown import render_summary
from ci_registry.reports.result_json import render_result
from ci_registry.results import RunResult
from ci_registry.secret import Masker

JUNIT = "junit-ci-registry.xml"
RESULT = "result.json"
SUMMARY = "summary.md"
CONTAINER_SCANNING = "gl-container-scanning-report.json"
DOTENV = "image.env"
TRACEBACK = "traceback.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Knows where the reports of this run go."""

    folder: Path
    formats: tuple[ReportFormat, ...]
    env: Mapping[str, str]
    masker: Masker
    delimiter: str
    """Random text that ends multi-line values in GitHub's output file."""
    print_command: Callable[[str], None]
    """Prints one workflow command on stdout; called on GitHub only."""
    dotenv_prefix: str = "IMAGE_"

    def write(self, result: RunResult) -> tuple[Path, ...]:
        """Write all report files and tell GitHub; returns the files, most important first.

        Args:
            result: without secrets, see `masked`.

        Raises:
            StorageError: a file can't be written; the others were tried all the same.
        """
        files = self._files(result)
        written, failures = [], []
        for name, text in files.items():
            try:
                write_atomic(self.folder / name, text, sync=False)
                written.append(self.folder / name)
            except StorageError as error:
                failures.append(error)
        try:
            self._tell_github(result, {path.name: str(path) for path in written})
        except StorageError as error:
            failures.append(error)
        if failures:
            raise failures[0]
        return tuple(written)

    def masked(self, result: RunResult) -> RunResult:
        """Return the result without any secret; texts made from it need no masking, which could break them."""
        return self.masker.mask_value(result)

    def _files(self, result: RunResult) -> dict[str, str]:
        files = {RESULT: render_result(result), SUMMARY: render_summary(result)}
        if ReportFormat.JUNIT in self.formats:
            files[JUNIT] = render_junit(result)
        if ReportFormat.GITLAB in self.formats:
            files[CONTAINER_SCANNING] = render_container_scanning(result)
            files[DOTENV] = render_dotenv(result, prefix=self.dotenv_prefix)
        return files

    def _tell_github(self, result: RunResult, files: Mapping[str, str]) -> None:
        if summary := self.env.get("GITHUB_STEP_SUMMARY"):
            _append(Path(summary), render_summary(result) + "\n")
        if output := self.env.get("GITHUB_OUTPUT"):
            named = {"result": files.get(RESULT, ""), "junit": files.get(JUNIT, "")}
            named["report-dir"] = str(self.folder)
            text = render_output_file(outputs(result, named), self.delimiter)
            _append(Path(output), text)
        if self.env.get("GITHUB_ACTIONS") == "true":
            for line in annotations(result):
                self.print_command(line)

    def save_traceback(self, text: str) -> Path | None:
        """Store the traceback of a bug, secrets masked; None when even that fails."""
        path = self.folder / TRACEBACK
        with contextlib.suppress(CiRegistryError):
            write_atomic(path, self.masker.mask(text), sync=False)
            return path
        return None


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise storage_error(error, path, "append to") from error

"""Writes the reports of a run: in every outcome, also after a crash."""

import contextlib
import functools
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_registry.config.model import ReportFormat
from ci_registry.errors import CiRegistryError, ExitCode, worst_exit_code
from ci_registry.files import storage_error, write_atomic
from ci_registry.pipeline.sboms import SBOM_FILES, sbom_renderers
from ci_registry.results import RunResult
from ci_registry.secret import Masker

JUNIT = "junit-ci-registry.xml"
RESULT = "result.json"
SUMMARY = "summary.md"
CONTAINER_SCANNING = "gl-container-scanning-report.json"
DOTENV = "image.env"
TRACEBACK = "traceback.txt"


class ReportsError(CiRegistryError):
    """Reports are missing or not complete; carries the worst exit code of the reasons."""

    def __init__(
        self, message: str, *, hint: str, exit_code: ExitCode, written: tuple[Path, ...]
    ) -> None:
        """As the parent; `written` are the files that could be written."""
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
        self.written = written


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

    def prepare(self, unfinished: RunResult) -> None:
        """Replace the reports of an earlier run by `unfinished`, which stays when this one is killed.

        Raises:
            StorageError: reports can't be written here, so the run need not begin.
        """
        try:
            for name in (SUMMARY, JUNIT, CONTAINER_SCANNING, DOTENV, TRACEBACK):
                (self.folder / name).unlink(missing_ok=True)
            for pattern in SBOM_FILES:
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, self.folder, "write reports to") from error
        from ci_registry.reports.junit import render_junit  # noqa: PLC0415 - as below
        from ci_registry.reports.result_json import render_result  # noqa: PLC0415 - as below

        write_atomic(self.folder / RESULT, render_result(unfinished), sync=False)
        if ReportFormat.JUNIT in self.formats:
            write_atomic(self.folder / JUNIT, render_junit(unfinished), sync=False)

    def write(self, result: RunResult) -> tuple[Path, ...]:
        """Write all report files and tell GitHub; returns the files, most important first.

        Args:
            result: without secrets, see `masked`.

        Raises:
            ReportsError: something can't be written; everything else was written all the same.
        """
        written: list[Path] = []
        failures: list[Exception] = []

        def attempt(action: Callable[[], object]) -> None:
            try:
                action()
            except Exception as error:  # noqa: BLE001 - one report must not cost the others; raised below
                failures.append(error)

        def put(name: str, render: Callable[[], str]) -> None:
            write_atomic(self.folder / name, render(), sync=False)
            written.append(self.folder / name)

        for name, render in self._renderers(result).items():
            attempt(functools.partial(put, name, render))
        for tell in self._github(result, written):
            attempt(tell)
        if failures:
            raise self._failure(failures, tuple(written))
        return tuple(written)

    def _failure(self, failures: list[Exception], written: tuple[Path, ...]) -> "ReportsError":
        known = [error for error in failures if isinstance(error, CiRegistryError)]
        bugs = [error for error in failures if error not in known]
        if bugs:
            text = "".join(traceback.format_exception(bugs[0]))
            where = self.save_traceback(text)
            message = f"bug in a report: {type(bugs[0]).__name__}: {bugs[0]}"
            hint = f"please report it with {where}" if where else ""
            return ReportsError(message, hint=hint, exit_code=ExitCode.BUG, written=written)
        code = worst_exit_code(tuple(error.exit_code for error in known))
        return ReportsError(known[0].headline, hint=known[0].hint, exit_code=code, written=written)

    def masked(self, result: RunResult) -> RunResult:
        """Return the result without any secret; texts made from it need no masking, which could break them."""
        return self.masker.mask_value(result)

    def _renderers(self, result: RunResult) -> dict[str, Callable[[], str]]:
        """Return what makes the text of each file, most important first."""
        from ci_registry.reports.gitlab import (  # noqa: PLC0415 - imported while the build runs
            render_container_scanning,
            render_dotenv,
        )
        from ci_registry.reports.junit import render_junit  # noqa: PLC0415 - as above
        from ci_registry.reports.markdown import render_summary  # noqa: PLC0415 - as above
        from ci_registry.reports.result_json import render_result  # noqa: PLC0415 - as above

        files: dict[str, Callable[[], str]] = {
            RESULT: lambda: render_result(result),
            SUMMARY: lambda: render_summary(result),
        }
        if ReportFormat.JUNIT in self.formats:
            files[JUNIT] = lambda: render_junit(result)
        if ReportFormat.GITLAB in self.formats:
            files[CONTAINER_SCANNING] = lambda: render_container_scanning(result)
            files[DOTENV] = lambda: render_dotenv(result, prefix=self.dotenv_prefix)
        files.update(sbom_renderers(result, self.formats))
        return files

    def _github(self, result: RunResult, written: list[Path]) -> Iterator[Callable[[], None]]:
        """Yield what tells GitHub; nothing when its variables are not there."""
        from ci_registry.reports.markdown import render_summary  # noqa: PLC0415 - as above

        if summary := self.env.get("GITHUB_STEP_SUMMARY"):
            yield lambda: _append(Path(summary), render_summary(result) + "\n")
        if output := self.env.get("GITHUB_OUTPUT"):
            yield lambda: _append(Path(output), self._outputs(result, written))
        if self.env.get("GITHUB_ACTIONS") == "true":
            yield lambda: self._annotate(result)

    def _annotate(self, result: RunResult) -> None:
        from ci_registry.reports.github import annotations  # noqa: PLC0415 - as above

        for line in annotations(result):
            self.print_command(line)

    def _outputs(self, result: RunResult, written: list[Path]) -> str:
        from ci_registry.reports.github import outputs, render_output_file  # noqa: PLC0415 - as above

        files = {path.name: str(path) for path in written}
        named = {"result": files.get(RESULT, ""), "junit": files.get(JUNIT, "")}
        named["report-dir"] = str(self.folder)
        return render_output_file(outputs(result, named), self.delimiter)

    def save_traceback(self, text: str) -> Path | None:
        """Store the traceback of a bug, secrets masked; None when even that fails."""
        path = self.folder / TRACEBACK
        with contextlib.suppress(CiRegistryError):
            write_atomic(path, self.masker.mask(text), sync=False)
            return path
        return None


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise storage_error(error, path, "append to") from error

"""Reports are written in every outcome: one that fails does not cost the others."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci_registry.config.model import ReportFormat
from ci_registry.errors import ExitCode
from ci_registry.files import write_atomic
from ci_registry.pipeline.report import Reporter, ReportsError
from ci_registry.sbom.reading import read_sbom
from ci_registry.secret import Masker, Secret
from tests.support.results import blocked_image, make_run, passing_image

ALL = {
    "result.json",
    "summary.md",
    "junit-ci-registry.xml",
    "gl-container-scanning-report.json",
    "image.env",
}


def _reporter(folder: Path, **changes: Any) -> Reporter:
    commands: list[str] = changes.pop("commands", [])
    reporter = Reporter(
        folder=folder,
        formats=(ReportFormat.JUNIT, ReportFormat.GITLAB),
        env={},
        masker=Masker(),
        delimiter="delimiter_1234",
        print_command=commands.append,
    )
    return replace(reporter, **changes)


def test_all_files_are_written_most_important_first(tmp_path: Path) -> None:
    files = _reporter(tmp_path / "reports").write(make_run(passing_image(), blocked_image()))
    assert {path.name for path in files} == ALL
    assert [path.name for path in files[:2]] == ["result.json", "summary.md"]
    assert {path.name for path in (tmp_path / "reports").iterdir()} == ALL
    assert json.loads(files[0].read_text())["exit_code"] == 1


def test_optional_formats_are_left_out(tmp_path: Path) -> None:
    files = _reporter(tmp_path, formats=()).write(make_run(passing_image()))
    assert {path.name for path in files} == {"result.json", "summary.md"}


def test_every_platform_has_its_sbom_in_every_format_that_is_wanted(tmp_path: Path) -> None:
    image = passing_image()
    files = _reporter(tmp_path, formats=(ReportFormat.CYCLONEDX, ReportFormat.SPDX)).write(
        make_run(image)
    )
    names = [path.name for path in files if path.name.startswith("sbom-")]
    slugs = [platform.platform.slug for platform in image.platforms]
    assert names == [f"sbom-api-{s}.{end}" for s in slugs for end in ("cdx.json", "spdx.json")]
    for platform, scan in zip(image.platforms, image.scans, strict=True):
        written = tmp_path / f"sbom-api-{platform.platform.slug}.cdx.json"
        document = read_sbom(written.read_bytes(), what=written.name)
        assert document.inventory == platform.inventory
        assert document.coverage is not None
        assert document.coverage.databases == scan.coverage.databases


def test_sboms_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    reporter = _reporter(tmp_path, formats=(ReportFormat.CYCLONEDX,))
    (old,) = reporter.write(make_run(passing_image()))[2:3]
    reporter.prepare(make_run())
    assert old.name.startswith("sbom-")
    assert not old.exists()


def test_a_run_that_never_began_has_reports_too(tmp_path: Path) -> None:
    result = replace(
        make_run(), error="a.yml:3: unknown key", error_hint="fix it", exit_code=ExitCode.CONFIG
    )
    files = _reporter(tmp_path).write(result)
    assert {path.name for path in files} == ALL
    junit = (tmp_path / "junit-ci-registry.xml").read_text()
    assert "<testcase" in junit
    assert "unknown key" in junit


def test_a_folder_that_can_not_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportsError, match="cannot write") as caught:
        _reporter(tmp_path / "file").write(make_run(passing_image()))
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE
    assert caught.value.written == ()


def test_github_is_told_although_the_folder_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    commands: list[str] = []
    env = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }
    with pytest.raises(ReportsError):
        _reporter(tmp_path / "file", env=env, commands=commands).write(make_run(blocked_image()))
    assert "verdict<<delimiter_1234\nblock\ndelimiter_1234\n" in (tmp_path / "output").read_text()
    assert (tmp_path / "summary").read_text()
    assert any(command.startswith("::error ") for command in commands)


def test_one_file_that_fails_does_not_cost_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "summary.md").mkdir()
    with pytest.raises(ReportsError, match=r"summary\.md") as caught:
        _reporter(tmp_path).write(make_run(passing_image()))
    assert {path.name for path in caught.value.written} == ALL - {"summary.md"}
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ReportsError, match="no space left to write") as caught:
        _reporter(tmp_path).write(make_run(passing_image()))
    assert caught.value.hint == "free some space, then run again"


def test_a_bug_in_one_report_costs_only_that_one_and_leaves_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_result: object) -> str:
        raise KeyError("no such column")

    monkeypatch.setattr("ci_registry.reports.junit.render_junit", crash)
    with pytest.raises(ReportsError, match="bug in a report: KeyError") as caught:
        _reporter(tmp_path).write(make_run(passing_image()))
    assert caught.value.exit_code is ExitCode.BUG
    assert {path.name for path in caught.value.written} == ALL - {"junit-ci-registry.xml"}
    assert "KeyError: 'no such column'" in (tmp_path / "traceback.txt").read_text()
    assert "traceback.txt" in caught.value.hint


def test_outputs_are_appended_and_name_the_files(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("earlier=1\n")
    env = {"GITHUB_OUTPUT": str(output)}
    _reporter(tmp_path / "reports", env=env).write(make_run(passing_image()))
    text = output.read_text()
    assert text.startswith("earlier=1\n")
    assert f"\n{tmp_path}/reports/junit-ci-registry.xml\n" in text
    assert f"report-dir<<delimiter_1234\n{tmp_path}/reports\n" in text


def test_nothing_is_printed_outside_github(tmp_path: Path) -> None:
    commands: list[str] = []
    _reporter(tmp_path, commands=commands).write(make_run(blocked_image()))
    assert commands == []


def test_an_output_that_could_forge_others_is_not_written(tmp_path: Path) -> None:
    env = {"GITHUB_OUTPUT": str(tmp_path / "output")}
    image = replace(passing_image(), action_reason="x\ndelimiter_1234\nverdict=pass")
    with pytest.raises(ReportsError, match="forge other outputs"):
        _reporter(tmp_path / "reports", env=env).write(make_run(image))
    assert not (tmp_path / "output").exists()
    assert (tmp_path / "reports" / "result.json").exists()


def test_secrets_are_masked_and_json_stays_json(tmp_path: Path) -> None:
    reporter = _reporter(tmp_path, masker=Masker([Secret('hun"ter22'), Secret("pass")]))
    image = replace(passing_image(), error='said hun"ter22', action_reason='hun"ter22')
    result = reporter.masked(make_run(image))
    files = reporter.write(result)
    for path in files:
        assert "hun" not in path.read_text()
    assert json.loads(files[0].read_text())["verdict"] == "pass"


def test_a_traceback_is_stored_without_secrets(tmp_path: Path) -> None:
    reporter = _reporter(tmp_path / "new", masker=Masker([Secret("hunter22")]))
    path = reporter.save_traceback("ValueError: hunter22")
    assert path == tmp_path / "new" / "traceback.txt"
    assert path.read_text() == "ValueError: ***"


def test_a_traceback_that_can_not_be_stored_is_none(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", "")
    assert _reporter(tmp_path / "file").save_traceback("x") is None


def test_text_that_is_no_unicode_costs_no_report(tmp_path: Path) -> None:
    env = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    image = replace(passing_image(), error="file \udcff.txt", dockerfile="Docker\udcfffile")
    files = _reporter(tmp_path / "r", env=env).write(make_run(image))
    assert {path.name for path in files} == ALL

"""The program trivy, however it is used: which releases are run, what it gets to see, what it says and writes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ci_registry.cache import DiskCache, remembered, remembered_sha256
from ci_registry.errors import ToolError
from ci_registry.events import EventSink, Level, Log
from ci_registry.files import read_file, storage_error
from ci_registry.process import Command, Completed, Runner, allowed_environment
from ci_registry.scanners.interface import ScannerInfo
from ci_registry.scanners.outcome import read_outcome
from ci_registry.scanners.trivy_report import MAX_REPORT_BYTES, TrivyReport, parse_report

OLDEST_VERSION = (0, 63, 0)
"""The first with every option used here."""
HIJACKED_VERSIONS = ((0, 69, 4),)
"""Releases that were not made by trivy's authors and that stole secrets (March 2026)."""
_PROBE_TIMEOUT_S = 60.0
_ABOUT_MATCHING = ("Using severities from other vendors",)
"""How warnings begin that come from matching, which is done in every run. All others may be about
reading a layer, such as dpkg versions that can't be parsed: that package is dropped there."""
_MAX_WARNINGS = 200
_MAX_NOTES = 20
_VERSION_TROUBLE = re.compile(
    r"version.*\b(?:error|invalid)\b|\b(?:invalid|failed to parse|unable to parse)\b.*version",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warnings:
    """What trivy said on stderr: about versions (each once), and else (one of each kind)."""

    on_event: EventSink
    versions: list[str] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)
    """Message without its attributes → the first whole one."""

    @property
    def may_be_about_layers(self) -> bool:
        """Whether something was said that would not be said again with a result that was kept."""
        return bool(self.versions) or not all(m.startswith(_ABOUT_MATCHING) for m in self.others)

    def add(self, line: str) -> None:
        """Take one line: time, level, message and attributes, between tabs."""
        level, _, text = line.partition("\t")[2].partition("\t")
        if level not in ("WARN", "ERROR", "FATAL"):
            return
        message, text = text.partition("\t")[0], text.replace("\t", " ")[:300]
        if _VERSION_TROUBLE.search(message):
            if text in self.versions or len(self.versions) >= _MAX_WARNINGS:
                return
            self.versions.append(text)
        elif message in self.others or len(self.others) >= _MAX_NOTES:
            return
        else:
            self.others[message] = text
        self.on_event(Log(message=f"trivy: {text}", level=Level.DEBUG, step="scan"))


def describe_trivy(
    run: Runner, env: Mapping[str, str], program: Path, cache: DiskCache | None
) -> ScannerInfo:
    """Make sure that the program runs, is new enough and none of the hijacked releases.

    Raises:
        ToolError: it is not.
    """

    def ask() -> str:
        command = Command(
            argv=(str(program), "--version"),
            env=allowed_environment(env, home=Path("/nonexistent")),
            cwd=Path("/"),
            timeout_s=_PROBE_TIMEOUT_S,
        )
        match = re.search(rb"^Version: (\d+\.\d+\.\d+)", run(command).stdout, re.MULTILINE)
        if match is None:
            raise ToolError(
                f"{program} is not trivy or does not run: no version in its answer",
                hint="install trivy, or use the built-in scanner: scanner: osv",
            )
        return match[1].decode()

    text = remembered(cache, program, "trivy --version", ask)
    major, minor, patch = (int(part) for part in text.split("."))
    _check_version((major, minor, patch))
    sha256 = remembered_sha256(cache, program)
    return ScannerInfo(name="trivy", version=text, program=str(program), sha256=sha256)


def _check_version(version: tuple[int, int, int]) -> None:
    shown = ".".join(map(str, version))
    if version in HIJACKED_VERSIONS:
        raise ToolError(
            f"trivy {shown} is a hijacked release that steals secrets: it is not run again",
            hint="remove it, change every secret this machine had, install a current release",
        )
    if version < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise ToolError(
            f"trivy {shown} is too old: {oldest} or newer is needed", hint="update trivy"
        )


def make_private_folders(work: Path) -> None:
    """Make HOME, working and temporary folder, and empty settings and ignore files, below `work`.

    Raises:
        StorageError: it can't be written, or is not empty.
    """
    try:
        for name in ("home", "cwd", "tmp"):
            (work / name).mkdir()
        for name in ("config.yaml", "ignore"):
            (work / name).touch(exist_ok=False)
    except OSError as error:
        raise storage_error(error, work, "prepare") from error


def report_of(
    work: Path, done: Completed, timeout_s: float, *, file: str = "report.json"
) -> TrivyReport:
    """Read the report in a work folder, whatever the exit code; without a whole one the tool has failed."""
    path = work / file
    return read_outcome(
        "trivy",
        done,
        (path,),
        lambda: parse_report(read_file(path, max_bytes=MAX_REPORT_BYTES)),
        timeout_s=timeout_s,
    )

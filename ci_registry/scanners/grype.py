"""The scanner `grype`: runs the program offline on one image and reconciles what it saw."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from ci_registry.advisories.ecosystems import matchable
from ci_registry.cache import DiskCache, remembered, remembered_sha256
from ci_registry.errors import ToolError
from ci_registry.events import EventSink, Level, Log, ignore_events
from ci_registry.files import read_file, storage_error
from ci_registry.findings import CoverageGap, Gap, ScanResult, ScanStatus
from ci_registry.process import Command, Completed, Runner, allowed_environment
from ci_registry.scanners.coverage import coverage_of
from ci_registry.scanners.evidence import Evidence, SeenImage
from ci_registry.scanners.grype_database import (
    OpenedGrype,
    end_of_life,
    facts_for,
    make_private_cache,
    misread_distribution,
    open_grype_database,
    unparsed_versions,
)
from ci_registry.scanners.grype_report import MAX_REPORT_BYTES, GrypeReport, parse_report
from ci_registry.scanners.interface import ImageView, ScannerInfo
from ci_registry.scanners.one_image import OneImage, check_one_image
from ci_registry.scanners.outcome import read_outcome
from ci_registry.scanners.reported import findings_from

OLDEST_VERSION = (0, 88, 0)
"""The first that reads databases of schema 6."""
SETTINGS = {
    "GRYPE_CHECK_FOR_APP_UPDATE": "false",
    "GRYPE_DB_AUTO_UPDATE": "false",
    "GRYPE_DB_VALIDATE_AGE": "false",
    "GRYPE_DB_VALIDATE_BY_HASH_ON_START": "false",
    "GRYPE_EXTERNAL_SOURCES_ENABLE": "false",
    "GRYPE_MATCH_UPSTREAM_KERNEL_HEADERS": "true",
}
"""No network; age and checksum of the database are judged by us; and nothing is left out: grype would
ignore the kernel's vulnerabilities in the packages of its headers without being told to."""
_PROBE_TIMEOUT_S = 60.0
_MAX_NOTES = 20
_WARNING = re.compile(r"^\[\d+\]\s+(WARN|ERROR)\s+(.*)")
_VERSION_TROUBLE = re.compile(r"version.*\b(?:error|invalid)\b|\b(?:invalid|failed to parse|unable to parse)\b.*version", re.IGNORECASE)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Warnings:
    """What grype said on stderr, each line once."""

    on_event: EventSink
    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        match = _WARNING.match(line)
        text = match[2].strip()[:300] if match else ""
        if text and text not in self.lines and len(self.lines) < _MAX_NOTES:
            self.lines.append(text)
            self.on_event(Log(message=f"grype: {text}", level=Level.DEBUG, step="scan"))

    @property
    def versions(self) -> tuple[str, ...]:
        return tuple(line for line in self.lines if _VERSION_TROUBLE.search(line))

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(line for line in self.lines if not _VERSION_TROUBLE.search(line))


@dataclass(slots=True)
class _Opened:
    """The database, read once per run and not once per platform."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    database: OpenedGrype | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrypeScanner:
    """Runs grype with a private cache, HOME and working directory, and without anybody's settings."""

    run: Runner
    env: Mapping[str, str]
    """This process's environment; grype gets an allow-listed part of it."""
    program: Path
    database: Path
    """A cache folder of grype, a folder with `vulnerability.db`, or that file."""
    now: Callable[[], datetime]
    max_db_age: timedelta
    timeout_s: float
    on_event: EventSink = ignore_events
    database_location: str = ""
    """What reports call the database's place; the path when empty."""
    cache: DiskCache | None = None
    """Remembers facts about the program and the database; None: every run starts from nothing."""
    _opened: _Opened = field(default_factory=_Opened, repr=False)

    @property
    def name(self) -> str:
        """`grype`."""
        return "grype"

    def probe(self) -> ScannerInfo:
        """Make sure that the program runs and is new enough.

        Raises:
            ToolError: it is not.
            IntegrityError: its database is damaged.
        """
        text = remembered(self.cache, self.program, "grype --version", self._ask_version)
        major, minor, patch = (int(part) for part in text.split("."))
        if (major, minor, patch) < OLDEST_VERSION:
            oldest = ".".join(map(str, OLDEST_VERSION))
            raise ToolError(
                f"grype {text} is too old: {oldest} or newer is needed", hint="update grype"
            )
        facts = self._database().facts
        self._opened.sha256 = remembered_sha256(self.cache, self.program)
        built = f" of {facts.built_at.isoformat()}" if facts.built_at else ": absent"
        return ScannerInfo(
            name=self.name,
            version=text,
            program=str(self.program),
            sha256=self._opened.sha256,
            database=f"{facts.name}{built} ({facts.location})",
        )

    def _ask_version(self) -> str:
        command = Command(
            argv=(str(self.program), "--version"),
            env=allowed_environment(self.env, home=Path("/nonexistent")) | SETTINGS,
            cwd=Path("/"),
            timeout_s=_PROBE_TIMEOUT_S,
        )
        match = re.search(rb"^grype v?(\d+\.\d+\.\d+)", self.run(command).stdout, re.MULTILINE)
        if match is None:
            raise ToolError(
                f"{self.program} is not grype, does not run, or was built without a version",
                hint="install a release of grype, or use the built-in scanner: scanner: osv",
            )
        return match[1].decode()

    def _database(self) -> OpenedGrype:
        with self._opened.lock:
            if self._opened.database is None:
                self._opened.database = open_grype_database(
                    self.database, location=self.database_location, cache=self.cache
                )
            return self._opened.database

    def scan(self, view: ImageView) -> ScanResult:
        """Scan one image; without a database grype is not run and the gap is named.

        Raises:
            ToolError: grype crashed, ran out of time, or wrote half a report.
            IntegrityError: the layout is not this one image, or the database is damaged.
            CancelledError: the run was cancelled.
        """
        started = time.monotonic()
        image = check_one_image(
            view.layout, config_digest=view.inventory.config_digest, proven=view.proven
        )
        opened = self._database()
        warnings = _Warnings(on_event=self.on_event)
        report, exit_code = _nothing(view), None
        if opened.content is not None:
            _prepare(view.work)
            make_private_cache(view.work / "cache", opened.content.path)
            done = self._run(view, warnings)
            report, exit_code = _report_of(view, done, self.timeout_s), done.exit_code
        evidence = self._evidence(view, image, opened, report, warnings)
        return self._result(evidence, opened, report, warnings, exit_code, started)

    def _run(self, view: ImageView, warnings: _Warnings) -> Completed:
        work = view.work
        places = {"TMPDIR": str(work / "tmp"), "GRYPE_DB_CACHE_DIR": str(work / "cache")}
        return self.run(
            Command(
                argv=scan_arguments(self.program, view),
                env=allowed_environment(self.env, home=work / "home") | SETTINGS | places,
                cwd=work / "cwd",
                timeout_s=self.timeout_s,
            ),
            on_stderr_line=warnings.add,
        )

    def _evidence(
        self,
        view: ImageView,
        image: OneImage,
        opened: OpenedGrype,
        report: GrypeReport,
        warnings: _Warnings,
    ) -> Evidence:
        inventory, content = view.inventory, opened.content
        now = self.now()
        return Evidence(
            inventory=inventory,
            facts=facts_for(opened, inventory, report),
            findings=findings_from(report.reported, inventory),
            now=now,
            max_db_age=self.max_db_age,
            seen_packages=report.packages if content else None,
            seen_image=SeenImage(
                config_digest=report.config_digest,
                platform=report.platform,
                diff_ids=report.diff_ids,
            ),
            diff_ids=image.diff_ids,
            unparsed=(
                *warnings.versions,
                *(unparsed_versions(content, inventory) if content else ()),
            ),
            end_of_life=end_of_life(content, inventory.distribution, now) if content else None,
            misread_distribution=misread_distribution(inventory, report) if content else "",
        )

    def _result(  # noqa: PLR0917 - one caller
        self,
        evidence: Evidence,
        opened: OpenedGrype,
        report: GrypeReport,
        warnings: _Warnings,
        exit_code: int | None,
        started: float,
    ) -> ScanResult:
        inventory = evidence.inventory
        skipped = len(inventory.packages) - len(matchable(inventory))
        coverage = coverage_of(evidence, skipped_count=skipped)
        return ScanResult(
            platform=inventory.platform,
            scanner=self.name,
            scanner_version=report.grype_version,
            status=ScanStatus.COMPLETE,
            findings=evidence.findings,
            coverage=replace(
                coverage,
                gaps=(*coverage.gaps, *_ignored_gaps(report)),
                lists=opened.content.lists if opened.content else (),
            ),
            tool_exit_code=exit_code,
            program_sha256=self._opened.sha256,
            notes=tuple(f"grype: {text}" for text in warnings.others),
            duration_s=time.monotonic() - started,
        )


def _ignored_gaps(report: GrypeReport) -> tuple[CoverageGap, ...]:
    """Name what grype left out although nobody told it to: that is not decided."""
    if not report.ignored:
        return ()
    return (
        CoverageGap(
            gap=Gap.UNDECIDED,
            detail=f"grype left out {len(report.ignored)} matches by rules of its own, for example "
            f"{report.ignored[0][:200]}",
        ),
    )


def _prepare(work: Path) -> None:
    """Make everything that grype gets to see below its work folder."""
    try:
        for name in ("home", "cwd", "tmp"):
            (work / name).mkdir()
        (work / "config.yaml").touch(exist_ok=False)
    except OSError as error:
        raise storage_error(error, work, "prepare") from error


def scan_arguments(program: Path, view: ImageView) -> tuple[str, ...]:
    """Return the command line: the image, an empty settings file, and both reports of one run."""
    work = view.work
    return (
        *(str(program), f"oci-dir:{view.layout}"),
        *("--config", str(work / "config.yaml")),
        *("--output", f"json={work / 'report.json'}"),
        *("--output", f"cyclonedx-json={work / 'packages.json'}"),
    )


def _report_of(view: ImageView, done: Completed, timeout_s: float) -> GrypeReport:
    """Read both documents, whatever the exit code; without whole ones the tool has failed."""
    matches, packages = view.work / "report.json", view.work / "packages.json"
    return read_outcome(
        "grype",
        done,
        (matches, packages),
        lambda: parse_report(
            read_file(matches, max_bytes=MAX_REPORT_BYTES),
            read_file(packages, max_bytes=MAX_REPORT_BYTES),
        ),
        timeout_s=timeout_s,
    )


def _nothing(view: ImageView) -> GrypeReport:
    """Return what an absent grype saw of the image: nothing, but not another image."""
    return GrypeReport(
        grype_version="",
        config_digest=view.inventory.config_digest,
        platform=view.inventory.platform,
        diff_ids=(),
        os_name="",
        os_version="",
        packages=(),
        reported=(),
        ignored=(),
    )

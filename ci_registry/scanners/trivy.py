"""The scanner `trivy`: runs the program offline on one image and reconciles what it saw."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from ci_registry.advisories.ecosystems import matchable
from ci_registry.cache import DiskCache, remembered, remembered_sha256
from ci_registry.errors import ToolError
from ci_registry.events import EventSink, Level, Log, ignore_events
from ci_registry.files import read_file, storage_error
from ci_registry.findings import ScanResult, ScanStatus
from ci_registry.process import (
    Command,
    Completed,
    Runner,
    allowed_environment,
)
from ci_registry.scanners.coverage import coverage_of
from ci_registry.scanners.evidence import Evidence, SeenImage
from ci_registry.scanners.interface import ImageView, ScannerInfo
from ci_registry.scanners.one_image import OneImage, check_one_image
from ci_registry.scanners.outcome import read_outcome
from ci_registry.scanners.trivy_database import (
    OpenedDatabase,
    facts_for,
    make_private_cache,
    misread_distribution,
    open_database,
    unparsed_versions,
)
from ci_registry.scanners.trivy_layers import LayerResults, place_results
from ci_registry.scanners.trivy_report import (
    MAX_REPORT_BYTES,
    TrivyReport,
    findings_of,
    parse_report,
)

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


@dataclass(slots=True)
class _Opened:
    """The database, read once per run and not once per platform."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    database: OpenedDatabase | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyScanner:
    """Runs trivy with a private cache, HOME and working directory, and without anybody's settings."""

    run: Runner
    env: Mapping[str, str]
    """This process's environment; trivy gets an allow-listed part of it."""
    program: Path
    database: Path
    """A cache folder of trivy that holds `db/trivy.db` and `db/metadata.json`."""
    now: Callable[[], datetime]
    max_db_age: timedelta
    timeout_s: float
    on_event: EventSink = ignore_events
    database_location: str = ""
    """What reports call the database's place; the folder when empty."""
    cache: DiskCache | None = None
    """Remembers facts about the program and its results of layers; None: every run starts from nothing."""
    _opened: _Opened = field(default_factory=_Opened, repr=False)

    @property
    def name(self) -> str:
        """`trivy`."""
        return "trivy"

    def probe(self) -> ScannerInfo:
        """Make sure that the program runs, is new enough and none of the hijacked releases.

        Raises:
            ToolError: it is not.
            IntegrityError: its database is damaged.
        """
        text = remembered(self.cache, self.program, "trivy --version", self._ask_version)
        major, minor, patch = (int(part) for part in text.split("."))
        self._check_version((major, minor, patch))
        return ScannerInfo(
            name=self.name,
            version=text,
            program=str(self.program),
            sha256=remembered_sha256(self.cache, self.program),
            database=self._describe_database(),
        )

    def _ask_version(self) -> str:
        command = Command(
            argv=(str(self.program), "--version"),
            env=allowed_environment(self.env, home=Path("/nonexistent")),
            cwd=Path("/"),
            timeout_s=_PROBE_TIMEOUT_S,
        )
        match = re.search(rb"^Version: (\d+\.\d+\.\d+)", self.run(command).stdout, re.MULTILINE)
        if match is None:
            raise ToolError(
                f"{self.program} is not trivy or does not run: no version in its answer",
                hint="install trivy, or use the built-in scanner: scanner: osv",
            )
        return match[1].decode()

    def _check_version(self, version: tuple[int, int, int]) -> None:
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

    def _describe_database(self) -> str:
        facts = self._database().facts
        if facts.built_at is None:
            return f"trivy-db: absent ({facts.location})"
        return f"trivy-db of {facts.built_at.isoformat()} ({facts.location})"

    def _database(self) -> OpenedDatabase:
        with self._opened.lock:
            if self._opened.database is None:
                self._opened.database = open_database(
                    self.database, location=self.database_location, cache=self.cache
                )
            return self._opened.database

    def scan(self, view: ImageView) -> ScanResult:
        """Scan one image; without a database trivy is not run and the gap is named.

        Raises:
            ToolError: trivy crashed, ran out of time, or wrote half a report.
            IntegrityError: the layout is not this one image, or the database is damaged.
            CancelledError: the run was cancelled.
        """
        started = time.monotonic()
        image = check_one_image(
            view.layout, config_digest=view.inventory.config_digest, proven=view.proven
        )
        opened = self._database()
        warnings = Warnings(on_event=self.on_event)
        if opened.content is None:
            report, exit_code = _nothing(view), None
        else:
            report, exit_code = self._report(view, image, warnings)
        return self._result(view, image, opened, report, warnings, exit_code, started)

    def _report(
        self, view: ImageView, image: OneImage, warnings: Warnings
    ) -> tuple[TrivyReport, int]:
        """Run trivy in a private folder; what it found in verified layers is kept when all went well."""
        results = kept = None
        private = _prepare(view.work, self.database)
        if self.cache is not None:
            sha256 = remembered_sha256(self.cache, self.program)
            results = LayerResults(cache=self.cache, sha256=sha256)
            kept = place_results(results.read(), image, private)
        done = self._run(view, warnings, "memory" if results is None else "fs")
        report = _report_of(view, done, self.timeout_s)
        if results is not None and done.exit_code == 0 and not warnings.may_be_about_layers:
            results.keep(kept, image, private)
        return report, done.exit_code

    def _run(self, view: ImageView, warnings: Warnings, backend: str) -> Completed:
        """Start trivy; collects its distinct warnings."""
        work = view.work
        environment = allowed_environment(self.env, home=work / "home")
        return self.run(
            Command(
                argv=scan_arguments(self.program, view, self.timeout_s, backend),
                env=environment | {"TMPDIR": str(work / "tmp")},
                cwd=work / "cwd",
                timeout_s=self.timeout_s,
            ),
            on_stderr_line=warnings.add,
        )

    def _result(  # noqa: PLR0917 - one caller
        self,
        view: ImageView,
        image: OneImage,
        opened: OpenedDatabase,
        report: TrivyReport,
        warnings: Warnings,
        exit_code: int | None,
        started: float,
    ) -> ScanResult:
        inventory = view.inventory
        findings = findings_of(report, inventory)
        evidence = Evidence(
            inventory=inventory,
            facts=facts_for(opened, inventory, report),
            findings=findings,
            now=self.now(),
            max_db_age=self.max_db_age,
            seen_packages=report.packages if opened.content else None,
            seen_image=SeenImage(
                config_digest=report.config_digest,
                platform=report.platform,
                diff_ids=report.diff_ids,
            ),
            diff_ids=image.diff_ids,
            unparsed=(*warnings.versions, *unparsed_versions(opened, inventory)),
            end_of_life=True if report.end_of_life else None,
            misread_distribution=misread_distribution(inventory, report) if opened.content else "",
            third_party=report.third_party,
        )
        return ScanResult(
            platform=inventory.platform,
            scanner=self.name,
            scanner_version=report.trivy_version,
            status=ScanStatus.COMPLETE,
            findings=findings,
            coverage=coverage_of(
                evidence, skipped_count=len(inventory.packages) - len(matchable(inventory))
            ),
            tool_exit_code=exit_code,
            notes=tuple(f"trivy: {text}" for text in warnings.others.values()),
            duration_s=time.monotonic() - started,
        )


def _prepare(work: Path, database: Path) -> Path:
    """Make everything that trivy gets to see below its work folder; returns its cache folder."""
    try:
        for name in ("home", "cwd", "tmp"):
            (work / name).mkdir()
        for name in ("config.yaml", "ignore"):
            (work / name).touch(exist_ok=False)
    except OSError as error:
        raise storage_error(error, work, "prepare") from error
    make_private_cache(work / "cache", database)
    return work / "cache"


def scan_arguments(
    program: Path, view: ImageView, timeout_s: float, backend: str = "memory"
) -> tuple[str, ...]:
    """Return the command line; `--platform` is not in it, because trivy ignores it for a layout."""
    work = view.work
    return (
        *(str(program), "image", "--input", str(view.layout)),
        *("--format", "json", "--output", str(work / "report.json")),
        *("--scanners", "vuln", "--list-all-pkgs", "--exit-code", "0"),
        *("--cache-dir", str(work / "cache"), "--cache-backend", backend),
        *("--skip-db-update", "--skip-java-db-update", "--offline-scan"),
        *("--skip-version-check", "--disable-telemetry", "--no-progress"),
        *("--timeout", f"{int(timeout_s) + 60}s"),  # ours comes first and has the better message
        *("--config", str(work / "config.yaml"), "--ignorefile", str(work / "ignore")),
    )


def _report_of(view: ImageView, done: Completed, timeout_s: float) -> TrivyReport:
    """Read the report, whatever the exit code; without a whole one the tool has failed."""
    path = view.work / "report.json"
    return read_outcome(
        "trivy",
        done,
        (path,),
        lambda: parse_report(read_file(path, max_bytes=MAX_REPORT_BYTES)),
        timeout_s=timeout_s,
    )


def _nothing(view: ImageView) -> TrivyReport:
    """Return what an absent trivy saw of the image: nothing, but not another image."""
    return TrivyReport(
        trivy_version="",
        config_digest=view.inventory.config_digest,
        platform=view.inventory.platform,
        diff_ids=(),
        os_family="",
        os_version="",
        end_of_life=False,
        packages=(),
        third_party=(),
        reported=(),
    )

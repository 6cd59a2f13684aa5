"""The scanner `trivy`: runs the program offline on one image and reconciles what it saw."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from ci_registry.advisories.ecosystems import matchable
from ci_registry.cache import DiskCache, remembered_sha256
from ci_registry.events import EventSink, ignore_events
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
from ci_registry.scanners.trivy_database import (
    OpenedDatabase,
    facts_for,
    make_private_cache,
    misread_distribution,
    open_database,
    unparsed_versions,
)
from ci_registry.scanners.trivy_layers import LayerResults, place_results
from ci_registry.scanners.trivy_program import (
    Warnings,
    describe_trivy,
    make_private_folders,
    report_of,
)
from ci_registry.scanners.trivy_report import TrivyReport, findings_of


@dataclass(slots=True)
class _Opened:
    """The database, read once per run and not once per platform."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    database: OpenedDatabase | None = None
    sha256: str = ""


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
        about = describe_trivy(self.run, self.env, self.program, self.cache)
        self._opened.sha256 = about.sha256
        return replace(about, database=self._describe_database())

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
        report = report_of(view.work, done, self.timeout_s)
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
            program_sha256=self._opened.sha256,
            notes=tuple(f"trivy: {text}" for text in warnings.others.values()),
            duration_s=time.monotonic() - started,
        )


def _prepare(work: Path, database: Path) -> Path:
    """Make everything that trivy gets to see below its work folder; returns its cache folder."""
    make_private_folders(work)
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

"""The scanner `trivy` with a server that has the database: it reads the image here and sends lists of packages."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from ci_registry.advisories.ecosystems import OS_KINDS, ecosystem_of, matchable
from ci_registry.advisories.osv import parse_time
from ci_registry.advisories.versions import UnparsableVersionError, compare
from ci_registry.cache import DiskCache
from ci_registry.errors import IntegrityError, ToolError
from ci_registry.events import EventSink, ignore_events
from ci_registry.files import write_atomic
from ci_registry.findings import AdvisoryDatabase, Inventory, ScanResult, ScanStatus
from ci_registry.process import Command, Completed, Runner, allowed_environment
from ci_registry.scanners.coverage import coverage_of
from ci_registry.scanners.evidence import DatabaseFacts, Evidence, SeenImage
from ci_registry.scanners.interface import ImageView, ScannerInfo
from ci_registry.scanners.one_image import check_one_image
from ci_registry.scanners.trivy_canary import canary_document
from ci_registry.scanners.trivy_database import make_java_index, misread_distribution
from ci_registry.scanners.trivy_program import (
    Warnings,
    describe_trivy,
    make_private_folders,
    report_of,
)
from ci_registry.scanners.trivy_report import TrivyReport, findings_of
from ci_registry.secret import Secret
from ci_registry.strict import as_object, as_text, parse_json

TOKEN_VARIABLE = "TRIVY_TOKEN"  # noqa: S105 - the name of a variable
_MAX_VERSION_BYTES = 64 * 1024
_NOTHING_SHOWN = (
    "the server finds nothing even in their lowest versions and in packages that are often affected: "
    "it has no data for them"
)


@dataclass(slots=True)
class _Probed:
    """What preflight found out."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivyServerScanner:
    """Runs trivy as the client of a server, with a private HOME and working directory."""

    run: Runner
    env: Mapping[str, str]
    """This process's environment; trivy gets an allow-listed part of it."""
    program: Path
    url: str
    token: Secret | None
    ask_version: Callable[[], bytes]
    """Gets `/version` of the server; raises `NetworkError`."""
    now: Callable[[], datetime]
    max_db_age: timedelta
    timeout_s: float
    on_event: EventSink = ignore_events
    cache: DiskCache | None = None
    """Remembers facts about the program; None: every run finds them out."""
    _probed: _Probed = field(default_factory=_Probed, repr=False)

    @property
    def name(self) -> str:
        """`trivy`."""
        return "trivy"

    def probe(self) -> ScannerInfo:
        """Make sure that the program runs and the server answers.

        Raises:
            ToolError: the program does not, or whoever answers is no trivy server.
            NetworkError: nobody answers.
        """
        about = describe_trivy(self.run, self.env, self.program, self.cache)
        self._probed.sha256 = about.sha256
        version, built_at = parse_version(self.ask_version(), self.url)
        dated = f"of {built_at.isoformat()}" if built_at else "absent"
        return replace(about, database=f"trivy-db {dated} (server {self.url}, trivy {version})")

    def scan(self, view: ImageView) -> ScanResult:
        """Scan one image, and ask the server for what it would find if it has data.

        Raises:
            ToolError: trivy crashed, ran out of time, could not reach the server, or wrote half a report.
            IntegrityError: the layout is not this one image.
            CancelledError: the run was cancelled.
        """
        started = time.monotonic()
        image = check_one_image(
            view.layout, config_digest=view.inventory.config_digest, proven=view.proven
        )
        warnings = Warnings(on_event=self.on_event)
        make_private_folders(view.work)
        make_java_index(view.work / "cache")
        done = self._run(view, ("image", "--input", str(view.layout)), "report.json", warnings)
        report = report_of(view.work, done, self.timeout_s)
        shown = self._kinds_with_data(view, report)
        findings = findings_of(report, view.inventory)
        evidence = Evidence(
            inventory=view.inventory,
            facts=_facts(self.url, view.inventory, report, shown),
            findings=findings,
            now=self.now(),
            max_db_age=self.max_db_age,
            seen_packages=report.packages,
            seen_image=SeenImage(
                config_digest=report.config_digest,
                platform=report.platform,
                diff_ids=report.diff_ids,
            ),
            diff_ids=image.diff_ids,
            unparsed=(*warnings.versions, *_odd_versions(view.inventory)),
            end_of_life=True if report.end_of_life else None,
            misread_distribution=misread_distribution(view.inventory, report),
            third_party=report.third_party,
        )
        skipped = len(view.inventory.packages) - len(matchable(view.inventory))
        return ScanResult(
            platform=view.inventory.platform,
            scanner=self.name,
            scanner_version=report.trivy_version,
            status=ScanStatus.COMPLETE,
            findings=findings,
            coverage=coverage_of(evidence, skipped_count=skipped),
            tool_exit_code=done.exit_code,
            program_sha256=self._probed.sha256,
            notes=(
                f"lists of packages were sent to {self.url}",
                *(f"trivy: {text}" for text in warnings.others.values()),
            ),
            duration_s=time.monotonic() - started,
        )

    def _kinds_with_data(self, view: ImageView, report: TrivyReport) -> frozenset[str]:
        """Return the purl types that the server has found something of."""
        shown = {item.kind for item in report.reported}
        wanted = {package.ecosystem for package in matchable(view.inventory)}
        if not (wanted | {package.ecosystem for package in report.packages}) - shown:
            return frozenset(shown)
        path = view.work / "canary.json"
        write_atomic(path, canary_document(view.inventory, report))
        warnings = Warnings(on_event=ignore_events)  # about versions that are wrong on purpose
        done = self._run(view, ("sbom", str(path)), "canary-report.json", warnings)
        found = report_of(view.work, done, self.timeout_s, file="canary-report.json")
        return frozenset(shown | {item.kind for item in found.reported})

    def _run(
        self, view: ImageView, what: tuple[str, ...], file: str, warnings: Warnings
    ) -> Completed:
        """Start trivy; the token goes by the environment."""
        work = view.work
        environment = allowed_environment(self.env, home=work / "home", proxies=True)
        token = {TOKEN_VARIABLE: self.token.reveal()} if self.token else {}
        return self.run(
            Command(
                argv=(
                    *(str(self.program), *what, "--server", self.url),
                    *("--format", "json", "--output", str(work / file)),
                    *("--scanners", "vuln", "--list-all-pkgs", "--exit-code", "0"),
                    *("--cache-dir", str(work / "cache")),
                    *("--skip-java-db-update", "--offline-scan"),
                    *("--skip-version-check", "--disable-telemetry", "--no-progress"),
                    *("--timeout", f"{int(self.timeout_s) + 60}s"),
                    *("--config", str(work / "config.yaml"), "--ignorefile", str(work / "ignore")),
                ),
                env=environment | {"TMPDIR": str(work / "tmp")} | token,
                cwd=work / "cwd",
                timeout_s=self.timeout_s,
            ),
            on_stderr_line=warnings.add,
        )


def parse_version(data: bytes, url: str) -> tuple[str, datetime | None]:
    """Return the server's version and when its database was made, from `/version`.

    Raises:
        ToolError: whoever answers is no trivy server.
    """
    what = f"{url}/version"
    try:
        answer = as_object(parse_json(data, what=what, max_bytes=_MAX_VERSION_BYTES), what=what)
        version = as_text(answer.get("Version"), what=f"{what}: Version")
        database = as_object(answer.get("VulnerabilityDB") or {}, what=what)
        text = as_text(database.get("UpdatedAt") or "", what=what)
        return version, parse_time(text) if text else None
    except (IntegrityError, ValueError, json.JSONDecodeError) as error:
        raise ToolError(
            f"{url} is no trivy server: {error}", hint="check scan.server, or leave it out"
        ) from error


def _facts(
    url: str, inventory: Inventory, report: TrivyReport, shown: frozenset[str]
) -> DatabaseFacts:
    """Say which purl types the server has shown data for, and why the others do not count."""
    kinds = {package.ecosystem for package in matchable(inventory)}
    kinds |= {package.ecosystem for package in report.packages}
    reasons = dict.fromkeys(kinds - shown, _NOTHING_SHOWN)
    if misread := misread_distribution(inventory, report):
        reasons |= dict.fromkeys(kinds & OS_KINDS, misread)
    database = AdvisoryDatabase(
        name="trivy-db",
        location=url,
        built_at=report.server_built_at,
        ecosystems=tuple(sorted(shown)),
    )
    return DatabaseFacts(
        database=database,
        covered=frozenset(kinds - set(reasons)),
        reasons=reasons,
        distribution_known=bool(OS_KINDS & (kinds - set(reasons))),
    )


def _odd_versions(inventory: Inventory) -> tuple[str, ...]:
    """Name our packages with a version that can't be ordered; the server may have advisories for them."""
    odd = []
    for package in matchable(inventory):
        version = package.source_version or package.version
        try:
            compare(ecosystem_of(package.ecosystem, inventory.distribution), version, version)
        except UnparsableVersionError:
            if ecosystem_of(package.ecosystem, inventory.distribution):
                odd.append(f"{package.name} {version!r} is no version that can be compared")
    return tuple(odd)

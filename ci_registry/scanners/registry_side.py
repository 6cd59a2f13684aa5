"""Scanners that live in a registry: they are asked to scan, waited for until a deadline, and read.

They see only what is in the registry: an image that is published, or one that is put into a staging
repository for the time of its scan. They are asked about the manifest of one platform, never about an index.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from ci_registry.cancel import Cancel
from ci_registry.errors import SetupError, ToolError
from ci_registry.findings import CoverageGap, Gap, Inventory, ScanResult
from ci_registry.oci.reference import Reference
from ci_registry.scanners.from_report import ReportScanner
from ci_registry.scanners.given_report import GivenReport
from ci_registry.scanners.interface import ImageView, ScannerInfo

_PAUSE_GROWTH = 1.5
_UNASKED = frozenset({Gap.NO_DATA, Gap.DATABASE_UNDATED, Gap.DATABASE_STALE})
"""Of no interest where nothing was scanned."""


class Stage(StrEnum):
    """How far a registry is with a scan."""

    WAITING = "waiting"
    DONE = "done"
    REFUSED = "refused"
    """It says that it can't scan this image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a registry says about a scan at the moment."""

    stage: Stage
    word: str = ""
    """In its own words, for messages."""
    report: GivenReport | None = None
    """Of a scan that is done."""


class RegistryApi(Protocol):
    """Asks one kind of registry."""

    @property
    def name(self) -> str:
        """`harbor`, `ecr`, `quay`."""

    def check(self, place: Reference) -> None:
        """Find out without any request whether this registry can be asked.

        Raises:
            SetupError: it is another kind of registry, or something that is needed is missing.
            AccessError: there is no login.
        """

    def start(self, place: Reference) -> Looked | None:
        """Ask for a scan of the manifest; returns what is known already, or None: look later.

        Raises:
            CiRegistryError: it can't be asked, or the scan failed.
        """

    def look(self, place: Reference) -> Looked:
        """Ask how far it is.

        Raises:
            CiRegistryError: it can't be asked, or the scan failed.
        """


class StagingPlace(Protocol):
    """A repository that holds an image for the time of a scan."""

    @property
    def repository(self) -> Reference:
        """Where it is."""

    def check(self) -> None:
        """Find out whether images can be put there.

        Raises:
            CiRegistryError: they can't.
        """

    def placed(self, view: ImageView) -> AbstractContextManager["Placed"]:
        """Put the image there by digest; its manifest is taken away at the end, whatever happened."""


@dataclass(slots=True, kw_only=True)
class Placed:
    """An image in a registry."""

    reference: Reference
    notes: list[str]
    """Things to tell people once the scan is over: what could not be taken away again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryScanner:
    """Has a registry scan one platform image, and holds its report to our own inventory."""

    api: RegistryApi
    cancel: Cancel
    now: Callable[[], datetime]
    max_db_age: timedelta
    timeout_s: float
    staging: StagingPlace | None = None
    report_is_current: bool = False
    """Whether the time of a report stands for the age of its advisories, where nobody says it."""
    first_pause_s: float = 1.0
    longest_pause_s: float = 10.0

    @property
    def name(self) -> str:
        """The kind of registry."""
        return self.api.name

    def probe(self) -> ScannerInfo:
        """Describe the scanner; `check_place` asks whether it can be used."""
        where = "the registry that holds the image"
        if self.staging is not None:
            where = f"{where}, or {self.staging.repository.name} for the time of the scan"
        return ScannerInfo(name=self.name, version="", database=f"that of {where}")

    def check_place(self, published: Reference | None) -> None:
        """Make sure that there is a registry to ask about an image.

        Raises:
            SetupError: the image is in no registry and there is no staging repository.
            CiRegistryError: the registry can't be asked, or nothing can be put there.
        """
        readable = self._readable(published)
        if readable is not None:
            self.api.check(readable)
        elif self.staging is not None:
            self.api.check(self.staging.repository)
            self.staging.check()
        else:
            raise SetupError(
                f"scanner {self.name} reads only what is in the registry, and this image is not published",
                hint="name a repository that holds it for the time of the scan"
                " (scan.staging: registry.example/ci/staging), scan a published image"
                " (ci-registry scan REFERENCE), or use the built-in scanner: --scanner osv",
            )

    def _readable(self, published: Reference | None) -> Reference | None:
        """Return where the scanner finds the image; a staging repository names the registry to ask."""
        if published is None or self.staging is None:
            return published
        return published if published.registry == self.staging.repository.registry else None

    def scan(self, view: ImageView) -> ScanResult:
        """Have the image scanned where it is, or in the staging repository.

        Raises:
            ToolError: the scan failed, or did not end in time.
            SetupError: see `check_place`.
            CiRegistryError: the registry can't be asked.
            CancelledError: the run was cancelled; what was put into the staging repository is gone.
        """
        started = time.monotonic()
        with self._placed(view) as placed:
            looked = self._wait(placed.reference)
        result = self._result(looked, placed.reference, view.inventory)
        return replace(
            result,
            notes=(*result.notes, *placed.notes),
            duration_s=time.monotonic() - started,
        )

    @contextlib.contextmanager
    def _placed(self, view: ImageView) -> Iterator[Placed]:
        published = self._readable(view.published)
        if published is not None:
            yield Placed(reference=published, notes=[])
        elif self.staging is not None:
            with self.staging.placed(view) as placed:
                yield placed
        else:
            self.check_place(None)

    def _wait(self, place: Reference) -> Looked:
        deadline = time.monotonic() + self.timeout_s
        looked = self.api.start(place) or self.api.look(place)
        pause_s = self.first_pause_s
        while looked.stage is Stage.WAITING:
            if time.monotonic() + pause_s > deadline:
                raise ToolError(
                    f"{self.name} did not finish the scan of {place} within {self.timeout_s:g} s: "
                    f"it says {looked.word or 'nothing'}",
                    hint="raise scan.timeout, or retry",
                )
            self.cancel.sleep(pause_s)
            pause_s = min(pause_s * _PAUSE_GROWTH, self.longest_pause_s)
            looked = self.api.look(place)
        return looked

    def _result(self, looked: Looked, place: Reference, inventory: Inventory) -> ScanResult:
        report = looked.report
        if report is None:
            report = GivenReport(
                what=f"the report of {self.name}", format="JSON", tool=self.name, reported=()
            )
        elif report.database_built_at is None and self.report_is_current:
            report = replace(report, database_built_at=report.made_at or self.now())
        judged = ReportScanner(reports=(report,), now=self.now, max_db_age=self.max_db_age)
        result = judged.match(inventory)
        gaps = result.coverage.gaps
        if looked.report is None:
            refused = CoverageGap(
                gap=Gap.NOT_SCANNABLE,
                detail=f"{self.name} can't scan {place}: it says {looked.word}",
            )
            gaps = (refused, *(g for g in gaps if g.gap not in _UNASKED | {Gap.WRONG_IMAGE}))
        return replace(
            result,
            scanner=self.name,
            coverage=replace(result.coverage, gaps=gaps),
            notes=(f"scanned by {self.name} at {place}", *report.notes),
        )

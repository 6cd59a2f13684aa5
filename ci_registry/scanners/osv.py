"""The embedded scanner: our own inventory matched with OSV advisories."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ci_registry import __version__
from ci_registry.advisories.ecosystems import ecosystem_of, matchable
from ci_registry.advisories.exploitation import ExploitationSource
from ci_registry.advisories.match import match_inventory
from ci_registry.advisories.source import AdvisorySource, SourceFacts
from ci_registry.advisories.versions import can_compare
from ci_registry.findings import Inventory, ScanResult, ScanStatus
from ci_registry.scanners.coverage import coverage_of
from ci_registry.scanners.evidence import DatabaseFacts, Evidence
from ci_registry.scanners.exploitation import with_exploitation
from ci_registry.scanners.interface import ImageView, ScannerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class OsvScanner:
    """Matches packages with the advisories of `source`; runs no program, needs no layer."""

    source: AdvisorySource
    now: Callable[[], datetime]
    max_db_age: timedelta
    exploitation: ExploitationSource | None = None
    """Knows which vulnerabilities are exploited; None: nobody does."""

    @property
    def name(self) -> str:
        """`osv`."""
        return "osv"

    def probe(self) -> ScannerInfo:
        """Describe the advisories; asks nobody."""
        facts = self.source.facts()
        database = facts.database
        if not facts.present:
            described = f"{database.name}: absent ({database.location})"
        elif database.built_at is None:
            described = f"{database.name} ({database.location})"
        else:
            described = f"{database.name} of {database.built_at.isoformat()} ({database.location})"
        return ScannerInfo(name=self.name, version=__version__, database=described)

    def scan(self, view: ImageView) -> ScanResult:
        """Match the inventory of the image.

        Raises:
            CiRegistryError: the advisories can't be read.
        """
        return self.match(view.inventory)

    def match(self, inventory: Inventory) -> ScanResult:
        """Match an inventory, for example an attested one: the image itself is not needed.

        Raises:
            CiRegistryError: the advisories can't be read.
        """
        started = time.monotonic()
        result = match_inventory(inventory, self.source.lookup)
        facts = self.source.facts()
        evidence = Evidence(
            inventory=inventory,
            facts=_facts_for(inventory, facts),
            findings=result.findings,
            now=self.now(),
            max_db_age=self.max_db_age,
        )
        found = ScanResult(
            platform=inventory.platform,
            scanner=self.name,
            scanner_version=__version__,
            status=ScanStatus.COMPLETE,
            findings=result.findings,
            coverage=coverage_of(evidence, skipped_count=result.skipped_count),
            notes=facts.notes,
            duration_s=time.monotonic() - started,
        )
        return with_exploitation(found, self.exploitation)


def _facts_for(inventory: Inventory, facts: SourceFacts) -> DatabaseFacts:
    """Say for each purl type of the image whether the source covers it, and if not, why."""
    covered, reasons = set(), {}
    for kind in {package.ecosystem for package in matchable(inventory)}:
        ecosystem = ecosystem_of(kind, inventory.distribution)
        if not ecosystem:
            reasons[kind] = "this scanner knows no advisories for this distribution or kind"
        elif not can_compare(ecosystem):
            reasons[kind] = f"this scanner can't compare versions of {ecosystem}"
        elif ecosystem not in facts.database.ecosystems:
            reasons[kind] = f"{facts.database.name} has no complete data for {ecosystem}"
        else:
            covered.add(kind)
    return DatabaseFacts(
        database=facts.database,
        present=facts.present,
        covered=frozenset(covered),
        reasons=reasons,
    )

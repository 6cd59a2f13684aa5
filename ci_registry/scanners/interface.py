"""What a scanner is: it gives findings **and** coverage for one platform image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeGuard, runtime_checkable

from ci_registry.findings import Inventory, ScanResult
from ci_registry.oci.reference import Reference
from ci_registry.registry.proven import ProvenBlobs


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """One platform image, verified, as a scanner gets it."""

    layout: Path
    """An OCI layout directory that holds this one image and nothing else."""
    inventory: Inventory
    """What we read ourselves; coverage is reconciled with it."""
    work: Path
    """Empty private folder for the scanner's working directory and HOME."""
    proven: ProvenBlobs | None = None
    """The blob files that were hashed in this run already; others are hashed again."""
    published: Reference | None = None
    """Where this very manifest is in a registry, by digest; None: nowhere that we know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerInfo:
    """What preflight records about a scanner."""

    name: str
    version: str
    program: str = ""
    sha256: str = ""
    database: str = ""
    """One line: where advisories come from and how old they are."""


@runtime_checkable
class CanMatchInventory(Protocol):
    """A scanner that needs no layer: an inventory is enough."""

    def match(self, inventory: Inventory) -> ScanResult:
        """Match an inventory with the advisories of today.

        Raises:
            CiRegistryError: the advisories can't be read.
        """


@runtime_checkable
class ReadsRegistry(Protocol):
    """A scanner, or one that has such a scanner, that reads images where they are published."""

    def check_place(self, published: Reference | None) -> None:
        """Make sure that there is a place where an image can be scanned.

        Raises:
            CiRegistryError: there is none.
        """


class Scanner(Protocol):
    """Scans one platform image."""

    @property
    def name(self) -> str:
        """The scanner's name in the settings."""

    def probe(self) -> ScannerInfo:
        """Make sure that the scanner can run.

        Raises:
            ToolError: the program is missing, too old or broken.
        """

    def scan(self, view: ImageView) -> ScanResult:
        """Scan; trouble with the tool is a raised `ToolError`, trouble with the evidence is a gap.

        Raises:
            ToolError: the program crashed, ran out of time, or printed half a report.
            CancelledError: the run was cancelled.
        """


REPORTS = "report"
"""Name of the scanner that gives what reports of others say: of any inventory it says the same."""


def matches_anew(scanner: Scanner) -> TypeGuard[CanMatchInventory]:
    """Whether an inventory of another image gets findings of its own, so that the two can be compared."""
    return isinstance(scanner, CanMatchInventory) and scanner.name != REPORTS

"""What an SBOM says: one platform image, its inventory, and what a scan of it could see."""

from dataclasses import dataclass
from datetime import datetime

from ci_registry.findings import Coverage, Inventory

MAX_SBOM_BYTES = 64 * 1024 * 1024
MAX_COMPONENTS = 200_000
"""Larger documents, and those with more components, are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SbomDocument:
    """One platform image as an SBOM describes it; both formats are written from it and read into it."""

    image: str
    """`registry/repository`, or the name of the image in the settings."""
    inventory: Inventory
    created_at: datetime
    """With a zone; part of the document, so that the same image gives the same bytes."""
    tool: str = ""
    """Name and version of the program that made it: `ci-registry 1.0.0`."""
    coverage: Coverage | None = None
    """The coverage record of the scan, when there was one."""
    names_unread: bool = True
    """Whether it says what its maker could not read; the SBOMs of other programs do not."""

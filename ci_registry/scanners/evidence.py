"""What coverage is computed from: our inventory, the scanner's own lists, and its database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ci_registry.findings import AdvisoryDatabase, Finding, Inventory

_INSTALLED = {"npm": "node_modules/", "nuget": ".deps.json", "composer": "installed.json"}
"""purl type → what stands in the path of a file that lists what is really there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPackage:
    """One package in a scanner's own list."""

    ecosystem: str
    """purl type."""
    name: str
    version: str
    purl: str = ""
    path: str = ""
    """Path in the image of the file it was read from, where the scanner says so."""

    @property
    def is_installed(self) -> bool:
        """False for what only wishes for packages: an application's own manifest, or a lock file."""
        mark = _INSTALLED.get(self.ecosystem)
        return not mark or not self.path or mark in self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenImage:
    """Which image a scanner's report says that it is about."""

    config_digest: str
    platform: str
    """`os/architecture`; a variant may be missing."""
    diff_ids: tuple[str, ...] = ()
    """Of the layers that it looked at; empty when the report does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """What the advisories of one scan can be relied on for."""

    database: AdvisoryDatabase
    present: bool = True
    covered: frozenset[str] = frozenset()
    """purl types that there is data for, in the release of this image's distribution."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """purl type → why it is not covered, one sentence."""
    distribution_known: bool = False
    """The scanner knows a distribution that is not in our own table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that coverage is computed from."""

    inventory: Inventory
    facts: DatabaseFacts
    findings: tuple[Finding, ...]
    now: datetime
    max_db_age: timedelta
    seen_packages: tuple[SeenPackage, ...] | None = None
    """None: the scanner matched our own inventory and can have seen nothing else."""
    seen_image: SeenImage | None = None
    """None: likewise."""
    diff_ids: tuple[str, ...] = ()
    """What `seen_image.diff_ids` must be."""
    unparsed: tuple[str, ...] = ()
    """What the scanner said about versions that it could not compare, one line each."""
    end_of_life: bool | None = None
    """What the scanner says about the distribution release; None when it says nothing."""
    misread_distribution: str = ""
    """When the scanner took the image for another release than we did: both, one sentence."""
    third_party: tuple[SeenPackage, ...] = ()
    """OS packages that the scanner left out, because the distribution did not make them."""

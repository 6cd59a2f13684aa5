"""What an image is compared with: its base image, and the baseline that findings are new against."""

from dataclasses import dataclass
from enum import StrEnum

from ci_registry.findings import Severity


class Change(StrEnum):
    """How a finding stands to the baseline."""

    NEW = "new"
    WORSENED = "worsened"
    UNCHANGED = "unchanged"
    FIXED = "fixed"

    @property
    def is_new(self) -> bool:
        """Whether a rule about new findings counts it."""
        return self in (Change.NEW, Change.WORSENED)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFinding:
    """One counted finding of a baseline."""

    platform: str
    ids: tuple[str, ...]
    """Every name of the vulnerability, the one people know first."""
    package: str
    """purl without version, or `ecosystem name`."""
    severity: Severity
    """As found: what UNKNOWN counts as is said by the policy of today."""
    is_decided: bool = True
    """False: it was not known whether the package is affected."""
    known_exploited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What findings are compared with."""

    source: str
    """What it is and how old, for people."""
    platforms: tuple[str, ...] = ()
    """The platforms that it knows; on every other one each finding is new."""
    findings: tuple[KnownFinding, ...] = ()
    gaps: frozenset[tuple[str, str, str]] = frozenset()
    """(platform, gap, purl type) of what it did not cover."""
    problem: str = ""
    """Why it can't be used; then every finding is new."""
    notes: tuple[str, ...] = ()
    """What people should know about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How the findings of an image stand to a baseline."""

    source: str
    problem: str = ""
    """Why the baseline can't be used: every finding counts as new."""
    notes: tuple[str, ...] = ()
    new: int = 0
    worsened: int = 0
    unchanged: int = 0
    fixed: tuple[KnownFinding, ...] = ()
    """What the baseline has and the image does not; worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseAttribution:
    """What is known of the base of one platform image."""

    platform: str
    reference: str = ""
    """As the Dockerfile or the image names it; `scratch`; empty when nobody names a base."""
    digest: str = ""
    """Of what the reference pointed at when the image was built; empty when not known."""
    layers_count: int | None = None
    """How many of the image's layers are the base's; None: not known which."""
    reason: str = ""
    """Why the base is not known."""
    newer_digest: str = ""
    """What the same tag points at now, when its layers are other ones."""
    newer_reason: str = ""
    """Why nothing can be said about a newer base, or about its findings."""
    findings_count: int | None = None
    """Counted findings in packages of the base; None before a scan or when the base is not known."""
    fixed_count: int | None = None
    """How many of these the newer base does not have; None when its packages are not known."""
    added_count: int | None = None
    """How many findings the newer base has that the base has not."""

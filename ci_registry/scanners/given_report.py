"""What the report of a scanner says that somebody else ran, whatever its format."""

import re
from dataclasses import dataclass
from datetime import datetime

from ci_registry.advisories.osv import parse_time
from ci_registry.errors import IntegrityError
from ci_registry.scanners.evidence import SeenPackage
from ci_registry.scanners.reported import Reported

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenReport:
    """What a report says; whatever it does not say is empty or None."""

    what: str
    """Names it in messages: the file."""
    format: str
    """`SARIF`, `CycloneDX`, `trivy's JSON`, `grype's JSON`."""
    tool: str
    tool_version: str = ""
    reported: tuple[Reported, ...]
    """Of one whose kind of package is not told, `kind` is empty; `name` is empty when no package is."""
    packages: tuple[SeenPackage, ...] | None = None
    """What its scanner looked at; None: it lists only what it found something in."""
    config_digest: str = ""
    manifest_digests: tuple[str, ...] = ()
    """Of the image, or of the index that it was taken from."""
    platform: str = ""
    """`os/architecture`."""
    diff_ids: tuple[str, ...] = ()
    os_name: str = ""
    os_version: str = ""
    third_party: tuple[SeenPackage, ...] = ()
    end_of_life: bool | None = None
    made_at: datetime | None = None
    database_built_at: datetime | None = None
    says_fixes: bool = True
    """Whether a finding without a fix means that there is none."""
    left_out: tuple[str, ...] = ()
    """What its scanner found and left out by somebody's rules, one sentence each."""
    failure: str = ""
    """What it says about a scan that failed."""
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Who made it, for people: `FILE (SARIF of Trivy 0.76.0)`."""
        maker = " ".join(filter(None, (self.tool or "an unnamed program", self.tool_version)))
        return f"{self.what} ({self.format} of {maker})"


def time_or_none(value: object, what: str) -> datetime | None:
    """Read a time that may be absent.

    Raises:
        IntegrityError: it is there and is no time with a zone.
    """
    if value in (None, ""):
        return None
    try:
        return parse_time(str(value))
    except ValueError as error:
        raise IntegrityError(f"{what}: {str(value)[:50]!r} is no time with a zone") from error


def digests_in(texts: object) -> tuple[str, ...]:
    """Return every sha256 digest in a text or in a list of texts, each once."""
    items = texts if isinstance(texts, list) else [texts]
    found = (match for item in items if isinstance(item, str) for match in _DIGEST.findall(item))
    return tuple(dict.fromkeys(found))

"""What a verification says: a table of checks, and the error that belongs to it."""

from dataclasses import dataclass
from enum import StrEnum

from ci_registry.errors import CiRegistryError, IncompleteError, SignatureError
from ci_registry.oci.digest import Digest


class CheckStatus(StrEnum):
    """How one check came out."""

    PASSED = "passed"
    WARNING = "warning"
    """It counts, but the reader should know something."""
    FAILED = "failed"
    """Decided against."""
    ERROR = "error"
    """Could not be decided; never a pass."""
    SKIPPED = "skipped"
    """Not there and not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the table."""

    name: str
    """Stable: `manifest`, `sig`, `bundle`, `signature`."""
    status: CheckStatus
    detail: str
    """One line for people; parts of it come from foreign documents, so escape it."""
    subject: str = ""
    """Digest of the manifest that it is about, with its platform when known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationResult:
    """All checks of one verification; `valid` only when the image and all asked for passed."""

    digest: Digest
    checks: tuple[Check, ...]
    valid: bool

    def failure(self) -> CiRegistryError | None:
        """Return the error to raise, None when valid.

        `IncompleteError` when something could not be decided and nothing was decided against,
        else `SignatureError`.
        """
        if self.valid:
            return None
        decisive = tuple(c for c in self.checks if c.name in ("manifest", "signature"))
        failed = next((c for c in decisive if c.status is CheckStatus.FAILED), None)
        if failed is not None:
            return SignatureError(
                f"{failed.subject or self.digest}: {failed.detail}",
                hint="sign it with the trusted key, or check which key `trust` names",
            )
        error = next((c for c in decisive if c.status is CheckStatus.ERROR), None)
        detail = error.detail if error else "no check decided"
        return IncompleteError(
            f"{self.digest}: {detail}", hint="remove old signatures and attestations beside it"
        )

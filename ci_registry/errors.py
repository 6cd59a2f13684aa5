"""The one error tree of ci-registry; each class carries the exit code of a run that it ends.

    CiRegistryError
    ├── UsageError            2   wrong command line or option combination
    ├── ConfigError           2   a settings, policy, waiver or trust file is invalid
    ├── AccessError           2   401/403, no push right, an immutable tag taken
    ├── SetupError            2   missing Dockerfile or context, unusable key, no builder for this file
    ├── BuildError            3   Dockerfile syntax or a failing instruction
    ├── ToolError             4   a program or engine is missing, crashed or printed half a report
    ├── RegistryError         4   a registry failed after retries
    │   └── NotFoundError     4   the registry has no such manifest or blob
    ├── NetworkError          4   connection refused, reset, time-out, TLS
    ├── StorageError          4   disk full, unreadable or unwritable files
    ├── IntegrityError        4   bytes do not have the digest or size they claim
    ├── IncompleteError       5   evidence is missing, stale or does not cover the image
    ├── SignatureError        6   a signature or attestation is invalid or untrusted
    └── CancelledError      130   the run was interrupted

Anything else that escapes is a bug of ours and ends with exit code 70. A verdict is not an error:
a blocked image ends with exit code 1 without any exception.
"""

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit code of every command means; who acts on it stands in the README."""

    OK = 0
    BLOCK = 1
    CONFIG = 2
    BUILD = 3
    INFRASTRUCTURE = 4
    INCOMPLETE = 5
    SIGNATURE = 6
    BUG = 70
    INTERRUPTED = 130


WORST_FIRST = (
    ExitCode.INTERRUPTED,
    ExitCode.BUG,
    ExitCode.CONFIG,
    ExitCode.INFRASTRUCTURE,
    ExitCode.SIGNATURE,
    ExitCode.INCOMPLETE,
    ExitCode.BUILD,
    ExitCode.BLOCK,
    ExitCode.OK,
)
"""The order in which the codes of several images are combined: the first one present wins."""


def worst_exit_code(codes: tuple[ExitCode, ...]) -> ExitCode:
    """Return the code that stands for all of `codes`; 0 for none."""
    return min(codes, key=WORST_FIRST.index, default=ExitCode.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in a file that a person wrote."""

    message: str
    file: str = ""
    """Path as the person named it; empty when the value came from the environment or command line."""
    line: int = 0
    """1-based; 0 when unknown."""
    hint: str = ""
    """For example: did you mean 'severity'?"""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{where}{self.message}" + (f" ({self.hint})" if self.hint else "")


class CiRegistryError(Exception):
    """An expected failure: shown as one line, never with a traceback."""

    exit_code = ExitCode.INFRASTRUCTURE

    def __init__(self, message: str, *, hint: str = "", file: str = "", line: int = 0) -> None:
        """Say what happened to what (`message`, its first line stands alone) and what to do next (`hint`)."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = file
        self.line = line

    @property
    def headline(self) -> str:
        """The first line of the message, with file and line in front when they are known."""
        first = self.message.split("\n", 1)[0]
        return str(Problem(message=first, file=self.file, line=self.line))


class UsageError(CiRegistryError):
    """The command line, or a combination of options, makes no sense."""

    exit_code = ExitCode.CONFIG


class ConfigError(CiRegistryError):
    """A settings, policy, waiver or trust file is invalid; carries every problem found in it."""

    exit_code = ExitCode.CONFIG

    def __init__(self, problems: tuple[Problem, ...], *, hint: str = "") -> None:
        """Report all `problems` at once; there is at least one."""
        super().__init__("\n".join(str(p) for p in problems), hint=hint)
        self.problems = problems
        self.file = ""
        self.line = 0


class AccessError(CiRegistryError):
    """A registry refused our credentials or rights, or a tag may not be moved."""

    exit_code = ExitCode.CONFIG


class SetupError(CiRegistryError):
    """Something that the run needs is missing or unusable, and retrying will not help."""

    exit_code = ExitCode.CONFIG


class BuildError(CiRegistryError):
    """The Dockerfile is wrong or one of its instructions failed; `log` holds the last lines."""

    exit_code = ExitCode.BUILD

    def __init__(
        self, message: str, *, hint: str = "", file: str = "", line: int = 0, log: str = ""
    ) -> None:
        """As the parent; `log` is the tail of the builder's output, already free of secrets."""
        super().__init__(message, hint=hint, file=file, line=line)
        self.log = log


class ToolError(CiRegistryError):
    """A program or engine is missing, too old, crashed, or printed something that it must not print."""


class RegistryError(CiRegistryError):
    """A registry answered with an error that retries did not cure."""

    def __init__(self, message: str, *, hint: str = "", status: int = 0, code: str = "") -> None:
        """`status` is the HTTP status, `code` the error code of the distribution specification."""
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class NotFoundError(RegistryError):
    """The registry or layout has no such manifest, blob or repository."""


class NetworkError(CiRegistryError):
    """No usable answer came: refused, reset, timed out, or TLS failed."""


class StorageError(CiRegistryError):
    """A file could not be read or written: no space left, no permission, no such folder."""


class IntegrityError(CiRegistryError):
    """Bytes do not have the digest, size or shape that they claim."""


class IncompleteError(CiRegistryError):
    """Evidence is missing, stale, or does not cover the image."""

    exit_code = ExitCode.INCOMPLETE


class SignatureError(CiRegistryError):
    """A signature or attestation is invalid or untrusted."""

    exit_code = ExitCode.SIGNATURE


class CancelledError(CiRegistryError):
    """The run was interrupted by a signal."""

    exit_code = ExitCode.INTERRUPTED

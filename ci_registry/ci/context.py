"""The facts of one CI event, the same on GitHub, GitLab and a laptop."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Provider(StrEnum):
    """Where we run."""

    GITHUB = "github"
    GITLAB = "gitlab"
    LOCAL = "local"


class EventKind(StrEnum):
    """What started the run."""

    PUSH = "push"
    TAG = "tag"
    CHANGE_REQUEST = "change-request"
    MERGE_QUEUE = "merge-queue"
    SCHEDULE = "schedule"
    MANUAL = "manual"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class CiContext:
    """One CI event. Text comes from people and may be hostile: escape it wherever it is printed."""

    provider: Provider
    event: EventKind
    commit: str = ""
    """Full hexadecimal commit id; empty outside git."""
    committed_at: datetime | None = None
    branch: str = ""
    """The branch that was pushed; for a change request its source branch."""
    tag: str = ""
    default_branch: str = ""
    base_branch: str = ""
    """The branch that a change request wants to go into."""
    change: str = ""
    """Number of the change request."""
    is_fork: bool = False
    """Whether the code comes from another repository than the one whose CI runs."""
    is_protected: bool = False
    """Whether the CI says that the ref itself is protected."""
    run_url: str = ""
    repository_url: str = ""
    is_dirty: bool = False
    """Whether tracked files differ from the commit (laptop only)."""
    notes: tuple[str, ...] = ()
    """What could not be found out and why."""

    @property
    def is_ci(self) -> bool:
        """Whether a CI runs us."""
        return self.provider is not Provider.LOCAL

    @property
    def is_change_request(self) -> bool:
        """Whether this is a pull request, merge request, or anything from a fork."""
        return self.event is EventKind.CHANGE_REQUEST or self.is_fork

    @property
    def is_default_branch(self) -> bool:
        """Whether the default branch itself was pushed (or a schedule runs on it)."""
        return (
            bool(self.branch) and self.branch == self.default_branch and not self.is_change_request
        )

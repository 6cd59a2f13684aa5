"""Where the files that decide the verdict are read from: not from the change under test."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ci_registry.ci.context import CiContext, EventKind
from ci_registry.ci.git import Git
from ci_registry.errors import SetupError
from ci_registry.files import read_file

MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedSource:
    """Reads the deciding files at the ref that may decide."""

    label: str
    """`checkout`, `main`, `v1.2.3`, or `untrusted`: stands in every report as the policy's source."""
    commit: str
    """Empty: the checkout itself."""
    read: Callable[[str], bytes | None]
    """Path relative to the working directory → content; None when it is not there."""
    note: str = ""
    """What people should know, for example why the source is untrusted."""

    @property
    def is_checkout(self) -> bool:
        """Whether the files of the checkout decide."""
        return not self.commit


def trusted_ref(context: CiContext) -> str:
    """Return the branch that may decide, empty when the commit under test may decide itself."""
    if context.event is EventKind.CHANGE_REQUEST or context.is_fork:
        return context.base_branch or context.default_branch
    if context.is_protected or context.is_default_branch:
        return ""
    return context.default_branch


def trusted_source(
    context: CiContext, git: Git, *, policy_ref: str = "", offline: bool = False
) -> TrustedSource:
    """Find the source of the deciding files for this event.

    Raises:
        SetupError: it can't be read although this run may push; names the checkout setting to change.
    """

    def from_checkout(path: str) -> bytes | None:
        file = git.folder / path
        return read_file(file, max_bytes=MAX_FILE_BYTES) if file.is_file() else None

    if not context.is_ci and not policy_ref:
        return TrustedSource(label="checkout", commit="", read=from_checkout)
    ref = policy_ref or trusted_ref(context)
    commit = _commit_of(git, ref, context, offline=offline)
    if commit:

        def from_commit(path: str) -> bytes | None:
            return git.read(commit, _relative(git.folder, path))

        label = ref or context.branch or context.tag or commit[:12]
        return TrustedSource(label=label, commit=commit, read=from_commit)
    wanted = f"the trusted ref {ref!r}" if ref else "the commit under test"
    if context.is_change_request and not policy_ref:
        note = f"{wanted} can't be read: the policy of the change itself is used, nothing is pushed"
        return TrustedSource(label="untrusted", commit="", read=from_checkout, note=note)
    raise SetupError(
        f"{wanted} can't be read, so nobody trustworthy decides about this push",
        hint="check out with its history: `fetch-depth: 0` (GitHub) or `GIT_DEPTH: 0` (GitLab),"
        " or name a ref with CIREG_POLICY_REF",
    )


def _commit_of(git: Git, ref: str, context: CiContext, *, offline: bool) -> str:
    if not git.is_checkout:
        return ""
    if not ref:
        return git.commit(context.commit) if context.commit else git.commit()
    remote = f"refs/remotes/origin/{ref}"
    found = git.commit(remote) or git.commit(f"refs/tags/{ref}")
    if not found and not offline and git.fetch(ref):
        found = git.commit(remote)
    return found or git.commit(ref)


def _relative(folder: Path, path: str) -> str:
    """Return `path` as it counts from `folder`; git knows only what is inside the work tree."""
    if not Path(path).is_absolute():
        return path
    try:
        return str(Path(path).resolve().relative_to(folder.resolve()))
    except ValueError as error:
        raise SetupError(
            f"{path} is outside the checkout, so no ref has it",
            hint="name a file of the repository",
        ) from error

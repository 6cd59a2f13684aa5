"""A laptop, or any machine without a CI that we know: facts from plain git."""

from ci_registry.ci.context import CiContext, EventKind, Provider
from ci_registry.ci.git import Git


def local_context(git: Git, *, with_commit: bool = True) -> CiContext:
    """Read commit, branch and tag from the checkout; outside git there are none, and that is fine.

    Without `with_commit` git is not run at all: eight programs, which take longer than a short copy.
    """
    if not with_commit:
        return CiContext(provider=Provider.LOCAL, event=EventKind.LOCAL)
    if not git.is_checkout:
        return CiContext(
            provider=Provider.LOCAL,
            event=EventKind.LOCAL,
            notes=(
                "not in a git checkout (or git is missing): no commit, branch or version is known",
            ),
        )
    branch = git.branch
    default = git.default_branch
    return CiContext(
        provider=Provider.LOCAL,
        event=EventKind.LOCAL,
        commit=git.commit(),
        committed_at=git.committed_at(),
        branch=branch,
        tag=git.tag,
        default_branch=default or (branch if branch in ("main", "master") else ""),
        repository_url=git.origin,
        is_dirty=git.is_dirty,
    )

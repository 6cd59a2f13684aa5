"""What we ask of git: facts about the checkout, and files as they are at a trusted ref."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ci_registry.errors import ToolError
from ci_registry.process import Command, Completed, Runner, allowed_environment

_VARIABLES = ("GIT_ASKPASS", "GIT_SSH", "GIT_SSH_COMMAND", "SSH_AUTH_SOCK", "USER")
_FETCH_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """A checkout, read through the `git` program; every method answers "unknown" when git can't."""

    run: Runner
    env: Mapping[str, str]
    folder: Path

    def _git(self, *argv: str, timeout_s: float = 30.0) -> Completed | None:
        top = _top(self.folder)
        if top is None:
            return None
        env = allowed_environment(
            self.env, *_VARIABLES, home=Path(self.env.get("HOME", "/")), proxies=True
        )
        env |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        settings = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false"]
        settings += ["-c", "core.hooksPath=/dev/null"]
        settings += ["--git-dir", str(top / ".git"), "--work-tree", str(top)]
        command = Command(
            argv=("git", *settings, *argv), env=env, cwd=self.folder, timeout_s=timeout_s
        )
        try:
            return self.run(command)
        except ToolError:
            return None

    def _line(self, *argv: str) -> str:
        done = self._git(*argv)
        return done.stdout.decode(errors="replace").strip() if done and done.exit_code == 0 else ""

    @property
    def is_checkout(self) -> bool:
        """Whether the folder is inside a git work tree (and git is installed)."""
        return self._line("rev-parse", "--is-inside-work-tree") == "true"

    @property
    def prefix(self) -> str:
        """Path of the folder below the top of the work tree: empty, or ending in a slash."""
        return self._line("rev-parse", "--show-prefix")

    def commit(self, ref: str = "HEAD") -> str:
        """Return the full id of the commit at `ref`, empty when it is not there."""
        return self._line(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"
        )

    def committed_at(self, ref: str = "HEAD") -> datetime | None:
        """Return the committer date of `ref`."""
        text = self._line("show", "--no-patch", "--format=%ct", "--end-of-options", ref, "--")
        return datetime.fromtimestamp(int(text), UTC) if text.isdigit() else None

    @property
    def branch(self) -> str:
        """The branch that is checked out; empty when the head is detached."""
        return self._line("symbolic-ref", "--quiet", "--short", "HEAD")

    @property
    def tag(self) -> str:
        """A tag that points exactly at the head; the highest version when there are several."""
        return self._line("tag", "--points-at", "HEAD", "--sort=-version:refname").partition("\n")[
            0
        ]

    @property
    def default_branch(self) -> str:
        """What `origin/HEAD` points at; empty when the clone does not know."""
        name = self._line("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
        return name.removeprefix("origin/")

    @property
    def origin(self) -> str:
        """The web address of `origin`, without credentials; empty when it has none."""
        return web_address(self._line("remote", "get-url", "origin"))

    @property
    def is_dirty(self) -> bool:
        """Whether tracked files differ from the head."""
        return bool(self._line("status", "--porcelain", "--untracked-files=no"))

    def fetch(self, branch: str) -> bool:
        """Fetch one commit of a branch of `origin`; returns whether it is there afterwards."""
        refspec = f"+refs/heads/{branch}:refs/remotes/origin/{branch}"
        done = self._git(
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "origin",
            refspec,
            timeout_s=_FETCH_TIMEOUT_S,
        )
        return done is not None and done.exit_code == 0

    def read(self, commit: str, path: str) -> bytes | None:
        """Return a file of a commit; `path` counts from the folder; None when the commit has none.

        Raises:
            ToolError: the commit is there but the file can't be read.
        """
        name = f"{commit}:./{path}"
        kind = self._line("cat-file", "-t", name)
        if not kind:
            return None
        done = self._git("cat-file", "blob", name)
        if done is None or done.exit_code != 0:
            raise ToolError(f"git cannot read {path} at {commit[:12]}: it is a {kind}")
        return done.stdout


def _top(folder: Path) -> Path | None:
    """Return the nearest folder with a `.git`, which no commit can hold.

    git itself would also take a folder with the files of a bare repository for one, and those a
    change can bring along: its refs would then say what is trusted, and its settings what is run.
    """
    inside = folder.resolve()
    return next((path for path in (inside, *inside.parents) if (path / ".git").exists()), None)


def web_address(url: str) -> str:
    """Turn a git remote address into the https address of the repository, without user or password."""
    if "://" not in url:
        host, colon, path = url.partition(":")
        if not colon or "/" in host:
            return ""
        url = f"ssh://{host}/{path}"
    scheme, _, rest = url.partition("://")
    if scheme not in ("https", "http", "ssh", "git"):
        return ""
    host, _, path = rest.rpartition("@")[2].partition("/")
    host = host.partition(":")[0] if scheme in ("ssh", "git") else host
    return f"https://{host}/{path.removesuffix('/').removesuffix('.git')}" if path else ""

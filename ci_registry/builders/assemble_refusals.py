"""What `assemble` does not do, found out before anything is fetched or written."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ci_registry.dockerfile.model import Dockerfile, Instruction
from ci_registry.dockerfile.stages import BuildArguments, reachable_stages
from ci_registry.errors import SetupError

_OFFICIAL_SYNTAX = re.compile(r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?")
_REMOTE = re.compile(r"(?:https?://|git://|ssh://|git@|github\.com/.*\.git)")
HINT = "builder: buildx or buildah can; assemble only handles Dockerfiles without RUN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One thing that needs another builder."""

    line: int
    reason: str

    def error(self, file: str) -> SetupError:
        """Return the error for it."""
        return SetupError(
            f"assemble can't build this Dockerfile: {self.reason}",
            hint=HINT,
            file=file,
            line=self.line,
        )


def find_refusal(dockerfile: Dockerfile, target: str, arguments: BuildArguments) -> Refusal | None:
    """Return the first thing, in file order, that building `target` needs another builder for.

    Raises:
        BuildError: the stages make no sense.
    """
    if dockerfile.syntax and not _OFFICIAL_SYNTAX.fullmatch(dockerfile.syntax):
        return Refusal(
            line=dockerfile.syntax_line,
            reason=f"# syntax={dockerfile.syntax} is a frontend of its own",
        )
    for stage in reachable_stages(dockerfile, target, arguments):
        if refusal := refusal_in(stage.instructions):
            return refusal
    return None


def refusal_in(instructions: Iterable[Instruction]) -> Refusal | None:
    """Return the first of `instructions` that needs another builder."""
    for instruction in instructions:
        if reason := _reason(instruction):
            return Refusal(line=instruction.first_line, reason=reason)
    return None


def _reason(instruction: Instruction) -> str:
    keyword = instruction.keyword
    if keyword == "RUN":
        command = instruction.text if len(instruction.text) <= 60 else instruction.text[:59] + "…"
        return f"it runs a program: {command}"
    if keyword not in ("ADD", "COPY"):
        return ""
    if keyword == "ADD" and any(is_remote(source) for source in instruction.arguments[:-1]):
        return "ADD of a remote file or repository"
    for flag in ("parents", "keep-git-dir"):
        if instruction.has_flag(flag):
            return f"{keyword} --{flag}"
    if instruction.flag("checksum"):
        return f"{keyword} --checksum"
    chmod = instruction.flag("chmod") or ""
    return f"symbolic {keyword} --chmod={chmod}" if is_symbolic(chmod) else ""


def is_remote(source: str) -> bool:
    """Whether a source of `ADD` lies on another machine."""
    return _REMOTE.match(source) is not None


def is_symbolic(mode: str) -> bool:
    """Whether a mode is written in letters, as for chmod(1); false while a variable is in it."""
    return bool(mode) and "$" not in mode and re.search(r"[ugoa+=,-]", mode) is not None

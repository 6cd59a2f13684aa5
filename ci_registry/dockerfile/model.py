"""The values of a parsed Dockerfile: directives, stages, instructions, flags, heredocs."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """One `<<NAME` of an instruction and the lines up to its terminator."""

    name: str
    content: str
    """As written; `body` has the tabs of `<<-` removed."""
    expand: bool
    """Variables are expanded: no part of the word was quoted."""
    strip_tabs: bool
    """Written `<<-NAME`."""
    file_descriptor: int = 0

    @property
    def body(self) -> str:
        """The content that the file gets, before expansion."""
        if not self.strip_tabs:
            return self.content
        lines = self.content.split("\n")
        return "\n".join(line.lstrip("\t") for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One `--name` or `--name=value` in front of the arguments."""

    name: str
    value: str | None = None
    """None: written without `=`."""

    @property
    def is_true(self) -> bool:
        """The value of a boolean flag."""
        return self.value is None or self.value.lower() == "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction with its continuation lines and heredocs."""

    keyword: str
    """Upper case."""
    text: str
    """The whole instruction on one line, as after joining, heredoc bodies left out."""
    first_line: int
    """1-based."""
    last_line: int
    flags: tuple[Flag, ...] = ()
    arguments: tuple[str, ...] = ()
    """Words, or the JSON array of the exec form, or one string for the shell form; not expanded.

    `HEALTHCHECK` has its type first. Empty for instructions with `pairs`.
    """
    is_exec: bool = False
    """The arguments were written as a JSON array."""
    pairs: tuple[tuple[str, str | None], ...] = ()
    """`ENV`, `LABEL`, `ARG`: name and value, quotes kept, not expanded; None: an `ARG` without default."""
    heredocs: tuple[Heredoc, ...] = ()
    trigger: "Instruction | None" = None
    """What an `ONBUILD` will do."""
    comments: tuple[str, ...] = ()
    """The comment lines directly above, without `#`."""

    def flag(self, name: str) -> str | None:
        """Return the value of a flag given at most once; None when it is absent."""
        return next((f.value or "" for f in self.flags if f.name == name), None)

    def flag_values(self, name: str) -> tuple[str, ...]:
        """Return the values of a flag that may be repeated."""
        return tuple(f.value or "" for f in self.flags if f.name == name)

    def has_flag(self, name: str) -> bool:
        """Whether a boolean flag is given and true."""
        return any(f.name == name and f.is_true for f in self.flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One `FROM` and what follows it."""

    index: int
    name: str
    """Lower case; empty without `AS`."""
    base: str
    """As written, not expanded."""
    platform: str
    """Of `--platform`, not expanded; empty without."""
    origin: Instruction
    """The `FROM` itself."""
    instructions: tuple[Instruction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A whole Dockerfile."""

    file: str
    """Path as the user knows it, for messages."""
    stages: tuple[Stage, ...]
    """At least one."""
    global_args: tuple[Instruction, ...] = ()
    """`ARG` instructions above the first `FROM`."""
    escape: str = "\\"
    syntax: str = ""
    """The frontend image of `# syntax=`; empty without."""
    check: str = ""
    """The options of `# check=`; empty without."""
    syntax_line: int = 0
    warnings: tuple[tuple[int, str], ...] = field(default=())
    """(line, text) of what builds today and is deprecated."""

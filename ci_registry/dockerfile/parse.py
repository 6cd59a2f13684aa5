"""From logical lines to instructions and stages, with every error at its line."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from ci_registry.dockerfile.expand import SPACES, ExpansionError
from ci_registry.dockerfile.lex import Lexed, LogicalLine, lex, parse_heredoc_word
from ci_registry.dockerfile.model import Dockerfile, Flag, Instruction, Stage
from ci_registry.dockerfile.mounts import MountError, mounts_of
from ci_registry.dockerfile.words import (
    NotAllTextError,
    json_array,
    split_blanks,
    split_keyword,
    split_words,
)
from ci_registry.errors import BuildError

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*\Z")
_BOOLEAN, _ONCE, _REPEATED = "boolean", "once", "repeated"
_FLAGS: Mapping[str, Mapping[str, str]] = {
    "ADD": {
        "chown": _ONCE,
        "chmod": _ONCE,
        "link": _BOOLEAN,
        "keep-git-dir": _BOOLEAN,
        "checksum": _ONCE,
        "unpack": _BOOLEAN,
        "exclude": _REPEATED,
    },
    "COPY": {
        "chown": _ONCE,
        "chmod": _ONCE,
        "from": _ONCE,
        "link": _BOOLEAN,
        "parents": _BOOLEAN,
        "exclude": _REPEATED,
    },
    "FROM": {"platform": _ONCE},
    "HEALTHCHECK": dict.fromkeys(
        ("interval", "timeout", "start-period", "start-interval", "retries"), _ONCE
    ),
    "RUN": {"mount": _REPEATED, "network": _ONCE, "security": _ONCE, "device": _REPEATED},
}
_UNCHECKED_FLAGS = frozenset({"ARG", "STOPSIGNAL"})
"""BuildKit reads no flags of these and ignores what stands there."""


class _Problem(ValueError):  # noqa: N818 - becomes a BuildError with file and line
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def parse_dockerfile(text: str, *, file: str) -> Dockerfile:
    """Parse a Dockerfile; `file` is its path as the user knows it.

    Bytes that are no UTF-8 may come in as surrogate escapes.

    Raises:
        BuildError: with file and line: syntax, unknown instruction or flag, wrong arguments, no stage.
    """
    lexed = lex(text, file=file)
    if not lexed.lines:
        raise BuildError("file with no instructions", file=file, line=1)
    instructions = [_located(line, lexed, file) for line in lexed.lines]
    global_args, stages = _stages(instructions, file)
    syntax = lexed.directives.get("syntax")
    check = lexed.directives.get("check")
    return Dockerfile(
        file=file,
        stages=stages,
        global_args=global_args,
        escape=lexed.escape,
        syntax=syntax.value.partition(" ")[0] if syntax else "",
        syntax_line=syntax.line if syntax else 0,
        check=check.value if check else "",
        warnings=lexed.warnings,
    )


def _located(line: LogicalLine, lexed: Lexed, file: str) -> Instruction:
    try:
        instruction = _read(line, line.text, lexed.escape)
        _check(instruction)
    except (_Problem, MountError, ExpansionError, NotAllTextError) as error:
        hint = error.hint if isinstance(error, _Problem) else ""
        raise BuildError(str(error), hint=hint, file=file, line=line.first_line) from error
    return instruction


def _read(line: LogicalLine, text: str, escape: str) -> Instruction:
    """Read one instruction; nothing is checked but what its arguments need to be cut."""
    keyword, raw_flags, rest = split_keyword(text, escape)
    instruction = Instruction(
        keyword=keyword.upper(),
        text=text.strip(SPACES),
        first_line=line.first_line,
        last_line=line.last_line,
        flags=tuple(_flag(raw) for raw in raw_flags),
        heredocs=line.heredocs,
        comments=line.comments,
    )
    if instruction.keyword == "ONBUILD":
        trigger = _read(line, rest, escape) if rest else None
        return replace(instruction, trigger=trigger, heredocs=())
    if not rest:
        return instruction
    reader = _READERS.get(instruction.keyword)
    return reader(instruction, rest, escape) if reader else instruction


def _flag(raw: str) -> Flag:
    name, equals, value = raw.removeprefix("--").partition("=")
    return Flag(name=name, value=value if equals else None)


def _read_blanks(instruction: Instruction, rest: str, _escape: str) -> Instruction:
    return replace(instruction, arguments=split_blanks(rest))


def _read_whole(instruction: Instruction, rest: str, _escape: str) -> Instruction:
    return replace(instruction, arguments=(rest,))


def _read_command(instruction: Instruction, rest: str, _escape: str) -> Instruction:
    members = json_array(rest)
    if members is None:
        return replace(instruction, arguments=(rest,))
    return replace(instruction, arguments=members, is_exec=True)


def _read_list(instruction: Instruction, rest: str, _escape: str) -> Instruction:
    members = json_array(rest)
    if members is None:
        return replace(instruction, arguments=split_blanks(rest))
    return replace(instruction, arguments=members, is_exec=True)


def _read_healthcheck(instruction: Instruction, rest: str, escape: str) -> Instruction:
    kind, *command = re.split(f"[{re.escape(SPACES)}]+", rest, maxsplit=1)
    if not command:
        return replace(instruction, arguments=(kind,))
    inner = _read_command(instruction, command[0], escape)
    return replace(inner, arguments=(kind, *inner.arguments))


def _read_arg(instruction: Instruction, rest: str, escape: str) -> Instruction:
    pairs = []
    for word in split_words(rest, escape):
        name, equals, value = word.partition("=")
        pairs.append((name, value if equals else None))
    return replace(instruction, pairs=tuple(pairs))


def _read_pairs(instruction: Instruction, rest: str, escape: str) -> Instruction:
    """`NAME=value …`, or the old `NAME the whole rest`."""
    words = split_words(rest, escape)
    if not words:
        return instruction
    if "=" not in words[0]:
        parts = split_blanks(rest, 2)
        if len(parts) < 2:
            raise _Problem(f"{instruction.keyword} must have two arguments", "write NAME=value")
        return replace(instruction, pairs=((parts[0], parts[1]),))
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise _Problem(f"can't find = in {word!r}", "it must be of the form NAME=value")
        pairs.append((name, value))
    return replace(instruction, pairs=tuple(pairs))


_READERS: Mapping[str, Callable[[Instruction, str, str], Instruction]] = {
    "ADD": _read_list,
    "ARG": _read_arg,
    "CMD": _read_command,
    "COPY": _read_list,
    "ENTRYPOINT": _read_command,
    "ENV": _read_pairs,
    "EXPOSE": _read_blanks,
    "FROM": _read_blanks,
    "HEALTHCHECK": _read_healthcheck,
    "LABEL": _read_pairs,
    "MAINTAINER": _read_whole,
    "RUN": _read_command,
    "SHELL": _read_command,
    "STOPSIGNAL": _read_whole,
    "USER": _read_whole,
    "VOLUME": _read_list,
    "WORKDIR": _read_whole,
}
KEYWORDS = (*_READERS, "ONBUILD")


def _suggest(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def _check(instruction: Instruction) -> None:
    """Check one instruction as BuildKit does before it builds anything."""
    if instruction.keyword not in KEYWORDS:
        keyword = instruction.text.split(maxsplit=1)[0] if instruction.text else ""
        raise _Problem(
            f"unknown instruction: {keyword}", _suggest(instruction.keyword, tuple(KEYWORDS))
        )
    _CHECKS[instruction.keyword](instruction)
    if instruction.keyword not in _UNCHECKED_FLAGS:
        _check_flags(instruction)
    if instruction.keyword == "RUN":
        _check_run(instruction)


def _check_flags(instruction: Instruction) -> None:
    allowed = _FLAGS.get(instruction.keyword, {})
    if instruction.keyword == "HEALTHCHECK" and instruction.arguments[0].upper() == "NONE":
        return
    seen: set[str] = set()
    for flag in instruction.flags:
        kind = allowed.get(flag.name)
        if kind is None:
            hint = _suggest(flag.name, tuple(allowed)) if allowed else "it takes no flags"
            raise _Problem(f"{instruction.keyword}: unknown flag --{flag.name}", hint)
        if flag.name in seen and kind != _REPEATED:
            raise _Problem(f"{instruction.keyword}: --{flag.name} given twice")
        seen.add(flag.name)
        if kind == _BOOLEAN:
            if flag.value is not None and flag.value.lower() not in ("true", "false"):
                raise _Problem(f"{instruction.keyword}: --{flag.name} is true or false")
        elif flag.value is None:
            raise _Problem(f"{instruction.keyword}: --{flag.name} needs a value")


def _check_some(instruction: Instruction) -> None:
    if not instruction.arguments:
        raise _Problem(f"{instruction.keyword} requires at least one argument")


def _check_one(instruction: Instruction) -> None:
    if len(instruction.arguments) != 1:
        raise _Problem(f"{instruction.keyword} requires exactly one argument")


def _check_pairs(instruction: Instruction) -> None:
    if not instruction.pairs:
        raise _Problem(f"{instruction.keyword} requires at least one argument")
    if not all(name for name, _ in instruction.pairs):
        raise _Problem(f"{instruction.keyword} names can not be blank")


def _check_nothing(_instruction: Instruction) -> None:
    """CMD, ENTRYPOINT and RUN accept anything."""


def _check_copy(instruction: Instruction) -> None:
    if len(instruction.arguments) < 2:
        raise _Problem(
            f"{instruction.keyword} requires at least two arguments: sources, destination"
        )
    if parse_heredoc_word(instruction.arguments[-1]) is not None:
        raise _Problem(f"{instruction.keyword} cannot accept a heredoc as destination")


def _check_from(instruction: Instruction) -> None:
    arguments = instruction.arguments
    if len(arguments) == 3 and arguments[1].lower() == "as":
        if not _STAGE_NAME.match(arguments[2].lower()):
            raise _Problem(
                f"invalid name for build stage: {arguments[2]!r}",
                "names start with a letter and hold letters, digits, '-', '_' and '.'",
            )
    elif len(arguments) != 1:
        raise _Problem("FROM requires either one or three arguments", "FROM image [AS name]")


def _check_onbuild(instruction: Instruction) -> None:
    if instruction.trigger is None:
        raise _Problem("ONBUILD requires at least one argument")
    if instruction.trigger.keyword in ("ONBUILD", "MAINTAINER", "FROM"):
        raise _Problem(f"{instruction.trigger.keyword} isn't allowed as an ONBUILD trigger")


def _check_shell(instruction: Instruction) -> None:
    _check_some(instruction)
    if not instruction.is_exec:
        raise _Problem(
            "SHELL requires the arguments to be in JSON form", 'SHELL ["/bin/bash", "-c"]'
        )


def _check_healthcheck(instruction: Instruction) -> None:
    _check_some(instruction)
    kind, *command = instruction.arguments
    if kind.upper() == "NONE":
        if command:
            raise _Problem("HEALTHCHECK NONE takes no arguments")
    elif kind.upper() != "CMD":
        raise _Problem(f"unknown type {kind!r} in HEALTHCHECK", "CMD or NONE")
    elif not command:
        raise _Problem("missing command after HEALTHCHECK CMD")


def _check_volume(instruction: Instruction) -> None:
    _check_some(instruction)
    if not all(path.strip(SPACES) for path in instruction.arguments):
        raise _Problem("VOLUME specified can not be an empty string")


def _check_run(instruction: Instruction) -> None:
    if (network := instruction.flag("network")) not in (None, "default", "none", "host"):
        raise _Problem(f"invalid network mode {network!r}", "default, none or host")
    if (security := instruction.flag("security")) not in (None, "sandbox", "insecure"):
        raise _Problem(f"invalid security mode {security!r}", "sandbox or insecure")
    mounts_of(instruction)


_CHECKS: Mapping[str, Callable[[Instruction], None]] = {
    "ADD": _check_copy,
    "ARG": _check_pairs,
    "CMD": _check_nothing,
    "COPY": _check_copy,
    "ENTRYPOINT": _check_nothing,
    "ENV": _check_pairs,
    "EXPOSE": _check_some,
    "FROM": _check_from,
    "HEALTHCHECK": _check_healthcheck,
    "LABEL": _check_pairs,
    "MAINTAINER": _check_one,
    "ONBUILD": _check_onbuild,
    "RUN": _check_nothing,
    "SHELL": _check_shell,
    "STOPSIGNAL": _check_one,
    "USER": _check_one,
    "VOLUME": _check_volume,
    "WORKDIR": _check_one,
}


def _stages(
    instructions: list[Instruction], file: str
) -> tuple[tuple[Instruction, ...], tuple[Stage, ...]]:
    global_args: list[Instruction] = []
    stages: list[tuple[Instruction, list[Instruction]]] = []
    for instruction in instructions:
        if instruction.keyword == "FROM":
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif instruction.keyword == "ARG":
            global_args.append(instruction)
        else:
            raise BuildError(
                f"no build stage: {instruction.keyword} stands above the first FROM",
                hint="only ARG may",
                file=file,
                line=instruction.first_line,
            )
    if not stages:
        raise BuildError("no stages to build: there is no FROM", file=file, line=1)
    return tuple(global_args), tuple(
        Stage(
            index=index,
            name=origin.arguments[2].lower() if len(origin.arguments) == 3 else "",
            base=origin.arguments[0],
            platform=origin.flag("platform") or "",
            origin=origin,
            instructions=tuple(body),
        )
        for index, (origin, body) in enumerate(stages)
    )

"""`.dockerignore` files read and matched exactly as `moby/patternmatcher` does, which is not gitignore."""

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ci_registry.dockerfile.expand import SPACES
from ci_registry.dockerfile.glob import GlobError, check_as_go, compile_glob, has_wildcard
from ci_registry.dockerfile.go_regexp import RegexpError, compile_go_regexp
from ci_registry.errors import BuildError

IGNORE_FILE = ".dockerignore"
_MAX_LINE_BYTES = 65_535
_ODD = frozenset("\\[^")
"""Characters with which a pattern may match more than its text shows."""


def ignore_file_for(dockerfile: Path, context: Path, exists: Callable[[Path], bool]) -> Path | None:
    """Return the one ignore file that counts; None when there is none.

    `<Dockerfile>.dockerignore` beside the Dockerfile replaces the context's `.dockerignore`.
    """
    name = dockerfile.name
    if (
        name == "Dockerfile"
        and not exists(dockerfile)
        and exists(dockerfile.with_name("dockerfile"))
    ):
        name = "dockerfile"
    own = dockerfile.with_name(f"{name}{IGNORE_FILE}")
    return next((path for path in (own, context / IGNORE_FILE) if exists(path)), None)


def read_patterns(text: str, *, file: str = IGNORE_FILE) -> tuple[str, ...]:
    """Return the patterns of an ignore file, cleaned, in order; comments and blank lines dropped.

    Raises:
        BuildError: a line is longer than 65,535 bytes.
    """
    patterns = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if len(raw.encode("utf-8", "surrogateescape")) > _MAX_LINE_BYTES:
            raise BuildError("line is too long", file=file, line=number)
        line = raw.removesuffix("\r")
        if line.startswith("#"):
            continue
        line = line.strip(SPACES)
        if not line:
            continue
        negated = line.startswith("!")
        pattern = line[1:].strip(SPACES) if negated else line
        if pattern:
            pattern = clean_path(pattern)
            pattern = pattern[1:] if len(pattern) > 1 and pattern[0] == "/" else pattern
        patterns.append(f"!{pattern}" if negated else pattern)
    return tuple(patterns)


def clean_path(path: str) -> str:
    """Return the shortest equal path, as Go's `filepath.Clean`: a doubled slash in front is one slash."""
    cleaned = posixpath.normpath(path) if path else "."
    return cleaned[1:] if cleaned.startswith("//") else cleaned


class _Kind:
    EXACT, PREFIX, SUFFIX, REGEXP = range(4)


@dataclass(frozen=True, slots=True)
class Match:
    """What the patterns say of one path; the next level down needs it."""

    excluded: bool
    per_pattern: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pattern:
    text: str
    negated: bool
    matches: Callable[[str], bool]

    def may_match_inside(self, directory: str) -> bool:
        """Whether the pattern could match something below `directory`; true when in doubt."""
        parts, inside = self.text.split("/"), directory.split("/")
        for part, name in zip(parts, inside, strict=False):
            if "**" in part or not _ODD.isdisjoint(part):
                return True
            if not (compile_glob(part).fullmatch(name) if has_wildcard(part) else part == name):
                return False
        return len(parts) > len(inside)


class IgnoreMatcher:
    """Decides which paths of a context are left out. Paths have `/`, are relative, and name no `.` or `..`."""

    def __init__(self, patterns: tuple[str, ...], *, file: str = IGNORE_FILE) -> None:
        """Compile `patterns` as `read_patterns` returned them.

        Raises:
            BuildError: a pattern is malformed; `file` says where it came from.
        """
        self._patterns = tuple(
            _compile(pattern, file) for text in patterns if (pattern := text.strip(SPACES))
        )
        self._exceptions = tuple(p for p in self._patterns if p.negated)
        self._directories: dict[str, Match] = {}
        self._folders: dict[str, bool] = {}
        self._any = _matcher(tuple(p.text for p in self._patterns if not p.negated))

    @property
    def has_exceptions(self) -> bool:
        """Whether a `!` pattern exists."""
        return bool(self._exceptions)

    def match(self, path: str, parent: Match | None) -> Match:
        """Match one path given the match of its parent directory (None at the top).

        A pattern that matched the parent counts as matching the path; the last match wins.
        """
        excluded = False
        inherited = parent.per_pattern if parent else ()
        per_pattern = []
        for number, pattern in enumerate(self._patterns):
            matched = bool(inherited) and inherited[number]
            if not matched and pattern.negated == excluded:
                matched = pattern.matches(path)
            per_pattern.append(matched)
            if matched:
                excluded = not pattern.negated
        return Match(excluded, tuple(per_pattern))

    def matches_with_parents(self, path: str) -> bool:
        """Whether `path` is left out, judged through all its parent directories from the top."""
        if not self._patterns:
            return False
        folder = path.rpartition("/")[0]
        if not self._exceptions:
            return self._any(path) or self._excluded_folder(folder)
        return self.match(path, self._directory(folder)).excluded

    def _excluded_folder(self, path: str) -> bool:
        """Whether a folder or one above it is left out, when there is no exception."""
        if not path:
            return False
        known = self._folders.get(path)
        if known is None:
            known = self._any(path) or self._excluded_folder(path.rpartition("/")[0])
            self._folders[path] = known
        return known

    def _directory(self, path: str) -> Match | None:
        if not path:
            return None
        known = self._directories.get(path)
        if known is None:
            known = self.match(path, self._directory(path.rpartition("/")[0]))
            self._directories[path] = known
        return known

    def must_walk(self, directory: str) -> bool:
        """Whether an excluded directory may hold something that a `!` pattern takes back in."""
        return any(pattern.may_match_inside(directory) for pattern in self._exceptions)


def _compile(text: str, file: str) -> _Pattern:
    text = clean_path(text)
    negated = text.startswith("!")
    pattern = text[1:] if negated else text
    if negated and not pattern:
        raise BuildError("a lone '!' is no pattern", file=file, hint="write !path")
    try:
        check_as_go(pattern)
        return _Pattern(text=pattern, negated=negated, matches=_matcher((pattern,)))
    except (GlobError, RegexpError) as error:
        raise BuildError(f"malformed pattern {text!r}: {error}", file=file) from error


def _matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a test for paths that one of `patterns` matches; many patterns cost little more than one."""
    exact: set[str] = set()
    prefixes: list[str] = []
    suffixes: list[str] = []
    expressions: list[str] = []
    for pattern in patterns:
        kind, expression = _to_regexp(pattern)
        if kind == _Kind.EXACT:
            exact.add(pattern)
        elif kind == _Kind.PREFIX:
            prefixes.append(pattern[:-2])
        elif kind == _Kind.SUFFIX:
            suffixes.append(pattern[2:])
            exact.update({pattern[3:]} if pattern[2:3] == "/" else ())
        else:
            expressions.append(compile_go_regexp(expression).pattern)
    starts, ends = tuple(prefixes), tuple(suffixes)
    never = r"(?!)"
    matches = re.compile("|".join(f"(?:{e})" for e in expressions) or never).match

    def match_any(path: str) -> bool:
        return (
            path in exact
            or path.startswith(starts)
            or path.endswith(ends)
            or matches(path) is not None
        )

    return match_any


def _to_regexp(pattern: str) -> tuple[int, str]:
    """Return how a pattern is matched, and the regular expression in Go's syntax."""
    kind, result = _Kind.EXACT, "^"
    pieces = re.findall(r"\*\*/?|\\.|.", pattern, re.DOTALL)
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        if piece.startswith("**"):
            if not last:
                result, kind = result + "(.*/)?", _Kind.REGEXP
            elif kind == _Kind.EXACT:
                kind = _Kind.PREFIX
            else:
                result, kind = result + ".*", _Kind.REGEXP
            kind = _Kind.SUFFIX if number == 0 else kind
        elif piece in ("*", "?"):
            result += "[^/]*" if piece == "*" else "[^/]"
            kind = _Kind.REGEXP
        elif piece in tuple(".+()|{}$"):
            result += f"\\{piece}"
        else:
            result += piece
            kind = _Kind.REGEXP if piece[0] in "\\[]" and piece != "\\" else kind
    return kind, f"{result}$"

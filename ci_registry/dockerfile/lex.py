"""From the text of a Dockerfile to logical lines: directives, continuation lines, comments, heredocs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ci_registry.dockerfile.expand import SPACES, ExpansionError, Rules, expand
from ci_registry.dockerfile.model import Heredoc
from ci_registry.dockerfile.words import NotAllTextError, json_array, split_keyword
from ci_registry.errors import BuildError

MAX_LINE_BYTES = 65_535
_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*\Z")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)[\t\n\f\r ]*([^<]*)\Z", re.ASCII)
_HEREDOC_KEYWORDS = frozenset({"add", "copy", "run"})
_CONTINUATION = {
    escape: re.compile(rf"(?:([^{re.escape(escape)}])|^){re.escape(escape)}[ \t]*\Z")
    for escape in ("\\", "`")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """A `# name=value` at the very top."""

    value: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalLine:
    """One instruction, continuation lines joined."""

    text: str
    first_line: int
    last_line: int
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexed:
    """All logical lines and the directives above them."""

    lines: tuple[LogicalLine, ...]
    escape: str
    directives: dict[str, Directive] = field(default_factory=dict)
    warnings: tuple[tuple[int, str], ...] = ()


def lex(text: str, *, file: str) -> Lexed:
    """Cut a Dockerfile into logical lines.

    Raises:
        BuildError: a line is too long, a directive is given twice, a heredoc is not ended.
    """
    return _Lexer(text, file).run()


def parse_heredoc_word(word: str) -> Heredoc | None:
    """Return the heredoc that a word such as `<<-"EOF"` starts, its content empty; None for other words.

    Raises:
        ExpansionError: its quotes are not closed.
    """
    match = _HEREDOC.match(word)
    if match is None or not match[3]:
        return None
    words = expand(match[3], {}, Rules(keep_unset=True)).words
    if len(words) != 1:
        return None
    quoted = expand(match[3], {}, Rules(keep_unset=True, keep_quotes=True)).words
    return Heredoc(
        name=words[0],
        content="",
        expand=_quotes_in(words[0]) == _quotes_in(quoted[0]),
        strip_tabs=match[2] == "-",
        file_descriptor=int(match[1] or 0),
    )


def _quotes_in(text: str) -> int:
    return text.count("'") + text.count('"')


class _Lexer:
    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._lines = text.removeprefix("\ufeff").split("\n")
        if self._lines[-1] == "":
            self._lines.pop()
        self._number = 0
        self._escape = "\\"
        self._directives: dict[str, Directive] = {}
        self._directives_done = False
        self._warnings: list[tuple[int, str]] = []

    def run(self) -> Lexed:
        self._find_syntax_below_shebang()
        lines = tuple(self._logical_lines())
        return Lexed(
            lines=lines,
            escape=self._escape,
            directives=self._directives,
            warnings=tuple(self._warnings),
        )

    def _error(self, message: str, line: int, hint: str = "") -> BuildError:
        return BuildError(message, file=self._file, line=line, hint=hint)

    def _next(self) -> str | None:
        """Return the next physical line without its newline."""
        if self._number >= len(self._lines):
            return None
        line = self._lines[self._number]
        self._number += 1
        if (
            len(line) > MAX_LINE_BYTES // 4
            and len(line.encode("utf-8", "surrogateescape")) > MAX_LINE_BYTES
        ):
            raise self._error(f"line longer than {MAX_LINE_BYTES} bytes", self._number)
        return line

    def _find_syntax_below_shebang(self) -> None:
        """`# syntax=` counts below a `#!` line too; other directives don't."""
        if not self._lines or not self._lines[0].startswith("#!"):
            return
        for number, line in enumerate(self._lines[1:], start=2):
            name, value = _directive_in(line)
            if name not in _DIRECTIVES:
                return
            if name == "syntax":
                self._directives["syntax"] = Directive(value=value, line=number)
                return

    def _take_directive(self, line: str) -> bool:
        """Whether the line is a directive; the first line that is none ends them."""
        if self._directives_done:
            return False
        name, value = _directive_in(line)
        if name not in _DIRECTIVES:
            self._directives_done = True
            return False
        if name in self._directives:
            raise self._error(f"only one {name} directive can be used", self._number)
        if name == "escape" and value not in _CONTINUATION:
            raise self._error(f"invalid escape directive {value!r}", self._number, "it is ` or \\")
        self._directives[name] = Directive(value=value, line=self._number)
        self._escape = value if name == "escape" else self._escape
        return True

    def _logical_lines(self) -> Iterator[LogicalLine]:
        comments: list[str] = []
        while (raw := self._next()) is not None:
            line = raw.rstrip("\r").lstrip(SPACES)
            is_directive = self._take_directive(line)
            if line.startswith("#"):
                comment = line[1:].strip(SPACES)
                comments = [] if not comment else comments if is_directive else [*comments, comment]
                continue
            if not line:
                continue
            yield replace(self._logical_line(line), comments=tuple(comments))
            comments = []

    def _logical_line(self, line: str) -> LogicalLine:
        first_line = self._number
        text, more = self._cut_continuation(line)
        while more and (raw := self._next()) is not None:
            stripped = raw.lstrip(SPACES)
            if stripped.startswith("#"):
                continue
            if not stripped.rstrip("\r"):
                self._warnings.append((self._number, "empty continuation line"))
                continue
            part, more = self._cut_continuation(raw.rstrip("\r"))
            text += part
        heredocs = self._read_heredocs(text, first_line)
        return LogicalLine(
            text=text, first_line=first_line, last_line=self._number, heredocs=heredocs
        )

    def _cut_continuation(self, line: str) -> tuple[str, bool]:
        match = _CONTINUATION[self._escape].search(line)
        if match is None:
            return line, False
        return line[: match.start()] + (match[1] or ""), True

    def _read_heredocs(self, text: str, first_line: int) -> tuple[Heredoc, ...]:
        if "<<" not in text or not _takes_heredocs(text, self._escape):
            return ()
        try:
            started = _heredocs_in(text)
        except ExpansionError as error:
            raise self._error(f"bad heredoc: {error}", first_line) from error
        return tuple(self._read_heredoc(heredoc, first_line) for heredoc in started)

    def _read_heredoc(self, heredoc: Heredoc, first_line: int) -> Heredoc:
        content: list[str] = []
        while (raw := self._next()) is not None:
            end = raw.rstrip("\r")
            if (end.lstrip("\t") if heredoc.strip_tabs else end) == heredoc.name:
                return replace(heredoc, content="".join(content))
            content.append(raw + "\n")
        raise self._error(f"unterminated heredoc <<{heredoc.name}", first_line)


def _directive_in(line: str) -> tuple[str, str]:
    if not line.startswith("#"):
        return "", ""
    match = _DIRECTIVE.match(line[1:].lstrip(SPACES))
    return (match[1].lower(), match[2]) if match else ("", "")


def _takes_heredocs(text: str, escape: str) -> bool:
    keyword, _, arguments = split_keyword(text, escape)
    if keyword.lower() == "onbuild":
        keyword, _, arguments = split_keyword(arguments, escape)
    if keyword.lower() not in _HEREDOC_KEYWORDS:
        return False
    try:
        return json_array(arguments) is None
    except NotAllTextError:
        return False  # the parser says so, with the line


def _heredocs_in(text: str) -> tuple[Heredoc, ...]:
    rules = Rules(keep_quotes=True, keep_escapes=True, keep_unset=True)
    try:
        words = expand(text, {}, rules).words
    except ExpansionError:
        return ()  # a shell may read it otherwise: BuildKit looks for no heredoc here
    return tuple(h for h in map(parse_heredoc_word, words) if h is not None)

"""Variable expansion and word splitting of Dockerfile instructions, with BuildKit's rules."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
"""What Go's `unicode.IsSpace` calls a space; `str.isspace` knows more characters."""

_SPECIAL_PARAMETERS = frozenset("@*#?-$!0")
_END = ""


class ExpansionError(ValueError):
    """The text can't be expanded; the caller adds file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """What became of one text."""

    text: str
    words: tuple[str, ...]
    """The text split at unquoted spaces, after expansion."""
    used: frozenset[str]
    """Names of variables that were looked up and are set."""
    unset: frozenset[str]
    """Names of variables that were looked up and are not set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a text is expanded; the defaults are those of instruction arguments."""

    escape: str = "\\"
    keep_quotes: bool = False
    """Quotes stay in the result, but still quote."""
    keep_escapes: bool = False
    keep_unset: bool = False
    """`$x` stays as it is when `x` is not set."""
    ignore_quotes: bool = False
    """Quotes are ordinary characters, as in a heredoc body."""


HEREDOC_BODY = Rules(ignore_quotes=True)


def expand(text: str, variables: Mapping[str, str], rules: Rules | None = None) -> Expansion:
    """Expand `$x`, `${x}` and its modifiers `- :- + :+ ? :? # ## % %% / //` in `text`.

    Raises:
        ExpansionError: a quote or brace is not closed, a modifier is unknown, or `?` found no value.
    """
    word = _Word(text, variables, rules or Rules())
    result, words = word.read_until(_END)
    return Expansion(
        text=result,
        words=tuple(words),
        used=frozenset(word.used),
        unset=frozenset(word.unset),
    )


class _Splitter:
    """Collects characters into words; raw characters never separate."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._word = ""

    def add(self, text: str) -> None:
        for char in text:
            if char not in SPACES:
                self._word += char
            elif self._word:
                self._words.append(self._word)
                self._word = ""

    def add_raw(self, text: str) -> None:
        self._word += text

    def finish(self) -> list[str]:
        return [*self._words, self._word] if self._word else self._words


class _Word:
    """A cursor over one text."""

    def __init__(self, text: str, variables: Mapping[str, str], rules: Rules) -> None:
        self._text = text
        self._position = 0
        self._variables = variables
        self._rules = rules
        self._keep_escapes = rules.keep_escapes
        self.used: set[str] = set()
        self.unset: set[str] = set()

    def _peek(self) -> str:
        return self._text[self._position] if self._position < len(self._text) else _END

    def _next(self) -> str:
        char = self._peek()
        self._position += len(char)
        return char

    def read_until(
        self, stop: str, *, keep_escapes: bool | None = None, pattern: bool = False
    ) -> tuple[str, list[str]]:
        """Read to `stop` (or the end); returns the text and its words."""
        before = self._keep_escapes
        if keep_escapes is not None:
            self._keep_escapes = keep_escapes
        try:
            return self._read_until(stop, pattern=pattern)
        finally:
            self._keep_escapes = before

    def _read_until(self, stop: str, *, pattern: bool) -> tuple[str, list[str]]:
        result: list[str] = []
        words = _Splitter()
        while (char := self._peek()) != _END:
            if char == stop:
                self._next()
                return "".join(result), words.finish()
            if char == "$":
                part = self._read_dollar()
                words.add(part)
            elif char == "<" or (char in "'\"" and not self._rules.ignore_quotes):
                part = self._read_quoting(char, pattern=pattern)
                words.add_raw(part)
            elif char == self._rules.escape:
                part = self._read_escape()
                words.add_raw(part)
            else:
                part = self._next()
                words.add(part)
            result.append(part)
        if stop != _END:
            raise ExpansionError(f"unexpected end of statement while looking for matching {stop}")
        return "".join(result), words.finish()

    def _read_quoting(self, char: str, *, pattern: bool) -> str:
        if char == "<":
            return self._read_heredoc_operator()
        if char == "'":
            return self._read_single_quotes(pattern=pattern)
        return self._read_double_quotes(pattern=pattern)

    def _read_escape(self) -> str:
        escape = self._next()
        return (escape if self._keep_escapes else "") + self._next()

    def _read_heredoc_operator(self) -> str:
        """Keep `<< WORD` together: spaces after the operator don't separate."""
        self._next()
        if self._peek() != "<":
            return "<"
        self._next()
        result = "<<"
        while self._peek() in ("\t", "\r", " "):
            result += self._next()
        return result

    def _read_single_quotes(self, *, pattern: bool) -> str:
        quote = self._next()
        result = quote if self._rules.keep_quotes else ""
        while (char := self._next()) != "'":
            if char == _END:
                raise ExpansionError(
                    "unexpected end of statement while looking for matching single-quote"
                )
            result += char * 2 if pattern and char == self._rules.escape else char
        return result + (quote if self._rules.keep_quotes else "")

    def _read_double_quotes(self, *, pattern: bool) -> str:
        quote = self._next()
        result = quote if self._rules.keep_quotes else ""
        while (char := self._peek()) != '"':
            if char == _END:
                raise ExpansionError(
                    "unexpected end of statement while looking for matching double-quote"
                )
            if char == "$":
                result += self._read_dollar()
            elif char == self._rules.escape:
                result += self._read_quoted_escape(pattern=pattern)
            else:
                result += self._next()
        self._next()
        return result + (quote if self._rules.keep_quotes else "")

    def _read_quoted_escape(self, *, pattern: bool) -> str:
        """Within double quotes only the quote, `$` and the escape itself can be escaped."""
        escape = self._next()
        following = self._peek()
        if following == _END:
            return ""
        if following in ('"', "$", self._rules.escape):
            return (escape if self._keep_escapes else "") + self._next()
        doubled = self._keep_escapes and (not self._rules.keep_quotes or pattern)
        return escape * 2 if doubled else escape

    def _read_dollar(self) -> str:
        self._next()
        if self._peek() != "{":
            name = self._read_name()
            if not name:
                return "$"
            value = self._lookup(name)
            return (f"${name}" if self._rules.keep_unset else "") if value is None else value
        self._next()
        if self._peek() == _END:
            raise ExpansionError("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise ExpansionError("syntax error: bad substitution")
        name = self._read_name()
        operator = self._next()
        if operator == "}":
            value = self._lookup(name)
            return (f"${{{name}}}" if self._rules.keep_unset else "") if value is None else value
        if operator == _END:
            raise ExpansionError("syntax error: missing '}'")
        if operator == "/":
            return self._substitute(name)
        return self._modify(name, operator)

    def _read_name(self) -> str:
        first = self._peek()
        if first.isdecimal():
            return self._read_while(str.isdecimal)
        if first and first in _SPECIAL_PARAMETERS:
            return self._next()
        return self._read_while(lambda c: c.isalpha() or c.isdecimal() or c == "_")

    def _read_while(self, accept: Callable[[str], bool]) -> str:
        start = self._position
        while (char := self._peek()) != _END and accept(char):
            self._next()
        return self._text[start : self._position]

    def _lookup(self, name: str) -> str | None:
        value = self._variables.get(name)
        (self.unset if value is None else self.used).add(name)
        return value

    def _read_operand(self, stop: str, *, pattern: bool, keep_escapes: bool) -> str:
        try:
            return self.read_until(stop, keep_escapes=keep_escapes, pattern=pattern)[0]
        except ExpansionError:
            if self._peek() == _END:
                raise ExpansionError(f"syntax error: missing {stop!r} in ${{}}") from None
            raise

    def _modify(self, name: str, operator: str) -> str:
        """Apply `${name<operator>word}`; the cursor stands behind the operator."""
        null_is_unset = operator == ":"
        kind = self._next() if null_is_unset else operator
        shown = f":{kind}" if null_is_unset else kind
        trims = kind in ("#", "%")
        if (trims and null_is_unset) or (not null_is_unset and kind not in tuple("+-?#%")):
            raise ExpansionError(f"unsupported modifier ({shown}) in substitution")
        word = self._read_operand("}", pattern=trims, keep_escapes=trims)
        value = self._lookup(name)
        if value is None and self._rules.keep_unset:
            return f"${{{name}{shown}{word}}}"
        missing = value is None or (null_is_unset and not value)
        if kind == "-":
            return word if missing else value or ""
        if kind == "+":
            return "" if missing else word
        if kind == "?":
            return _required(name, value, word, missing=missing)
        if trims:
            return _trim(value or "", word, kind)
        raise ExpansionError(f"unsupported modifier ({shown}) in substitution")

    def _substitute(self, name: str) -> str:
        """Apply `${name/pattern/replacement}` or `//`; the cursor stands behind the first slash."""
        everywhere = self._peek() == "/"
        if everywhere:
            self._next()
        pattern = self._read_operand("/", pattern=True, keep_escapes=True)
        replacement = self._read_operand("}", pattern=False, keep_escapes=True)
        value = self._lookup(name)
        if value is None and self._rules.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        expression = _shell_pattern(pattern, greedy=True)
        return expression.sub(lambda _: replacement, value or "", count=0 if everywhere else 1)


def _required(name: str, value: str | None, message: str, *, missing: bool) -> str:
    if missing:
        default = "is not allowed to be unset" if value is None else "is not allowed to be empty"
        raise ExpansionError(f"{name}: {message or default}")
    return value or ""


def _trim(value: str, word: str, kind: str) -> str:
    """Remove the shortest (`#`, `%`) or longest (`##`, `%%`) match at the front or the end."""
    greedy = word.startswith(kind)
    pattern = word[1:] if greedy else word
    if kind == "#":
        match = _shell_pattern(pattern, greedy=greedy).match(value)
        return value[match.end() :] if match else value
    # The shortest match at the end is the shortest one at the front of the reversed text.
    match = _shell_pattern(_reversed_pattern(pattern), greedy=greedy).match(value[::-1])
    return value[: len(value) - match.end()] if match else value


def _reversed_pattern(pattern: str) -> str:
    tokens = re.findall(r"\\.|.", pattern, re.DOTALL)
    return "".join(reversed(tokens))


def _shell_pattern(pattern: str, *, greedy: bool) -> re.Pattern[str]:
    """Compile a shell pattern; only `*` and `?` are special, a backslash escapes them."""
    result = ""
    rest = iter(pattern)
    for char in rest:
        if char == "*":
            result += ".*" if greedy else ".*?"
        elif char == "?":
            result += "."
        elif char == "\\":
            escaped = next(rest, _END)
            if escaped not in tuple("*?\\}/"):
                raise ExpansionError(
                    f"invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'"
                )
            result += re.escape(escaped)
        else:
            result += re.escape(char)
    return re.compile(result)

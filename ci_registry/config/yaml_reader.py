"""Strict YAML with file and line: a document becomes nodes that keep their text.

Nothing is guessed here from how a value looks; `conversion.read_as` makes values of the wanted types.
Used for the settings file, policies and waivers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

from ci_registry.errors import ConfigError, Problem

if TYPE_CHECKING:
    import yaml

MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 50_000
"""Counted after aliases are expanded, so a few lines of anchors can't become gigabytes."""
MAX_ALIASES = 50


class Kind(StrEnum):
    """The three shapes of YAML."""

    SCALAR = "a single value"
    LIST = "a list"
    MAPPING = "a mapping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value of a document and where it stands; text is kept as written."""

    kind: Kind
    file: str = ""
    line: int = 0
    text: str = ""
    is_plain: bool = False
    """Whether a scalar stands without quotes, so that it may be a number, `true` or empty."""
    items: tuple["Node", ...] = ()
    entries: tuple[tuple["Node", "Node"], ...] = ()
    """(key, value) in the order of the file; keys are scalars and unique."""
    node_count: int = field(default=1, compare=False)
    """This node and everything below, aliases expanded."""
    document: str = field(default="", repr=False, compare=False)
    span: tuple[int, int, int] = field(default=(0, 0, 0), repr=False, compare=False)
    """Start and end in `document`, and the column of the start."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing, `~` or `null` is written here."""
        return self.is_plain and self.text in ("", "~", "null", "Null", "NULL")

    def get(self, key: str) -> "Node | None":
        """Return the value of `key` of a mapping, or None."""
        return next((value for name, value in self.entries if name.text == key), None)

    def find(self, *path: str) -> "Node | None":
        """Return the value below a path of keys, or None."""
        node: Node | None = self
        for key in path:
            node = node.get(key) if node else None
        return node

    def source_text(self) -> str:
        """Return the YAML source of this node, dedented so that it parses alone, line by line the same."""
        start, end, column = self.span
        first, *rest = self.document[start:end].split("\n")
        return "\n".join([first, *(_without_indent(line, column) for line in rest)]).rstrip() + "\n"


def _without_indent(line: str, column: int) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return line[min(indent, column) :]


def read_document(
    data: bytes, *, file: str, first_line: int = 1, max_bytes: int = MAX_DOCUMENT_BYTES
) -> Node:
    """Parse one YAML document of UTF-8 text into nodes.

    Args:
        data: the bytes of the file, or the text of an inline document.
        file: path as the person named it, for messages.
        first_line: line in `file` at which `data` begins.
        max_bytes: larger input is refused unread.

    Raises:
        ConfigError: not YAML, or it uses what can hide something: duplicate keys, tags, several
            documents, keys that are no text, too many aliases, too deep. All such problems at once.
    """
    if len(data) > max_bytes:
        _refuse(f"{len(data)} bytes, more than the {max_bytes} allowed", file, 0)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        _refuse(f"not UTF-8 text: byte 0x{data[error.start]:02x}", file, line)
    builder = _Builder(text, file, first_line)
    for event in _events(text, file, first_line):
        if not builder.take(event):
            break
    if builder.problems:
        raise ConfigError(tuple(builder.problems))
    return builder.root or Node(kind=Kind.SCALAR, file=file, line=first_line, is_plain=True)


def _refuse(message: str, file: str, line: int) -> NoReturn:
    raise ConfigError((Problem(message=message, file=file, line=line),))


def _events(text: str, file: str, first_line: int) -> Iterator["yaml.Event"]:
    import yaml  # noqa: PLC0415 - a third of the start-up time of commands that read no file

    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first_line + mark.line if mark else 0
        why = ": ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError((Problem(message=f"not YAML: {why}", file=file, line=line),)) from error
    except yaml.reader.ReaderError as error:
        line = first_line + text.count("\n", 0, error.position)
        message = f"not YAML: character U+{ord(text[error.position]):04X} is not allowed"
        raise ConfigError((Problem(message=message, file=file, line=line),)) from error


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    kind: Kind
    line: int
    start: int
    column: int
    anchor: str
    children: list[Node] = field(default_factory=list)


class _Builder:
    """Builds nodes from parse events without recursion, so that depth and size are bounded early."""

    def __init__(self, text: str, file: str, first_line: int) -> None:
        self.problems: list[Problem] = []
        self.root: Node | None = None
        self._text = text
        self._file = file
        self._first_line = first_line
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._alias_count = 0
        self._node_count = 0
        self._documents = 0

    def take(self, event: "yaml.Event") -> bool:
        """Take one event; False means that reading on is pointless or dangerous."""
        import yaml  # noqa: PLC0415 - see above

        line = self._first_line + _place(event.start_mark)[0]
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._problem("a second YAML document begins here", line, "one document per file")
                return False
        if isinstance(event, yaml.NodeEvent) and not isinstance(event, yaml.AliasEvent):
            self._check_tag(event, line)
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style is None
            node = Node(
                kind=Kind.SCALAR, file=self._file, line=line, text=event.value, is_plain=plain
            )
            return self._add(node, event.anchor, 1)
        if isinstance(event, yaml.CollectionStartEvent):
            return self._begin(event, line)
        if isinstance(event, yaml.CollectionEndEvent):
            return self._end(_place(event.end_mark)[1])
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), line)
        return True

    def _problem(self, message: str, line: int, hint: str = "") -> None:
        self.problems.append(Problem(message=message, file=self._file, line=line, hint=hint))

    def _check_tag(self, event: "yaml.NodeEvent", line: int) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = str(tag).replace("tag:yaml.org,2002:", "!!")
            self._problem(f"the tag {shown} is not allowed", line, "the value alone is enough")

    def _begin(self, event: "yaml.CollectionStartEvent", line: int) -> bool:
        import yaml  # noqa: PLC0415 - see above

        kind = Kind.MAPPING if isinstance(event, yaml.MappingStartEvent) else Kind.LIST
        _, index, column = _place(event.start_mark)
        self._open.append(_Open(kind, line, index, column, event.anchor or ""))
        if len(self._open) > MAX_DEPTH:
            self._problem(f"nested more than {MAX_DEPTH} deep", line)
            return False
        return True

    def _end(self, end: int) -> bool:
        done = self._open.pop()
        pairs: tuple[tuple[Node, Node], ...] = ()
        if done.kind is Kind.MAPPING:
            pairs = tuple(zip(done.children[::2], done.children[1::2], strict=True))
            self._check_keys(pairs)
        node = Node(
            kind=done.kind,
            file=self._file,
            line=done.line,
            items=tuple(done.children) if done.kind is Kind.LIST else (),
            entries=pairs,
            node_count=1 + sum(child.node_count for child in done.children),
            document=self._text,
            span=(done.start, end, done.column),
        )
        return self._add(node, done.anchor, 1)

    def _add(self, node: Node, anchor: str | None, new_count: int) -> bool:
        if anchor:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._node_count += new_count
        if self._node_count > MAX_NODES:
            self._problem(f"more than {MAX_NODES} values, aliases included", node.line)
            return False
        return True

    def _alias(self, name: str, line: int) -> bool:
        self._alias_count += 1
        if self._alias_count > MAX_ALIASES:
            self._problem(f"more than {MAX_ALIASES} aliases", line, "write the values out")
            return False
        if name not in self._anchors:
            self._problem(f"the alias *{name} has no anchor before it, or contains itself", line)
            return False
        node = self._anchors[name]
        return self._add(node, None, node.node_count)

    def _check_keys(self, pairs: tuple[tuple[Node, Node], ...]) -> None:
        first_lines: dict[str, int] = {}
        for key, _ in pairs:
            if key.kind is not Kind.SCALAR:
                self._problem(f"a key must be text, this is {key.kind}", key.line)
            elif key.is_plain and key.text == "<<":
                hint = "write the keys out, or use an alias for a whole value"
                self._problem("merge keys (<<) are not supported", key.line, hint)
            elif key.is_plain and _is_no_text(key.text):
                hint = "put it in quotes"
                self._problem(
                    f"a key must be text, this is {key.text or 'empty'!r}", key.line, hint
                )
            elif key.text in first_lines:
                first = first_lines[key.text]
                self._problem(f"duplicate key {key.text!r}, first in line {first}", key.line)
            else:
                first_lines[key.text] = key.line


def _place(mark: Any) -> tuple[int, int, int]:
    """Return line, index and column of a mark, from 0; events that come from text always have one."""
    return (mark.line, mark.index, mark.column) if mark else (0, 0, 0)


def _is_no_text(text: str) -> bool:
    """Whether YAML 1.2's core schema would read a plain scalar as null, boolean or number."""
    if text.lower() in ("", "~", "null", "true", "false", ".nan", ".inf", "-.inf"):
        return True
    digits = text.lstrip("+-")
    return digits[:1].isdigit() and digits.replace("_", "").replace(".", "").isdigit()

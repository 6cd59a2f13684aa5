"""Turns nodes into values by the wanted type, and collects every problem on the way.

Nothing is guessed from how a value looks: `tag: 1.10` stays `1.10` and `mode: off` stays `off`,
because the target type decides. A dataclass is a mapping; its field metadata may say

    key        the key in the file, when it is not the field's name
    hidden     the key is not allowed in a file
    line       the field receives the line of the mapping and is no key
    minimum, maximum     bounds of an int
    pattern, pattern_hint    what a str, or each str of a list, must match
    key_pattern              the same for the keys of a dict
    value_pattern, value_hint    the same for its values
    single     a list of one item may be written without brackets
    masked     a wrong value is not shown: it might be a secret in the wrong place
"""

import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from ci_registry.config.model import InlineDocument
from ci_registry.config.yaml_reader import Kind, Node
from ci_registry.errors import Problem, UsageError
from ci_registry.oci.platform import Platform, parse_platform
from ci_registry.secret import MASK, Secret

T = TypeVar("T")
_FAILED: Final = object()
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class _RefusedError(Exception):
    """One scalar does not fit its type."""

    def __init__(self, expected: str, hint: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.hint = hint


def read_as(
    node: Node,
    target: type[T],
    problems: list[Problem],
    *,
    path: str = "",
    metadata: Mapping[str, Any] = types.MappingProxyType({}),
) -> T | None:
    """Convert `node` to `target`; append every problem to `problems`.

    Args:
        node: a value of a document.
        target: a dataclass, a `StrEnum`, `str`, `int`, `bool`, `timedelta`, `date`, `datetime`,
            `Platform`, `Secret`, `tuple[T, ...]`, `dict[str, T]`, `T | None` or `str | InlineDocument`.
        problems: grows by one entry for each thing that is wrong.
        path: name of the node in messages; empty for the root of a document.
        metadata: limits of the value, as a field would carry them.

    Returns:
        The value, or None when something in it was wrong.
    """
    value = _Conversion(problems).value(node, target, path, metadata)
    return None if value is _FAILED else typing.cast("T", value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the nearest known word (case does not count), or nothing."""
    by_lower = {name.lower(): str(name) for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[close[0]]!r}?" if close else ""


def key_of(field: "Field[Any]") -> str:
    """Return the key that a dataclass field has in a file."""
    return str(field.metadata.get("key", field.name))


def is_hidden(field: "Field[Any]", target: object) -> bool:
    """Whether a field may not stand in a file: marked so, or a section of nothing else."""
    if field.metadata.get("hidden"):
        return True
    if not is_dataclass(target) or target in _SCALARS:
        return False
    return all(f.metadata.get("hidden") for f in fields(target))


def format_duration(value: timedelta) -> str:
    """Return a duration as it is written in a file: `48h`, `90s`."""
    seconds = int(value.total_seconds())
    if seconds % 86400 == 0 and seconds > 2 * 86400:
        return f"{seconds // 86400}d"
    if seconds % 3600 == 0:
        return f"{seconds // 3600}h"
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


class _Conversion:
    """One walk over a node; every method returns the value or `_FAILED`."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems

    def value(self, node: Node, target: Any, path: str, meta: Mapping[str, Any]) -> object:
        origin, arguments = typing.get_origin(target), typing.get_args(target)
        if origin in (types.UnionType, typing.Union):
            return self._union(node, arguments, path, meta)
        if is_dataclass(target) and target not in _SCALARS:
            return self._dataclass(node, typing.cast("type", target), path)
        if origin is tuple:
            return self._list(node, arguments[0], path, meta)
        if origin is dict:
            return self._mapping(node, arguments[1], path, meta)
        return self._scalar(node, target, path, meta)

    def _fail(self, node: Node, message: str, hint: str = "") -> object:
        self._problems.append(Problem(message=message, file=node.file, line=node.line, hint=hint))
        return _FAILED

    def _expected(
        self, node: Node, path: str, expected: str, hint: str = "", *, masked: bool = False
    ) -> object:
        if node.is_empty:
            hint = "leave the key out or give it a value"
            return self._fail(node, f"{path or 'the document'} has no value", hint)
        found = str(node.kind) if node.kind is not Kind.SCALAR else _shown(node, masked=masked)
        message = f"{path or 'the document'} must be {expected}, not {found}"
        return self._fail(node, message, hint)

    def _union(
        self, node: Node, targets: tuple[Any, ...], path: str, meta: Mapping[str, Any]
    ) -> object:
        if InlineDocument in targets and node.kind is Kind.MAPPING:
            return InlineDocument(text=node.source_text(), file=node.file, line=node.line)
        wanted = next(t for t in targets if t not in (InlineDocument, types.NoneType))
        return self.value(node, wanted, path, meta)

    def _list(self, node: Node, target: Any, path: str, meta: Mapping[str, Any]) -> object:
        if node.kind is Kind.SCALAR and meta.get("single") and not node.is_empty:
            value = self.value(node, target, path, meta)
            return _FAILED if value is _FAILED else (value,)
        if node.kind is not Kind.LIST:
            shown = node.kind is Kind.SCALAR and not meta.get("masked")
            hint = f"write it as a list: [{_clip(node.text)}]" if shown else ""
            return self._expected(node, path, "a list", hint)
        if meta.get("single") and not node.items:
            return self._fail(
                node, f"{path or 'the document'} is an empty list", "name one at least"
            )
        values = [
            self.value(item, target, f"{path}[{number}]", meta)
            for number, item in enumerate(node.items)
        ]
        return _FAILED if _FAILED in values else tuple(values)

    def _mapping(self, node: Node, target: Any, path: str, meta: Mapping[str, Any]) -> object:
        if node.is_empty:
            return {}
        if node.kind is not Kind.MAPPING:
            return self._expected(node, path, "a mapping")
        result = {}
        pattern = meta.get("key_pattern", "")
        limits = {"pattern": meta.get("value_pattern"), "pattern_hint": meta.get("value_hint")}
        for key, item in node.entries:
            if pattern and not re.fullmatch(pattern, key.text):
                result[key.text] = self._fail(
                    key, f"{_join(path, key.text)}: the name must match {pattern}"
                )
            else:
                result[key.text] = self.value(item, target, _join(path, key.text), limits)
        return _FAILED if _FAILED in result.values() else result

    def _scalar(self, node: Node, target: Any, path: str, meta: Mapping[str, Any]) -> object:
        if node.kind is not Kind.SCALAR or node.is_empty:
            return self._expected(node, path, _name_of(target))
        try:
            if isinstance(target, type) and issubclass(target, StrEnum):
                return _word(node.text, target)
            return _SCALARS[target](node, meta)
        except _RefusedError as error:
            masked = bool(meta.get("masked"))
            return self._expected(node, path, error.expected, error.hint, masked=masked)

    def _dataclass(self, node: Node, target: type, path: str) -> object:
        if node.kind is not Kind.MAPPING and not node.is_empty:
            return self._expected(node, path, "a mapping")
        hints = typing.get_type_hints(target)
        by_key = {key_of(f): f for f in fields(target) if not f.metadata.get("line")}
        values: dict[str, object] = {
            f.name: node.line for f in fields(target) if f.metadata.get("line")
        }
        for key, item in node.entries:
            field = by_key.get(key.text)
            if field is None or is_hidden(field, hints[field.name]):
                values[f"?{key.text}"] = self._unknown_key(key, field, by_key, hints, path)
            else:
                where = _join(path, key.text)
                values[field.name] = self.value(item, hints[field.name], where, field.metadata)
        for name, field in by_key.items():
            required = field.default is MISSING and field.default_factory is MISSING
            if required and node.get(name) is None:
                values[field.name] = self._fail(node, f"{_join(path, name)} is missing")
        return _FAILED if _FAILED in values.values() else target(**values)

    def _unknown_key(
        self,
        key: Node,
        field: "Field[Any] | None",
        by_key: Mapping[str, "Field[Any]"],
        hints: Mapping[str, Any],
        path: str,
    ) -> object:
        if field is not None:
            hint = "it comes from the environment or the command line"
            return self._fail(key, f"{_join(path, key.text)} is never read from a file", hint)
        known = [name for name, f in by_key.items() if not is_hidden(f, hints[f.name])]
        hint = did_you_mean(key.text, known) or f"known here: {', '.join(known)}"
        where = f" in {path}" if path else ""
        return self._fail(key, f"unknown key {_clip(key.text)!r}{where}", hint)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"


def _shown(node: Node, *, masked: bool) -> str:
    if masked:
        return MASK
    return _clip(node.text) if node.is_plain else f'"{_clip(node.text)}"'


def _name_of(target: Any) -> str:
    if isinstance(target, type) and issubclass(target, StrEnum):
        return f"one of {', '.join(target)}" if len(target) > 1 else next(str(w) for w in target)
    return _NAMES[target]


def _word(text: str, target: type[StrEnum]) -> StrEnum:
    try:
        return target(text)
    except ValueError:
        raise _RefusedError(_name_of(target), did_you_mean(text, list(target))) from None


def _text(node: Node, meta: Mapping[str, Any]) -> str:
    pattern = meta.get("pattern", "")
    if pattern and not re.fullmatch(pattern, node.text):
        raise _RefusedError(meta.get("pattern_hint") or f"text that matches {pattern}")
    return node.text


def _integer(node: Node, meta: Mapping[str, Any]) -> int:
    minimum, maximum = meta.get("minimum"), meta.get("maximum")
    expected = _expected_number(minimum, maximum)
    if not node.is_plain:
        raise _RefusedError(expected, "without quotes")
    if not _INTEGER.fullmatch(node.text):
        raise _RefusedError(expected)
    number = int(node.text)
    if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        raise _RefusedError(expected)
    return number


def _expected_number(minimum: int | None, maximum: int | None) -> str:
    if minimum is None:
        return _NAMES[int]
    if minimum == maximum:
        return str(minimum)
    return f"{_NAMES[int]} from {minimum}" + (f" to {maximum}" if maximum is not None else "")


def _boolean(node: Node, _meta: Mapping[str, Any]) -> bool:
    if node.is_plain and node.text in ("true", "false"):
        return node.text == "true"
    raise _RefusedError("true or false", "without quotes" if not node.is_plain else "")


def _duration(node: Node, _meta: Mapping[str, Any]) -> timedelta:
    match = _DURATION.fullmatch(node.text)
    if match is None or int(match[1]) == 0:
        raise _RefusedError(_NAMES[timedelta])
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _day(node: Node, _meta: Mapping[str, Any]) -> date:
    try:
        if _DAY.fullmatch(node.text):
            return date.fromisoformat(node.text)
    except ValueError as error:
        raise _RefusedError(_NAMES[date], str(error)) from None
    raise _RefusedError(_NAMES[date])


def _moment(node: Node, _meta: Mapping[str, Any]) -> datetime:
    try:
        moment = datetime.fromisoformat(node.text)
    except ValueError:
        raise _RefusedError(_NAMES[datetime]) from None
    if moment.tzinfo is None:
        raise _RefusedError(_NAMES[datetime], "the time zone is missing")
    return moment.astimezone(UTC)


def _platform(node: Node, _meta: Mapping[str, Any]) -> Platform:
    try:
        return parse_platform(node.text)
    except UsageError as error:
        raise _RefusedError(_NAMES[Platform], error.hint) from None


def _secret(node: Node, _meta: Mapping[str, Any]) -> Secret:
    return Secret(node.text)


_SCALARS: Mapping[Any, Callable[[Node, Mapping[str, Any]], object]] = {
    str: _text,
    int: _integer,
    bool: _boolean,
    timedelta: _duration,
    date: _day,
    datetime: _moment,
    Platform: _platform,
    Secret: _secret,
}
_NAMES: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    timedelta: "a duration such as 30s, 15m, 48h or 7d",
    date: "a day such as 2026-12-31",
    datetime: "a time such as 2026-12-31T12:00:00Z",
    Platform: "a platform such as linux/amd64",
    Secret: "text",
}

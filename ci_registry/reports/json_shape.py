"""Turns the result values into JSON, and their types into JSON Schema: one walk, so both agree."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import Enum, IntEnum, StrEnum
from typing import Any

from ci_registry.findings import Inventory
from ci_registry.oci.platform import Platform

Json = Any
_LEFT_OUT = {(Inventory, "packages")}
"""The SBOM has them, and a report of twenty images would carry them twenty times."""


def to_plain(value: object) -> Json:  # noqa: PLR0911 - one line per kind of value
    """Return a value as JSON types; times in UTC, platforms as `os/architecture`."""
    match value:
        case Platform():
            return str(value)
        case IntEnum():
            return int(value)
        case StrEnum():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Mapping():
            return {str(key): to_plain(item) for key, item in value.items()}
        case list() | tuple():
            return [to_plain(item) for item in value]
        case str():
            return str(value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {name: to_plain(getattr(value, name)) for name in _names_of(type(value))}
        case _:
            return value


def _names_of(kind: type) -> list[str]:
    return [f.name for f in dataclasses.fields(kind) if (kind, f.name) not in _LEFT_OUT]


class SchemaWriter:
    """Writes the schema of types, with every dataclass once under `$defs`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Json] = {}

    def of(self, kind: Any) -> Json:
        """Return the schema of one type."""
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind is not Platform:
            return self._of_dataclass(kind)
        if isinstance(kind, type) and issubclass(kind, Enum):
            return {"enum": [to_plain(member) for member in kind]}
        origin = typing.get_origin(kind)
        if origin in (types.UnionType, typing.Union):
            return {"anyOf": [self.of(part) for part in typing.get_args(kind)]}
        if origin is tuple:
            return self._of_tuple(typing.get_args(kind))
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(typing.get_args(kind)[1])}
        return _simple(kind)

    def _of_tuple(self, parts: tuple[Any, ...]) -> Json:
        if len(parts) == 2 and parts[1] is Ellipsis:
            return {"type": "array", "items": self.of(parts[0])}
        items = [self.of(part) for part in parts]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}

    def _of_dataclass(self, kind: type) -> Json:
        name = kind.__name__
        if name not in self.definitions:
            self.definitions[name] = {}  # a type that contains itself finds its name
            hints = typing.get_type_hints(kind)
            names = _names_of(kind)
            self.definitions[name] = {
                "type": "object",
                "required": names,
                "properties": {name: self.of(hints[name]) for name in names},
            }
        return {"$ref": f"#/$defs/{name}"}


def _simple(kind: Any) -> Json:
    if kind is type(None):
        return {"type": "null"}
    if kind is datetime:
        return {"type": "string", "format": "date-time"}
    if kind is date:
        return {"type": "string", "format": "date"}
    for base, name in ((bool, "boolean"), (int, "integer"), (float, "number")):
        if kind is base:
            return {"type": name}
    return {"type": "string"}

"""The JSON schema of `.ci-registry.yml`, for editors; made from the model like the reader itself."""

import types
import typing
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from ci_registry.config.conversion import is_hidden, key_of
from ci_registry.config.model import InlineDocument, Settings
from ci_registry.config.options import default_of, format_value
from ci_registry.oci.platform import Platform

_SCALAR_TYPES = ["string", "number", "boolean"]
"""What text may look like in YAML: `tag: 1.10` is read as the text `1.10`."""


def json_schema() -> dict[str, Any]:
    """Return the schema of the settings file, JSON Schema draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of ci-registry",
        **_dataclass_schema(Settings),
    }


def _dataclass_schema(owner: type) -> dict[str, Any]:
    hints = typing.get_type_hints(owner)
    properties = {
        key_of(item): _field_schema(item, hints[item.name])
        for item in fields(owner)
        if not is_hidden(item, hints[item.name])
    }
    description = (owner.__doc__ or "").split("\n", 1)[0]
    return {
        "description": description,
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
    }


def _field_schema(item: "Field[Any]", target: Any) -> dict[str, Any]:
    schema = _type_schema(target, item.metadata)
    if "help" in item.metadata:
        schema["description"] = item.metadata["help"]
        default = default_of(item)
        if default not in ("", (), {}):
            schema["default"] = _json_value(default)
    return schema


def _type_schema(target: Any, meta: Mapping[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(target), typing.get_args(target)
    if origin is types.UnionType:
        forms = [
            {"type": "object"} if t is InlineDocument else _type_schema(t, meta) for t in arguments
        ]
        return {"anyOf": forms}
    if origin is tuple:
        item = _type_schema(arguments[0], meta)
        if meta.get("single"):
            return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}
        return {"type": "array", "items": item}
    if origin is dict:
        pattern = meta.get("key_pattern")
        names = {"propertyNames": {"pattern": f"^(?:{pattern})$"}} if pattern else {}
        limits = {"pattern": meta["value_pattern"]} if "value_pattern" in meta else {}
        return {
            "type": ["object", "null"],
            "additionalProperties": _type_schema(arguments[1], limits),
            **names,
        }
    if is_dataclass(target) and target is not Platform:
        return _dataclass_schema(typing.cast("type", target))
    return _scalar_schema(target, meta)


def _scalar_schema(target: Any, meta: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(target, type) and issubclass(target, StrEnum):
        return {"type": "string", "enum": [str(word) for word in target]}
    if target is bool:
        return {"type": "boolean"}
    if target is int:
        return {"type": "integer", **{k: meta[k] for k in ("minimum", "maximum") if k in meta}}
    if target is timedelta:
        return {"type": "string", "pattern": "^(?!0+[smhd]$)[0-9]{1,6}[smhd]$"}
    if target is Platform:
        return {"type": "string", "pattern": r"^[^/\s]+/[^/\s]+(?:/[^/\s]+)?$"}
    if "pattern" in meta:
        return {"type": _SCALAR_TYPES, "pattern": f"^(?:{meta['pattern']})$"}
    return {"type": _SCALAR_TYPES}


def _json_value(value: object) -> object:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, tuple):
        return [_json_value(item) for item in value]
    return format_value(value)

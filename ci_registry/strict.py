"""Bounded, strict reading of foreign bytes: JSON here; tar archives are bounded in `inventory/`."""

import json
import math
import re
from itertools import accumulate
from typing import Any

from ci_registry.errors import IntegrityError

MAX_JSON_BYTES = 4 * 1024 * 1024
MAX_JSON_DEPTH = 64
_MAX_SIZE = 2**63 - 1
"""Sizes are int64 in the specifications."""
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string, or what an unfinished one goes on to; possessive, so that no input is gone through twice."""
_STEP_OF_BRACKET = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in _STEP_OF_BRACKET)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"duplicate key {twice!r}")
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"number out of range: {text}")
    return number


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _depth_of(data: bytes) -> int:
    """Return the deepest nesting of brackets outside strings, without recursion."""
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    steps = map(_STEP_OF_BRACKET.__getitem__, brackets)
    return max(accumulate(steps, initial=0))


def parse_json(
    data: bytes, *, what: str, max_bytes: int = MAX_JSON_BYTES, strict: bool = True
) -> object:
    """Parse UTF-8 JSON and refuse what can hide something: duplicate keys, NaN, a BOM, deep nesting.

    Half surrogate pairs are refused too: text with one in it can't be written to any report.

    Args:
        data: the bytes as received.
        what: names the document in the error, for example `manifest sha256:…`.
        max_bytes: larger input is refused unread.
        strict: also refuse duplicate keys and count the nesting depth; large trusted documents
            (a scanner's report) may leave it out for speed.

    Raises:
        IntegrityError: the input is too large, not UTF-8, not JSON, or breaks one of the rules.
    """
    if len(data) > max_bytes:
        raise IntegrityError(f"{what}: {len(data)} bytes of JSON, more than {max_bytes} allowed")
    if strict and (data.count(b"[") + data.count(b"{")) > MAX_JSON_DEPTH:
        depth = _depth_of(data)
        if depth > MAX_JSON_DEPTH:
            raise IntegrityError(f"{what}: JSON nested {depth} deep, more than {MAX_JSON_DEPTH}")
    try:
        text = data.decode("utf-8")
        if text.startswith("\ufeff"):
            raise ValueError("starts with a byte order mark")
        value = json.loads(
            text,
            object_pairs_hook=_no_duplicates if strict else None,
            parse_float=_finite if strict else None,
            parse_constant=_no_constant,
        )
        if _SURROGATE_ESCAPE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # raises for half a pair
        return value
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{what}: not valid JSON: {error}") from error


def as_object(value: object, *, what: str) -> dict[str, object]:
    """Return `value` as a JSON object or raise `IntegrityError`."""
    if not isinstance(value, dict):
        raise IntegrityError(f"{what}: expected a JSON object, found {type(value).__name__}")
    return value


def as_list(value: object, *, what: str) -> list[object]:
    """Return `value` as a JSON array or raise `IntegrityError`."""
    if not isinstance(value, list):
        raise IntegrityError(f"{what}: expected a JSON array, found {type(value).__name__}")
    return value


def as_text(value: object, *, what: str) -> str:
    """Return `value` as a JSON string or raise `IntegrityError`."""
    if not isinstance(value, str):
        raise IntegrityError(f"{what}: expected a JSON string, found {type(value).__name__}")
    return value


def as_size(value: object, *, what: str) -> int:
    """Return `value` as a non-negative JSON integer or raise `IntegrityError`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_SIZE:
        raise IntegrityError(f"{what}: expected a size in bytes, found {value!r}")
    return value

"""Secret strings that do not print, and a masker that keeps them out of text made elsewhere."""

import base64
import dataclasses
import enum
import html
import json
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import TypeVar

Value = TypeVar("Value")

MASK = "***"
_SHORTEST_MASKED = 4
"""Shorter values are not masked: they would turn every log into stars and protect nothing."""
_SHORTEST_INNER = 8
"""Shortest part of a base64 text that is masked inside a longer one."""
_MIXED_AT_START = (0, 2, 3)
"""How many base64 characters also hold bytes from before the secret, by its offset modulo 3."""


class Secret:
    """A string that prints as `***`; `reveal()` is the only way to its value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself; the caller must not put it into argv, logs or exceptions."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__


class Masker:
    """Replaces known secrets by `***`, in every form in which they turn up in logs and reports.

    Those are the value, each of its lines, and the same in base64 (alone, and inside a longer text
    such as `user:password`), URL-encoded, and escaped for JSON, XML and HTML. Threads may share it.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._lock = threading.Lock()
        self._forms: tuple[str, ...] = ()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: Secret) -> None:
        """Mask `secret` from now on: the whole value and each of its lines of 4 characters or more."""
        value = secret.reveal()
        forms: set[str] = set()
        for text in {value, value.strip(), *(line.strip() for line in value.splitlines())}:
            if len(text.strip()) >= _SHORTEST_MASKED:
                forms |= {text, *_base64_forms(text), *_escaped_forms(text)}
        with self._lock:
            forms |= set(self._forms)
            self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def mask(self, text: str) -> str:
        """Return `text` with every known secret replaced."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def mask_value(self, value: Value) -> Value:
        """Return a copy of a frozen value with every text in it masked; enumerations stay.

        Goes through dataclasses, tuples, lists and the values of dicts. Mask values before they are
        rendered: a replacement inside JSON or XML could break it.
        """
        return self._masked(value) if self._forms else value  # type: ignore[return-value]  # same type

    def _masked(self, value: object) -> object:
        if isinstance(value, enum.Enum):
            return value
        if isinstance(value, str):
            masked = self.mask(value)
            return value if masked == value else masked
        if isinstance(value, tuple | list):
            items = [self._masked(item) for item in value]
            return type(value)(items) if _differ(items, value) else value
        if isinstance(value, dict):
            texts = {key: self._masked(item) for key, item in value.items()}
            return texts if _differ(texts.values(), value.values()) else value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            old = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            new = {name: self._masked(item) for name, item in old.items()}
            return (
                dataclasses.replace(value, **new) if _differ(new.values(), old.values()) else value
            )
        return value


def _differ(new: Iterable[object], old: Iterable[object]) -> bool:
    return any(a is not b for a, b in zip(new, old, strict=True))


def _base64_forms(text: str) -> Iterator[str]:
    raw = text.encode("utf-8", "surrogatepass")
    whole = base64.b64encode(raw).decode()
    found = [whole, whole.rstrip("=")]
    for offset, mixed in enumerate(_MIXED_AT_START):
        padded = bytes(offset) + raw
        inner = base64.b64encode(padded).decode().rstrip("=")[mixed:]
        inner = inner[:-1] if len(padded) % 3 else inner
        if len(inner) >= _SHORTEST_INNER:
            found.append(inner)
    for form in found:
        yield form
        yield form.replace("+", "-").replace("/", "_")


def _escaped_forms(text: str) -> Iterator[str]:
    for quoted in (
        urllib.parse.quote(text, safe="", errors="replace"),
        urllib.parse.quote_plus(text, errors="replace"),
    ):
        yield quoted
        yield _lower_escapes(quoted)
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield html.escape(text, quote=False)
    yield html.escape(text)


def _lower_escapes(quoted: str) -> str:
    first, *rest = quoted.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in rest)])

"""Secret strings that do not print, and a masker that keeps them out of text made elsewhere."""

import base64
import urllib.parse
from collections.abc import Iterable

MASK = "***"
_SHORTEST_MASKED = 4
"""Shorter values are not masked: they would turn every log into stars and protect nothing."""


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
    """Replaces known secrets, and their base64 and URL-encoded forms, by `***`."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: Secret) -> None:
        """Mask `secret` from now on: the whole value and each of its lines of 4 characters or more."""
        value = secret.reveal()
        forms = set(self._forms)
        for text in (value, value.strip(), *value.splitlines()):
            if len(text.strip()) < _SHORTEST_MASKED:
                continue
            raw = text.encode()
            forms |= {text, urllib.parse.quote(text, safe=""), urllib.parse.quote_plus(text)}
            forms |= {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
            forms.add(base64.b64encode(raw).decode().rstrip("="))
        self._forms = tuple(sorted(forms, key=len, reverse=True))

    def mask(self, text: str) -> str:
        """Return `text` with every known secret replaced."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

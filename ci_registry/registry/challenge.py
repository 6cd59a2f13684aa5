"""Reads `WWW-Authenticate` fields (RFC 9110, 11.6.1)."""

import re
from dataclasses import dataclass

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_WORD})(?:\s+|$|(?=,))")
_PARAMETER = re.compile(rf'\s*,?\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_MAX_CHARACTERS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge: a scheme in lower case and its parameters."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(fields: tuple[str, ...]) -> tuple[Challenge, ...]:
    """Return the challenges of all fields, in order; what does not parse is left out."""
    return tuple(challenge for text in fields for challenge in _parse(text[:_MAX_CHARACTERS]))


def _parse(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while position < len(text):
        parameter = _PARAMETER.match(text, position) if found else None
        if parameter is not None:
            quoted = parameter[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else parameter[3]
            found[-1].parameters.setdefault(parameter[1].lower(), value)
            position = parameter.end()
            continue
        scheme = _SCHEME.match(text, position)
        if scheme is None or scheme.end() == position:
            break
        found.append(Challenge(scheme=scheme[1].lower(), parameters={}))
        position = scheme.end()
    return found

"""Waivers: findings that somebody answers for until a day."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from ci_registry.config.conversion import read_as
from ci_registry.config.yaml_reader import read_document
from ci_registry.errors import ConfigError, Problem
from ci_registry.findings import Package
from ci_registry.policy.model import image_matches
from ci_registry.policy.reader import IMAGES, IMAGES_HINT, NOT_BLANK, ONE_LINE

LONGEST = timedelta(days=366)
"""How far ahead a waiver may expire."""


class Justification(StrEnum):
    """Why a vulnerability does not affect the image, in the words of VEX."""

    COMPONENT_NOT_PRESENT = "component_not_present"
    CODE_NOT_PRESENT = "vulnerable_code_not_present"
    CODE_NOT_IN_EXECUTE_PATH = "vulnerable_code_not_in_execute_path"
    CODE_CANNOT_BE_CONTROLLED = "vulnerable_code_cannot_be_controlled_by_adversary"
    INLINE_MITIGATIONS = "inline_mitigations_already_exist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One accepted vulnerability, with owner, reason and last day."""

    id: str
    vulnerabilities: tuple[str, ...]
    owner: str
    reason: str
    expires: date
    """Holds until the end of this day in UTC."""
    packages: tuple[str, ...] = ()
    """purls, with or without version; empty: every package."""
    images: tuple[str, ...] = ()
    """Names or `registry/repository`, `*` for any text; empty: every image."""
    justification: str = ""
    approved_by: str = ""
    ticket: str = ""
    file: str = ""
    line: int = 0

    def is_about(self, image: str, repositories: tuple[str, ...]) -> bool:
        """Whether the waiver is meant for this image."""
        return not self.images or image_matches(self.images, image, repositories)

    def covers(self, ids: frozenset[str], package: Package) -> bool:
        """Whether it names one of `ids` (case-folded) and, if it names packages, this one."""
        if not any(name.casefold() in ids for name in self.vulnerabilities):
            return False
        known = {
            unquote(purl.partition("?")[0].partition("#")[0])
            for purl in (package.purl, package.purl_without_version)
        }
        return not self.packages or any(unquote(text) in known for text in self.packages)


def _text(key: str, pattern: str = ONE_LINE, hint: str = "text") -> Any:
    return field(default=None, metadata={"key": key, "pattern": pattern, "pattern_hint": hint})


def _must(pattern: str, hint: str) -> Any:
    return field(metadata={"pattern": pattern, "pattern_hint": hint})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    id: str = _must(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "letters, digits, '.', '_' and '-'")
    vulnerabilities: tuple[str, ...] = _must(
        r"[A-Za-z][A-Za-z0-9]*[-:][A-Za-z0-9._:-]+", "a whole id such as CVE-2026-0001, no wildcard"
    )
    owner: str = _must(ONE_LINE, "the name of who answers for it")
    reason: str = _must(NOT_BLANK, "a sentence that says why")
    expires: date
    packages: tuple[str, ...] | None = _text(
        "packages",
        r"pkg:[a-z][a-z0-9.+-]*/[^\s*?#]+",
        "a purl such as pkg:deb/debian/openssl, no wildcard and no qualifiers",
    )
    images: tuple[str, ...] | None = _text("images", IMAGES, IMAGES_HINT)
    justification: Justification | None = None
    approved_by: str | None = _text("approvedBy")
    ticket: str | None = _text("ticket")
    line: int = field(default=0, metadata={"line": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    waivers: tuple[_Item, ...]


def read_waivers(data: bytes, *, file: str, today: date) -> tuple[Waiver, ...]:
    """Read a waiver file; expired waivers are valid and returned, they only no longer apply.

    Raises:
        ConfigError: every problem found, each with file and line.
    """
    problems: list[Problem] = []
    document = read_as(read_document(data, file=file), _Document, problems)
    if document is not None:
        problems += [
            Problem(message=message, file=file, line=line, hint=hint)
            for message, line, hint in _contradictions(document.waivers, today)
        ]
    if document is None or problems:
        raise ConfigError(tuple(problems))
    return tuple(_waiver(item, file) for item in document.waivers)


def _contradictions(items: tuple[_Item, ...], today: date) -> Iterator[tuple[str, int, str]]:
    lines: dict[str, int] = {}
    for number, item in enumerate(items):
        where = f"waivers[{number}]"
        if item.id in lines:
            yield (
                f"{where}: duplicate id {item.id!r}, first in line {lines[item.id]}",
                item.line,
                "",
            )
        lines.setdefault(item.id, item.line)
        for name in ("vulnerabilities", "packages", "images"):
            if getattr(item, name) == ():
                yield f"{where}.{name} is empty", item.line, "name at least one"
        if item.expires > today + LONGEST:
            latest = today + LONGEST
            message = f"{where}.expires is {item.expires}, more than a year ahead"
            yield message, item.line, f"at the latest {latest}"


def _waiver(item: _Item, file: str) -> Waiver:
    return Waiver(
        id=item.id,
        vulnerabilities=item.vulnerabilities,
        owner=item.owner,
        reason=" ".join(item.reason.split()),
        expires=item.expires,
        packages=item.packages or (),
        images=item.images or (),
        justification=str(item.justification or ""),
        approved_by=item.approved_by or "",
        ticket=item.ticket or "",
        file=file,
        line=item.line,
    )

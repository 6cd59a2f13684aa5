"""Decides whether an advisory is about the module stream that an RPM was built by.

A module (`nodejs:18`) has packages of the same names as the distribution's own and as other streams
of it, with unrelated versions. Records do not name the stream of an entry; the fixed version shows
that it is about a module, and the summary says about which: `Moderate: nodejs:18 security update`.
"""

import re

from ci_registry.advisories.osv import Advisory, Affected
from ci_registry.advisories.ranges import Answer
from ci_registry.findings import Package

_MARK = re.compile(r"\.module[+_]el")
_STREAM = re.compile(r"(?<![^\s(])(\w[\w.+-]*:[\w.+-]+)(?![^\s,;)])", re.ASCII)
_FIXES = frozenset({"fixed", "last_affected"})


def concerns_stream(package: Package, advisory: Advisory, affected: Affected) -> Answer:
    """Say whether an entry is about the stream of this package; NO: it is about other builds.

    An entry without any fix says nothing about how it was built, and is about all.
    """
    fixes = [e.version for r in affected.ranges for e in r.events if e.kind in _FIXES]
    fixes += affected.versions
    if not fixes:
        return Answer.YES
    of_module = any(_MARK.search(version) for version in fixes)
    if of_module != is_modular(package):
        return Answer.NO
    if not of_module:
        return Answer.YES
    ours = ":".join(package.module.split(":")[:2]) if package.module.count(":") else ""
    theirs = _streams_in(advisory)
    if not ours or not theirs:
        return Answer.UNDECIDED
    return Answer.YES if ours in theirs else Answer.NO


def streams_of(advisory: Advisory, fixed_version: str) -> tuple[str, ...] | None:
    """Return the streams (`nodejs:18`) that a fix is for, none when nobody says; None: it is of no module."""
    return tuple(sorted(_streams_in(advisory))) if _MARK.search(fixed_version) else None


def _streams_in(advisory: Advisory) -> set[str]:
    return set(_STREAM.findall(advisory.summary))


def is_modular(package: Package) -> bool:
    """Say whether a module stream built a package; old databases have no label, but the release shows it."""
    return bool(package.module) or bool(_MARK.search(package.version))


def why_undecided(package: Package) -> str:
    """Return the reason for people."""
    if package.module:
        return f"the advisory does not say which stream of a module it is about, ours is {package.module[:100]}"
    return "the package database does not say which stream of a module built it"

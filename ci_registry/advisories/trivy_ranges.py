"""Writes the affected versions of an OSV entry as trivy has them: constraints, or one fixed version."""

from functools import cmp_to_key

from ci_registry.advisories.osv import Affected, Event, Range, RangeType
from ci_registry.advisories.ranges import Answer, evaluate, ordered_events
from ci_registry.advisories.versions import compare, is_version

EVERYTHING = "<99999999999999"
"""No lower bound is low enough for pre-releases of zero; versions made of dates stay below this one."""


def usable_ranges(affected: Affected) -> tuple[Range, ...]:
    """Return the ranges of versions; commits mean nothing to an installed package."""
    return tuple(item for item in affected.ranges if item.type is not RangeType.GIT)


def require_versions(affected: Affected) -> None:
    """Make sure that the events of all ranges can be ordered.

    Raises:
        UnparsableVersionError: one of them can't; trivy would drop the advisory, or read it wrongly.
    """
    for event in (event for item in usable_ranges(affected) for event in item.events):
        if event.version not in {"0", "*"}:
            compare(affected.ecosystem, event.version, event.version)


def constraints(affected: Affected) -> tuple[str, ...]:
    """Return `>=1.0, <1.5` for each affected interval, then `=2.0` for each listed version outside of them.

    Raises:
        UnparsableVersionError: a version of a range can't be ordered.
    """
    ranges = usable_ranges(affected)
    found = [text for item in ranges for text in _intervals(item, affected.ecosystem)]
    only_ranges = Affected(ecosystem=affected.ecosystem, name=affected.name, ranges=ranges)
    for version in affected.versions:
        if not is_version(affected.ecosystem, version):
            continue  # trivy would drop the whole advisory for it
        inside = ranges and evaluate(only_ranges, affected.ecosystem, version).answer is Answer.YES
        if not inside:
            found.append(f"={version}")
    return tuple(dict.fromkeys(found))


def _intervals(item: Range, ecosystem: str) -> list[str]:
    limits = [e.version for e in item.events if e.kind == "limit" and e.version != "*"]
    ceiling = f", <{limits[0]}" if len(limits) == 1 else ""
    found, lower = [], ""
    for event in ordered_events(item, ecosystem):
        if event.kind == "introduced":
            lower = lower or event.version
        elif lower:
            found.append(_interval(lower, _upper(event)) + ceiling)
            lower = ""
    if lower:
        found.append(_interval(lower, "") + ceiling)
    return found


def _upper(event: Event) -> str:
    return f"<{event.version}" if event.kind == "fixed" else f"<={event.version}"


def _interval(lower: str, upper: str) -> str:
    if lower == "0":
        return upper or EVERYTHING
    return f">={lower}, {upper}" if upper else f">={lower}"


def fixes_of(affected: Affected) -> tuple[str, ...]:
    """Return every fixed version, lowest first.

    Raises:
        UnparsableVersionError: they can't be ordered.
    """
    found = {e.version for r in usable_ranges(affected) for e in r.events if e.kind == "fixed"}
    return tuple(
        sorted(found, key=cmp_to_key(lambda a, b: compare(affected.ecosystem, str(a), str(b))))
    )


def fixed_version(affected: Affected) -> str | None:
    """Return the version from which on a distribution package is fixed; empty: none yet.

    None: the entry lists versions only, which trivy can't say. An entry that is affected again after its
    last fix has no fixed version.

    Raises:
        UnparsableVersionError: a version can't be ordered.
    """
    ranges = usable_ranges(affected)
    if not ranges:
        return None
    last = [ordered_events(item, affected.ecosystem)[-1] for item in ranges]
    if any(event.kind != "fixed" for event in last):
        return ""
    return fixes_of(affected)[-1]


def first_affected(affected: Affected) -> str:
    """Return the version that the only range of an entry begins with; empty for all before the fix."""
    starts = [
        e.version for r in usable_ranges(affected) for e in r.events if e.kind == "introduced"
    ]
    return starts[0] if len(starts) == 1 and starts[0] != "0" else ""

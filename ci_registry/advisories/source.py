"""What an advisory source is: it answers questions and says what it holds and how old that is."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ci_registry.advisories.ecosystems import Query, normal_name
from ci_registry.advisories.osv import Advisory
from ci_registry.advisories.versions import base_ecosystem
from ci_registry.findings import AdvisoryDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What a source can be relied on for."""

    database: AdvisoryDatabase
    """`ecosystems` are those that it covers; anything else is a gap."""
    present: bool = True
    """False: there is no database at all."""
    notes: tuple[str, ...] = ()
    """Things to tell people about the data, one sentence each."""


class AdvisorySource(Protocol):
    """Gives advisories; one per run, asked from several threads."""

    def facts(self) -> SourceFacts:
        """Say what the source holds and when that was made; a remote one knows only after an answer."""

    def lookup(self, queries: tuple[Query, ...]) -> Mapping[tuple[str, str], tuple[Advisory, ...]]:
        """Return the advisories that may concern each (ecosystem, name).

        Ecosystems that the source does not cover may be left out: the scanner names them as gaps.

        Raises:
            CiRegistryError: the source failed; an answer is never just shorter.
        """


def filed_under(ecosystem: str, name: str) -> tuple[str, str]:
    """Return the (ecosystem, name) that a record about this package is found by."""
    return ecosystem, normal_name(base_ecosystem(ecosystem), name)


def keys_of(query: Query) -> tuple[tuple[str, str], ...]:
    """Return what to look a package up by: its release, and what is about every release (`Debian`)."""
    return tuple(dict.fromkeys((query.key, (base_ecosystem(query.ecosystem), query.name))))


def covered_ecosystems(found: Iterable[str], listed: Collection[str]) -> tuple[str, ...]:
    """Return what has records **and** is promised to be complete; `Debian` promises its releases."""
    return tuple(
        sorted({item for item in found if item in listed or base_ecosystem(item) in listed})
    )

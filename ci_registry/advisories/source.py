"""What an advisory source is: it answers questions and says what it holds and how old that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ci_registry.advisories.ecosystems import Query
from ci_registry.advisories.osv import Advisory
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

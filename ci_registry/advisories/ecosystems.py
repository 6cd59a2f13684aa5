"""Which OSV ecosystem, names and versions an installed package is looked up by."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ci_registry.advisories.distributions import (
    OS_KINDS,
    distribution_ecosystem,
    os_kind_of,
)
from ci_registry.advisories.ecosystem_names import base_ecosystem
from ci_registry.advisories.versions import can_compare
from ci_registry.findings import Distribution, Inventory, Package

__all__ = [
    "LANGUAGE_ECOSYSTEMS",
    "OS_KINDS",
    "Query",
    "distribution_ecosystem",
    "ecosystem_of",
    "matchable",
    "normal_name",
    "os_kind_of",
    "queries_for",
]

LANGUAGE_ECOSYSTEMS: Mapping[str, str] = {
    "pypi": "PyPI",
    "npm": "npm",
    "golang": "Go",
    "cargo": "crates.io",
    "gem": "RubyGems",
    "maven": "Maven",
    "nuget": "NuGet",
    "composer": "Packagist",
    "bitnami": "Bitnami",
}
"""purl type → OSV ecosystem."""

_CASELESS = frozenset({"NuGet", "Packagist"})
_BY_BINARY_NAME = frozenset({"AlmaLinux"})
"""Their records list every binary package."""
_BY_SOURCE_NAME = frozenset({"Alpine", "Debian", "Ubuntu"})
"""Their records list the source package, and a binary package may have the name of another one's source.

Other distributions are asked for by both names: some list one, some the other, and Red Hat either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question to an advisory source."""

    ecosystem: str
    """OSV ecosystem with its release."""
    name: str
    version: str = ""
    """Lets a remote source leave out what does not concern it; empty asks for everything."""

    @property
    def key(self) -> tuple[str, str]:
        """What answers are filed under."""
        return (self.ecosystem, self.name)


def ecosystem_of(kind: str, distribution: Distribution | None) -> str:
    """Return the OSV ecosystem of a purl type in an image of this distribution; empty for none."""
    if kind in OS_KINDS:
        return distribution_ecosystem(distribution) if os_kind_of(distribution) == kind else ""
    return LANGUAGE_ECOSYSTEMS.get(kind, "")


def normal_name(ecosystem: str, name: str) -> str:
    """Return a name as it is compared: PyPI names per PEP 503, NuGet's and Packagist's in lower case."""
    if ecosystem == "PyPI":
        return re.sub(r"[-_.]+", "-", name).lower()
    return name.lower() if ecosystem in _CASELESS else name


def queries_for(package: Package, distribution: Distribution | None) -> tuple[Query, ...]:
    """Return the questions for one package; none when no answer could be made use of.

    Distribution packages are asked for by source package and source version, by their own name and
    version, or by both, as the records of the distribution have it.
    """
    ecosystem = ecosystem_of(package.ecosystem, distribution)
    if not can_compare(ecosystem):
        return ()
    base = base_ecosystem(ecosystem)
    own = (_registered_name(package), package.version)
    source = (package.source_name or package.name, package.source_version or package.version)
    asked = [own, source]
    if package.ecosystem not in OS_KINDS or base in _BY_BINARY_NAME:
        asked = [own]
    elif base in _BY_SOURCE_NAME:
        asked = [source]
    queries = (
        Query(ecosystem=ecosystem, name=normal_name(base, name), version=version)
        for name, version in asked
    )
    return tuple(dict.fromkeys(queries))


def _registered_name(package: Package) -> str:
    """Return the name as the registry has it: Maven's is `group:artifact`."""
    return package.name.replace("/", ":") if package.ecosystem == "maven" else package.name


def matchable(inventory: Inventory) -> tuple[Package, ...]:
    """Return the packages to match: those that no OS package owns."""
    return tuple(package for package in inventory.packages if not package.owner)

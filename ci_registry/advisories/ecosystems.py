"""Which OSV ecosystem, name and version an installed package is looked up by."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ci_registry.advisories.versions import can_compare
from ci_registry.findings import Distribution, Inventory, Package

OS_KINDS = frozenset({"deb", "apk", "rpm"})
"""purl types of operating-system packages."""

LANGUAGE_ECOSYSTEMS: Mapping[str, str] = {
    "pypi": "PyPI",
    "npm": "npm",
    "golang": "Go",
    "cargo": "crates.io",
    "gem": "RubyGems",
    "maven": "Maven",
    "nuget": "NuGet",
    "composer": "Packagist",
}
"""purl type → OSV ecosystem."""


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


def debian_release(version: str) -> str:
    """Return `12` for `12` and `12.5`; empty when there is none."""
    match = re.match(r"\d+", version)
    return match[0] if match else ""


def distribution_ecosystem(distribution: Distribution | None) -> str:
    """Return the OSV ecosystem of a distribution release; empty when we know none for it."""
    if distribution is None:
        return ""
    version = distribution.version
    if distribution.id == "debian" and debian_release(version):
        return f"Debian:{debian_release(version)}"
    if distribution.id == "ubuntu" and (match := re.fullmatch(r"(\d\d)\.(\d\d)", version)):
        long_term = match[2] == "04" and int(match[1]) % 2 == 0
        return f"Ubuntu:{version}:LTS" if long_term else f"Ubuntu:{version}"
    if distribution.id == "alpine" and (match := re.match(r"(\d+)\.(\d+)", version)):
        return f"Alpine:v{match[1]}.{match[2]}"
    return ""


_KINDS_OF = {"debian": "deb", "ubuntu": "deb", "alpine": "apk"}


def os_kind_of(distribution: Distribution | None) -> str:
    """Return the purl type of a known distribution's packages, else empty."""
    return _KINDS_OF.get(distribution.id, "") if distribution is not None else ""


def ecosystem_of(kind: str, distribution: Distribution | None) -> str:
    """Return the OSV ecosystem of a purl type in an image of this distribution; empty for none."""
    if kind in OS_KINDS:
        return distribution_ecosystem(distribution) if os_kind_of(distribution) == kind else ""
    return LANGUAGE_ECOSYSTEMS.get(kind, "")


def normal_name(ecosystem: str, name: str) -> str:
    """Return a name as it is compared: PyPI names per PEP 503, all others exactly."""
    return re.sub(r"[-_.]+", "-", name).lower() if ecosystem == "PyPI" else name


def query_for(package: Package, distribution: Distribution | None) -> Query | None:
    """Return the question for one package, or None when no answer could be made use of.

    Distribution packages are asked for by source package and source version.
    """
    ecosystem = ecosystem_of(package.ecosystem, distribution)
    if not can_compare(ecosystem):
        return None
    name, version = package.name, package.version
    if package.ecosystem in {"deb", "apk"}:
        name, version = package.source_name or name, package.source_version or version
    return Query(ecosystem=ecosystem, name=normal_name(ecosystem, name), version=version)


def matchable(inventory: Inventory) -> tuple[Package, ...]:
    """Return the packages to match: those that no OS package owns."""
    return tuple(package for package in inventory.packages if not package.owner)

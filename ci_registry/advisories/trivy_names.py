"""What trivy calls an OSV ecosystem, a source of advisories, and a package in its database."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ci_registry.advisories.ecosystem_names import base_ecosystem
from ci_registry.advisories.trivy_db import TrivySource, source_of

LANGUAGES: Mapping[str, str] = {
    "Bitnami": "bitnami",
    "Go": "go",
    "Maven": "maven",
    "NuGet": "nuget",
    "Packagist": "composer",
    "PyPI": "pip",
    "RubyGems": "rubygems",
    "crates.io": "cargo",
    "npm": "npm",
}
"""OSV ecosystem → what stands in front of `::` in the name of a bucket."""

_OS_BUCKETS: tuple[tuple[str, str], ...] = (
    (r"Debian:(\d+)", "debian {}"),
    (r"Ubuntu:(\d+\.\d+)(?::LTS)?", "ubuntu {}"),
    (r"Alpine:v(\d+\.\d+)", "alpine {}"),
    (r"AlmaLinux:(\d+)", "alma {}"),
    (r"Azure Linux:2", "CBL-Mariner 2.0"),
    (r"Azure Linux:(\d+)", "Azure Linux {}.0"),
    (r"Photon OS:(\d+\.\d+)", "Photon OS {}"),
    (r"SUSE:(\d+(?:\.\d+)?)", "SUSE Linux Enterprise {}"),
    (r"openSUSE:Leap (\d+\.\d+)", "openSUSE Leap {}"),
    (r"openSUSE:(Tumbleweed)", "openSUSE {}"),
    (r"Wolfi", "wolfi"),
    (r"Chainguard", "chainguard"),
    (r"MinimOS", "minimos"),
)
_LEFT_OUT: Mapping[str, str] = {
    "Rocky Linux": "its records name source packages, trivy looks binary packages up",
    "Red Hat": "trivy wants Red Hat's repositories and CPEs, which the records do not have",
    "Ubuntu": "trivy's bucket of a release has no updates of Ubuntu Pro",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where the advisories of one ecosystem from one publisher go."""

    name: str
    source: TrivySource


_PUBLISHERS: Mapping[str, tuple[str, str]] = {
    "ghsa": ("ghsa", "GitHub Security Advisory"),
    "go": ("govulndb", "The Go Vulnerability Database"),
    "pypa": ("osv", "Python Packaging Advisory Database"),
    "rustsec": ("osv", "RustSec Advisory Database"),
    "bitnami": ("bitnami", "Bitnami Vulnerability Database"),
}
"""Our word for who issued an advisory → trivy's id, and the name."""

_VENDORS: Mapping[str, str] = {
    "almalinux": "alma",
    "azurelinux": "azure",
    "go": "govulndb",
    "opensuse": "suse-cvrf",
    "pypa": "osv",
    "rustsec": "osv",
    "suse": "suse-cvrf",
}


def bucket_for(ecosystem: str, publisher: str) -> Bucket | None:
    """Return the bucket of a canonical ecosystem; None when trivy could not use it.

    Args:
        ecosystem: see `ecosystem_names.canonical_ecosystem`.
        publisher: see `severity.source_of`.
    """
    if word := LANGUAGES.get(ecosystem):
        identity, name = _PUBLISHERS.get(publisher, ("osv", "Open Source Vulnerabilities"))
        bucket = f"{word}::{name}"
        return Bucket(
            name=bucket, source=TrivySource(id=identity, name=name, url="https://osv.dev")
        )
    for pattern, template in _OS_BUCKETS:
        if match := re.fullmatch(pattern, ecosystem):
            bucket = template.format(*match.groups())
            return Bucket(name=bucket, source=source_of(bucket))
    return None


def why_left_out(ecosystem: str) -> str:
    """Return why `bucket_for` knows no bucket."""
    reason = _LEFT_OUT.get(base_ecosystem(ecosystem), "trivy has no bucket for it")
    return f"{ecosystem}: {reason}"


def vendor_name(source: str) -> str:
    """Return trivy's word for a source of severities."""
    return _VENDORS.get(source, source)

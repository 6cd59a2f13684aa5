"""Packages that are surely affected, if anything is: who finds them shows which data a server has.

A trivy server does not say what its database holds, and finding nothing looks the same with data and
without. So it is also asked about the image's own packages at the lowest versions there are, and about names
that have had vulnerabilities for years: where none of them is affected, there is no data.
"""

import json
from collections.abc import Mapping

from ci_registry.advisories.ecosystems import OS_KINDS, matchable
from ci_registry.findings import Inventory, Package
from ci_registry.sbom.purl import parse_purl
from ci_registry.scanners.trivy_report import TrivyReport

_OLD: Mapping[str, tuple[str, ...]] = {
    "deb": ("0",),
    "rpm": ("0-0",),
    "apk": ("0-r0",),
    "golang": ("v0.0.0", "v1.0.0", "v2.0.0"),
}
"""purl type → versions that something is wrong with, if with any."""
_OLD_OF_OTHERS = ("0.0.0", "1.0.0", "2.0.0")
"""Several, because many advisories for languages say in which version the trouble began."""
_FAMOUS: Mapping[str, tuple[str, ...]] = {
    "deb": ("openssl", "linux", "zlib", "glibc", "curl", "systemd"),
    "rpm": ("openssl", "openssl-libs", "kernel", "zlib", "glibc", "curl", "systemd"),
    "apk": ("openssl", "busybox", "zlib", "musl", "curl", "apk-tools"),
    "pypi": ("django", "requests", "urllib3", "pyyaml", "jinja2"),
    "npm": ("lodash", "minimist", "axios", "express", "qs"),
    "golang": ("golang.org/x/net", "golang.org/x/crypto", "stdlib"),
    "maven": (
        "org.apache.logging.log4j/log4j-core",
        "org.springframework/spring-core",
        "com.fasterxml.jackson.core/jackson-databind",
    ),
    "gem": ("rails", "rack", "nokogiri", "activerecord"),
    "cargo": ("tokio", "openssl", "regex", "hyper", "time"),
    "nuget": ("Newtonsoft.Json", "System.Net.Http", "System.Text.Json"),
    "composer": ("symfony/http-foundation", "laravel/framework", "twig/twig", "guzzlehttp/psr7"),
}
_Component = dict[str, object]


def canary_document(inventory: Inventory, report: TrivyReport) -> bytes:
    """Return a CycloneDX document with packages of every kind that the image has, at the lowest versions.

    Args:
        inventory: of the image.
        report: of the same image; says as what release trivy took it.
    """
    packages = matchable(inventory)
    kinds = sorted({p.ecosystem for p in packages} | {p.ecosystem for p in report.packages})
    components: list[_Component] = [_system(report)] if report.os_family else []
    for kind in kinds:
        names = dict.fromkeys(_identity(p) for p in packages if p.ecosystem == kind)
        names |= dict.fromkeys((name, name) for name in _FAMOUS.get(kind, ()))
        components += [
            _component(kind, name, source, version, report)
            for name, source in names
            for version in _OLD.get(kind, _OLD_OF_OTHERS)
        ]
    for number, component in enumerate(components):
        component["bom-ref"] = str(number)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": components,
    }
    return json.dumps(document).encode()


def _identity(package: Package) -> tuple[str, str]:
    """Return the name as it stands in a purl, and the name of the source package."""
    parsed = parse_purl(package.purl)
    inside = parsed.namespace and package.ecosystem not in OS_KINDS
    name = f"{parsed.namespace}/{parsed.name}" if inside else parsed.name
    return name, package.source_name or package.name


def _system(report: TrivyReport) -> _Component:
    return {
        "type": "operating-system",
        "name": report.os_family,
        "version": report.os_version,
        "properties": _properties({"Type": report.os_family, "Class": "os-pkgs"}),
    }


def _component(kind: str, name: str, source: str, version: str, report: TrivyReport) -> _Component:
    group, _, last = name.rpartition("/")
    component: _Component = {"type": "library", "name": last, "version": version}
    if group:
        component["group"] = group
    if kind not in OS_KINDS:
        purl = name.replace("@", "%40")
        return component | {"purl": f"pkg:{kind}/{purl}@{version}"}
    family = report.os_family
    first, _, release = version.partition("-")
    about = {"PkgType": family, "SrcName": source}
    about |= (
        {"SrcVersion": first, "SrcRelease": release} if kind == "rpm" else {"SrcVersion": version}
    )
    return component | {
        "purl": f"pkg:{kind}/{family}/{last}@{version}?distro={family}-{report.os_version}",
        "supplier": {"name": _SUPPLIERS.get(family, family)},
        "properties": _properties(about),
    }


_SUPPLIERS = {"alma": "AlmaLinux", "rocky": "Rocky Enterprise Software Foundation"}
"""Trivy matches RPMs only of the distribution's own vendor."""


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": f"aquasecurity:trivy:{key}", "value": text} for key, text in values.items()]

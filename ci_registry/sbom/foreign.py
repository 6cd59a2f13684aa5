"""Makes an inventory of what other programs' SBOMs say: purls, and the properties of trivy and syft."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ci_registry.findings import Distribution, Inventory, Package, UnreadDatabase
from ci_registry.sbom.facts import sorted_packages
from ci_registry.sbom.purl import Purl, parse_purl
from ci_registry.sbom.trivy_words import TRIVY

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_EPOCH = re.compile(r"\d{1,9}")


def foreign_package(
    name: str, purl_text: str, properties: Mapping[str, str]
) -> Package | UnreadDatabase:
    """Return the package that a component is; without a purl nobody can look it up."""
    if not purl_text:
        reason = f"the component {name[:100]!r} has no package URL"
        return UnreadDatabase(kind="generic", path="", reason=reason)
    purl = parse_purl(purl_text)
    version = _with_epoch(purl.version, purl.qualifiers.get("epoch", ""))
    source_name, source_version = _source(properties, purl.qualifiers.get("upstream", ""))
    package = Package(
        ecosystem=purl.type,
        name=purl.package_name,
        version=version,
        purl=purl_text,
        architecture=purl.qualifiers.get("arch", ""),
        layer=properties.get(f"{TRIVY}LayerDiffID", properties.get("syft:location:0:layerID", "")),
        path=properties.get(f"{TRIVY}FilePath", properties.get("syft:location:0:path", "")).lstrip(
            "/"
        ),
        module=properties.get(f"{TRIVY}Modularitylabel", ""),
    )
    return replace(
        package,
        source_name="" if source_name == package.name else source_name,
        source_version="" if source_version == version else source_version,
    )


def _with_epoch(version: str, epoch: str) -> str:
    """Trivy writes the epoch of deb and rpm as a qualifier; a zero one says nothing."""
    told = _EPOCH.fullmatch(epoch) and int(epoch) > 0 and ":" not in version
    return f"{epoch}:{version}" if told else version


def _source(properties: Mapping[str, str], upstream: str) -> tuple[str, str]:
    """Return name and version of the source package: trivy's properties, or syft's qualifier."""
    name = properties.get(f"{TRIVY}SrcName", "")
    if not name:
        name, _, version = upstream.partition("@")
        return name, version
    version = properties.get(f"{TRIVY}SrcVersion", "")
    release = properties.get(f"{TRIVY}SrcRelease", "")
    whole = f"{version}-{release}" if release else version
    return name, _with_epoch(whole, properties.get(f"{TRIVY}SrcEpoch", ""))


def foreign_inventory(
    items: Sequence[Package | UnreadDatabase],
    distribution: Distribution | None,
    digests: Sequence[str],
) -> Inventory:
    """Return the inventory; where something is not said, its text is empty.

    Args:
        items: packages, and components that are none.
        distribution: as the document has it; None takes it from the purls of OS packages.
        digests: texts that may hold the digest of the image's manifest, the first counts.
    """
    packages = [item for item in items if isinstance(item, Package)]
    digest = next((found[0] for text in digests if (found := _DIGEST.search(text))), "")
    return Inventory(
        platform=_platform(packages),
        manifest_digest=digest,
        config_digest="",
        distribution=distribution or _told_by(packages),
        packages=sorted_packages(packages),
        unread=tuple(item for item in items if isinstance(item, UnreadDatabase)),
    )


def _purls(packages: Sequence[Package]) -> Sequence[Purl]:
    return [parse_purl(p.purl) for p in packages if p.ecosystem in {"deb", "apk", "rpm"}]


def _told_by(packages: Sequence[Package]) -> Distribution | None:
    """Return the distribution of the first OS package that names one."""
    return next((found for p in _purls(packages) if (found := p.distribution)), None)


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7": "arm", "armhf": "arm"}


def _platform(packages: Sequence[Package]) -> str:
    """Return `linux/ARCH` when the OS packages agree on one; else empty."""
    found = {p.architecture for p in packages if p.ecosystem in {"deb", "apk", "rpm"}}
    found -= {"", "all", "noarch", "(none)"}
    if len(found) != 1:
        return ""
    architecture = found.pop()
    return f"linux/{_ARCHITECTURES.get(architecture, architecture)}"

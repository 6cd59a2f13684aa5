"""What trivy wants to read in an SBOM about a package of the operating system, in its own words."""

from ci_registry.findings import Package

TRIVY = "aquasecurity:trivy:"
"""What its property names begin with in CycloneDX."""
_WITH_RELEASE = frozenset({"deb", "rpm"})


def source_of(package: Package) -> tuple[str, str]:
    """Return name and version of the source package, which are the package's own where it has none."""
    return package.source_name or package.name, package.source_version or package.version


def trivy_facts(package: Package) -> dict[str, str]:
    """Return source and module of an OS package; trivy looks nothing up by its purl alone."""
    if package.ecosystem not in {*_WITH_RELEASE, "apk"}:
        return {}
    name, whole = source_of(package)
    epoch, colon, rest = whole.partition(":")
    if not colon:
        epoch, rest = "", whole
    version, dash, release = rest.rpartition("-")
    if not dash or package.ecosystem not in _WITH_RELEASE:
        version, release = rest, ""
    facts = {
        "SrcName": name,
        "SrcVersion": version,
        "SrcRelease": release,
        "SrcEpoch": "" if epoch == "0" else epoch,
        "Modularitylabel": package.module,
    }
    return {key: text for key, text in facts.items() if text}


_IDS = {
    "alma": "almalinux",
    "amazon": "amzn",
    "cbl-mariner": "mariner",
    "oracle": "ol",
    "redhat": "rhel",
}


def identity_of(name: str) -> str:
    """Return the `ID` that os-release has for a distribution, also from trivy's name of it."""
    return _IDS.get(name, name)

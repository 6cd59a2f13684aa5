"""Which OSV ecosystem a distribution release is, and what kind of packages a distribution has."""

import re
from collections.abc import Callable, Mapping

from ci_registry.findings import Distribution

OS_KINDS = frozenset({"deb", "apk", "rpm"})
"""purl types of operating-system packages."""

_KINDS_OF: Mapping[str, str] = {
    **dict.fromkeys(("debian", "ubuntu"), "deb"),
    **dict.fromkeys(("alpine", "alpaquita", "chainguard", "minimos", "wolfi"), "apk"),
    **dict.fromkeys(
        (
            *("almalinux", "amzn", "azurelinux", "centos", "fedora", "mageia", "mariner", "ol"),
            *("openeuler", "opensuse-leap", "opensuse-tumbleweed", "photon", "rhel", "rocky"),
            *("sled", "sles", "sles_sap", "sle_hpc"),
        ),
        "rpm",
    ),
}


def os_kind_of(distribution: Distribution | None) -> str:
    """Return the purl type of a known distribution's packages, else empty."""
    return _KINDS_OF.get(distribution.id, "") if distribution is not None else ""


def _release(version: str) -> str:
    """Return `12` for `12` and `12.5`; empty when there is none."""
    match = re.match(r"\d+", version)
    return match[0] if match else ""


def distribution_ecosystem(distribution: Distribution | None) -> str:
    """Return the OSV ecosystem of a distribution release; empty when we know none for it.

    It is canonical, see `ecosystem_names.canonical_ecosystem`.
    """
    if distribution is None:
        return ""
    name = _ECOSYSTEMS.get(distribution.id)
    return name(distribution) if name is not None else ""


_Name = Callable[[Distribution], str]


def _major(prefix: str) -> _Name:
    def name(distribution: Distribution) -> str:
        release = _release(distribution.version)
        return f"{prefix}{release}" if release else ""

    return name


def _major_and_minor(prefix: str) -> _Name:
    def name(distribution: Distribution) -> str:
        match = re.match(r"\d+\.\d+", distribution.version)
        return f"{prefix}{match[0]}" if match else ""

    return name


def _rolling(ecosystem: str) -> _Name:
    return lambda _distribution: ecosystem


def _ubuntu(distribution: Distribution) -> str:
    match = re.fullmatch(r"(\d\d)\.(\d\d)", distribution.version)
    if match is None:
        return ""
    long_term = match[2] == "04" and int(match[1]) % 2 == 0
    return f"Ubuntu:{match[0]}:LTS" if long_term else f"Ubuntu:{match[0]}"


def _suse(distribution: Distribution) -> str:
    """`15.5` is 15 SP5; without a service pack it is `15`."""
    match = re.fullmatch(r"\d+(\.\d+)?", distribution.version)
    return f"SUSE:{match[0]}" if match else ""


def _open_euler(distribution: Distribution) -> str:
    """Only the name for people says whether it is a long-term release, and of which service pack."""
    match = re.search(r"(\d\d\.\d\d)(?: \((LTS(?:-SP\d+)?)\))?", distribution.pretty_name)
    if match is None or match[1] != distribution.version:
        return ""
    return f"openEuler:{match[1]}-{match[2]}" if match[2] else f"openEuler:{match[1]}"


_ECOSYSTEMS: Mapping[str, _Name] = {
    "almalinux": _major("AlmaLinux:"),
    "alpaquita": _major("Alpaquita:"),
    "alpine": _major_and_minor("Alpine:v"),
    "azurelinux": _major("Azure Linux:"),
    "chainguard": _rolling("Chainguard"),
    "debian": _major("Debian:"),
    "mageia": _major("Mageia:"),
    "mariner": _major("Azure Linux:"),
    "minimos": _rolling("MinimOS"),
    "openeuler": _open_euler,
    "opensuse-leap": _major_and_minor("openSUSE:Leap "),
    "opensuse-tumbleweed": _rolling("openSUSE:Tumbleweed"),
    "photon": _major_and_minor("Photon OS:"),
    "rhel": _major("Red Hat:enterprise_linux:"),
    "rocky": _major("Rocky Linux:"),
    "sle_hpc": _suse,
    "sled": _suse,
    "sles": _suse,
    "sles_sap": _suse,
    "ubuntu": _ubuntu,
    "wolfi": _rolling("Wolfi"),
}
"""`ID` of os-release → ecosystem. CentOS Stream, Fedora, Amazon Linux and Oracle Linux have none in OSV."""

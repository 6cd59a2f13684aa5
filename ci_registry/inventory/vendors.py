"""Tells packages of a distribution from those that other vendors made for it."""

import re

from ci_registry.findings import Distribution

# Domains of vendors with .deb repositories of their own, none of which maintains packages inside Debian.
# Debian's own maintainers use any address, so an allow list would be wrong there.
_VENDOR_DOMAINS = (
    "amazon.com",
    "azul.com",
    "cloudflare.com",
    "confluent.io",
    "datadoghq.com",
    "docker.com",
    "elastic.co",
    "f5.com",
    "gitlab.com",
    "grafana.com",
    "hashicorp.com",
    "influxdata.com",
    "konghq.com",
    "microsoft.com",
    "mongodb.com",
    "newrelic.com",
    "nginx.com",
    "nodesource.com",
    "nvidia.com",
    "oracle.com",
    "percona.com",
    "redis.com",
    "sap.com",
)
_VENDOR_NAMES = frozenset({"GitHub"})
"""Whole `Maintainer` fields without an address."""
_OWN_DOMAINS = {"ubuntu": ("ubuntu.com", "canonical.com")}
"""Distributions that put their own address into every package."""
_REBUILD = re.compile(r"[.+~-](?:pgdg|nodesource\d|deb\.sury\.org)")
"""Marks in versions of well-known repositories whose packages name the same people as Debian's."""


def is_third_party(maintainer: str, version: str, distribution: Distribution | None) -> bool:
    """Return whether a dpkg package comes from somebody else than the distribution.

    A package without `Maintainer` counts as the distribution's own: distroless images strip the field.
    """
    if _REBUILD.search(version):
        return True
    if not maintainer:
        return False
    own = _OWN_DOMAINS.get(distribution.id) if distribution else None
    if own is not None:
        return not _is_at(maintainer, own)
    return maintainer in _VENDOR_NAMES or _is_at(maintainer, _VENDOR_DOMAINS)


_RPM_VENDORS = {
    "almalinux": ("AlmaLinux",),
    "amzn": ("Amazon",),
    "azurelinux": ("Microsoft Corporation",),
    "centos": ("CentOS", "Red Hat"),
    "fedora": ("Fedora Project",),
    "mariner": ("Microsoft Corporation",),
    "ol": ("Oracle America",),
    "opensuse-leap": ("openSUSE", "SUSE"),
    "opensuse-tumbleweed": ("openSUSE", "SUSE"),
    "photon": ("VMware", "Broadcom"),
    "rhel": ("Red Hat",),
    "rocky": ("Rocky",),
    "sl-micro": ("SUSE",),
    "sle-micro": ("SUSE",),
    "sles": ("SUSE",),
}
"""`ID` of os-release → how the `Vendor` of the distribution's own packages begins."""


def is_third_party_rpm(vendor: str, release: str, distribution: Distribution | None) -> bool:
    """Return whether an RPM comes from somebody else than the distribution.

    Of a distribution that we don't know nobody can say; some of Amazon's own packages have no vendor.
    """
    own = _RPM_VENDORS.get(distribution.id) if distribution else None
    if own is None:
        return False
    if not vendor and distribution is not None and distribution.id == "amzn":
        return "amzn" not in release
    return not vendor.startswith(own)


def _is_at(maintainer: str, domains: tuple[str, ...]) -> bool:
    host = maintainer.rpartition("@")[2].strip().rstrip(">").lower()
    return "@" in maintainer and any(host == d or host.endswith(f".{d}") for d in domains)

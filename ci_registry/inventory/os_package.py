"""Names packages of operating systems as the purl specification does."""

from ci_registry.findings import Distribution
from ci_registry.inventory.reading import purl_part

_NAMESPACES = {
    "rhel": "redhat",
    "opensuse-leap": "opensuse",
    "opensuse-tumbleweed": "opensuse",
    "sles": "suse",
    "sle-micro": "suse",
    "sl-micro": "suse",
}
"""`ID` of os-release → namespace, where the two differ."""


def os_purl(
    kind: str,
    name: str,
    version: str,
    distribution: Distribution | None,
    *,
    release: str,
    **qualifiers: str,
) -> str:
    """Return the purl of a system package.

    Args:
        kind: purl type.
        name: of the package.
        version: without epoch.
        distribution: of the image, None when it is not known.
        release: of the distribution; may be empty.
        **qualifiers: further ones; empty values are left out.
    """
    namespace = ""
    if distribution is not None:
        namespace = f"{purl_part(_NAMESPACES.get(distribution.id, distribution.id))}/"
        qualifiers["distro"] = f"{distribution.id}-{release}" if release else distribution.id
    pairs = [f"{key}={purl_part(value)}" for key, value in sorted(qualifiers.items()) if value]
    suffix = f"?{'&'.join(pairs)}" if pairs else ""
    return f"pkg:{kind}/{namespace}{purl_part(name)}@{purl_part(version)}{suffix}"

"""Which names one record stands for: of the vulnerability itself, and of what an update fixes."""

import re

from ci_registry.advisories.osv import Advisory

_CVE = re.compile(r"CVE-\d{4}-\d{4,}", re.ASCII)
_DISTRIBUTION_ADVISORY = re.compile(
    r"(?:ALSA|ALBA|ALEA|RLSA|RXSA|RHSA|RHBA|RHEA|ELSA|SUSE|openSUSE|MGASA|OESA|PHSA|USN|LSN|DSA|DLA|DTSA)-"
)
"""Advisories that are about an update; the CVEs it fixes stand under `upstream` or `related`."""


def is_cve(name: str) -> bool:
    """Say whether a name is a CVE id."""
    return _CVE.fullmatch(name) is not None


def causes_of(advisory: Advisory) -> set[str]:
    """Return the CVEs behind a record of a distribution."""
    causes = set(advisory.upstream)
    if _DISTRIBUTION_ADVISORY.match(advisory.id):
        causes |= set(advisory.related) | set(advisory.aliases)
    return {cause for cause in causes if is_cve(cause)}


def names_of(advisory: Advisory) -> set[str]:
    """Return the ids of the one vulnerability that a record is about.

    An update of several CVEs is none of them: it must not make them one.
    """
    causes = causes_of(advisory)
    names = {advisory.id, *advisory.aliases}
    return names | causes if len(causes) == 1 else names - causes

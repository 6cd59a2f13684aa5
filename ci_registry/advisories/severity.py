"""Severities of advisories: every vendor's word and vector, and which one is chosen."""

import re
from dataclasses import dataclass

from ci_registry.advisories.osv import Advisory, Affected
from ci_registry.advisories.versions import base_ecosystem
from ci_registry.findings import Severity

_WORDS = {
    "none": Severity.NONE,
    "unimportant": Severity.NEGLIGIBLE,
    "negligible": Severity.NEGLIGIBLE,
    "informational": Severity.NEGLIGIBLE,
    "minimal": Severity.NEGLIGIBLE,
    "low": Severity.LOW,
    "minor": Severity.LOW,
    "medium": Severity.MEDIUM,
    "moderate": Severity.MEDIUM,
    "high": Severity.HIGH,
    "important": Severity.HIGH,
    "critical": Severity.CRITICAL,
}
_SOURCES = (
    ("GHSA-", "ghsa"),
    ("PYSEC-", "pypa"),
    ("CVE-", "nvd"),
    ("GO-", "go"),
    ("RUSTSEC-", "rustsec"),
    ("DEBIAN-", "debian"),
    ("DSA-", "debian"),
    ("DLA-", "debian"),
    ("DTSA-", "debian"),
    ("UBUNTU-", "ubuntu"),
    ("USN-", "ubuntu"),
    ("LSN-", "ubuntu"),
    ("ALPINE-", "alpine"),
    ("ALSA-", "almalinux"),
    ("ALBA-", "almalinux"),
    ("ALEA-", "almalinux"),
    ("RLSA-", "rocky"),
    ("RXSA-", "rocky"),
    ("RHSA-", "redhat"),
    ("RHBA-", "redhat"),
    ("RHEA-", "redhat"),
    ("SUSE-", "suse"),
    ("openSUSE-", "opensuse"),
    ("MGASA-", "mageia"),
    ("AZL-", "azurelinux"),
    ("OESA-", "openeuler"),
    ("PHSA-", "photon"),
    ("CGA-", "chainguard"),
    ("MINI-", "minimos"),
    ("BELL-", "alpaquita"),
    ("BIT-", "bitnami"),
    ("DRUPAL-", "drupal"),
)
_SUMMARY_WORD = ("almalinux", "rocky", "redhat")
"""Vendors whose severity is the first word of the summary."""
_VENDOR_OF = {
    "AlmaLinux": "almalinux",
    "Alpaquita": "alpaquita",
    "Alpine": "alpine",
    "Azure Linux": "azurelinux",
    "Chainguard": "chainguard",
    "Debian": "debian",
    "Mageia": "mageia",
    "MinimOS": "minimos",
    "Photon OS": "photon",
    "Red Hat": "redhat",
    "Rocky Linux": "rocky",
    "SUSE": "suse",
    "Ubuntu": "ubuntu",
    "Wolfi": "wolfi",
    "openEuler": "openeuler",
    "openSUSE": "opensuse",
}
_DISTRIBUTIONS = frozenset(_VENDOR_OF.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class SeverityClaim:
    """What one source says."""

    source: str
    text: str
    """The word or vector, as given."""
    severity: Severity
    """UNKNOWN when the text says nothing, for example `not yet assigned`."""
    is_word: bool
    """A person's judgement; a CVSS vector is a formula's."""


def severity_of_word(word: str) -> Severity:
    """Map a vendor's word to a canonical severity; a word that nobody knows is UNKNOWN."""
    return _WORDS.get(word.strip().lower(), Severity.UNKNOWN)


def severity_of_vector(vector: str) -> Severity:
    """Return the rating of a CVSS vector (2, 3.x or 4.0); UNKNOWN when it can't be read."""
    scored = _scored(vector)
    return Severity.UNKNOWN if scored is None else severity_of_word(scored[2])


def score_of(vector: str) -> tuple[int, float] | None:
    """Return which CVSS a vector is of (2, 3 or 4) and its base score; None when it can't be read."""
    scored = _scored(vector)
    return None if scored is None else scored[:2]


def _scored(vector: str) -> tuple[int, float, str] | None:
    import cvss  # noqa: PLC0415 - 20 ms, needed only once something matched

    try:
        if vector.startswith("CVSS:4"):
            four = cvss.CVSS4(vector)
            return 4, float(four.base_score), str(four.severity)
        if vector.startswith("CVSS:3"):
            three = cvss.CVSS3(vector)
            return 3, float(three.base_score), str(three.severities()[0])
        two = cvss.CVSS2(vector)
        return 2, float(two.base_score), str(two.severities()[0])
    except (cvss.CVSSError, ValueError, KeyError, ArithmeticError):
        return None


def source_of(advisory_id: str) -> str:
    """Return who issued an advisory, from its id: `ghsa`, `debian`, `nvd`, …; else `osv`."""
    return next((name for prefix, name in _SOURCES if advisory_id.startswith(prefix)), "osv")


def claims_of(advisory: Advisory, affected: Affected) -> tuple[SeverityClaim, ...]:
    """Return everything that a record says about the severity for one package, words first."""
    source = source_of(advisory.id)
    words = []
    if affected.urgency:
        words.append((_VENDOR_OF.get(base_ecosystem(affected.ecosystem), source), affected.urgency))
    if advisory.severity_word:
        words.append((source, advisory.severity_word))
    if source in _SUMMARY_WORD and advisory.summary:
        word = re.split(r"[:\s]", advisory.summary, maxsplit=1)[0]
        if severity_of_word(word) is not Severity.UNKNOWN:
            words.append((source, word))
    claims = [_word_claim(who, word) for who, word in words]
    for kind, score in sorted(
        (*affected.severities, *advisory.severities), key=lambda pair: pair[0], reverse=True
    ):
        if kind.startswith("CVSS"):
            claims.append(_vector_claim(source, score))
        else:  # `Ubuntu` gives its word in the same list
            claims.append(_word_claim(kind.lower() or source, score))
    return tuple(dict.fromkeys(claims))


def _word_claim(source: str, word: str) -> SeverityClaim:
    return SeverityClaim(source=source, text=word, severity=severity_of_word(word), is_word=True)


def _vector_claim(source: str, vector: str) -> SeverityClaim:
    return SeverityClaim(
        source=source, text=vector, severity=severity_of_vector(vector), is_word=False
    )


def choose(claims: tuple[SeverityClaim, ...]) -> tuple[Severity, str]:
    """Choose among all claims of a vulnerability; returns the severity and who said so.

    The order is: the distribution's own word, the advisory's word, its CVSS 3 or 4 vector, its
    CVSS 2 vector, NVD. Claims of equal standing are settled for the worse. Without any it is UNKNOWN, from nobody.
    """
    known = [claim for claim in claims if claim.severity is not Severity.UNKNOWN]
    if not known:
        return Severity.UNKNOWN, ""
    best = min(known, key=lambda claim: (_standing(claim), -claim.severity.rank))
    return best.severity, best.source


def _standing(claim: SeverityClaim) -> int:
    if claim.source in _DISTRIBUTIONS and claim.is_word:
        return 0
    if claim.source == "nvd":
        return 4
    if claim.is_word:
        return 1
    return 2 if claim.text.startswith("CVSS:") else 3

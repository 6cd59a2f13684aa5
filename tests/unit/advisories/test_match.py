"""Matching an inventory with records."""

import json
from collections.abc import Mapping

import pytest

from ci_registry.advisories.ecosystems import Query, queries_for
from ci_registry.advisories.match import MatchResult, match_inventory
from ci_registry.advisories.osv import Advisory, parse_advisory
from ci_registry.findings import Distribution, FindingKind, Package, Severity
from tests.support.advisories import DEBIAN_12, deb, inventory, npm, pypi, record

CVSS3_HIGH = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"
CVSS3_CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


def _match(
    packages: tuple[Package, ...],
    *records: Mapping[str, object],
    distribution: Distribution | None = DEBIAN_12,
) -> MatchResult:
    advisories = tuple(parse_advisory(json.dumps(item).encode(), what="test") for item in records)

    def lookup(queries: tuple[Query, ...]) -> Mapping[tuple[str, str], tuple[Advisory, ...]]:
        return {query.key: advisories for query in queries}

    return match_inventory(inventory(*packages, distribution=distribution), lookup)


def test_python_names_are_compared_normalised() -> None:
    result = _match((pypi("Demo_Tool", "1.0"),), record("PYSEC-1", name="demo.tool"))
    assert [f.id for f in result.findings] == ["PYSEC-1"]


def test_npm_names_are_compared_exactly() -> None:
    row = record("GHSA-1", "npm", "@scope/Demo")
    assert _match((npm("@scope/Demo", "1.0.0"),), row).findings
    assert not _match((npm("@scope/demo", "1.0.0"),), row).findings


def test_distribution_packages_go_by_source_package_and_source_version() -> None:
    row = record("DEBIAN-CVE-2026-1000", "Debian:12", "openssl", upstream=["CVE-2026-1000"])
    binary = deb("libssl3", "9:9.9", "openssl", "1.1")
    (finding,) = _match((binary,), row).findings
    assert finding.id == "CVE-2026-1000"
    assert finding.aliases == ("DEBIAN-CVE-2026-1000",)
    assert finding.package is binary
    assert finding.fixed_versions == ("1.2",)


def test_another_release_of_the_distribution_does_not_match() -> None:
    row = record("DEBIAN-CVE-2026-1000", "Debian:11", "openssl")
    assert not _match((deb("openssl", "1.0"),), row).findings


def test_a_record_without_a_release_is_about_every_release() -> None:
    row = record("DEBIAN-CVE-2026-1000", "Debian", "openssl")
    assert _match((deb("openssl", "1.0"),), row).findings


def test_package_owned_by_an_os_package_is_skipped_and_counted() -> None:
    result = _match(
        (pypi("demo", "1.0", owner="python3-demo"), pypi("other", "1.0")), record("PYSEC-1")
    )
    assert not result.findings
    assert result.skipped_count == 1


def test_withdrawn_record_does_not_match() -> None:
    row = record("PYSEC-1", withdrawn="2026-01-05T00:00:00Z")
    assert not _match((pypi("demo", "1.0"),), row).findings


def test_aliases_are_one_finding_with_the_cve_as_its_id() -> None:
    result = _match(
        (pypi("demo", "1.0"),),
        record("PYSEC-1", aliases=["CVE-2026-1000"]),
        record("GHSA-x", aliases=["CVE-2026-1000"], database_specific={"severity": "MODERATE"}),
        record("OTHER-1", aliases=["GHSA-x"]),
    )
    (finding,) = result.findings
    assert finding.id == "CVE-2026-1000"
    assert finding.aliases == ("GHSA-x", "OTHER-1", "PYSEC-1")
    assert (finding.severity, finding.severity_source) == (Severity.MEDIUM, "ghsa")


def test_groups_that_a_later_record_connects_are_joined() -> None:
    result = _match(
        (pypi("demo", "1.0"),),
        record("A-1"),
        record("B-1"),
        record("C-1", aliases=["A-1", "B-1"]),
    )
    assert len(result.findings) == 1


def test_update_of_several_cves_stays_one_finding_under_its_own_id() -> None:
    row = record("DSA-1", "Debian:12", "openssl", upstream=["CVE-2026-1000", "CVE-2026-1001"])
    (finding,) = _match((deb("openssl", "1.0"),), row).findings
    assert finding.id == "DSA-1"
    assert finding.aliases == ("CVE-2026-1000", "CVE-2026-1001")


def _cve(number: int, **more: object) -> dict[str, object]:
    return record(
        f"DEBIAN-CVE-2026-{number}",
        "Debian:12",
        "openssl",
        upstream=[f"CVE-2026-{number}"],
        **more,  # type: ignore[arg-type]
    )


def test_update_is_folded_into_its_cves_when_all_of_them_are_findings() -> None:
    update = record("DSA-1", "Debian:12", "openssl", upstream=["CVE-2026-1000", "CVE-2026-1001"])
    result = _match((deb("openssl", "1.0"),), update, _cve(1000), _cve(1001))
    assert [f.id for f in result.findings] == ["CVE-2026-1000", "CVE-2026-1001"]
    assert all("DSA-1" in f.aliases for f in result.findings)


def test_update_with_a_cve_that_is_no_finding_stays() -> None:
    update = record("DSA-1", "Debian:12", "openssl", upstream=["CVE-2026-1000", "CVE-2026-1001"])
    result = _match((deb("openssl", "1.0"),), update, _cve(1000))
    assert {f.id for f in result.findings} == {"CVE-2026-1000", "DSA-1"}


def test_two_updates_of_the_same_cves_do_not_swallow_each_other() -> None:
    both = ["CVE-2026-1000", "CVE-2026-1001"]
    result = _match(
        (deb("openssl", "1.0"),),
        record("DSA-1", "Debian:12", "openssl", aliases=both),
        record("DLA-1", "Debian:12", "openssl", upstream=both),
    )
    assert {f.id for f in result.findings} == {"DSA-1", "DLA-1"}


def test_certain_update_is_not_folded_into_undecided_cves() -> None:
    unclear = ({"introduced": "0"}, {"fixed": "_"})
    update = record("DSA-1", "Debian:12", "openssl", upstream=["CVE-2026-1000", "CVE-2026-1001"])
    result = _match(
        (deb("openssl", "1.0"),), update, _cve(1000, events=unclear), _cve(1001, events=unclear)
    )
    assert FindingKind.AFFECTED in {f.kind for f in result.findings}


def test_cve_may_stand_under_related_of_a_distribution_advisory_only() -> None:
    alma = record("ALSA-1", "Debian:12", "openssl", related=["CVE-2026-1000"])
    ghsa = record("GHSA-1", related=["CVE-2026-9999"])
    (finding,) = _match((deb("openssl", "1.0"),), alma).findings
    assert finding.id == "CVE-2026-1000"
    (finding,) = _match((pypi("demo", "1.0"),), ghsa).findings
    assert finding.id == "GHSA-1"


def test_version_that_cannot_be_parsed_is_an_undecided_finding() -> None:
    (finding,) = _match((pypi("demo", "unknown"),), record("PYSEC-1")).findings
    assert finding.kind is FindingKind.UNDECIDED
    assert "'unknown'" in finding.detail


def test_vendor_word_goes_before_the_vector_and_all_are_kept() -> None:
    row = record(
        "DEBIAN-CVE-2026-1000",
        "Debian:12",
        "openssl",
        severity=[{"type": "CVSS_V3", "score": CVSS3_CRITICAL}],
    )
    row["affected"][0]["ecosystem_specific"] = {"urgency": "low"}  # type: ignore[index]
    (finding,) = _match((deb("openssl", "1.0"),), row).findings
    assert (finding.severity, finding.severity_source) == (Severity.LOW, "debian")
    assert finding.severities == (("debian", "low"), ("debian", CVSS3_CRITICAL))


@pytest.mark.parametrize(
    ("more", "severity", "source"),
    [
        ({}, Severity.UNKNOWN, ""),
        ({"severity": [{"type": "CVSS_V3", "score": CVSS3_HIGH}]}, Severity.HIGH, "pypa"),
        (
            {"severity": [{"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:P/I:P/A:P"}]},
            "HIGH",
            "pypa",
        ),
        (
            {
                "severity": [
                    {
                        "type": "CVSS_V4",
                        "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
                    }
                ]
            },
            Severity.CRITICAL,
            "pypa",
        ),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/garbage"}]}, Severity.UNKNOWN, ""),
        ({"database_specific": {"severity": "apocalyptic"}}, Severity.UNKNOWN, ""),
    ],
)
def test_severity(more: dict[str, object], severity: Severity, source: str) -> None:
    (finding,) = _match((pypi("demo", "1.0"),), record("PYSEC-1", **more)).findings  # type: ignore[arg-type]
    assert (finding.severity, finding.severity_source) == (severity, source)


def test_findings_come_worst_first() -> None:
    result = _match(
        (pypi("demo", "1.0"),),
        record("PYSEC-1"),
        record("PYSEC-2", severity=[{"type": "CVSS_V3", "score": CVSS3_CRITICAL}]),
        record("PYSEC-3", severity=[{"type": "CVSS_V3", "score": CVSS3_HIGH}]),
    )
    assert [f.id for f in result.findings] == ["PYSEC-2", "PYSEC-3", "PYSEC-1"]


def test_same_package_in_two_places_is_found_in_both() -> None:
    result = _match(
        (pypi("demo", "1.0", path="a/demo"), pypi("demo", "1.0", path="b/demo")), record("PYSEC-1")
    )
    assert [f.package.path for f in result.findings] == ["a/demo", "b/demo"]


@pytest.mark.parametrize(
    ("identity", "version", "ecosystem"),
    [
        ("debian", "12", "Debian:12"),
        ("debian", "12.5", "Debian:12"),
        ("debian", "", None),
        ("ubuntu", "22.04", "Ubuntu:22.04:LTS"),
        ("ubuntu", "23.10", "Ubuntu:23.10"),
        ("ubuntu", "23.04", "Ubuntu:23.04"),
        ("alpine", "3.20.1", None),
        ("weirdos", "1", None),
    ],
)
def test_ecosystem_of_a_deb_package(identity: str, version: str, ecosystem: str | None) -> None:
    queries = queries_for(deb("a", "1"), Distribution(id=identity, version=version))
    assert [query.ecosystem for query in queries] == ([ecosystem] if ecosystem else [])


def test_packages_nobody_can_be_asked_about_are_returned() -> None:
    package = deb("a", "1")
    assert _match((package,), distribution=None).unasked == (package,)

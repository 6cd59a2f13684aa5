"""OSV records as the content of a trivy database; the genuine trivy reads it in `tests/peers`."""

import json
from typing import Any

import pytest

from ci_registry.advisories.osv import parse_advisory
from ci_registry.advisories.trivy_db import TrivyAdvisory, TrivyStatus
from ci_registry.advisories.trivy_export import TrivyContent, trivy_content
from ci_registry.findings import Severity
from tests.support.advisories import record

CVSS31 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
CVSS4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"


def export(*rows: dict[str, Any]) -> TrivyContent:
    return trivy_content(parse_advisory(json.dumps(row).encode(), what="test") for row in rows)


def only(*rows: dict[str, Any]) -> TrivyAdvisory:
    (made,) = export(*rows).records
    return made


def events(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{kind: version} for kind, version in pairs]


@pytest.mark.parametrize(
    ("steps", "versions", "expected"),
    [
        (events(("introduced", "0"), ("fixed", "1.2")), (), ("<1.2",)),
        (events(("introduced", "1"), ("fixed", "1.2")), (), (">=1, <1.2",)),
        (events(("introduced", "1"), ("last_affected", "1.2")), (), (">=1, <=1.2",)),
        (events(("introduced", "1")), (), (">=1",)),
        (events(("introduced", "0")), (), ("<99999999999999",)),
        (
            events(("introduced", "3"), ("fixed", "1.2"), ("introduced", "0"), ("fixed", "3.4")),
            (),
            ("<1.2", ">=3, <3.4"),
        ),
        (
            events(("introduced", "0"), ("fixed", "1.2")),
            ("1.1", "1.3", "odd one"),
            ("<1.2", "=1.3"),
        ),
        (events(("introduced", "1"), ("limit", "2")), (), (">=1, <2",)),
        (events(("introduced", "1"), ("limit", "*")), (), (">=1",)),
        (None, ("1.1", "1.2"), ("=1.1", "=1.2")),
    ],
)
def test_affected_versions_as_constraints(
    steps: list[dict[str, str]] | None, versions: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    row = record("PYSEC-1", events=steps, versions=versions)
    assert only(row).vulnerable_versions == expected


@pytest.mark.parametrize(
    ("steps", "fixed"),
    [
        (events(("introduced", "0"), ("fixed", "1.2-1")), "1.2-1"),
        (events(("introduced", "0")), ""),
        (events(("introduced", "0"), ("last_affected", "1.2-1")), ""),
        (events(("introduced", "0"), ("fixed", "1.2-1"), ("introduced", "1.3-1")), ""),
        (
            events(("introduced", "2"), ("fixed", "2.1"), ("introduced", "0"), ("fixed", "1.9")),
            "2.1",
        ),
    ],
)
def test_fixed_version_of_a_distribution_package(steps: list[dict[str, str]], fixed: str) -> None:
    made = only(record("DEBIAN-CVE-2026-1000", "Debian:12", "demo", events=steps))
    assert (made.bucket, made.package, made.fixed_version) == ("debian 12", "demo", fixed)
    assert made.status is (None if fixed else TrivyStatus.AFFECTED)


def test_update_of_several_causes_is_one_record_for_each() -> None:
    row = record(
        "ALSA-2026:1",
        "AlmaLinux:9",
        "demo",
        related=["CVE-2026-1000", "CVE-2026-1001"],
        summary="Moderate: demo security update",
    )
    made = export(row)
    assert [(r.id, r.vendor_ids, r.severity) for r in made.records] == [
        ("CVE-2026-1000", ("ALSA-2026:1",), Severity.MEDIUM),
        ("CVE-2026-1001", ("ALSA-2026:1",), Severity.MEDIUM),
    ]
    assert [v.id for v in made.vulnerabilities] == ["CVE-2026-1000", "CVE-2026-1001"]


@pytest.mark.parametrize("turned", [False, True])
def test_later_fix_of_two_updates_counts(turned: bool) -> None:
    rows = [
        record(
            f"ALSA-2026:{n}",
            "AlmaLinux:9",
            "demo",
            events=events(("introduced", "0"), ("fixed", fixed)),
            related=["CVE-2026-1000"],
        )
        for n, fixed in ((1, "1.9-1.el9"), (2, "1.10-1.el9"))
    ]
    made = only(*(reversed(rows) if turned else rows))
    assert made.fixed_version == "1.10-1.el9"
    assert made.vendor_ids == ("ALSA-2026:1", "ALSA-2026:2")


def test_vulnerability_without_a_fix_in_one_record_has_none() -> None:
    fixed = record("DSA-1", "Debian:12", "demo", aliases=["CVE-2026-1000"])
    unfixed = record(
        "DEBIAN-CVE-2026-1000", "Debian:12", "demo",
        events=[{"introduced": "0"}], upstream=["CVE-2026-1000"],
    )  # fmt: skip
    assert only(fixed, unfixed).fixed_version == ""
    assert only(unfixed, fixed).fixed_version == ""


def test_fix_that_another_entry_calls_affected_is_no_patched_version() -> None:
    early, late = (
        record("GO-1", "Go", "demo", events=events(*steps), aliases=["CVE-2026-1000"])
        for steps in (
            (("introduced", "0"), ("fixed", "1.2.0")),
            (("introduced", "1.2.0"), ("fixed", "1.3.0")),
        )
    )
    made = only(early, {**late, "id": "GO-2"})
    assert made.vulnerable_versions == ("<1.2.0", ">=1.2.0, <1.3.0")
    assert made.patched_versions == ("1.3.0",)


def test_each_publisher_has_a_bucket_of_its_own() -> None:
    made = export(
        record("PYSEC-1", aliases=["CVE-2026-1000"]), record("GHSA-1", aliases=["CVE-2026-1000"])
    )
    assert {r.bucket: made.sources[r.bucket].id for r in made.records} == {
        "pip::Python Packaging Advisory Database": "osv",
        "pip::GitHub Security Advisory": "ghsa",
    }


def test_every_severity_is_kept_under_trivys_name_of_its_source() -> None:
    (vulnerability,) = export(
        record(
            "GHSA-1",
            aliases=["CVE-2026-1000"],
            database_specific={"severity": "MODERATE"},
            severity=[{"type": "CVSS_V3", "score": CVSS31}, {"type": "CVSS_V4", "score": CVSS4}],
        ),
        record(
            "PYSEC-1", aliases=["CVE-2026-1000"], severity=[{"type": "CVSS_V3", "score": CVSS31}]
        ),
    ).vulnerabilities
    assert vulnerability.vendor_severity == {"ghsa": Severity.MEDIUM, "osv": Severity.CRITICAL}
    assert vulnerability.cvss is not None
    ghsa = vulnerability.cvss["ghsa"]
    assert (ghsa.v3_score, ghsa.v40_score) == (9.8, 9.3)
    assert (ghsa.v3_vector, ghsa.v40_vector) == (CVSS31, CVSS4)


def test_withdrawn_record_is_left_out() -> None:
    assert export(record("PYSEC-1", withdrawn="2026-01-02T00:00:00Z")).records == ()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (record("RLSA-2026:1", "Rocky Linux:9", "demo"), "Rocky Linux:9: its records name source"),
        (record("RHSA-1", "Red Hat:enterprise_linux:9::baseos", "demo"), "Red Hat:enterprise_linux:9: "),
        (record("MGASA-1", "Mageia:9", "demo"), "Mageia:9: trivy has no bucket"),
        (record("X-1", "Debian:12", "demo", events=None, versions=["1"]), "X-1, demo: no range"),
        (
            record("ALSA-1", "AlmaLinux:9", "demo", events=events(("introduced", "0"), ("fixed", "1-2-3"))),
            "ALSA-1, demo: '1-2-3' is no RPM version",
        ),
        (
            record(
                "ALSA-1", "AlmaLinux:9", "demo",
                events=events(("introduced", "0"), ("fixed", "1-1.module_el9+1")),
            ),
            "ALSA-1, demo: no range, version or module stream",
        ),
    ],
)  # fmt: skip
def test_what_trivy_will_not_see_is_named(row: dict[str, object], reason: str) -> None:
    made = export(row)
    assert made.records == ()
    (told,) = made.left_out
    assert told.startswith(reason)


@pytest.mark.parametrize(
    "shape", [{"binaries": 1}, {"binaries": [1]}, {"binaries": [{"a": 1}]}, {"other": {}}]
)
def test_unknown_shape_of_a_free_form_section_is_nobodys_promise(shape: dict[str, object]) -> None:
    row: dict[str, Any] = record("SUSE-SU-1", "SUSE:Linux Enterprise Server 15 SP5", "demo")
    row["affected"][0]["ecosystem_specific"] = shape
    assert only(row).package == "demo"

"""Which ecosystem each distribution release is, and by which names its packages are looked up."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ci_registry.advisories.ecosystem_names import canonical_ecosystem
from ci_registry.advisories.ecosystems import (
    LANGUAGE_ECOSYSTEMS,
    Query,
    distribution_ecosystem,
    os_kind_of,
    queries_for,
)
from ci_registry.advisories.match import MatchResult, match_inventory
from ci_registry.advisories.osv import Advisory, parse_advisory
from ci_registry.advisories.versions import can_compare
from ci_registry.findings import Distribution, FindingKind, Package, Severity
from tests.support.advisories import apk, inventory, pypi, record, rpm

ALMA_9 = Distribution(id="almalinux", version="9.4")
NODE_18 = "nodejs:18:9010020221118120946:rhel9"


def match(
    package: Package, *records: Mapping[str, object], distribution: Distribution = ALMA_9
) -> MatchResult:
    advisories = tuple(parse_advisory(json.dumps(item).encode(), what="test") for item in records)

    def lookup(queries: tuple[Query, ...]) -> Mapping[tuple[str, str], tuple[Advisory, ...]]:
        return {query.key: advisories for query in queries}

    return match_inventory(inventory(package, distribution=distribution), lookup)


def update(
    identity: str,
    ecosystem: str,
    name: str,
    fixed: str,
    summary: str = "Important: demo security update",
    *,
    causes: Sequence[str] = (),
    also: str = "",
) -> dict[str, Any]:
    """Return an update; `causes` are its CVEs, `also` is a second package fixed in the same version."""
    events = ({"introduced": "0"}, {"fixed": fixed})
    row: dict[str, Any] = record(
        identity, ecosystem, name, events=events, summary=summary, related=list(causes)
    )
    if also:
        row["affected"] = [*row["affected"], *update("x", ecosystem, also, fixed)["affected"]]
    return row


@pytest.mark.parametrize(
    ("identity", "version", "pretty_name", "ecosystem", "kind"),
    [
        ("almalinux", "9.4", "", "AlmaLinux:9", "rpm"),
        ("rocky", "8.10", "", "Rocky Linux:8", "rpm"),
        ("rhel", "9.4", "", "Red Hat:enterprise_linux:9", "rpm"),
        ("sles", "15.5", "", "SUSE:15.5", "rpm"),
        ("sles", "15", "", "SUSE:15", "rpm"),
        ("opensuse-leap", "15.6", "", "openSUSE:Leap 15.6", "rpm"),
        ("opensuse-tumbleweed", "20260101", "", "openSUSE:Tumbleweed", "rpm"),
        ("mageia", "9", "", "Mageia:9", "rpm"),
        ("azurelinux", "3.0", "", "Azure Linux:3", "rpm"),
        ("mariner", "2.0", "", "Azure Linux:2", "rpm"),
        ("photon", "5.0", "", "Photon OS:5.0", "rpm"),
        ("openeuler", "22.03", "openEuler 22.03 (LTS-SP3)", "openEuler:22.03-LTS-SP3", "rpm"),
        ("openeuler", "24.03", "openEuler 24.03 (LTS)", "openEuler:24.03-LTS", "rpm"),
        ("openeuler", "24.03", "", "", "rpm"),
        ("alpine", "3.20.3", "", "Alpine:v3.20", "apk"),
        ("wolfi", "20230201", "", "Wolfi", "apk"),
        ("chainguard", "20230201", "", "Chainguard", "apk"),
        ("minimos", "", "", "MinimOS", "apk"),
        ("fedora", "41", "", "", "rpm"),
        ("centos", "9", "", "", "rpm"),
        ("amzn", "2023", "", "", "rpm"),
        ("ol", "9.4", "", "", "rpm"),
        ("weirdos", "1", "", "", ""),
    ],
)
def test_ecosystem_and_kind(
    identity: str, version: str, pretty_name: str, ecosystem: str, kind: str
) -> None:
    distribution = Distribution(id=identity, version=version, pretty_name=pretty_name)
    assert distribution_ecosystem(distribution) == ecosystem
    assert os_kind_of(distribution) == kind
    assert not ecosystem or can_compare(ecosystem)
    assert canonical_ecosystem(ecosystem) == ecosystem


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("Red Hat:enterprise_linux:9::baseos", "Red Hat:enterprise_linux:9"),
        ("Red Hat:enterprise_linux:9::appstream", "Red Hat:enterprise_linux:9"),
        ("Red Hat:rhel_eus:9.4::appstream", "Red Hat:rhel_eus:9.4::appstream"),
        ("SUSE:Linux Enterprise Server 15 SP5", "SUSE:15.5"),
        ("SUSE:Linux Enterprise Server 15 SP4-LTSS", "SUSE:15.4"),
        ("SUSE:Linux Enterprise Module for Basesystem 15 SP5", "SUSE:15.5"),
        ("SUSE:Linux Enterprise Module for Public Cloud 15", "SUSE:15"),
        ("SUSE:Linux Enterprise Server 16.0", "SUSE:16.0"),
        ("SUSE:Linux Enterprise Micro 5.5", "SUSE:Linux Enterprise Micro 5.5"),
        (
            "SUSE:Linux Enterprise Live Patching 15 SP5",
            "SUSE:Linux Enterprise Live Patching 15 SP5",
        ),
        ("Maven:https://repo.example.org", "Maven"),
        ("Packagist:https://packages.drupal.org/8", "Packagist"),
        ("Ubuntu:22.04:LTS", "Ubuntu:22.04:LTS"),
        ("Ubuntu:Pro:22.04:LTS", "Ubuntu:Pro:22.04:LTS"),
    ],
)
def test_one_name_for_the_parts_of_a_release(name: str, canonical: str) -> None:
    assert canonical_ecosystem(name) == canonical


@pytest.mark.parametrize(
    ("identity", "asked"),
    [
        ("almalinux", [("libcurl", "7.76-1.el9")]),
        ("rocky", [("libcurl", "7.76-1.el9"), ("curl", "7.76-1.el9")]),
        ("rhel", [("libcurl", "7.76-1.el9"), ("curl", "7.76-1.el9")]),
        ("sles", [("libcurl", "7.76-1.el9"), ("curl", "7.76-1.el9")]),
    ],
)
def test_rpms_are_asked_for_as_the_records_name_them(
    identity: str, asked: list[tuple[str, str]]
) -> None:
    distribution = Distribution(id=identity, version="9")
    queries = queries_for(rpm("libcurl", "7.76-1.el9", "curl"), distribution)
    assert [(query.name, query.version) for query in queries] == asked


def test_alpine_packages_are_asked_for_by_origin() -> None:
    (query,) = queries_for(
        apk("libcrypto3", "3.1.2-r0", "openssl"), Distribution(id="alpine", version="3.20.1")
    )
    assert (query.ecosystem, query.name, query.version) == ("Alpine:v3.20", "openssl", "3.1.2-r0")


def test_maven_is_asked_for_as_group_and_artifact() -> None:
    package = Package(
        ecosystem="maven", name="org.demo/lib", version="1", purl="pkg:maven/org.demo/lib@1"
    )
    (query,) = queries_for(package, None)
    assert query.name == "org.demo:lib"


@pytest.mark.parametrize("kind", sorted(LANGUAGE_ECOSYSTEMS))
def test_every_language_kind_can_be_asked_about(kind: str) -> None:
    package = Package(ecosystem=kind, name="Demo", version="1.0.0", purl=f"pkg:{kind}/Demo@1.0.0")
    assert queries_for(package, None)


def test_the_same_record_by_both_names_is_one_finding() -> None:
    rocky = Distribution(id="rocky", version="9.4")
    causes = ["CVE-2026-1000"]
    row = update(
        "RLSA-2026:1", "Rocky Linux:9", "curl", "0:7.77-1.el9", causes=causes, also="libcurl"
    )
    (finding,) = match(rpm("libcurl", "7.76-1.el9", "curl"), row, distribution=rocky).findings
    assert (finding.id, finding.severity) == ("CVE-2026-1000", Severity.HIGH)
    assert (finding.severity_source, finding.aliases) == ("rocky", ("RLSA-2026:1",))


def test_update_of_several_causes_found_by_both_names_is_still_folded_into_them() -> None:
    rocky = Distribution(id="rocky", version="9.4")
    both = ["CVE-2026-1000", "CVE-2026-1001"]
    row = update("RLSA-2026:1", "Rocky Linux:9", "curl", "7.77-1.el9", causes=both, also="libcurl")
    single = [
        update(f"RLSA-{n}", "Rocky Linux:9", "curl", "7.77-1.el9", causes=[both[n]]) for n in (0, 1)
    ]
    result = match(rpm("libcurl", "7.76-1.el9", "curl"), row, *single, distribution=rocky)
    assert [finding.id for finding in result.findings] == both


def test_red_hat_record_of_any_repository_of_the_release_matches() -> None:
    ubi = Distribution(id="rhel", version="9.4")
    package = rpm("openssl-libs", "1:3.0.7-24.el9", "openssl")
    for part in ("baseos", "appstream"):
        name = f"Red Hat:enterprise_linux:9::{part}"
        row = update("RHSA-2026:1", name, "openssl-libs", "1:3.0.7-25.el9")
        assert match(package, row, distribution=ubi).findings
    other = update("RHSA-2026:1", "Red Hat:enterprise_linux:8::baseos", "openssl", "1:9-1.el8")
    assert not match(package, other, distribution=ubi).findings


def test_a_missing_epoch_is_epoch_zero() -> None:
    row = update("ALSA-2026:1", "AlmaLinux:9", "openssl", "1:3.0.7-25.el9")
    assert match(rpm("openssl", "3.9-1.el9"), row).findings
    assert not match(rpm("openssl", "1:3.0.7-25.el9"), row).findings


@pytest.mark.parametrize(
    ("package", "fixed", "summary", "kind"),
    [
        (rpm("nodejs", "1:18.1-1.module_el9.1.0+1", module=NODE_18), "1:18.2-1.module_el9.1.0+2",
         "Moderate: nodejs:18 security update", FindingKind.AFFECTED),
        (rpm("nodejs", "1:18.1-1.module_el9.1.0+1", module=NODE_18), "1:20.2-1.module_el9.1.0+2",
         "Moderate: nodejs:20 security update", None),
        (rpm("nodejs", "1:18.1-1.module_el9.1.0+1", module=NODE_18), "1:20.2-1.module_el9.1.0+2",
         "Moderate: security update", FindingKind.UNDECIDED),
        (rpm("nodejs", "1:18.1-1.module_el9.1.0+1"), "1:18.2-1.module_el9.1.0+2",
         "Moderate: nodejs:18 security update", FindingKind.UNDECIDED),
        (rpm("nodejs", "1:18.3-1.module_el9.1.0+1"), "1:18.2-1.module_el9.1.0+2",
         "Moderate: nodejs:18 security update", None),
        (rpm("nodejs", "1:16.1-1.el9"), "1:18.2-1.module_el9.1.0+2",
         "Moderate: nodejs:18 security update", None),
        (rpm("nodejs", "1:18.1-1.module_el9.1.0+1", module=NODE_18), "1:99-1.el9",
         "Moderate: nodejs security update", None),
        (rpm("nodejs", "1:16.1-1.el9"), "1:16.2-1.el9",
         "Moderate: nodejs security update", FindingKind.AFFECTED),
    ],
)  # fmt: skip
def test_module_streams_are_told_apart(
    package: Package, fixed: str, summary: str, kind: FindingKind | None
) -> None:
    row = update("ALSA-2026:1", "AlmaLinux:9", "nodejs", fixed, summary)
    assert [f.kind for f in match(package, row).findings] == ([kind] if kind else [])


def test_undecided_stream_says_why() -> None:
    row = update(
        "ALSA-2026:1", "AlmaLinux:9", "nodejs", "1:20-1.module_el9+1", "Low: nodejs:20 update"
    )
    (finding,) = match(rpm("nodejs", "1:18.1-1.module_el9.1.0+1"), row).findings
    assert "stream" in finding.detail


def test_vulnerability_without_a_fix_concerns_every_build() -> None:
    row = record("ALSA-2026:1", "AlmaLinux:9", "nodejs", events=[{"introduced": "0"}])
    assert match(rpm("nodejs", "1:18.1-1.module_el9.1.0+1", module=NODE_18), row).findings
    assert match(rpm("nodejs", "1:16.1-1.el9"), row).findings


@pytest.mark.parametrize(
    ("distribution", "package", "row"),
    [
        (ALMA_9, rpm("demo", "1 0-1"), update("ALSA-2026:1", "AlmaLinux:9", "demo", "2-1.el9")),
        (
            Distribution(id="mageia", version="9"),
            rpm("demo", "1-1.mga9"),
            update("MGASA-2026-1", "Mageia:9", "demo", "demo-core-1.0-2.mga9"),
        ),
        (
            Distribution(id="alpine", version="3.20"),
            apk("demo", "not-a-version"),
            update("ALPINE-CVE-2026-1", "Alpine:v3.20", "demo", "1.2-r3"),
        ),
        (
            Distribution(id="alpine", version="3.20"),
            Package(ecosystem="gem", name="demo", version="1-x86_64", purl="pkg:gem/demo@1"),
            update("GHSA-1", "RubyGems", "demo", "1.2"),
        ),
        (
            Distribution(id="alpine", version="3.20"),
            Package(ecosystem="golang", name="demo", version="(devel)", purl="pkg:golang/demo"),
            update("GO-1", "Go", "demo", "1.2.0"),
        ),
    ],
)
def test_version_that_cannot_be_read_is_undecided_and_never_clean(
    distribution: Distribution, package: Package, row: dict[str, object]
) -> None:
    (finding,) = match(package, row, distribution=distribution).findings
    assert finding.kind is FindingKind.UNDECIDED
    assert finding.detail


def test_python_packages_in_an_unknown_distribution_are_still_matched() -> None:
    result = match(
        pypi("demo", "1.0"), record("PYSEC-1"), distribution=Distribution(id="x", version="")
    )
    assert result.findings

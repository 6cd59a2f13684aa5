"""Every way in which a scan may not have covered an image is a named gap."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ci_registry.findings import (
    AdvisoryDatabase,
    Distribution,
    Finding,
    FindingKind,
    Gap,
    Inventory,
    Package,
    Severity,
    UnreadDatabase,
)
from ci_registry.scanners.coverage import coverage_of, gaps_for
from ci_registry.scanners.evidence import DatabaseFacts, Evidence, SeenImage, SeenPackage
from tests.support.advisories import deb, inventory, npm, pypi

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
OPENSSL = deb("openssl", "3.0.11-1")


def _facts(
    *covered: str, built_at: datetime | None = NOW - timedelta(hours=1), present: bool = True
) -> DatabaseFacts:
    return DatabaseFacts(
        database=AdvisoryDatabase(name="db", location="here", built_at=built_at),
        present=present,
        covered=frozenset(covered),
    )


def _evidence(subject: Inventory, **more: object) -> Evidence:
    values: dict[str, object] = {
        "facts": _facts("deb", "pypi", "npm"),
        "findings": (),
        "now": NOW,
        "max_db_age": timedelta(hours=48),
    }
    return Evidence(inventory=subject, **(values | more))  # type: ignore[arg-type]


def _gaps(subject: Inventory, **more: object) -> list[tuple[Gap, str]]:
    return [(g.gap, g.ecosystem) for g in gaps_for(_evidence(subject, **more))]


def test_covered_image_has_no_gap() -> None:
    assert _gaps(inventory(OPENSSL, pypi("a", "1"), npm("b", "1.0.0"))) == []


def test_empty_image_is_one_gap() -> None:
    assert _gaps(inventory(distribution=None)) == [(Gap.NO_PACKAGES, "")]


def test_empty_image_needs_no_database() -> None:
    facts = _facts(present=False)
    assert _gaps(inventory(distribution=None), facts=facts) == [(Gap.NO_PACKAGES, "")]


def test_distribution_without_its_package_database_is_a_gap() -> None:
    assert _gaps(inventory(pypi("a", "1"))) == [(Gap.NO_PACKAGES, "deb")]


def test_language_packages_without_os_release_are_a_gap() -> None:
    subject = inventory(pypi("a", "1"), distribution=None)
    assert _gaps(subject) == [(Gap.UNKNOWN_DISTRIBUTION, "")]


def test_os_packages_without_os_release_are_a_gap() -> None:
    gaps = _gaps(inventory(OPENSSL, distribution=None), facts=_facts())
    assert gaps == [(Gap.UNKNOWN_DISTRIBUTION, "deb")]


@pytest.mark.parametrize(
    "distribution",
    [Distribution(id="weirdos", version="1"), Distribution(id="debian", version="")],
)
def test_unknown_distribution_or_release_is_a_gap(distribution: Distribution) -> None:
    gaps = _gaps(inventory(OPENSSL, distribution=distribution))
    assert (Gap.UNKNOWN_DISTRIBUTION, "deb") in gaps


def test_packages_of_another_system_are_a_gap() -> None:
    rpm = Package(ecosystem="rpm", name="a", version="1", purl="pkg:rpm/a@1")
    gaps = _gaps(inventory(OPENSSL, rpm), facts=_facts("deb"))
    assert gaps == [(Gap.UNKNOWN_DISTRIBUTION, "rpm")]


def test_each_kind_without_data_is_a_gap_that_names_the_packages() -> None:
    subject = inventory(OPENSSL, pypi("a", "1"), npm("b", "1.0.0"))
    gaps = gaps_for(_evidence(subject, facts=_facts("pypi")))
    assert [(g.gap, g.ecosystem) for g in gaps] == [(Gap.NO_DATA, "deb"), (Gap.NO_DATA, "npm")]
    assert gaps[1].packages == ("pkg:npm/b@1.0.0",)
    assert gaps[1].detail == "1 npm packages are not covered: db has no data for it"


def test_owned_packages_need_no_data() -> None:
    subject = inventory(OPENSSL, pypi("a", "1", owner="python3-a"))
    assert _gaps(subject, facts=_facts("deb")) == []


def test_database_that_cannot_be_read_in_the_image_is_a_gap_each() -> None:
    unread = [UnreadDatabase(kind="rpm", path=f"p{n}", reason="Berkeley DB") for n in (1, 2)]
    gaps = gaps_for(_evidence(inventory(OPENSSL, unread=unread)))
    assert [g.detail for g in gaps] == [
        "p1 could not be read: Berkeley DB",
        "p2 could not be read: Berkeley DB",
    ]
    assert {g.gap for g in gaps} == {Gap.UNREAD_DATABASE}


@pytest.mark.parametrize(
    ("built_at", "gap"),
    [
        (None, Gap.DATABASE_UNDATED),
        (NOW + timedelta(minutes=6), Gap.DATABASE_UNDATED),
        (NOW + timedelta(minutes=4), None),
        (NOW - timedelta(hours=48), None),
        (NOW - timedelta(hours=48, seconds=1), Gap.DATABASE_STALE),
        (datetime(2019, 1, 1, tzinfo=UTC), Gap.DATABASE_STALE),
    ],
)
def test_age_of_the_database(built_at: datetime | None, gap: Gap | None) -> None:
    gaps = _gaps(inventory(OPENSSL), facts=_facts("deb", built_at=built_at))
    assert gaps == ([(gap, "")] if gap else [])


def test_absent_database_is_one_gap() -> None:
    gaps = _gaps(inventory(OPENSSL, pypi("a", "1")), facts=_facts(present=False, built_at=None))
    assert gaps == [(Gap.DATABASE_ABSENT, "")]


@pytest.mark.parametrize(
    ("version", "told", "ended"),
    [
        ("12", None, False),
        ("10", None, True),
        ("10", False, True),
        ("12", True, True),
    ],
)
def test_end_of_life(version: str, told: bool | None, ended: bool) -> None:
    subject = inventory(OPENSSL, distribution=Distribution(id="debian", version=version))
    evidence = _evidence(subject, end_of_life=told)
    coverage = coverage_of(evidence, skipped_count=0)
    assert coverage.distribution is not None
    assert coverage.distribution.end_of_life is ended
    assert [g.gap for g in coverage.gaps] == ([Gap.END_OF_LIFE] if ended else [])


def test_undecided_findings_are_one_gap_per_ecosystem() -> None:
    findings = tuple(
        Finding(
            id=f"X-{n}",
            package=pypi("a", "odd"),
            severity=Severity.LOW,
            kind=FindingKind.UNDECIDED,
            detail="'odd' is no PEP 440 version",
        )
        for n in (1, 2)
    )
    (gap,) = gaps_for(_evidence(inventory(OPENSSL, pypi("a", "odd")), findings=findings))
    assert (gap.gap, gap.ecosystem, gap.packages) == (Gap.UNDECIDED, "pypi", ("pkg:pypi/a@odd",))
    assert "2 advisories could not be decided" in gap.detail


def test_versions_that_the_scanner_could_not_compare_are_a_gap() -> None:
    assert _gaps(inventory(OPENSSL), unparsed=("bad version x",)) == [(Gap.UNDECIDED, "")]


def _seen(*packages: Package) -> tuple[SeenPackage, ...]:
    return tuple(
        SeenPackage(ecosystem=p.ecosystem, name=p.name, version=p.version, purl=p.purl)
        for p in packages
    )


def test_package_that_the_scanner_did_not_list_is_a_gap() -> None:
    subject = inventory(OPENSSL, pypi("a", "1"))
    gaps = gaps_for(_evidence(subject, seen_packages=_seen(OPENSSL)))
    assert [(g.gap, g.ecosystem, g.packages) for g in gaps] == [
        (Gap.UNSCANNED_PACKAGES, "pypi", ("pkg:pypi/a@1",))
    ]


def test_package_that_only_the_scanner_lists_is_a_gap() -> None:
    gaps = gaps_for(_evidence(inventory(OPENSSL), seen_packages=_seen(OPENSSL, npm("b", "1.0.0"))))
    assert [(g.gap, g.ecosystem, g.packages) for g in gaps] == [
        (Gap.UNINVENTORIED_PACKAGES, "npm", ("pkg:npm/b@1.0.0",))
    ]


def test_the_same_package_of_another_version_is_a_gap_both_ways() -> None:
    gaps = _gaps(inventory(OPENSSL), seen_packages=_seen(deb("openssl", "3.0.11-2")))
    assert gaps == [(Gap.UNSCANNED_PACKAGES, "deb"), (Gap.UNINVENTORIED_PACKAGES, "deb")]


def test_owned_packages_may_be_listed_or_not() -> None:
    owned = pypi("a", "1", owner="python3-a")
    subject = inventory(OPENSSL, owned)
    assert _gaps(subject, seen_packages=_seen(OPENSSL)) == []
    assert _gaps(subject, seen_packages=_seen(OPENSSL, owned)) == []


def test_spelling_of_python_names_and_a_zero_epoch_do_not_matter() -> None:
    subject = inventory(deb("a", "0:1-1"), pypi("Zope.Interface", "1"))
    seen = _seen(deb("a", "1-1"), pypi("zope-interface", "1"))
    assert _gaps(subject, seen_packages=seen) == []


@pytest.mark.parametrize(
    ("config_digest", "platform", "wrong"),
    [
        ("sha256:" + "c" * 64, "linux/amd64", 0),
        ("sha256:" + "d" * 64, "linux/amd64", 1),
        ("sha256:" + "c" * 64, "linux/arm64", 1),
        ("", "", 2),
    ],
)
def test_report_about_another_image_is_a_gap(config_digest: str, platform: str, wrong: int) -> None:
    seen = SeenImage(config_digest=config_digest, platform=platform)
    assert _gaps(inventory(OPENSSL), seen_image=seen) == [(Gap.WRONG_IMAGE, "")] * wrong


def test_gaps_name_at_most_fifty_packages_but_count_all() -> None:
    subject = inventory(OPENSSL, *(pypi(f"p{n}", "1") for n in range(60)))
    (gap,) = gaps_for(_evidence(subject, facts=_facts("deb")))
    assert len(gap.packages) == 50
    assert gap.detail.startswith("60 pypi packages")


def test_report_about_other_layers_is_a_gap() -> None:
    seen = SeenImage(
        config_digest="sha256:" + "c" * 64, platform="linux/amd64", diff_ids=("sha256:1",)
    )
    subject = inventory(OPENSSL)
    assert _gaps(subject, seen_image=seen, diff_ids=("sha256:1",)) == []
    assert _gaps(subject, seen_image=seen, diff_ids=("sha256:2",)) == [(Gap.WRONG_IMAGE, "")]


def test_kind_that_only_the_scanner_can_read_is_a_gap_with_an_acceptable_name() -> None:
    seen = (*_seen(OPENSSL), SeenPackage(ecosystem="swift", name="x", version="1", purl="pkg:s/x"))
    facts = _facts("deb", "swift")
    gaps = gaps_for(_evidence(inventory(OPENSSL), seen_packages=seen, facts=facts))
    assert [(g.gap, g.ecosystem, g.packages) for g in gaps] == [
        (Gap.UNREAD_DATABASE, "swift", ("pkg:s/x",))
    ]


def test_modules_of_go_are_compared_as_trivy_writes_them() -> None:
    ours = [
        Package(ecosystem="golang", name=name, version=version, purl=f"pkg:golang/{name}@{version}")
        for name, version in (
            ("stdlib", "1.22.1"),
            ("example.com/app", "(devel)"),
            ("a.b/c", "v1.0.0"),
        )
    ]
    theirs = [("stdlib", "v1.22.1"), ("example.com/app", ""), ("a.b/c", "v1.0.0"), ("../d", "")]
    seen = tuple(SeenPackage(ecosystem="golang", name=n, version=v, purl=n) for n, v in theirs)
    facts = _facts("deb", "golang")
    subject = inventory(OPENSSL, *ours)
    assert _gaps(subject, seen_packages=(*_seen(OPENSSL), *seen), facts=facts) == []
    missing = _gaps(subject, seen_packages=(*_seen(OPENSSL), *seen[1:]), facts=facts)
    assert missing == [(Gap.UNSCANNED_PACKAGES, "golang")]


def test_kind_that_only_the_scanner_can_read_needs_data_too() -> None:
    seen = (*_seen(OPENSSL), SeenPackage(ecosystem="golang", name="x", version="1", purl="pkg:g/x"))
    gaps = _gaps(inventory(OPENSSL), seen_packages=seen, facts=_facts("deb"))
    assert (Gap.NO_DATA, "golang") in gaps


def test_manifest_of_the_application_itself_is_no_package_that_we_missed() -> None:
    own = SeenPackage(ecosystem="npm", name="app", version="1", path="app/package.json")
    installed = SeenPackage(
        ecosystem="npm", name="b", version="1", path="app/node_modules/b/package.json"
    )
    subject = inventory(OPENSSL)
    assert _gaps(subject, seen_packages=(*_seen(OPENSSL), own)) == []
    assert _gaps(subject, seen_packages=(*_seen(OPENSSL), installed)) == [
        (Gap.UNINVENTORIED_PACKAGES, "npm")
    ]


def test_distribution_that_the_scanner_took_for_another_is_a_gap() -> None:
    gaps = _gaps(inventory(OPENSSL), misread_distribution="12 is not 99", facts=_facts())
    assert gaps == [(Gap.UNKNOWN_DISTRIBUTION, "deb")]


def test_packages_that_the_scanner_leaves_out_are_a_gap_with_our_purls() -> None:
    seen = _seen(OPENSSL)
    gaps = gaps_for(
        _evidence(
            inventory(OPENSSL),
            seen_packages=seen,
            third_party=(
                SeenPackage(ecosystem="deb", name="openssl", version="3.0.11-1", purl="theirs"),
            ),
        )
    )
    assert [(g.gap, g.packages) for g in gaps] == [(Gap.THIRD_PARTY_PACKAGES, (OPENSSL.purl,))]


def test_packages_that_our_inventory_calls_foreign_are_a_gap_for_every_scanner() -> None:
    foreign = replace(deb("docker-ce", "5:24.0-1"), third_party=True)
    gaps = gaps_for(_evidence(inventory(OPENSSL, foreign)))
    assert [(g.gap, g.packages) for g in gaps] == [(Gap.THIRD_PARTY_PACKAGES, (foreign.purl,))]


def test_system_database_that_could_not_be_read_is_not_called_missing() -> None:
    unread = [UnreadDatabase(kind="apk", path="lib/apk/db/installed", reason="no reader")]
    subject = inventory(
        pypi("a", "1"), distribution=Distribution(id="alpine", version="3.22"), unread=unread
    )
    assert _gaps(subject) == [(Gap.UNREAD_DATABASE, "apk")]

"""Reconciles what an image holds with what a scanner and its database could see; pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from ci_registry.advisories.ecosystems import (
    OS_KINDS,
    distribution_ecosystem,
    matchable,
    normal_name,
    os_kind_of,
)
from ci_registry.findings import (
    AdvisoryDatabase,
    Coverage,
    CoverageGap,
    Distribution,
    FindingKind,
    Gap,
    Package,
)
from ci_registry.inventory.os_release import with_end_of_life
from ci_registry.scanners.evidence import Evidence, SeenPackage

MAX_PURLS = 50
CLOCK_SKEW = timedelta(minutes=5)
INVENTORIED_KINDS = frozenset(
    {"apk", "cargo", "composer", "deb", "gem", "golang", "maven", "npm", "nuget", "pypi", "rpm"}
)
"""purl types that our own readers read; of others a scanner may rightly list more than we do."""

GO_WORK_TREE = "(devel)"


def coverage_of(evidence: Evidence, *, skipped_count: int) -> Coverage:
    """Return the coverage record of a scan with every gap named."""
    inventory = evidence.inventory
    return Coverage(
        platform=inventory.platform,
        manifest_digest=inventory.manifest_digest,
        config_digest=inventory.config_digest,
        distribution=_distribution(evidence),
        package_counts=inventory.counts(),
        gaps=gaps_for(evidence),
        databases=(evidence.facts.database,) if evidence.facts.present else (),
        skipped_count=skipped_count,
    )


def gaps_for(evidence: Evidence) -> tuple[CoverageGap, ...]:
    """Return every way in which the scan did not cover the image; empty means that it did."""
    distribution = tuple(_distribution_gaps(evidence))
    named = {gap.ecosystem for gap in distribution if gap.gap is Gap.UNKNOWN_DISTRIBUTION}
    return (
        *_image_gaps(evidence),
        *_unread_gaps(evidence),  # the reason when there are no packages either
        *_package_gaps(evidence),
        *distribution,
        *_database_gaps(evidence),
        *_data_gaps(evidence, named),
        *_third_party_gaps(evidence),
        *_undecided_gaps(evidence),
        *_difference_gaps(evidence),
    )


def _distribution(evidence: Evidence) -> Distribution | None:
    """Return the distribution with what is known about its end of life; "ended" wins."""
    distribution = evidence.inventory.distribution
    if distribution is None:
        return None
    told = (
        distribution.end_of_life,
        evidence.end_of_life,
        with_end_of_life(distribution, evidence.now).end_of_life,
    )
    ended = True if True in told else False if False in told else None
    return replace(distribution, end_of_life=ended)


def _image_gaps(evidence: Evidence) -> Iterable[CoverageGap]:
    seen, inventory = evidence.seen_image, evidence.inventory
    if seen is None:
        return
    if seen.config_digest != inventory.config_digest:
        yield CoverageGap(
            gap=Gap.WRONG_IMAGE,
            detail=f"the scanner's report is about config {seen.config_digest or '(none)'}, "
            f"not about {inventory.config_digest}",
        )
    if seen.diff_ids and seen.diff_ids != evidence.diff_ids:
        yield CoverageGap(
            gap=Gap.WRONG_IMAGE,
            detail="the scanner's report is about other layers than the image's",
        )
    ours = inventory.platform.split("/")[:2]
    if seen.platform.split("/")[:2] != ours:
        yield CoverageGap(
            gap=Gap.WRONG_IMAGE,
            detail=f"the scanner's report is about platform {seen.platform or '(none)'}, "
            f"not about {inventory.platform}",
        )


def _package_gaps(evidence: Evidence) -> Iterable[CoverageGap]:
    """No packages at all, or a distribution without its package database."""
    inventory = evidence.inventory
    kind = os_kind_of(inventory.distribution)
    if not inventory.packages and not evidence.seen_packages:
        yield CoverageGap(
            gap=Gap.NO_PACKAGES,
            detail=f"no packages were found in {inventory.files_count} files: nothing was scanned",
        )
    elif kind and kind not in {*_kinds(evidence), *(item.kind for item in inventory.unread)}:
        yield CoverageGap(
            gap=Gap.NO_PACKAGES,
            detail=f"{_name(inventory.distribution)} without any {kind} package: "
            "its package database is missing, the system files were not scanned",
            ecosystem=kind,
        )


def _name(distribution: Distribution | None) -> str:
    if distribution is None:
        return "no distribution"
    return f"{distribution.id} {distribution.version or '(no release)'}"


def _distribution_gaps(evidence: Evidence) -> Iterable[CoverageGap]:
    inventory = evidence.inventory
    distribution = _distribution(evidence)
    system = [p for p in inventory.packages if p.ecosystem in OS_KINDS]
    if distribution is None:
        if inventory.packages:
            what = f"the {len(system)} packages" if system else "the system files"
            yield CoverageGap(
                gap=Gap.UNKNOWN_DISTRIBUTION,
                detail=f"the image has no os-release: nobody knows which distribution {what} are from",
                ecosystem=system[0].ecosystem if system else "",
                packages=_purls(system),
            )
        return
    if distribution.end_of_life:
        yield CoverageGap(
            gap=Gap.END_OF_LIFE,
            detail=f"support of {_name(distribution)} has ended: "
            "new vulnerabilities in it are not recorded any more",
            ecosystem=os_kind_of(distribution),
        )
    known = bool(distribution_ecosystem(distribution)) or evidence.facts.distribution_known
    if known and evidence.misread_distribution:
        yield CoverageGap(
            gap=Gap.UNKNOWN_DISTRIBUTION,
            detail=evidence.misread_distribution,
            ecosystem=os_kind_of(distribution),
            packages=_purls(system),
        )
    foreign = [p for p in system if p.ecosystem != os_kind_of(distribution)]
    if not known or foreign:
        shown = foreign if known else system
        yield CoverageGap(
            gap=Gap.UNKNOWN_DISTRIBUTION,
            detail=f"no advisories are known for {_name(distribution)}: its {len(shown)} packages "
            "were not matched",
            ecosystem=shown[0].ecosystem if shown else "",
            packages=_purls(shown),
        )


def _database_gaps(evidence: Evidence) -> Iterable[CoverageGap]:
    """Age and presence of the advisories; of no interest when there was nothing to look up."""
    kinds = _matched_kinds(evidence)
    facts = evidence.facts
    name = facts.database.name
    if kinds and not facts.present:
        place = facts.database.location
        yield CoverageGap(
            gap=Gap.DATABASE_ABSENT, detail=f"there is no advisory database {name} at {place}"
        )
    elif kinds & facts.covered:
        yield from _age_gaps(facts.database, evidence)


def _age_gaps(database: AdvisoryDatabase, evidence: Evidence) -> Iterable[CoverageGap]:
    built_at = database.built_at
    if built_at is None:
        yield CoverageGap(
            gap=Gap.DATABASE_UNDATED, detail=f"nobody knows when {database.name} was made"
        )
    elif built_at > evidence.now + CLOCK_SKEW:
        yield CoverageGap(
            gap=Gap.DATABASE_UNDATED,
            detail=f"{database.name} claims to be made in the future, at {built_at.isoformat()}",
        )
    elif evidence.now - built_at > evidence.max_db_age:
        hours = int((evidence.now - built_at).total_seconds() // 3600)
        allowed = evidence.max_db_age.total_seconds() / 3600
        yield CoverageGap(
            gap=Gap.DATABASE_STALE,
            detail=f"{database.name} is {hours} hours old, more than the {allowed:g} allowed",
        )


def _data_gaps(evidence: Evidence, named: set[str]) -> Iterable[CoverageGap]:
    """Name each purl type that is in the image and not in the database, unless it is in `named`."""
    facts = evidence.facts
    if not facts.present:
        return
    packages = matchable(evidence.inventory)
    for kind in sorted(_matched_kinds(evidence) - facts.covered - named):
        mine = [package.purl for package in packages if package.ecosystem == kind]
        mine = mine or [p.purl for p in evidence.seen_packages or () if p.ecosystem == kind]
        reason = facts.reasons.get(kind) or f"{facts.database.name} has no data for it"
        yield CoverageGap(
            gap=Gap.NO_DATA,
            detail=f"{len(mine)} {kind} packages are not covered: {reason}",
            ecosystem=kind,
            packages=_first(mine),
        )


def _third_party_gaps(evidence: Evidence) -> Iterable[CoverageGap]:
    """OS packages that the distribution has no advisories for, by our reading or the scanner's."""
    purls = {package.purl for package in matchable(evidence.inventory) if package.third_party}
    purls |= set(_our_purls(evidence, evidence.third_party))
    if purls:
        yield CoverageGap(
            gap=Gap.THIRD_PARTY_PACKAGES,
            detail=f"{len(purls)} OS packages are not the distribution's own: "
            "its advisories say nothing about them",
            ecosystem=os_kind_of(evidence.inventory.distribution),
            packages=_first(purls),
        )


def _unread_gaps(evidence: Evidence) -> Iterable[CoverageGap]:
    """What our inventory could not read; also when only the scanner noticed that it is there."""
    inventory = evidence.inventory
    named = {unread.kind for unread in inventory.unread}
    extra = [p for p in evidence.seen_packages or () if p.ecosystem not in INVENTORIED_KINDS]
    for kind in sorted({package.ecosystem for package in extra} - named):
        mine = [package.purl for package in extra if package.ecosystem == kind]
        yield CoverageGap(
            gap=Gap.UNREAD_DATABASE,
            detail=f"only the scanner can read {kind} packages: its {len(mine)} are not in our "
            "inventory",
            ecosystem=kind,
            packages=_first(mine),
        )
    for unread in inventory.unread:
        yield CoverageGap(
            gap=Gap.UNREAD_DATABASE,
            detail=f"{unread.path} could not be read: {unread.reason}",
            ecosystem=unread.kind,
        )


def _undecided_gaps(evidence: Evidence) -> Iterable[CoverageGap]:
    undecided = [f for f in evidence.findings if f.kind is FindingKind.UNDECIDED]
    for kind in sorted({finding.package.ecosystem for finding in undecided}):
        mine = [finding for finding in undecided if finding.package.ecosystem == kind]
        yield CoverageGap(
            gap=Gap.UNDECIDED,
            detail=f"{len(mine)} advisories could not be decided, for example {mine[0].id} for "
            f"{mine[0].package.name}: {mine[0].detail}",
            ecosystem=kind,
            packages=_purls([finding.package for finding in mine]),
        )
    if evidence.unparsed:
        yield CoverageGap(
            gap=Gap.UNDECIDED,
            detail=f"versions that can't be compared, for example: {evidence.unparsed[0][:300]}",
        )


_Identity = tuple[str, str, str]


def _identity(ecosystem: str, name: str, version: str) -> _Identity:
    """Return what the two lists are compared by: a zero epoch and Python's spellings don't matter.

    Of a Go module that was built from a work tree trivy leaves the version out, and the standard
    library has Go's own number or a `v` in front of it.
    """
    if ecosystem == "pypi":
        name = normal_name("PyPI", name)
    if ecosystem == "golang":
        version = version.removeprefix("v").removeprefix(GO_WORK_TREE)
    if ecosystem in OS_KINDS:
        version = version.removeprefix("0:")
    return ecosystem, name, version


def _difference_gaps(evidence: Evidence) -> Iterable[CoverageGap]:
    """Compare the scanner's list with ours; packages that an OS package owns need not be in it.

    Of a purl type without data it does not matter whether the scanner listed them: that gap is
    named already.
    """
    if evidence.seen_packages is None:
        return
    seen = {_identity(p.ecosystem, p.name, p.version): p for p in evidence.seen_packages}
    packages = evidence.inventory.packages
    known = {_identity(p.ecosystem, p.name, p.version) for p in packages}
    unseen = [
        package
        for package in matchable(evidence.inventory)
        if package.ecosystem in evidence.facts.covered
        and _identity(package.ecosystem, package.name, package.version) not in seen
    ]
    for kind, count in sorted(Counter(package.ecosystem for package in unseen).items()):
        mine = [package for package in unseen if package.ecosystem == kind]
        yield CoverageGap(
            gap=Gap.UNSCANNED_PACKAGES,
            detail=f"{count} {kind} packages of the image are not in the scanner's list",
            ecosystem=kind,
            packages=_purls(mine),
        )
    extra = [
        package
        for identity, package in seen.items()
        if identity not in known
        and package.ecosystem in INVENTORIED_KINDS
        and package.is_installed
        and not _is_folder_of_go(package)
    ]
    for kind, count in sorted(Counter(package.ecosystem for package in extra).items()):
        named = [p.purl or f"{p.name}@{p.version}" for p in extra if p.ecosystem == kind]
        yield CoverageGap(
            gap=Gap.UNINVENTORIED_PACKAGES,
            detail=f"the scanner lists {count} {kind} packages that our inventory does not have",
            ecosystem=kind,
            packages=_first(named),
        )


def _is_folder_of_go(package: SeenPackage) -> bool:
    """Whether it is a folder that stood in for a Go module: we list the module, trivy the folder."""
    return package.ecosystem == "golang" and package.name.startswith((".", "/"))


def _our_purls(evidence: Evidence, seen: Iterable[SeenPackage]) -> Iterable[str]:
    """Return our own purls of packages that a scanner names, its own where we have none."""
    known = {_identity(p.ecosystem, p.name, p.version): p for p in evidence.inventory.packages}
    for package in seen:
        ours = known.get(_identity(package.ecosystem, package.name, package.version))
        yield ours.purl if ours else package.purl


def _kinds(evidence: Evidence) -> set[str]:
    """Return every purl type that somebody found a package of."""
    found = {package.ecosystem for package in evidence.inventory.packages}
    return found | {package.ecosystem for package in evidence.seen_packages or ()}


def _matched_kinds(evidence: Evidence) -> set[str]:
    """Return the purl types that there must be data for."""
    ours = {package.ecosystem for package in matchable(evidence.inventory)}
    return ours | {package.ecosystem for package in evidence.seen_packages or ()}


def _purls(packages: Iterable[Package]) -> tuple[str, ...]:
    return _first(package.purl for package in packages)


def _first(purls: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(purls))[:MAX_PURLS])

"""The scanner that runs nothing: reports of other scanners, held to our own inventory.

A report says what was found. What was looked at, with which advisories and of which age, most formats
do not say: each of these is a named gap, so that a short report is never taken for a clean image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ci_registry.advisories.ecosystems import OS_KINDS, matchable, normal_name
from ci_registry.errors import ToolError, UsageError
from ci_registry.findings import (
    AdvisoryDatabase,
    CoverageGap,
    Finding,
    Gap,
    Inventory,
    Package,
    ScanResult,
    ScanStatus,
)
from ci_registry.scanners.coverage import MAX_PURLS, coverage_of
from ci_registry.scanners.evidence import DatabaseFacts, Evidence
from ci_registry.scanners.given_report import GivenReport
from ci_registry.scanners.interface import ImageView, ScannerInfo
from ci_registry.scanners.merging import merge_results
from ci_registry.scanners.reported import Reported, findings_from

_OTHER_NAMES = {
    "alma": "almalinux",
    "amazon": "amzn",
    "amazonlinux": "amzn",
    "oracle": "ol",
    "oraclelinux": "ol",
    "redhat": "rhel",
    "rockylinux": "rocky",
}
"""What trivy and grype call a distribution → its `ID` in os-release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportScanner:
    """Gives what `reports` say about an image; several reports about one platform are merged."""

    reports: tuple[GivenReport, ...]
    """At least one."""
    now: Callable[[], datetime]
    max_db_age: timedelta
    database_built_at: datetime | None = None
    """When the advisories were made, as the caller knows it, for reports that do not say."""

    @property
    def name(self) -> str:
        """`report`."""
        return "report"

    def probe(self) -> ScannerInfo:
        """Say whose reports they are.

        Raises:
            ToolError: a report says that its scanner failed.
            UsageError: the advisories are said to be newer than the report.
        """
        for report in self.reports:
            self._check(report)
        titles = ", ".join(report.title for report in self.reports)
        return ScannerInfo(name=self.name, version="", database=titles)

    def _check(self, report: GivenReport) -> None:
        if report.failure:
            raise ToolError(
                f"{report.what}: its scanner failed: {report.failure}",
                hint="scan again; a failed scan says nothing about the image",
            )
        told, made = self.database_built_at, report.made_at
        if told is not None and made is not None and told > made:
            raise UsageError(
                f"{report.what} was made at {made.isoformat()}, before the database that it is said"
                f" to have used ({told.isoformat()})",
                hint="--report-db-date is the time when the scanner's database was built",
            )

    def scan(self, view: ImageView) -> ScanResult:
        """Return what the reports about this image say; the image itself is not read.

        Raises:
            ToolError: a report says that its scanner failed.
        """
        return self._about(view.inventory)

    def match(self, inventory: Inventory) -> ScanResult:
        """Return what the reports say, held to the inventory of an SBOM, or to none.

        Raises:
            ToolError: a report says that its scanner failed.
        """
        return self._about(inventory)

    def _about(self, inventory: Inventory) -> ScanResult:
        results = [self._result(report, inventory) for report in self._of(inventory)]
        return results[0] if len(results) == 1 else merge_results(results)

    def _of(self, inventory: Inventory) -> tuple[GivenReport, ...]:
        """Return the reports about this image, else those that do not say, else all: none is left out."""
        own = [r for r in self.reports if r.config_digest and _is_about(r, inventory)]
        own = own or [r for r in self.reports if r.manifest_digests and _is_about(r, inventory)]
        silent = [r for r in self.reports if not (r.config_digest or r.manifest_digests)]
        return tuple(dict.fromkeys((*own, *silent))) or self.reports

    def _result(self, report: GivenReport, inventory: Inventory) -> ScanResult:
        self._check(report)
        findings = findings_from(_with_kinds(report.reported, inventory), inventory)
        evidence = self._evidence(report, inventory, findings)
        skipped = len(inventory.packages) - len(matchable(inventory))
        coverage = coverage_of(evidence, skipped_count=skipped)
        gaps = (*coverage.gaps, *_silence_gaps(report, evidence), *_image_gaps(report, inventory))
        if _is_alone(inventory):
            gaps = (_alone(report), *(gap for gap in gaps if gap.gap is not Gap.NO_PACKAGES))
        return ScanResult(
            platform=inventory.platform,
            scanner=f"{(report.tool or 'unnamed').lower()} (report)",
            scanner_version=report.tool_version,
            status=ScanStatus.COMPLETE,
            findings=findings,
            coverage=replace(coverage, gaps=gaps),
            notes=(f"findings from {report.title}", *report.notes),
        )

    def _evidence(
        self, report: GivenReport, inventory: Inventory, findings: tuple[Finding, ...]
    ) -> Evidence:
        kinds = _kinds(report, inventory)
        database = AdvisoryDatabase(
            name=f"the database of {report.tool or 'the scanner'}",
            location=report.what,
            built_at=report.database_built_at or self.database_built_at,
        )
        return Evidence(
            inventory=inventory,
            facts=DatabaseFacts(
                database=database, covered=frozenset(kinds), distribution_known=bool(report.os_name)
            ),
            findings=findings,
            now=self.now(),
            max_db_age=self.max_db_age,
            seen_packages=report.packages,
            end_of_life=report.end_of_life,
            misread_distribution=_misread(report, inventory),
            third_party=report.third_party,
        )


def _kinds(report: GivenReport, inventory: Inventory) -> set[str]:
    """Return the purl types that there should be advisories for."""
    ours = {package.ecosystem for package in matchable(inventory)}
    return ours | {package.ecosystem for package in report.packages or ()}


def _with_kinds(reported: tuple[Reported, ...], inventory: Inventory) -> Iterator[Reported]:
    """Give findings without a purl type that of our package with the same name and version."""
    known: dict[tuple[str, str], set[str]] = {}
    for package in inventory.packages:
        name = _plain(package.name)
        known.setdefault((name, package.version.removeprefix("0:")), set()).add(package.ecosystem)
    for item in reported:
        if item.kind:
            yield item
            continue
        kinds = known.get((_plain(item.name), item.version.removeprefix("0:")), set())
        chosen = (kinds & OS_KINDS) or kinds
        yield replace(
            item,
            kind=min(chosen) if chosen else "generic",
            name=item.name or "(no package is named)",
            purl=item.purl or ("" if item.name else "pkg:generic/unnamed"),
        )


def _plain(name: str) -> str:
    return normal_name("PyPI", name)


# --- gaps


def _is_about(report: GivenReport, inventory: Inventory) -> bool:
    if report.config_digest and inventory.config_digest:
        return report.config_digest == inventory.config_digest
    return bool(inventory.manifest_digest) and inventory.manifest_digest in report.manifest_digests


def _is_alone(inventory: Inventory) -> bool:
    """Whether nobody gave an image or an SBOM."""
    return not (inventory.packages or inventory.manifest_digest or inventory.files_count)


def _alone(report: GivenReport) -> CoverageGap:
    return CoverageGap(
        gap=Gap.NO_PACKAGES,
        detail=f"there is only {report.what}: nobody knows what the scanner should have looked at",
    )


def _image_gaps(report: GivenReport, inventory: Inventory) -> Iterator[CoverageGap]:
    """Whether the report is about this image, by digest, or else by its list of packages."""
    if _is_alone(inventory):
        return
    told = report.config_digest or ", ".join(report.manifest_digests)
    comparable = (report.config_digest and inventory.config_digest) or (
        report.manifest_digests and inventory.manifest_digest
    )
    if comparable and not _is_about(report, inventory):
        ours = inventory.config_digest if report.config_digest else inventory.manifest_digest
        yield CoverageGap(
            gap=Gap.WRONG_IMAGE,
            detail=f"{report.what} is about {told}, not about {ours or inventory.manifest_digest}",
        )
    elif not comparable and report.packages is None:
        yield CoverageGap(
            gap=Gap.WRONG_IMAGE,
            detail=f"{report.what} names no digest and lists no packages: nobody knows which image"
            " it is about",
        )
    platform = "/".join(inventory.platform.split("/")[:2])
    if report.platform and platform and "/".join(report.platform.split("/")[:2]) != platform:
        yield CoverageGap(
            gap=Gap.WRONG_IMAGE,
            detail=f"{report.what} is about platform {report.platform}, not about {inventory.platform}",
        )


def _silence_gaps(report: GivenReport, evidence: Evidence) -> Iterator[CoverageGap]:
    """Name what the report does not say."""
    proven = {
        finding.package.ecosystem for finding in evidence.findings if _is_known(finding, evidence)
    }
    packages: dict[str, list[str]] = {}
    for package in matchable(evidence.inventory):
        packages.setdefault(package.ecosystem, []).append(package.purl)
    ours = set(packages)
    for seen in report.packages or ():
        if seen.ecosystem not in ours:
            packages.setdefault(seen.ecosystem, []).append(seen.purl)
    for kind in sorted(packages.keys() - proven):
        looked = "looked at them and had" if report.packages is None else "had"
        purls = tuple(sorted(set(packages[kind])))
        yield CoverageGap(
            gap=Gap.NO_DATA,
            detail=f"{len(purls)} {kind} packages without a finding: {report.what} does not say"
            f" whether its scanner {looked} advisories for them",
            ecosystem=kind,
            packages=purls[:MAX_PURLS],
        )
    if not packages and report.packages is None and evidence.facts.database.built_at is None:
        yield CoverageGap(
            gap=Gap.DATABASE_UNDATED,
            detail=f"nobody knows when {evidence.facts.database.name} was made",
        )
    yield from _undecided_gaps(report, evidence)


def _is_known(finding: Finding, evidence: Evidence) -> bool:
    """Whether a finding is about a package that is really there: then there are advisories for its kind."""
    if finding.package in evidence.inventory.packages:
        return True
    return any(
        _same(finding.package, seen.ecosystem, seen.name) for seen in evidence.seen_packages or ()
    )


def _same(package: Package, kind: str, name: str) -> bool:
    return (package.ecosystem, package.name) == (kind, name)


def _undecided_gaps(report: GivenReport, evidence: Evidence) -> Iterator[CoverageGap]:
    homeless = [item.id for item in report.reported if not item.name]
    if homeless:
        yield CoverageGap(
            gap=Gap.UNDECIDED,
            detail=f"{len(homeless)} findings of {report.what} name no package, for example"
            f" {homeless[0][:100]}",
        )
    unfixed = [f for f in evidence.findings if not f.fixed_versions and not f.fix_state]
    if unfixed and not report.says_fixes:
        yield CoverageGap(
            gap=Gap.UNDECIDED,
            detail=f"{report.what} does not say whether {len(unfixed)} of its findings have a fix,"
            f" for example {unfixed[0].id}",
        )
    if report.left_out:
        yield CoverageGap(
            gap=Gap.UNDECIDED,
            detail=f"the scanner of {report.what} left out {len(report.left_out)} findings by rules of"
            f" its own, for example {report.left_out[0][:200]}",
        )


def _misread(report: GivenReport, inventory: Inventory) -> str:
    """Say that the scanner took the image for another release than we did; empty when it did not."""
    ours = inventory.distribution
    if ours is None or not report.os_name:
        return ""
    name = _OTHER_NAMES.get(report.os_name.lower(), report.os_name.lower())
    version = report.os_version
    same = version == ours.version or version.startswith(f"{ours.version}.") or not ours.version
    if name in (ours.id, ours.id.partition("-")[0]) and (same or not version):
        return ""
    read = f"{report.os_name} {version}".strip()
    return f"os-release says {ours.id} {ours.version}".rstrip() + (
        f", but {report.tool} took the image for {read}"
    )

"""Makes packages, findings, coverages and scan results for tests of what comes after a scan."""

from datetime import UTC, datetime

from ci_registry.findings import (
    AdvisoryDatabase,
    Coverage,
    CoverageGap,
    Distribution,
    Finding,
    FindingKind,
    Package,
    ScanResult,
    ScanStatus,
    Severity,
)

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
AMD64 = "linux/amd64"
ARM64 = "linux/arm64"


def make_package(
    name: str = "openssl", version: str = "1.0", *, ecosystem: str = "deb", path: str = ""
) -> Package:
    space = "debian/" if ecosystem == "deb" else ""
    return Package(
        ecosystem=ecosystem,
        name=name,
        version=version,
        purl=f"pkg:{ecosystem}/{space}{name}@{version}?arch=amd64",
        path=path,
    )


def make_finding(
    name: str = "CVE-2026-0001",
    severity: Severity = Severity.HIGH,
    package: Package | None = None,
    *,
    aliases: tuple[str, ...] = (),
    fixed: tuple[str, ...] = ("2.0",),
    kind: FindingKind = FindingKind.AFFECTED,
    detail: str = "",
) -> Finding:
    return Finding(
        id=name,
        aliases=aliases,
        package=package or make_package(),
        severity=severity,
        fixed_versions=fixed,
        kind=kind,
        detail=detail,
    )


def make_coverage(
    platform: str = AMD64,
    *,
    gaps: tuple[CoverageGap, ...] = (),
    package_counts: tuple[tuple[str, int], ...] = (("deb", 80),),
    databases: tuple[AdvisoryDatabase, ...] = (AdvisoryDatabase(name="osv", built_at=NOW),),
) -> Coverage:
    return Coverage(
        platform=platform,
        manifest_digest="sha256:" + "1" * 64,
        config_digest="sha256:" + "2" * 64,
        distribution=Distribution(id="debian", version="12"),
        package_counts=package_counts,
        gaps=gaps,
        databases=databases,
    )


def make_scan(
    *findings: Finding,
    platform: str = AMD64,
    gaps: tuple[CoverageGap, ...] = (),
    status: ScanStatus = ScanStatus.COMPLETE,
    coverage: Coverage | None = None,
) -> ScanResult:
    return ScanResult(
        platform=platform,
        scanner="osv",
        scanner_version="1",
        status=status,
        findings=findings,
        coverage=coverage or make_coverage(platform, gaps=gaps),
    )

"""Puts the coverage record of a scan into lines: what was looked at, with what, and what was not."""

from collections.abc import Iterator
from datetime import UTC, datetime

from ci_registry.findings import AdvisoryDatabase, Distribution, ScanResult
from ci_registry.reports.escape import one_line
from ci_registry.results import ImageResult

_ENDED = {True: ", its support has ended", False: "", None: ", end of support not known"}


def coverage_lines(scan: ScanResult, image: ImageResult | None = None) -> tuple[str, ...]:
    """Return the record, one fact a line; what nobody knows is said."""
    return tuple(one_line(f"{name}: {value}", 500) for name, value in _facts(scan, image) if value)


def _facts(scan: ScanResult, image: ImageResult | None) -> Iterator[tuple[str, str]]:
    coverage = scan.coverage
    counts = ", ".join(f"{number} {kind}" for kind, number in coverage.package_counts)
    yield "packages looked at", counts or "none"
    skipped = ", ".join(f"{number} {reason}" for reason, number in coverage.skipped)
    yield (
        "packages skipped",
        skipped or (str(coverage.skipped_count) if coverage.skipped_count else "none"),
    )
    yield "image", f"{image.name} {image.digest or ''}".strip() if image is not None else ""
    yield "platform", f"{coverage.platform} {coverage.manifest_digest}"
    yield "config", coverage.config_digest
    yield "distribution", _distribution(coverage.distribution)
    yield "with data", ", ".join(coverage.with_data)
    without = ", ".join(coverage.without_data)
    yield "without data", without or ("none" if coverage.with_data else "")
    for database in coverage.databases:
        yield "database", _database(database)
    for item in coverage.lists:
        yield "list", _database(item)
    yield "scanner", f"{scan.scanner} {scan.scanner_version}".strip()
    yield "scanned at", _time(coverage.scanned_at) if coverage.scanned_at else ""
    for gap in coverage.gaps:
        where = f" ({gap.ecosystem})" if gap.ecosystem else ""
        yield "gap", f"{gap.gap}{where}: {gap.detail}"


def _distribution(found: Distribution | None) -> str:
    if found is None:
        return "none"
    name = f"{found.id} {found.version}".strip()
    return f"{name}{_ENDED[found.end_of_life]}"


def _database(database: AdvisoryDatabase) -> str:
    built = f"of {_time(database.built_at)}" if database.built_at else "undated"
    return " ".join(part for part in (database.name, built, database.digest) if part)


def _time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")

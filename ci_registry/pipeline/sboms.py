"""The SBOMs of a run: one file per platform of each image and format."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from ci_registry import __version__
from ci_registry.config.model import ReportFormat
from ci_registry.findings import ScanResult
from ci_registry.results import PlatformImage, RunResult
from ci_registry.sbom.document import SbomDocument

SBOM_FILES = ("sbom-*.cdx.json", "sbom-*.spdx.json")
"""Patterns of the names."""
_ENDINGS = {ReportFormat.CYCLONEDX: "cdx.json", ReportFormat.SPDX: "spdx.json"}


def sbom_document(
    name: str, platform: PlatformImage, scans: Iterable[ScanResult], *, created_at: datetime
) -> SbomDocument:
    """Return what the SBOM of one platform says.

    Args:
        name: `registry/repository`, or the name of the image in the settings.
        platform: of the image.
        scans: of all platforms; the coverage record of the one of this platform goes in.
        created_at: stands in the document.
    """
    coverages = [scan.coverage for scan in scans if scan.platform == str(platform.platform)]
    return SbomDocument(
        image=name,
        inventory=platform.inventory,
        created_at=created_at,
        tool=f"ci-registry {__version__}",
        coverage=coverages[0] if coverages else None,
    )


def sbom_renderers(
    result: RunResult, formats: tuple[ReportFormat, ...]
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the name of each file and what makes its text."""
    for image in result.images:
        name = image.destinations[0] if image.destinations else image.name
        for platform in image.platforms:
            document = sbom_document(name, platform, image.scans, created_at=result.started_at)
            stem = f"sbom-{_slug(image.name)}-{platform.platform.slug}"
            for kind, ending in _ENDINGS.items():
                if kind in formats:
                    yield f"{stem}.{ending}", functools.partial(_render, kind, document)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:100]


def _render(kind: ReportFormat, document: SbomDocument) -> str:
    if kind is ReportFormat.SPDX:
        from ci_registry.sbom.spdx import write_spdx  # noqa: PLC0415 - only when it is wanted

        return write_spdx(document).decode()
    from ci_registry.sbom.cyclonedx import write_cyclonedx  # noqa: PLC0415 - as above

    return write_cyclonedx(document).decode()

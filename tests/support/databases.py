"""Builds compiled advisory databases for tests."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ci_registry.advisories.build import BuildRequest, build_database
from ci_registry.advisories.compiled_file import DatabaseInfo
from tests.support.advisories import record, write_osv_folder

BUILT = datetime(2026, 6, 1, tzinfo=UTC)
CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


def write_kev(file: Path, *ids: str, released: datetime = BUILT) -> Path:
    """Write a list of known exploited vulnerabilities as CISA publishes it."""
    rows = [{"cveID": name, "dateAdded": "2026-01-01"} for name in ids]
    document = {"dateReleased": released.isoformat(), "vulnerabilities": rows}
    file.write_text(json.dumps(document))
    return file


def write_epss(file: Path, scores: Mapping[str, float], *, scored: datetime = BUILT) -> Path:
    """Write a table of scores as FIRST publishes it, not compressed."""
    lines = [f"#model_version:v2025.03.14,score_date:{scored:%Y-%m-%dT%H:%M:%S%z}"]
    lines += ["cve,epss,percentile", *(f"{name},{score},0.5" for name, score in scores.items())]
    file.write_text("\n".join(lines) + "\n")
    return file


def build(
    output: Path,
    *records: Mapping[str, object],
    built: datetime = BUILT,
    ecosystems: tuple[str, ...] = ("PyPI",),
    kev: Path | None = None,
    epss: Path | None = None,
    trivy: bool = False,
) -> DatabaseInfo:
    """Compile records; without any, one critical record about the Python package `demo`."""
    made = records or (
        record(
            "PYSEC-1", aliases=["CVE-2026-1"], severity=[{"type": "CVSS_V3", "score": CRITICAL}]
        ),
    )
    source = write_osv_folder(
        output.parent / f"{output.name}-osv", *made, built=built.isoformat(), ecosystems=ecosystems
    )
    request = BuildRequest(
        sources=(source,),
        output=output,
        now=built + timedelta(hours=1),
        kev=kev,
        epss=epss,
        trivy=trivy,
    )
    return build_database(request).info

"""Reads the report of a scanner that somebody else ran: SARIF, CycloneDX, or trivy's or grype's JSON."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ci_registry.errors import IntegrityError
from ci_registry.scanners import grype_report, trivy_report
from ci_registry.scanners.cyclonedx_report import read_cyclonedx_report
from ci_registry.scanners.given_report import GivenReport, digests_in, time_or_none
from ci_registry.scanners.reported import Reported
from ci_registry.scanners.sarif_report import read_sarif
from ci_registry.strict import as_object, parse_json

MAX_REPORT_BYTES = 64 * 1024 * 1024
_NO_PACKAGES = b'{"bomFormat": "CycloneDX"}'
_Json = Mapping[str, object]


def read_report(data: bytes, *, what: str) -> GivenReport:
    """Read a report of any of the formats.

    Raises:
        IntegrityError: it is none of them, says nothing about vulnerabilities, or a part that is
            looked at has the wrong shape; the message says which.
    """
    root = as_object(parse_json(data, what=what, max_bytes=MAX_REPORT_BYTES), what=what)
    if "spdxVersion" in root:
        raise IntegrityError(
            f"{what}: an SPDX document lists packages and no vulnerabilities",
            hint="match its packages with advisories: --from-sbom",
        )
    if "SchemaVersion" in root and ("ArtifactName" in root or "Results" in root):
        return _trivy(data, root, what)
    if "matches" in root and "descriptor" in root:
        return _grype(data, root, what)
    if isinstance(root.get("runs"), list):
        return read_sarif(root, what=what)
    if root.get("bomFormat") == "CycloneDX":
        return read_cyclonedx_report(root, what=what)
    raise IntegrityError(
        f"{what}: no report that can be read",
        hint="name a report as SARIF 2.1, CycloneDX with vulnerabilities, or trivy's or grype's JSON",
    )


def _placed(what: str, parse: Callable[[], GivenReport]) -> GivenReport:
    """Put the file in front of what a reader says."""
    try:
        return parse()
    except IntegrityError as error:
        raise IntegrityError(f"{what}: {error.message}", hint=error.hint) from error


def _objects(value: object) -> list[_Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _member(value: _Json, key: str) -> _Json:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _known_platform(text: str) -> str:
    return text if all(text.partition("/")[::2]) else ""


# --- trivy


def _trivy(data: bytes, root: _Json, what: str) -> GivenReport:
    def parse() -> GivenReport:
        report = trivy_report.parse_report(data)
        left_out = [
            f"{item.get('Status', 'ignored')}: {_member(item, 'Finding').get('VulnerabilityID', '?')}"
            for result in _objects(root.get("Results"))
            for item in _objects(result.get("ExperimentalModifiedFindings"))
            if item.get("Type") in (None, "vulnerability")
        ]
        lists = any(result.get("Packages") for result in _objects(root.get("Results")))
        return GivenReport(
            what=what,
            format="trivy's JSON",
            tool="trivy",
            tool_version=report.trivy_version,
            reported=report.reported,
            packages=report.packages if lists else None,
            config_digest=report.config_digest,
            manifest_digests=digests_in(_member(root, "Metadata").get("RepoDigests")),
            platform=_known_platform(report.platform),
            diff_ids=report.diff_ids,
            os_name=report.os_family.replace("none", ""),
            os_version=report.os_version,
            third_party=report.third_party,
            end_of_life=True if report.end_of_life else None,
            made_at=time_or_none(root.get("CreatedAt"), f"{what}: CreatedAt"),
            left_out=tuple(left_out),
        )

    return _placed(what, parse)


# --- grype


def _grype(data: bytes, root: _Json, what: str) -> GivenReport:
    def parse() -> GivenReport:
        report = grype_report.parse_report(data, _NO_PACKAGES)
        descriptor = _member(root, "descriptor")
        database = _member(descriptor, "db")
        status = _member(database, "status") or database
        image = _member(_member(root, "source"), "target")
        return GivenReport(
            what=what,
            format="grype's JSON",
            tool="grype",
            tool_version=report.grype_version,
            reported=tuple(map(_without_unknown_kind, report.reported)),
            config_digest=report.config_digest,
            manifest_digests=digests_in([image.get("manifestDigest"), *_texts(image)]),
            platform=_known_platform(report.platform),
            os_name=report.os_name,
            os_version=report.os_version,
            made_at=time_or_none(descriptor.get("timestamp"), f"{what}: descriptor.timestamp"),
            database_built_at=time_or_none(status.get("built"), f"{what}: descriptor.db: built"),
            left_out=tuple(f"ignored: {text}" for text in report.ignored),
        )

    return _placed(what, parse)


def _texts(image: _Json) -> list[object]:
    found = image.get("repoDigests")
    return found if isinstance(found, list) else []


def _without_unknown_kind(item: Reported) -> Reported:
    return item if item.kind else replace(item, kind="generic")

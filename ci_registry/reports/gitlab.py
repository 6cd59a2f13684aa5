"""What GitLab reads: the dotenv file and the container scanning report."""

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from ci_registry.errors import UsageError
from ci_registry.findings import Finding, ScanStatus, Severity
from ci_registry.reports.escape import clip, one_line, printable, web_link
from ci_registry.reports.result_json import image_summary
from ci_registry.reports.totals import judged, pushed_name, written_images
from ci_registry.reports.wording import fix_of, gap_line, worst_first
from ci_registry.results import (
    ImageResult,
    JudgedFinding,
    RunResult,
    Step,
    Treatment,
    Verdict,
)

SCHEMA_VERSION = "15.0.7"
"""The version that every supported GitLab accepts."""
_NAMESPACE = uuid.UUID("5b0f1c9e-7a36-5d43-9a58-2f3a4d8a6f10")
_SEVERITIES = {
    Severity.CRITICAL: "Critical",
    Severity.HIGH: "High",
    Severity.MEDIUM: "Medium",
    Severity.LOW: "Low",
    Severity.NEGLIGIBLE: "Low",
    Severity.UNKNOWN: "Unknown",
    Severity.NONE: "Info",
}
_CVSS = re.compile(r"CVSS:3\.[01]/[A-Z:/]{10,120}")


def render_dotenv(result: RunResult, prefix: str = "IMAGE_") -> str:
    """Return the eight variables for later jobs; with several images all but the verdict are empty.

    Raises:
        UsageError: the prefix can't start the name of a variable.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,40}", prefix):
        raise UsageError(f"not a prefix for variables: {prefix[:60]!r}")
    images = written_images(result)
    one: dict[str, Any] = image_summary(images[0]) if len(images) == 1 else {}
    tag = next(iter(one.get("tags", [])), "")
    values = {
        f"{prefix}REF": one.get("image_ref", ""),
        f"{prefix}NAME": one.get("image", ""),
        f"{prefix}TAG": tag,
        f"{prefix}DIGEST": one.get("digest", ""),
        f"{prefix}VERDICT": str(result.verdict),
        f"{prefix}SIGNED": "true" if one.get("signed") else "false",
        "CI_APPLICATION_REPOSITORY": one.get("image", "") if tag else "",
        "CI_APPLICATION_TAG": tag,
    }
    return "".join(f"{name}={_value(text)}\n" for name, text in values.items())


def _value(text: str) -> str:
    """Return a value without quotes, spaces and line breaks: the format has no way to write them."""
    return text if re.fullmatch(r"[A-Za-z0-9._:/@+-]*", text) else ""


def render_container_scanning(result: RunResult) -> str:
    """Return `gl-container-scanning-report.json`; an incomplete scan is a failed one."""
    start, end = _times(result)
    messages = list(_messages(result))
    document = {
        "version": SCHEMA_VERSION,
        "scan": {
            "analyzer": _tool("ci-registry", result.tool_version),
            "scanner": _scanner(result),
            "start_time": _time(start),
            "end_time": _time(end),
            "status": "failure" if any(m["level"] == "fatal" for m in messages) else "success",
            "type": "container_scanning",
            "messages": messages,
        },
        "vulnerabilities": [v for image in result.images for v in _vulnerabilities(image)],
    }
    return json.dumps(document, indent=1) + "\n"


def _tool(name: str, version: str) -> dict[str, Any]:
    name = one_line(name, 100) or "ci-registry"
    return {
        "id": name,
        "name": name,
        "version": one_line(version, 100) or "unknown",
        "vendor": {"name": name},
    }


def _scanner(result: RunResult) -> dict[str, Any]:
    scans = [scan for image in result.images for scan in image.scans]
    if not scans:
        return _tool("ci-registry", result.tool_version)
    return _tool(scans[0].scanner, scans[0].scanner_version)


def _times(result: RunResult) -> tuple[datetime, datetime]:
    """Return the first start and the last end of the scans, else of the run."""
    found = [
        (step.started_at, step.started_at + timedelta(seconds=step.duration_s))
        for image in result.images
        for step in image.steps
        if step.step is Step.SCAN and step.started_at is not None
    ]
    if not found:
        return result.started_at, result.started_at + timedelta(seconds=result.duration_s)
    return min(start for start, _ in found), max(end for _, end in found)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _messages(result: RunResult) -> Iterator[dict[str, str]]:
    """Say why the report is not the whole truth; a fatal message makes the scan a failed one."""
    if result.error:
        yield {"level": "fatal", "value": one_line(result.error)}
    for image in result.images:
        name = one_line(image.name, 100)
        if image.decision is None:
            reason = image.error or "the image was not scanned"
            yield {"level": "fatal", "value": f"{name}: {one_line(reason)}"}
            continue
        gaps = image.decision.gaps
        for gap in gaps:
            level = "fatal" if gap.verdict is Verdict.INCOMPLETE else "warn"
            yield {"level": level, "value": f"{name} ({gap.platform}): {gap_line(gap)}"}
        for scan in image.scans:
            if scan.status is not ScanStatus.COMPLETE:
                text = f"{name} ({scan.platform}): the scan ended as {scan.status}"
                yield {"level": "fatal", "value": text}
        if image.decision.verdict is Verdict.INCOMPLETE:
            reason = one_line(next(iter(image.decision.reasons), "incomplete"))
            yield {"level": "fatal", "value": f"{name}: {reason}"}


def _vulnerabilities(image: ImageResult) -> Iterator[dict[str, Any]]:
    """Yield one entry per vulnerability, package and version; its platforms stand in the details."""
    groups: dict[tuple[str, str, str], list[JudgedFinding]] = {}
    for item in sorted(judged(image), key=worst_first):
        finding = item.finding
        for version in item.versions or (finding.package.version,):
            key = (finding.id, finding.package.purl_without_version, version)
            groups.setdefault(key, []).append(item)
    for (_, _, version), items in groups.items():
        yield _vulnerability(image, version, items)


def _vulnerability(image: ImageResult, version: str, items: list[JudgedFinding]) -> dict[str, Any]:
    worst = min(items, key=worst_first)
    finding = worst.finding
    name = pushed_name(image) or image.name
    package = finding.package
    found: dict[str, Any] = {
        "id": _id(name, package.purl_without_version or package.name, version, finding.id),
        "name": one_line(f"{finding.id} in {package.name}", 255),
        "description": clip(printable(finding.title or finding.id), 10_000),
        "severity": _SEVERITIES[worst.effective_severity],
        "solution": one_line(
            f"Update {package.name}: {fix_of(finding)}"
            if finding.fixed_versions
            else "No fixed version is known."
        ),
        "identifiers": [_identifier(finding.id, finding.url)]
        + [_identifier(alias, "") for alias in finding.aliases[:19]],
        "location": {
            "dependency": {
                "package": {"name": one_line(package.name, 255)},
                "version": one_line(version, 255),
            },
            "operating_system": _operating_system(image, worst.platform),
            "image": _location(image, name),
        },
        "details": _details(items),
    }
    if link := web_link(finding.url):
        found["links"] = [{"url": link}]
    if vectors := _vectors(finding):
        found["cvss_vectors"] = vectors
    if worst.treatment is Treatment.WAIVED:
        found["flags"] = [
            {
                "type": "flagged-as-likely-false-positive",
                "origin": one_line(f"waiver {worst.waiver_id}", 200),
                "description": one_line(worst.reason) or "waived",
            }
        ]
    return found


def _id(*parts: str) -> str:
    """Return an id that is the same in every run."""
    return str(uuid.uuid5(_NAMESPACE, "\0".join(printable(part) for part in parts)))


def _identifier(name: str, url: str) -> dict[str, str]:
    kind = re.match(r"[A-Za-z]+", name)
    found = {"type": kind[0].lower() if kind else "advisory", "name": name, "value": name}
    if link := web_link(url):
        found["url"] = link
    return {key: one_line(text, 2000) for key, text in found.items()}


def _operating_system(image: ImageResult, platform: str) -> str:
    """Return `debian 12`; the schema wants a word also where there is no distribution."""
    for scan in image.scans:
        distribution = scan.coverage.distribution
        if scan.platform == platform and distribution is not None:
            return one_line(f"{distribution.id} {distribution.version}".strip(), 255) or "unknown"
    return "none"


def _location(image: ImageResult, name: str) -> str:
    """Return `name:tag`: the tag changes, the name with which GitLab recognises a finding does not."""
    tag = next((tag for _, tag in image.planned_tags if tag), "")
    if tag:
        return f"{name}:{tag}"
    return f"{name}@{image.digest}" if image.digest else name


def _vectors(finding: Finding) -> list[dict[str, str]]:
    return [
        {"vendor": one_line(source, 100) or "unknown", "vector": vector}
        for source, vector in finding.severities
        if _CVSS.fullmatch(vector)
    ][:10]


def _details(items: list[JudgedFinding]) -> dict[str, Any]:
    facts = {
        "platforms": ("Platforms", sorted({item.platform for item in items})),
        "paths": ("Found in", sorted({path for item in items for path in item.paths})[:20]),
        "rules": ("Policy rule", sorted({item.rule_id for item in items if item.rule_id})),
    }
    return {
        key: {"type": "text", "name": name, "value": one_line(", ".join(values))}
        for key, (name, values) in facts.items()
        if values
    }

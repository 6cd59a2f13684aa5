"""`scan --from-report`: what another scanner found is judged by our policy, and held to the image."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.cli import Outcome, Project, make_project

RECENT = (datetime.now(UTC) - timedelta(hours=2)).isoformat()


@pytest.fixture(name="project", scope="module")
def _project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project whose image stands in `layout/app`."""
    project = make_project(tmp_path_factory.mktemp("project"), None)
    assert project.run("build", "--output", "layout", "--image", "app").exit_code == 0
    return project


def _layout(project: Project) -> str:
    (path,) = (project.folder / "layout").iterdir()
    return str(path.relative_to(project.folder))


def _config_digest(project: Project) -> str:
    folder = project.folder / _layout(project)
    index = json.loads((folder / "index.json").read_text())
    while "manifests" in index:
        digest = index["manifests"][0]["digest"]
        index = json.loads((folder / "blobs" / digest.replace(":", "/")).read_text())
    return str(index["config"]["digest"])


def _trivy(project: Project) -> dict[str, Any]:
    """Return a report about the image with one finding per kind of package."""

    def result(kind: str, name: str, version: str, purl: str) -> dict[str, Any]:
        identity = {"PURL": purl}
        return {
            "Target": kind,
            "Type": kind,
            "Packages": [{"Name": name, "Version": version, "Identifier": identity}],
            "Vulnerabilities": [
                {
                    "VulnerabilityID": f"CVE-2026-{len(name)}",
                    "PkgName": name,
                    "InstalledVersion": version,
                    "PkgIdentifier": identity,
                    "Status": "affected",
                    "Severity": "LOW",
                }
            ],
        }

    return {
        "SchemaVersion": 2,
        "ArtifactName": "app",
        "Trivy": {"Version": "0.76.0"},
        "Metadata": {
            "OS": {"Family": "debian", "Name": "12.5"},
            "ImageID": _config_digest(project),
            "ImageConfig": {"os": "linux", "architecture": "amd64"},
        },
        "Results": [
            result("debian", "base-files", "12.4", "pkg:deb/debian/base-files@12.4"),
            result("python-pkg", "demo", "2.0", "pkg:pypi/demo@2.0"),
        ],
    }


def _scan(project: Project, report: object, *arguments: str) -> Outcome:
    project.write("report.json", json.dumps(report))
    return project.run("scan", *arguments, "--from-report", "report.json")


def _gaps(project: Project) -> set[str]:
    (image,) = project.result()["images"]
    return {gap["gap"]["gap"] for gap in image["decision"]["gaps"] if gap["verdict"] != "warn"}


def test_report_about_the_image_passes_when_it_leaves_nothing_open(project: Project) -> None:
    outcome = _scan(project, _trivy(project), _layout(project), "--report-db-date", RECENT)
    assert (outcome.exit_code, _gaps(project)) == (0, set()), outcome.stderr
    decision = project.result()["images"][0]["decision"]
    assert {f["finding"]["id"] for f in decision["findings"]} == {"CVE-2026-10", "CVE-2026-4"}
    assert "scanner report, advisories: report.json" in outcome.stderr


def test_finding_of_the_report_blocks(project: Project) -> None:
    report = _trivy(project)
    report["Results"][1]["Vulnerabilities"][0] |= {"Severity": "CRITICAL", "FixedVersion": "3"}
    outcome = _scan(project, report, _layout(project), "--report-db-date", RECENT)
    assert outcome.exit_code == 1
    assert "blocked by policy" in outcome.stderr


def _other_image(report: dict[str, Any]) -> None:
    report["Metadata"]["ImageID"] = "sha256:" + "0" * 64


def _nothing_found(report: dict[str, Any]) -> None:
    for result in report["Results"]:
        del result["Vulnerabilities"]


def _fewer_packages(report: dict[str, Any]) -> None:
    del report["Results"][0]


@pytest.mark.parametrize(
    ("change", "gaps"),
    [
        (_other_image, {"wrong-image"}),
        (_nothing_found, {"no-data"}),
        (_fewer_packages, {"no-data", "unscanned-packages"}),
    ],
)
def test_what_the_report_leaves_open_is_incomplete(
    project: Project, change: Callable[[dict[str, Any]], None], gaps: set[str]
) -> None:
    report = _trivy(project)
    change(report)
    outcome = _scan(project, report, _layout(project), "--report-db-date", RECENT)
    assert (outcome.exit_code, _gaps(project)) == (5, gaps)


def test_age_of_the_database_must_be_told(project: Project) -> None:
    outcome = _scan(project, _trivy(project), _layout(project))
    assert (outcome.exit_code, _gaps(project)) == (5, {"database-undated"})
    old = (datetime.now(UTC) - timedelta(hours=50)).isoformat()
    outcome = _scan(project, _trivy(project), _layout(project), "--report-db-date", old)
    assert (outcome.exit_code, _gaps(project)) == (5, {"database-stale"})


def test_report_beside_the_own_scanner_adds_to_it(project: Project) -> None:
    """What the report leaves open about data, the other scanner has."""
    report = _trivy(project)
    del report["Results"][0]["Vulnerabilities"]
    both = (_layout(project), "--scanner", "osv", "--report-db-date", RECENT)
    outcome = _scan(project, report, *both)
    assert (outcome.exit_code, _gaps(project)) == (0, set()), outcome.stderr
    report["Results"][1]["Vulnerabilities"][0] |= {"Severity": "CRITICAL", "FixedVersion": "3"}
    assert _scan(project, report, *both).exit_code == 1


def test_report_and_sbom(project: Project) -> None:
    assert project.run("scan", _layout(project)).exit_code == 0
    (sbom,) = project.reports.glob("sbom-*.cdx.json")
    kept = project.write("kept.cdx.json", sbom.read_bytes()).name
    dated = ("--report-db-date", RECENT)
    assert _scan(project, _trivy(project), "--from-sbom", kept, *dated).exit_code == 0
    other = _trivy(project)
    _other_image(other)
    outcome = _scan(project, other, "--from-sbom", kept, *dated)
    assert (outcome.exit_code, _gaps(project)) == (5, {"wrong-image"})


def test_report_alone_is_incomplete(project: Project) -> None:
    outcome = _scan(project, _trivy(project), "--report-db-date", RECENT)
    assert outcome.exit_code == 5
    assert _gaps(project) == {"no-packages", "uninventoried-packages"}
    assert "there is only report.json" in outcome.stderr


@pytest.mark.parametrize("target", [True, False])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "report.json: not valid JSON"),
        ('{"spdxVersion": "SPDX-2.3"}', "report.json: an SPDX document lists packages"),
        ('{"runs": [{"results": [7]}], "version": "2.1.0"}', "report.json: runs[0]: results[0]: "),
    ],
)
def test_malformed_report_is_the_callers_mistake(
    project: Project, text: str, message: str, *, target: bool
) -> None:
    project.write("report.json", text)
    what = (_layout(project),) if target else ()
    outcome = project.run("scan", *what, "--from-report", "report.json")
    assert outcome.exit_code == 2
    assert outcome.troubles[0].startswith(message)


def test_report_of_a_failed_scan_is_infrastructure(project: Project) -> None:
    run = {"results": [], "invocations": [{"executionSuccessful": False}]}
    outcome = _scan(project, {"version": "2.1.0", "runs": [run]}, _layout(project))
    assert outcome.exit_code == 4
    assert outcome.troubles[0].startswith("report.json: its scanner failed")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--report-db-date", RECENT, "layout/app"),
        ("--from-report", "report.json", "--report-db-date", "yesterday"),
        ("--from-report", "report.json", "--report-db-date", "2026-06-15T12:00:00"),
        ("--from-report", "absent.json"),
    ],
)
def test_senseless_options_are_a_usage_error(project: Project, arguments: tuple[str, ...]) -> None:
    project.write("report.json", "{}")
    assert project.run("scan", *arguments).exit_code == 2

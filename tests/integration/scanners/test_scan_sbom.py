"""`scan --from-sbom`: the SBOM of a run is matched again, and gives the verdict of the run."""

import json
from pathlib import Path

import pytest

from tests.support.cli import VULNERABLE, Project, make_project, use_trivy


def _sbom(project: Project, *arguments: str) -> Path:
    project.run("run", "--dry-run", "--offline", *arguments)
    (path,) = project.reports.glob("sbom-app-*." + ("spdx.json" if arguments else "cdx.json"))
    kept = project.folder / path.name
    return path.rename(kept)


@pytest.mark.parametrize("arguments", [(), ("--report-formats", "spdx")])
def test_sbom_of_a_run_gives_the_verdict_of_the_run(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    project = make_project(tmp_path, "registry.example", version=VULNERABLE)
    sbom = _sbom(project, *arguments)
    before = project.result()["images"][0]["decision"]
    outcome = project.run("scan", "--from-sbom", sbom.name)
    after = project.result()["images"][0]["decision"]
    assert outcome.exit_code == 1
    assert before["verdict"] == after["verdict"] == "block"
    assert [f["finding"]["id"] for f in after["findings"]] == ["CVE-2026-90001"]
    assert after["findings"] == before["findings"]


def test_clean_sbom_passes(tmp_path: Path) -> None:
    project = make_project(tmp_path, "registry.example")
    outcome = project.run("scan", "--from-sbom", _sbom(project).name)
    assert (outcome.exit_code, project.result()["verdict"]) == (0, "pass")


def test_sbom_of_another_program_is_incomplete_by_itself(tmp_path: Path) -> None:
    project = make_project(tmp_path, "registry.example")
    document = json.loads(_sbom(project).read_text())
    del document["metadata"]["component"]["properties"]
    project.write("foreign.cdx.json", json.dumps(document))
    outcome = project.run("scan", "--from-sbom", "foreign.cdx.json")
    gaps = [gap["gap"]["gap"] for gap in project.result()["images"][0]["decision"]["gaps"]]
    assert (outcome.exit_code, gaps) == (5, ["unread-database"])
    assert "does not say what it could not read" in outcome.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "x.json: neither CycloneDX nor SPDX 2 as JSON"),
        (
            '{"bomFormat": "CycloneDX", "components": 1}',
            "x.json: components: expected a JSON array",
        ),
    ],
)
def test_malformed_sbom_is_the_callers_mistake(tmp_path: Path, text: str, message: str) -> None:
    project = make_project(tmp_path, "registry.example")
    project.write("x.json", text)
    outcome = project.run("scan", "--from-sbom", "x.json")
    assert outcome.exit_code == 2
    assert outcome.troubles[0].startswith(message)


def test_two_sboms_of_one_platform_are_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path, "registry.example")
    name = _sbom(project).name
    outcome = project.run("scan", "--from-sbom", name, "--from-sbom", name)
    assert outcome.exit_code == 2
    assert outcome.troubles[0] == "two of the SBOMs are about linux/amd64"


def test_image_and_sbom_together_are_a_usage_error(tmp_path: Path) -> None:
    project = make_project(tmp_path, "registry.example")
    assert project.run("scan").exit_code == 2


def test_scanner_that_reads_images_is_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path, "registry.example")
    name = _sbom(project).name
    outcome = project.run("scan", "--from-sbom", name, env=use_trivy(project, "exit 1\n"))
    assert outcome.exit_code == 2
    assert outcome.troubles[0].startswith("scanner trivy reads images")

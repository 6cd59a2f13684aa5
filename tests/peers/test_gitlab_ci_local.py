"""The GitLab template in real pipelines of gitlab-ci-local."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from ci_registry.dockerfile.parse import parse_dockerfile
from tests.support.advisories import record, write_osv_folder
from tests.support.gitlab import MERGE_REQUEST, GitLabProject, make_gitlab_project
from tests.support.peers import ROOT, peer_environment
from tests.support.place import Place
from tests.support.registry import running_registry
from tests.support.step import manifest_status, tags

pytestmark = pytest.mark.peer("gitlab-ci-local", "rsync")

EXAMPLES = sorted((ROOT / "gitlab-templates/examples").glob("*.yml"))
DEPLOY = """
stages: [build, deploy]
include:
  - local: gitlab-templates/image.yml
    inputs: {inputs}
deploy:
  stage: deploy
  needs: [ci-registry]
  script:
    - echo "$IMAGE_REF $IMAGE_DIGEST $IMAGE_VERDICT $IMAGE_SIGNED" >deployed.txt
  artifacts: {{paths: [deployed.txt]}}
"""


def pipeline(**inputs: str) -> str:
    return DEPLOY.format(inputs=json.dumps({"runner_image": "unused"} | inputs))


@pytest.fixture
def advisories(tmp_path: Path) -> Path:
    """Advisories of the demo, and not about anything in it."""
    return write_osv_folder(
        tmp_path / "advisories",
        record("DEMO-1", "Debian:12", "other", events=[{"introduced": "0"}]),
        record("DEMO-2", "PyPI", "other"),
        built=datetime.now(UTC).isoformat(),
        ecosystems=("Debian:12", "PyPI"),
    )


def project(folder: Path, text: str, env: dict[str, str] | None = None) -> GitLabProject:
    """Make a project with the demo's image `web`."""
    if not folder.exists():
        shutil.copytree(ROOT / "examples/demo/web", folder / "web")
    keep = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    return make_gitlab_project(folder, text, keep | (env or {}))


# --- runs


@pytest.mark.peer("dockerd", "docker", "docker-registry", "trivy", "cosign2")
@pytest.mark.xdist_group("place")
def test_pipeline_publishes_signs_and_hands_the_digest_to_a_later_job(
    place: Place, tmp_path: Path
) -> None:
    shutil.copytree(place.context, tmp_path / "project")
    text = pipeline(scanner="trivy", scan_db=str(place.trivy_cache), builder="buildx", sign="key")
    key = (place.folder / "cosign.key").read_text()
    found = project(tmp_path / "project", text, place.env | {"COSIGN_PRIVATE_KEY": key})

    done = found.run("--variable", f"CI_REGISTRY_IMAGE={place.registry}/gitlab/app")

    assert done.returncode == 0
    reference, digest, verdict, signed = (
        (found.artifacts("deploy") / "deployed.txt").read_text().split()
    )
    assert reference == f"{place.registry}/gitlab/app@{digest}"
    assert (verdict, signed) == ("pass", "true")
    assert {"main", "latest"} <= tags(place.registry, "gitlab/app")
    verify = ("cosign2", "verify", "--key", "cosign.pub", "--insecure-ignore-tlog", reference)
    subprocess.run(verify, env=place.env, cwd=place.folder, check=True, capture_output=True)


@pytest.mark.peer("dockerd", "docker", "docker-registry", "trivy")
@pytest.mark.xdist_group("place")
def test_merge_request_gets_reports_and_pushes_nothing(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.context, tmp_path / "project")
    text = pipeline(scanner="trivy", scan_db=str(place.trivy_cache), builder="buildx")
    found = project(tmp_path / "project", text, place.env)

    done = found.run("--variable", f"CI_REGISTRY_IMAGE={place.registry}/gitlab/mr", *MERGE_REQUEST)

    assert done.returncode == 0
    reports = found.artifacts("ci-registry") / "ci-registry-report"
    names = {path.name for path in reports.iterdir()}
    assert {
        *("result.json", "junit-ci-registry.xml", "image.env", "summary.md"),
        "gl-container-scanning-report.json",
    } <= names
    result = json.loads((reports / "result.json").read_text())
    assert (result["verdict"], result["pushed"]) == ("pass", False)
    assert result["ci"]["event"] == "change-request"
    assert tags(place.registry, "gitlab/mr") == set()
    assert manifest_status(place.registry, "gitlab/mr", result["digest"]) == 404


def test_blocked_image_stops_the_pipeline_and_keeps_its_reports(
    advisories: Path, tmp_path: Path
) -> None:
    write_osv_folder(
        advisories,
        record(
            "DEMO-3",
            "Debian:12",
            "openssl",
            events=[{"introduced": "0"}, {"fixed": "99"}],
            severity=[{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        ),
        built=datetime.now(UTC).isoformat(),
        ecosystems=("Debian:12", "PyPI"),
    )
    text = pipeline(context="web", builder="assemble", scan_db=str(advisories))
    found = project(tmp_path / "project", text)
    with running_registry() as registry:
        done = found.run("--variable", f"CI_REGISTRY_IMAGE={registry.host}/team/app")

    assert done.returncode != 0
    assert not found.artifacts("deploy").exists()
    reports = found.artifacts("ci-registry") / "ci-registry-report"
    assert json.loads((reports / "result.json").read_text())["exit_code"] == 1
    assert "DEMO-3" in (reports / "junit-ci-registry.xml").read_text()
    assert "IMAGE_VERDICT=block" in (reports / "image.env").read_text()
    assert registry.count("PUT", "/manifests/") == 0


def test_hostile_input_arrives_as_text(advisories: Path, tmp_path: Path) -> None:
    hostile = "./x; touch pwned; $(touch pwned) `touch pwned`: [a, {b"
    text = pipeline(context=hostile, builder="assemble", scan_db=str(advisories), dry_run="true")
    found = project(tmp_path / "project", text)

    done = found.run("--variable", "CI_REGISTRY_IMAGE=127.0.0.1:1/team/app")

    assert done.returncode != 0
    assert not list(tmp_path.rglob("pwned"))
    assert "touch pwned" in done.stdout + done.stderr


def test_two_includes_give_their_digests_under_two_prefixes(
    advisories: Path, tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir()
    for name in ("api", "web"):
        shutil.copytree(ROOT / "examples/demo/web", tmp_path / "project/services" / name)
    (tmp_path / "project/.ci-registry.yml").write_text(
        "version: 1\nregistry: 127.0.0.1:1/team\nimages:\n"
        "  api: {context: services/api}\n  web: {context: services/web}\n"
        f"build: {{builder: assemble}}\nscan: {{db: {advisories}}}\n"
    )
    example = yaml.safe_load((ROOT / "gitlab-templates/examples/monorepo.yml").read_text())
    for include in example["include"]:
        include["inputs"] |= {"dry_run": "true", "offline": "true"}
    example["deploy"]["script"] = ['echo "$API_VERDICT $WEB_VERDICT $IMAGE_VERDICT." >out.txt']
    example["deploy"]["artifacts"] = {"paths": ["out.txt"]}
    found = project(tmp_path / "project", yaml.safe_dump(example))

    assert found.run().returncode == 0
    assert (found.artifacts("deploy") / "out.txt").read_text() == "pass pass .\n"


# --- what GitLab would make of it


def test_events_get_the_jobs_that_the_rules_promise(tmp_path: Path) -> None:
    found = project(tmp_path / "project", pipeline())
    branch = ("--variable", "CI_COMMIT_BRANCH=feature", "--ignore-predefined-vars")

    assert "ci-registry" in found.jobs()
    assert "ci-registry" in found.jobs(*MERGE_REQUEST)
    assert "ci-registry" not in found.jobs(*branch, "CI_COMMIT_BRANCH")
    assert "ci-registry" not in found.jobs("--variable", "CIREG_DISABLED=true")


@pytest.mark.peer("check-jsonschema")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_a_valid_pipeline(example: Path, tmp_path: Path) -> None:
    found = project(tmp_path / "project", example.read_text())

    jobs = found.jobs()
    expanded = tmp_path / "expanded.yml"
    expanded.write_text(found.preview())

    assert "deploy" in jobs
    assert len(jobs) == (3 if example.stem == "monorepo" else 2)
    check(expanded)


def check(path: Path) -> None:
    """Validate a pipeline against GitLab's own schema."""
    argv = ("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci")
    done = subprocess.run(
        [*argv, "--data-transform", "gitlab-ci", path],
        env=peer_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.peer("check-jsonschema")
def test_header_of_the_template_is_valid(tmp_path: Path) -> None:
    header, _ = (ROOT / "gitlab-templates/image.yml").read_text().split("\n---\n")
    (tmp_path / "header.yml").write_text(header)

    check(tmp_path / "header.yml")


def test_examples_pin_the_job_image_by_digest() -> None:
    assert EXAMPLES
    for path in EXAMPLES:
        for include in yaml.safe_load(path.read_text())["include"]:
            assert "@sha256:" in include["inputs"]["runner_image"], path.name


# --- the job image


def test_job_image_copies_only_what_its_ignore_file_lets_in() -> None:
    text = (ROOT / "gitlab-templates/Dockerfile").read_text()
    ignore = (ROOT / "gitlab-templates/Dockerfile.dockerignore").read_text().splitlines()
    parsed = parse_dockerfile(text, file="gitlab-templates/Dockerfile")

    assert parsed is not None
    for line in text.splitlines():
        if line.startswith("COPY "):
            assert f"!{line.split()[1]}" in ignore
            assert (ROOT / line.split()[1]).exists()
    assert ignore[0] == "*"


@pytest.mark.peer("hadolint")
def test_job_image_satisfies_hadolint() -> None:
    done = subprocess.run(
        ["hadolint", ROOT / "gitlab-templates/Dockerfile"],
        env=peer_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout

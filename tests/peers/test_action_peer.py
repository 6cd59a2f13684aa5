"""The action in a job with real programs, and the workflows of the examples under real linters."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.checkout import commit_all, know_origin
from tests.support.peers import ROOT, peer_environment
from tests.support.place import PASSWORD, Place
from tests.support.step import signature_count, tags
from tests.wrappers.mini_runner import Event, MiniRunner, machine_environment

WORKFLOWS = sorted((ROOT / "examples/github").glob("*.yml"))


@pytest.mark.peer("dockerd", "docker", "docker-registry", "trivy", "cosign2", "crane")
@pytest.mark.xdist_group("place")
def test_action_builds_scans_publishes_and_signs(place: Place, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(place.context, workspace)
    sha = commit_all(workspace)
    know_origin(workspace)
    (tmp_path / "temp").mkdir()
    secrets = {"COSIGN_PRIVATE_KEY": (place.folder / "cosign.key").read_text()}
    runner = MiniRunner(
        workspace=workspace,
        temp=tmp_path / "temp",
        action=ROOT,
        env=machine_environment() | place.env,
        event=Event(sha=sha),
    )

    done = runner.use(
        {
            "image": f"{place.registry}/Acme/Action",
            "scanner": "trivy",
            "scan-db": str(place.trivy_cache),
            "builder": "buildx",
            "sign": "key",
        },
        **secrets,
    )
    print(done.log)

    assert done.exit_code == 0
    found = done.outputs
    assert (found["verdict"], found["pushed"], found["signed"]) == ("pass", "true", "true")
    assert found["image-ref"] == f"{place.registry}/acme/action@{found['digest']}"
    assert json.loads(found["tags"]) == [sha, "main", "latest"]
    assert {sha, "main", "latest"} <= tags(place.registry, "acme/action")
    assert signature_count(place.registry, "acme/action", found["digest"]) == (3, 2)
    verify = ("cosign2", "verify", "--key", "cosign.pub", "--insecure-ignore-tlog")
    for reference in json.loads(found["refs"]):
        subprocess.run(
            [*verify, reference], env=place.env, cwd=place.folder, check=True, capture_output=True
        )
    for text in (done.log, done.summary, json.dumps(found), Path(found["result"]).read_text()):
        assert PASSWORD not in text
        assert "PRIVATE KEY" not in text
    left = [path.name for path in (tmp_path / "temp").iterdir() if path.is_dir()]
    assert all(name.startswith(("ci-registry-venv-", "_runner_file_commands")) for name in left)


def lint(*argv: str | Path) -> None:
    done = subprocess.run(argv, env=peer_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.peer("check-jsonschema")
def test_workflows_and_action_satisfy_the_schemas_of_github() -> None:
    assert WORKFLOWS
    lint("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    lint("check-jsonschema", "--builtin-schema", "vendor.github-actions", ROOT / "action.yml")


@pytest.mark.peer("zizmor")
def test_workflows_and_action_satisfy_zizmor() -> None:
    options = ("--offline", "--no-progress", "--persona", "pedantic")
    lint("zizmor", *options, *WORKFLOWS, ROOT / "action.yml")


def test_examples_use_inputs_and_outputs_that_exist() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
        ours = [step for step in steps if "/ci-registry@" in step.get("uses", "")]
        assert ours, path.name
        for step in ours:
            assert set(step["with"]) <= set(action["inputs"])
        for name in path.read_text().split("steps.image.outputs.")[1:]:
            assert name.split()[0].rstrip("})") in action["outputs"]

"""action.yml as a runner runs it: the real `actions/start`, the real command line, nothing replaced."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ci_registry.reports.github import outputs
from tests.support.advisories import record, write_osv_folder
from tests.support.checkout import commit_all, know_origin
from tests.support.images import DEBIAN_OS_RELEASE, dpkg_status
from tests.support.peers import ROOT
from tests.support.registry import running_registry
from tests.support.results import sample_runs
from tests.wrappers.mini_runner import (
    MAX_SUMMARY_BYTES,
    ActionRun,
    Event,
    MiniRunner,
    RunnerError,
    load_action,
    machine_environment,
    read_commands,
    read_file_command,
)

CRITICAL = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]
HIGH = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}]
ANNOTATIONS = ("error", "warning", "notice")
TOOLS = ("bash", "dirname", "cat", "sha256sum", "cut", "rm", "touch", "printf", "env", "git")

Jobs = Callable[..., MiniRunner]


@pytest.fixture
def job(tmp_path: Path, runner_temp: Path) -> Jobs:
    """Return a maker of jobs on a checkout of the demo."""

    def make(event: Event | None = None, **env: str) -> MiniRunner:
        workspace = tmp_path / "workspace"
        if not workspace.exists():
            shutil.copytree(ROOT / "examples/demo", workspace)
            (workspace / "advisories").rename(tmp_path / "advisories")
            commit_all(workspace)
            know_origin(workspace)
        facts = {"built": datetime.now(UTC).isoformat(), "ecosystems": ["Debian:12", "PyPI"]}
        (tmp_path / "advisories" / "database.json").write_text(json.dumps(facts))
        found = event or Event()
        return MiniRunner(
            workspace=workspace,
            temp=runner_temp,
            action=ROOT,
            env=machine_environment() | {"HOME": str(tmp_path)} | env,
            event=replace(found, sha=found.sha or commit_all_again(workspace)),
        )

    return make


def commit_all_again(workspace: Path) -> str:
    """Return the id of the last commit; what was written since stays uncommitted."""
    return (workspace / ".git/refs/heads/main").read_text().strip()


def use(runner: MiniRunner, **inputs: str) -> ActionRun:
    """Use the action for a dry run with the embedded parts."""
    settings = {
        "dry-run": "true",
        "offline": "true",
        "builder": "assemble",
        "scan-db": str(runner.workspace.parent / "advisories"),
    }
    settings |= {name.replace("_", "-"): text for name, text in inputs.items()}
    done = runner.use(settings)
    print(done.log)
    return done


def is_well_behaved(done: ActionRun) -> bool:
    """Check what must hold for every run, whatever came of it."""
    for kind in ANNOTATIONS:
        assert len(done.annotations(kind)) <= 10
    assert all(len(command.data) <= 4096 for command in done.commands)
    assert len(done.summary.encode()) < MAX_SUMMARY_BYTES
    assert {command.name for command in done.commands} <= {*ANNOTATIONS, "group", "endgroup"}
    assert done.exported == {}
    return True


def test_declared_outputs_are_those_that_are_written() -> None:
    written = set(outputs(sample_runs()["passing"], {}))

    assert set(load_action(ROOT)["outputs"]) == written


def test_passing_run_sets_every_output(job: Jobs) -> None:
    runner = job()

    done = use(runner, only="web")

    assert done.exit_code == 0
    assert is_well_behaved(done)
    assert set(done.outputs) == set(done.written)
    found = done.outputs
    assert (found["verdict"], found["exit-code"], found["failed-step"]) == ("pass", "0", "")
    assert found["digest"].startswith("sha256:")
    assert found["image"] == "registry.example/acme/web"
    assert (found["pushed"], found["signed"], found["image-ref"]) == ("false", "false", "")
    result = json.loads(Path(found["result"]).read_text())
    assert result["digest"] == found["digest"]
    assert result["ci"]["provider"] == "github"
    assert result["ci"]["commit"] == runner.event.sha
    assert Path(found["junit"]).read_text().startswith("<?xml")
    assert Path(found["report-dir"]) == runner.workspace / "ci-registry-report"
    assert json.loads(found["platform-digests"]).keys() == {"linux/amd64"}
    (image,) = json.loads(found["images"]).values()
    assert (image["pushed"], image["signed"], image["refs"]) == (False, False, [])
    assert "web" in done.summary
    assert done.annotations("error") == []


def test_blocked_run_fails_the_step_and_sets_every_output(job: Jobs) -> None:
    done = use(job())

    assert done.exit_code == 1
    assert is_well_behaved(done)
    assert set(done.outputs) == set(done.written)
    found = done.outputs
    assert (found["verdict"], found["exit-code"], found["failed-step"]) == ("block", "1", "judge")
    images = json.loads(found["images"])
    assert {name: image["verdict"] for name, image in images.items()} == {
        "web": "pass",
        "worker": "block",
    }
    (error, *_) = done.annotations("error")
    assert "DEMO-2026-0001" in error.data
    assert error.properties["file"] == "worker/Dockerfile"
    assert "DEMO-2026-0001" in done.summary


def test_wrong_settings_set_every_output_too(job: Jobs) -> None:
    runner = job()
    (runner.workspace / ".ci-registry.yml").write_text("version: 1\nimagse: {}\n")
    commit_all(runner.workspace)

    done = use(job())

    assert done.exit_code == 2
    assert is_well_behaved(done)
    assert set(done.outputs) == set(done.written)
    assert (done.outputs["verdict"], done.outputs["exit-code"]) == ("incomplete", "2")
    assert any("imagse" in command.data for command in done.annotations("error"))


def test_annotations_and_summary_stay_within_the_limits_of_github(
    job: Jobs, tmp_path: Path
) -> None:
    runner = job()
    shutil.rmtree(runner.workspace / "web/rootfs/usr")
    packages = [(f"package-{n}", "1.0", "") for n in range(300)]
    status = runner.workspace / "web/rootfs/var/lib/dpkg/status"
    status.write_text(dpkg_status(*packages))
    records = [
        record(
            f"CVE-2026-{number:04}",
            "Debian:12",
            name,
            events=[{"introduced": "0"}, {"fixed": "2"}],
            severity=CRITICAL if number % 2 else HIGH,
            summary="long " * 200,
        )
        for number, (name, _, _) in enumerate(packages)
    ]
    db = write_osv_folder(
        tmp_path / "many",
        *records,
        built=datetime.now(UTC).isoformat(),
        ecosystems=("Debian:12", "PyPI"),
    )

    done = use(runner, only="web", scan_db=str(db))

    assert done.exit_code == 1
    assert is_well_behaved(done)
    assert len(done.annotations("error")) == 10
    assert "more in the report" in done.annotations("error")[-1].data
    assert done.outputs["blocking-count"] == "300"  # 150 critical; 150 high are over maxCount


# --- text from strangers

HOSTILE = "\n::error::pwned\n##[add-mask]pwned\n$(touch pwned)`touch pwned`;touch pwned"


def is_harmless(done: ActionRun, runner: MiniRunner) -> bool:
    """Nothing was run, and no annotation is a stranger's own."""
    assert not list(runner.workspace.rglob("pwned"))
    assert is_well_behaved(done)
    for command in done.commands:
        assert not command.data.startswith("pwned")
        assert command.name in ("group", "endgroup") or command.properties.get("title")
    return True


@pytest.mark.parametrize(
    "name",
    ["context", "dockerfile", "image", "tags", "labels", "target", "only", "policy", "platforms"],
)
def test_hostile_inputs_arrive_as_text(job: Jobs, name: str) -> None:
    runner = job()
    (runner.workspace / ".ci-registry.yml").unlink()
    commit_all(runner.workspace)
    inputs = {"image": "registry.example/acme/web", "context": "web"} | {name: f"x{HOSTILE}"}

    done = use(job(), **inputs)

    assert done.exit_code == (3 if name == "target" else 2)
    assert is_harmless(done, runner)


def test_hostile_branch_reaches_reports_as_text_only(job: Jobs) -> None:
    branch = 'x";touch${IFS}pwned;"##[error]pwned'
    event = Event(ref=f"refs/heads/{branch}")

    runner = job(event)
    done = use(runner, only="web")

    assert done.exit_code == 0
    assert is_harmless(done, runner)
    result = json.loads(Path(done.outputs["result"]).read_text())
    assert result["ci"]["branch"] == branch
    assert "x-touch-IFS-pwned-error-pwned" in json.dumps(result["images"][0]["planned_tags"])


def test_hostile_packages_and_advisories_create_no_command(job: Jobs, tmp_path: Path) -> None:
    runner = job()
    root = runner.workspace / "web/rootfs"
    shutil.rmtree(root / "usr")
    (root / "var/lib/dpkg/status").write_text(
        dpkg_status(("evil", "1.0", ""), ("##[error]pwned", "1.0", ""))
    )
    (root / "etc/os-release").write_text(
        DEBIAN_OS_RELEASE.replace('"Debian GNU', '"::error::pwned ##[warning]pwned Debian GNU')
    )
    db = write_osv_folder(
        tmp_path / "evil",
        record(
            "CVE-2026-0001",
            "Debian:12",
            "evil",
            events=[{"introduced": "0"}, {"fixed": "2"}],
            severity=CRITICAL,
            summary=f"x{HOSTILE}",
        ),
        built=datetime.now(UTC).isoformat(),
        ecosystems=("Debian:12", "PyPI"),
    )

    done = use(runner, only="web", scan_db=str(db))

    assert done.exit_code == 5  # no package can be called like that
    assert is_harmless(done, runner)
    assert any("CVE-2026-0001" in command.data for command in done.annotations("error"))


def test_modules_of_the_workspace_are_not_imported(job: Jobs) -> None:
    runner = job()
    trap = "open('imported', 'w').close(); raise SystemExit('imported from the workspace')\n"
    for name in ("click", "yaml", "httpx", "json", "sitecustomize", "ci_registry"):
        (runner.workspace / f"{name}.py").write_text(trap)
    path = str(runner.workspace)
    environment = {"PYTHONPATH": path, "PYTHONSTARTUP": f"{path}/click.py", "PYTHONHOME": ""}

    done = use(replace(runner, env=dict(runner.env) | environment), only="web")

    assert done.exit_code == 0
    assert not list(runner.workspace.rglob("imported"))


# --- starting


def test_missing_python_is_one_clear_line(job: Jobs, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        if (found := shutil.which(tool)) is not None:
            (folder / tool).symlink_to(found)
    (folder / "python3").write_text("#!/bin/sh\necho 'Python 3.9.2'; exit 1\n")
    (folder / "python3").chmod(0o755)
    runner = job()

    done = use(replace(runner, env=dict(runner.env) | {"PATH": str(folder)}), only="web")

    assert done.exit_code == 2
    (error,) = done.annotations("error")
    assert "Python 3.11 or newer" in error.data
    assert "actions/setup-python" in error.data
    assert done.log.strip().count("\n") == 0
    assert set(done.outputs.values()) == {""}


@pytest.mark.parametrize("path", ["/nonexistent/python", "x\n::error::pwned\n", "-c"])
def test_named_python_that_is_none_is_one_clear_line(job: Jobs, path: str) -> None:
    done = use(job(), python_path=path)

    assert done.exit_code == 2
    (error,) = done.annotations("error")
    assert "python-path" in error.data


def test_named_python_is_used(job: Jobs, tmp_path: Path) -> None:
    named = tmp_path / "named python"
    named.symlink_to(Path(sys.executable).resolve())

    done = use(job(), python_path=str(named), only="web")

    assert done.exit_code == 0


# --- pull requests


@pytest.mark.parametrize("push", ["auto", "always"])
def test_pull_request_from_a_fork_gets_a_verdict_and_writes_nothing(job: Jobs, push: str) -> None:
    payload = {
        "number": 7,
        "repository": {"default_branch": "main"},
        "pull_request": {
            "number": 7,
            "head": {"repo": {"full_name": "stranger/shop"}},
            "base": {"ref": "main"},
        },
    }
    event = Event(
        name="pull_request",
        ref="refs/pull/7/merge",
        head_ref="feature",
        base_ref="main",
        protected=False,
        payload=payload,
    )
    with running_registry() as registry:
        inputs = {"dry_run": "", "only": "web", "registry": f"{registry.host}/acme", "push": push}

        done = use(
            job(event, COSIGN_PRIVATE_KEY="no key at all"),
            registry_username="ci",
            registry_password="canary-password",
            **inputs,
        )

    assert done.exit_code == 0
    assert is_well_behaved(done)
    assert done.outputs["verdict"] == "pass"
    assert (done.outputs["pushed"], done.outputs["signed"]) == ("false", "false")
    assert json.loads(done.outputs["tags"]) == []
    assert [seen for seen in registry.seen if seen.method not in ("GET", "HEAD")] == []
    assert {seen.authorization for seen in registry.seen} <= {""}
    for text in (done.log, done.summary, json.dumps(done.outputs)):
        assert "canary-password" not in text


def test_change_cannot_relax_the_policy_that_judges_it(job: Jobs) -> None:
    runner = job()
    (runner.workspace / "policy.yml").write_text(
        "apiVersion: v1\nkind: Policy\nmetadata: {name: lax}\n"
        "spec: {rules: [{severity: LOW, action: WARN}]}\n"
    )
    (runner.workspace / "waivers.yml").write_text(
        "waivers:\n- id: all\n  vulnerabilities: [DEMO-2026-0001]\n  owner: me\n"
        f"  reason: because\n  expires: {datetime.now(UTC).year + 1}-01-01\n"
    )
    sha = commit_all(runner.workspace)  # origin/main still is the commit before
    event = Event(
        name="pull_request",
        ref="refs/pull/7/merge",
        sha=sha,
        head_ref="feature",
        base_ref="main",
        protected=False,
    )

    done = use(job(event), only="worker")

    assert done.exit_code == 1
    assert done.outputs["verdict"] == "block"


# --- the runner itself


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("::error::x", ["error"]),
        ("  ::warning file=a,line=1::x", ["warning"]),
        ("text ##[error]x", ["error"]),
        ("text ::error::x", []),
        ("::unknown::x", []),
        ("::std::vector", []),
    ],
)
def test_mini_runner_obeys_what_a_runner_obeys(line: str, names: list[str]) -> None:
    assert [command.name for command in read_commands(line)] == names


def test_mini_runner_reads_outputs_as_a_runner_does() -> None:
    assert read_file_command("a=1\nb<<E\nx\ny=2\nE\n") == {"a": "1", "b": "x\ny=2"}
    with pytest.raises(RunnerError):
        read_file_command("b<<E\nx\n")


def test_mini_runner_refuses_inputs_that_are_not_declared(job: Jobs) -> None:
    with pytest.raises(RunnerError):
        job().use({"imgae": "x"})

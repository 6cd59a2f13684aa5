"""What people get wrong in their files: each mistake is one clear line with its place, and exit code 2 or 3."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.cli import (
    SETTINGS,
    VULNERABLE,
    Project,
    assert_stopped,
    has_manifests,
    make_project,
    tags_of,
)
from tests.support.registry import RunningRegistry

POLICY = """\
apiVersion: v1
kind: Policy
metadata: {name: strict}
spec:
  rules:
  - {severity: CRITICAL, action: BLOCK}
"""
WAIVER = """\
waivers:
- id: demo
  vulnerabilities: [CVE-2026-90001]
  packages: [pkg:pypi/demo]
  owner: team@example.com
  reason: not reachable
  expires: {expires}
"""


def test_the_standard_project_passes_and_is_tagged(
    project: Project, registry: RunningRegistry
) -> None:
    done = project.run("run")
    assert done.exit_code == 0, done.stderr
    assert done.troubles == []
    assert set(tags_of(registry)) == {"v1", "latest"}
    assert project.left_overs == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nimges: {app: {}}\n", r"\.ci-registry\.yml:2: .*imges.*did you mean.*images"),
        (
            "images: {app: {}}\nbuild: {max_parallel: two}\n",
            r"\.ci-registry\.yml:2: .*max_parallel",
        ),
        ("images: {app: {platforms: {a: b}}}\n", r"\.ci-registry\.yml:1: .*platforms"),
        (
            "images: {app: {}}\nsign: {}\nsign: {}\n",
            r"\.ci-registry\.yml:3: .*duplicate key 'sign'",
        ),
        ("images: {app: {}\n", r"\.ci-registry\.yml:\d+: "),
        ("images: {app: {}}\nscan: {scanner: trvy}\n", r"\.ci-registry\.yml:2: .*trvy.*trivy"),
    ],
    ids=["unknown-key", "wrong-type", "mapping-for-list", "duplicate", "no-yaml", "unknown-choice"],
)
def test_a_mistake_in_the_settings_is_named_with_its_line(
    project: Project, registry: RunningRegistry, text: str, message: str
) -> None:
    project.write(SETTINGS, text)
    assert_stopped(project, project.run("run"), 2, message)
    assert registry.seen == []


def test_every_problem_of_the_settings_is_a_line_of_its_own(project: Project) -> None:
    project.write(SETTINGS, "imges: {}\nversion: x\nscan: {scaner: osv}\n")
    done = project.run("run")
    assert_stopped(project, done, 2, r"\.ci-registry\.yml:1: ")
    for line in (2, 3):
        assert any(f".ci-registry.yml:{line}: " in text for text in done.troubles)


def test_config_check_reports_settings_policy_and_waivers_at_once(project: Project) -> None:
    settings = json.loads((project.folder / SETTINGS).read_text())
    project.write(
        SETTINGS, json.dumps({**settings, "policy": "policy.yml", "waivers": "w.yml"}, indent=1)
    )
    project.write("policy.yml", POLICY.replace("action: BLOCK", "acton: BLOCK"))
    project.write("w.yml", WAIVER.format(expires="someday"))
    done = project.run("config", "check")
    assert done.exit_code == 2
    assert any("policy.yml:6" in text for text in done.troubles), done.stderr
    assert any("w.yml:7" in text for text in done.troubles), done.stderr


def test_config_check_reports_a_mistake_in_the_settings_with_those_in_the_policy(
    project: Project,
) -> None:
    project.write(SETTINGS, "images: {app: {}}\nverion: 1\npolicy: policy.yml\n")
    project.write("policy.yml", POLICY.replace("action: BLOCK", "acton: BLOCK"))
    done = project.run("config", "check")
    assert done.exit_code == 2
    assert any(".ci-registry.yml:2" in text for text in done.troubles), done.stderr
    assert any("policy.yml:6" in text for text in done.troubles), done.stderr


def test_an_unknown_setting_in_the_environment_is_named(project: Project) -> None:
    done = project.run("run", env={"CIREG_SCANER": "trivy"})
    assert_stopped(project, done, 2, r".*CIREG_SCANER.*CIREG_SCANNER")


def test_a_settings_file_that_is_named_and_missing_is_said(project: Project) -> None:
    done = project.run("run", "--config", "other.yml")
    assert_stopped(project, done, 2, r"there is no settings file other\.yml")


def test_an_option_that_does_not_exist_is_a_usage_error(project: Project) -> None:
    done = project.run("run", "--scaner", "osv")
    assert done.exit_code == 2
    assert "--scanner" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_dockerfile_is_named(project: Project, registry: RunningRegistry) -> None:
    (project.folder / "Dockerfile").unlink()
    assert_stopped(project, project.run("run"), 2, r"(Dockerfile: )?there is no Dockerfile")
    assert not has_manifests(registry)


def test_a_dockerfile_with_a_syntax_error_is_named_with_its_line(
    project: Project, registry: RunningRegistry
) -> None:
    project.write("Dockerfile", "FROM scratch\n\nCOPPY rootfs/ /\n")
    assert_stopped(project, project.run("run"), 3, r"Dockerfile:3: .*COPPY")
    assert not has_manifests(registry)


def test_a_missing_context_is_named(project: Project, registry: RunningRegistry) -> None:
    done = project.run("run", "--context", "services/api")
    assert_stopped(project, done, 2, r".*services/api.* is no folder")
    assert not has_manifests(registry)


def test_a_file_that_copy_does_not_find_is_named_with_its_line(project: Project) -> None:
    project.write("Dockerfile", "FROM scratch\nCOPY nothing /\n")
    assert_stopped(project, project.run("run"), 3, r"Dockerfile:2: .*nothing")


def test_a_dockerfile_with_run_has_no_builder_here(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    project = make_project(tmp_path, registry, build={"builder": "auto"})
    project.write("Dockerfile", "FROM scratch\nCOPY rootfs/ /\nRUN true\n")
    done = project.run("run", env={"PATH": "/nonexistent"})
    assert_stopped(project, done, 2, r"no builder here can build Dockerfile", hint="--builder")
    assert not has_manifests(registry)


def test_an_engine_that_does_not_run_is_infrastructure(
    project: Project, registry: RunningRegistry
) -> None:
    project.write("Dockerfile", "FROM scratch\nCOPY rootfs/ /\nRUN true\n")
    done = project.run("run", "--builder", "docker_engine")
    assert_stopped(project, done, 4, r".*Docker engine", hint="start")
    assert not has_manifests(registry)
    done = project.run("run", "--builder", "buildah", env={"PATH": "/nonexistent"})
    assert_stopped(project, done, 4, r".*the program buildah is not on PATH")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (POLICY.replace("action: BLOCK", "acton: BLOCK"), r"policy\.yml:6: .*acton.*action"),
        (POLICY.replace("CRITICAL", "CRITCAL"), r"policy\.yml:6: .*CRITCAL.*CRITICAL"),
        (POLICY.replace("kind: Policy", "kind: Polcy"), r"policy\.yml:2: .*Polcy"),
    ],
    ids=["unknown-key", "unknown-severity", "unknown-kind"],
)
def test_a_typo_in_the_policy_is_named_with_its_line(
    project: Project, registry: RunningRegistry, policy: str, message: str
) -> None:
    project.write("policy.yml", policy)
    assert_stopped(project, project.run("run", "--policy", "policy.yml"), 2, message)
    assert registry.seen == []


def test_a_policy_that_does_not_exist_is_named(project: Project) -> None:
    done = project.run("run", "--policy", "missing.yml")
    assert_stopped(project, done, 2, r"missing\.yml: .*does not exist")


def test_a_typo_in_the_waivers_is_named_with_its_line(
    project: Project, registry: RunningRegistry
) -> None:
    project.write("waivers.yml", WAIVER.format(expires="2026-01-02").replace("owner", "ovner"))
    assert_stopped(project, project.run("run"), 2, r"waivers\.yml:5: .*ovner.*owner")
    assert registry.seen == []


def test_a_waiver_that_is_expired_does_not_apply_and_that_is_said(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    project = make_project(tmp_path, registry, version=VULNERABLE)
    project.write("waivers.yml", WAIVER.format(expires="2026-01-02"))
    done = project.run("run")
    assert_stopped(
        project, done, 1, r"blocked by policy: rule critical-block", hint=r"waiver demo.*expired"
    )
    assert tags_of(registry) == {}
    assert not has_manifests(registry)


def test_a_waiver_that_has_not_expired_lets_the_image_through(
    tmp_path: Path, registry: RunningRegistry
) -> None:
    project = make_project(tmp_path, registry, version=VULNERABLE)
    expires = datetime.now(UTC).date() + timedelta(days=30)
    project.write("waivers.yml", WAIVER.format(expires=expires))
    done = project.run("run")
    assert done.exit_code == 0, done.stdout
    assert "demo" in done.stdout
    assert any("demo" in text for text in project.junit()["skipped"])


ESCAPES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_a_broken_dockerfile_does_not_drive_the_terminal(project: Project) -> None:
    project.write("Dockerfile", "FROM scratch\nCOPPY \x1b]0;owned\x07 ##[error]forged\n")
    done = project.run("run", env={"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push"})
    assert done.exit_code in (2, 3)
    assert not ESCAPES.search(done.stdout + done.stderr)
    assert "##[" not in done.stdout + done.stderr


def test_a_broken_settings_file_does_not_drive_the_terminal(project: Project) -> None:
    project.write(SETTINGS, '"\\e[2J\\n::error::forged": 1\nimages: {}\n')
    done = project.run("run", env={"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push"})
    assert done.exit_code == 2
    assert not ESCAPES.search(done.stdout + done.stderr)
    assert not re.search("(?m)^ *::error::forged", done.stdout + done.stderr)

"""Runs pipelines with gitlab-ci-local: the real templates, without a GitLab."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.checkout import commit_all, know_origin
from tests.support.peers import ROOT, peer_environment

TIMEOUT_S = 200
MERGE_REQUEST = (
    *("--variable", "CI_PIPELINE_SOURCE=merge_request_event"),
    *("--ignore-predefined-vars", "CI_PIPELINE_SOURCE"),
)


@dataclass(frozen=True, kw_only=True)
class GitLabProject:
    """A checkout with a pipeline."""

    folder: Path
    env: Mapping[str, str]

    def start(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run gitlab-ci-local; nothing is checked."""
        done = subprocess.run(
            ["gitlab-ci-local", *arguments],
            cwd=self.folder,
            env=dict(self.env),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        print(*arguments, done.returncode, done.stdout, done.stderr, sep="\n")
        return done

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the pipeline with the shell executor; each job sees committed files and its artifacts only."""
        how = ("--force-shell-executor", "--shell-isolation", "--no-artifacts-to-source")
        return self.start(*how, *arguments)

    def jobs(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """Return the jobs that an event gets, by name."""
        done = self.start("--list-json", *arguments)
        assert done.returncode == 0
        return {job["name"]: job for job in json.loads(done.stdout) if job["when"] != "never"}

    def preview(self) -> str:
        """Return the pipeline with everything filled in."""
        done = self.start("--preview")
        assert done.returncode == 0
        return done.stdout

    def artifacts(self, job: str) -> Path:
        """Return the folder with what a job left behind."""
        return self.folder / ".gitlab-ci-local" / "artifacts" / job


def make_gitlab_project(folder: Path, pipeline: str, env: Mapping[str, str]) -> GitLabProject:
    """Commit a pipeline with our templates beside it; includes of our project become local ones.

    What is in the folder already is committed too. `ci-registry` on PATH is this checkout's.
    """
    tools = folder.parent / f"{folder.name}-bin"
    tools.mkdir(parents=True)
    program = tools / "ci-registry"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -m ci_registry "$@"\n')
    program.chmod(0o755)
    templates = folder / "gitlab-templates"
    templates.mkdir(parents=True)
    shutil.copy(ROOT / "gitlab-templates/image.yml", templates)
    document = yaml.safe_load(pipeline)
    for include in document.get("include", []):
        include.pop("project", None)
        include.pop("ref", None)
        include["local"] = include.pop("file", include.get("local", "")).lstrip("/")
    (folder / ".gitlab-ci.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    (folder / ".gitignore").write_text(".gitlab-ci-local/\n")
    commit_all(folder)
    know_origin(folder)
    path = os.pathsep.join((str(tools), peer_environment()["PATH"]))
    return GitLabProject(folder=folder, env=dict(env) | {"PATH": path, "HOME": str(folder.parent)})

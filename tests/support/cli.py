"""Runs the real command line as a child process in a small project, with an environment of its own.

No variable of the caller reaches the child, and everything that a run may leave behind (reports,
work folders, caches) stands in folders that tests can look at.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import ci_registry
from ci_registry.advisories.trivy_db import (
    TrivyAdvisory,
    TrivyVulnerability,
    write_trivy_db,
)
from ci_registry.findings import Severity
from tests.support.advisories import record, write_osv_folder
from tests.support.registry import RunningRegistry
from tests.support.signing import PASSWORD, key_pair

TIMEOUT_S = 60.0
_TROUBLE = re.compile(r"(?:error: |ci-registry: |✗ \S+ \w+ [0-9.]+s: )(.*)")
SETTINGS = ".ci-registry.yml"
OS_RELEASE = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one call of the command line did."""

    exit_code: int
    stdout: str
    stderr: str
    duration_s: float

    @property
    def troubles(self) -> list[str]:
        """The lines on stderr that say what went wrong, without what stands before the message."""
        found = (_TROUBLE.match(line) for line in self.stderr.splitlines())
        return [match[1] for match in found if match]


@dataclass(slots=True, kw_only=True)
class Running:
    """A command line that runs."""

    process: subprocess.Popen[bytes]
    started: float
    stderr_lines: list[str] = field(default_factory=list)
    _stdout: bytearray = field(default_factory=bytearray)
    _threads: list[threading.Thread] = field(default_factory=list)

    def read(self) -> None:
        """Start to read both streams."""
        for action in (self._read_stdout, self._read_stderr):
            thread = threading.Thread(target=action, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _read_stdout(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for chunk in stream:
                self._stdout.extend(chunk)

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.stderr_lines.append(line.decode(errors="replace"))

    @property
    def stderr(self) -> str:
        """What stands on stderr by now."""
        return "".join(self.stderr_lines)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command line alone, not to its children."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = TIMEOUT_S) -> Outcome:
        """Wait for the end; a run that does not end is killed and fails the test."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.wait()
            message = f"still running after {timeout_s} s:\n{self.stderr}"
            raise AssertionError(message) from error
        for thread in self._threads:
            thread.join(5)
        return Outcome(
            exit_code=self.process.returncode,
            stdout=self._stdout.decode(errors="replace"),
            stderr=self.stderr,
            duration_s=time.monotonic() - self.started,
        )


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Wait until `condition()` is true; `what` is for the failure."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {timeout_s} s: {what}")
        time.sleep(0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project folder, and the folders beside it that its runs may write."""

    base: Path

    @property
    def folder(self) -> Path:
        """The project: where the command line runs."""
        return self.base / "project"

    @property
    def work(self) -> Path:
        """`CIREG_WORK_DIR`."""
        return self.base / "work"

    @property
    def reports(self) -> Path:
        """Where reports go unless a test says otherwise."""
        return self.folder / "ci-registry-report"

    @property
    def env(self) -> dict[str, str]:
        """The environment that every run starts from."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.base / "home"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(ci_registry.__file__).parents[1]),
            "CIREG_WORK_DIR": str(self.work),
            "CIREG_CACHE_DIR": str(self.base / "cache"),
            "TMPDIR": str(self.base / "tmp"),
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        }

    def write(self, path: str, text: str | bytes, *, mode: int | None = None) -> Path:
        """Write a file of the project."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        if mode is not None:
            file.chmod(mode)
        return file

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Running:
        """Start the command line."""
        process = subprocess.Popen(
            (sys.executable, "-m", "ci_registry", *arguments),
            cwd=self.folder,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running = Running(process=process, started=time.monotonic())
        running.read()
        return running

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Run the command line to its end."""
        return self.start(*arguments, env=env).wait()

    def result(self, folder: Path | None = None) -> dict[str, Any]:
        """Return `result.json`."""
        parsed: dict[str, Any] = json.loads(((folder or self.reports) / "result.json").read_text())
        return parsed

    def junit(self, folder: Path | None = None) -> dict[str, list[str]]:
        """Return the messages of the JUnit report, by `failure`, `error` and `skipped`."""
        root = ET.parse((folder or self.reports) / "junit-ci-registry.xml").getroot()
        assert next(root.iter("testcase"), None) is not None
        return {
            kind: [str(item.get("message", "")) for item in root.iter(kind)]
            for kind in ("failure", "error", "skipped")
        }

    @property
    def left_overs(self) -> list[str]:
        """What a run left in the folders for temporary files, and half-written reports."""
        found = [*self.work.iterdir(), *(self.base / "tmp").iterdir()]
        if self.reports.is_dir():
            found += [path for path in self.reports.iterdir() if path.name.startswith(".")]
        return sorted(str(path.relative_to(self.base)) for path in found)


DOCKERFILE = """\
FROM scratch
COPY rootfs/ /
"""
VULNERABLE, FIXED = "1.0", "2.0"
CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


def tags_of(registry: RunningRegistry, repository: str = "team/app") -> dict[str, str]:
    """Return tag → digest of a repository, without those that cosign's signatures have."""
    catalog = registry.store.catalog
    names = catalog.tags(repository, after="", limit=100)
    return {
        name: str(catalog.tag(repository, name)) for name in names if not name.startswith("sha256-")
    }


def has_manifests(registry: RunningRegistry) -> bool:
    """Whether any manifest was ever put."""
    return any(seen.method == "PUT" and "/manifests/" in seen.path for seen in registry.seen)


DPKG_STATUS = """\
Package: base-files
Status: install ok installed
Architecture: amd64
Version: 12.4
Description: demo

"""


def image_files(version: str = FIXED) -> dict[str, str]:
    """Return the files of a Debian with one Python package, `demo`."""
    metadata = f"Metadata-Version: 2.1\nName: demo\nVersion: {version}\n"
    folder = f"app/lib/python3.12/site-packages/demo-{version}.dist-info"
    return {
        "etc/os-release": OS_RELEASE,
        "var/lib/dpkg/status": DPKG_STATUS,
        f"{folder}/METADATA": metadata,
    }


def git(project: Project, *arguments: str) -> str:
    """Run git in the project, with an identity."""
    identity = ("-c", "user.name=Demo", "-c", "user.email=demo@example.com")
    done = subprocess.run(
        ("git", *identity, *arguments), cwd=project.folder, check=True, capture_output=True
    )
    return done.stdout.decode().strip()


def commit_all(project: Project, message: str = "one") -> str:
    """Commit the whole project on `main`, making a repository of it when it is none; returns the commit."""
    if not (project.folder / ".git").exists():
        git(project, "init", "--quiet", "--initial-branch=main")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(project, "rev-parse", "HEAD")


def signing_environment() -> dict[str, str]:
    """Return the variables that hold a private key and its password."""
    pair = key_pair("ours")
    return {
        "COSIGN_PRIVATE_KEY": pair.private_pem.reveal(),
        "COSIGN_PASSWORD": PASSWORD.reveal(),
        "COSIGN_PUBLIC_KEY": pair.public_pem.decode(),
    }


def use_trivy(project: Project, script: str) -> dict[str, str]:
    """Make `trivy` the scanner and a shell script its program; returns the environment for that.

    The script has the file that the report must be written to in `$report`.
    """
    now = datetime.now(UTC)
    write_trivy_db(
        project.base / "trivy-db",
        [TrivyAdvisory(bucket="debian 12", package="zlib", id="CVE-2026-1", fixed_version="9")],
        [TrivyVulnerability(id="CVE-2026-1", title="invented", severity=Severity.LOW)],
        updated_at=now,
        next_update=now + timedelta(days=1),
    )
    program = project.base / "bin" / "trivy"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo "Version: 0.76.0"; exit 0; }\n'
        'while [ "$#" -gt 0 ]; do [ "$1" = --output ] && report=$2; shift; done\n' + script
    )
    program.chmod(0o755)
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "CIREG_SCANNER": "trivy",
        "CIREG_SCAN_DB": str(project.base / "trivy-db"),
    }


def make_project(
    base: Path, registry: RunningRegistry | str | None, *, version: str = FIXED, **settings: object
) -> Project:
    """Make a project with one image `app`, made of a Dockerfile without RUN; no git.

    Args:
        base: an empty folder.
        registry: what is pushed to, below `team/`.
        version: of the package in the image; `VULNERABLE` has a critical advisory with a fix.
        settings: further keys of the settings file.
    """
    project = Project(base=base)
    for name in ("project", "home", "work", "tmp"):
        (base / name).mkdir(parents=True)
    project.write("Dockerfile", DOCKERFILE)
    for path, text in image_files(version).items():
        project.write(f"rootfs/{path}", text)
    write_osv_folder(
        base / "osv",
        record(
            "CVE-2026-90001",
            events=({"introduced": "0"}, {"fixed": "1.2"}),
            severity=[{"type": "CVSS_V3", "score": CRITICAL}],
        ),
        record("DEBIAN-2026-1", "Debian:12", "zlib"),
        built=datetime.now(UTC).isoformat(),
        ecosystems=("PyPI", "Debian:12"),
    )
    document: dict[str, object] = {
        "images": {"app": {"tags": ["v1", "latest"]}},
        "scan": {"db": str(base / "osv")},
        "build": {"builder": "assemble"},
    }
    if registry is not None:
        host = registry if isinstance(registry, str) else registry.host
        document["registry"] = f"{host}/team"
    project.write(SETTINGS, json.dumps({**document, **settings}, indent=1))
    return project


def assert_stopped(
    project: Project, outcome: Outcome, exit_code: int, message: str, *, hint: str = ""
) -> None:
    """Check what every run that stops must do: one clear line, the exit code, reports, no left-overs.

    Args:
        project: where it ran.
        outcome: what it did.
        exit_code: the code that it must have ended with.
        message: regular expression for the beginning of the first line.
        hint: regular expression that something on stdout or stderr must match.
    """
    everything = f"{outcome.stdout}\n{outcome.stderr}"
    assert "Traceback" not in everything, everything
    assert outcome.exit_code == exit_code, everything
    assert outcome.troubles, everything
    assert re.match(message, outcome.troubles[0]), everything
    assert re.search(hint, everything), everything
    result = project.result()
    assert result["exit_code"] == exit_code
    said = [*project.junit()["error"], *project.junit()["failure"]]
    assert said, result
    if exit_code != 1:  # findings and rules have cases of their own
        assert any(re.search(message, text) for text in said), said
    assert project.left_overs == []

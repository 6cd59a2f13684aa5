"""Runs the real command line as CI does, and reads what it wrote and what registries have."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOOL = (sys.executable, "-I", "-m", "ci_registry")
TIMEOUT_S = 200
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One call of the command line."""

    exit_code: int
    stdout: str
    stderr: str
    report: Path
    """The folder of its reports."""

    @property
    def result(self) -> dict[str, Any]:
        """What is in `result.json`."""
        found: dict[str, Any] = json.loads((self.report / "result.json").read_text())
        return found

    @property
    def image(self) -> dict[str, Any]:
        """The only image of `result.json`."""
        (image,) = self.result["images"]
        found: dict[str, Any] = image
        return found

    @property
    def junit(self) -> ET.Element:
        """The JUnit report."""
        return ET.parse(self.report / "junit-ci-registry.xml").getroot()

    def cases(self, outcome: str) -> dict[str, ET.Element]:
        """Return the `failure`, `error` or `skipped` elements of JUnit by `stage: name` of their case."""
        return {
            f"{case.get('classname', '').rpartition('.')[2]}: {case.get('name')}": found
            for case in self.junit.iter("testcase")
            for found in case.findall(outcome)
        }


def call(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, report: Path | None = None
) -> Outcome:
    """Run `ci-registry` with these arguments; nothing is checked."""
    extra = () if report is None else ("--report-dir", str(report))
    done = subprocess.run(
        [*TOOL, *argv, *extra],
        env=dict(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    print(*argv, "→", done.returncode, done.stdout, done.stderr, sep="\n")
    return Outcome(
        exit_code=done.returncode,
        stdout=done.stdout,
        stderr=done.stderr,
        report=report or cwd / "ci-registry-report",
    )


def ask(registry: str, path: str) -> tuple[int, bytes]:
    """Ask a registry on loopback itself; returns status and body."""
    request = urllib.request.Request(f"http://{registry}/v2/{path}", headers={"Accept": _MANIFESTS})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def get(registry: str, path: str) -> tuple[int, Any]:
    """Ask for JSON; returns status and the parsed body, None without success."""
    status, body = ask(registry, path)
    return status, json.loads(body) if status == 200 else None


def tags(registry: str, repository: str) -> set[str]:
    """Return the tags that a repository has."""
    status, found = get(registry, f"{repository}/tags/list")
    return set(found["tags"] or ()) if status == 200 else set()


def manifest_status(registry: str, repository: str, reference: str) -> int:
    """Return the HTTP status of a manifest."""
    return get(registry, f"{repository}/manifests/{reference}")[0]


def signature_count(registry: str, repository: str, digest: str) -> tuple[int, int]:
    """Return how many `.sig` layers and how many referrers a manifest has (registries without the API)."""
    name = digest.replace(":", "-")
    status, sig = get(registry, f"{repository}/manifests/{name}.sig")
    layers = len(sig["layers"]) if status == 200 else 0
    status, index = get(registry, f"{repository}/manifests/{name}")
    return layers, len(index["manifests"]) if status == 200 else 0

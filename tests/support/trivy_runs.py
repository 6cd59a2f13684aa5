"""Runs the genuine trivy offline on a database that we wrote from OSV records."""

import json
import os
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ci_registry.advisories.osv import Advisory
from ci_registry.advisories.trivy_db import write_trivy_db
from ci_registry.advisories.trivy_export import TrivyContent, trivy_content
from tests.support.peers import find_peer

UPDATED = datetime(2026, 11, 1, tzinfo=UTC)


def write_database(cache: Path, advisories: Iterable[Advisory]) -> TrivyContent:
    """Write a cache folder of trivy."""
    made = trivy_content(advisories)
    write_trivy_db(
        cache, made.records, made.vulnerabilities, updated_at=UPDATED, sources=made.sources
    )
    return made


def trivy(cache: Path, work: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run trivy offline, with nobody's settings, and return its findings."""
    work.mkdir(exist_ok=True)
    report = work / "report.json"
    program = find_peer("trivy")
    assert program is not None
    argv = [str(program), *arguments, "--format", "json", "-o", str(report), "--scanners", "vuln"]
    argv += ["--cache-dir", str(cache), "--skip-db-update", "--skip-java-db-update"]
    argv += ["--offline-scan", "--skip-version-check", "--disable-telemetry", "--cache-backend"]
    argv += ["memory", "--config", "/dev/null", "--ignorefile", "/dev/null"]
    env = {"HOME": str(work), "PATH": os.defpath}
    done = subprocess.run(
        argv, env=env, cwd=work, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(report.read_text()).get("Results", [])
    return [found for result in results for found in result.get("Vulnerabilities", [])]


def root(folder: Path, release: str, **files: bytes) -> Path:
    """Write a root file system; the names of `files` have `__` for a slash."""
    contents = {"etc/os-release": release.encode()}
    contents |= {name.replace("__", "/"): data for name, data in files.items()}
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def sbom(folder: Path, *purls: str) -> Path:
    """Write a CycloneDX file with one library for each purl."""
    libraries = []
    for number, purl in enumerate(purls):
        path, _, version = purl.partition("@")
        group, _, name = path.removeprefix("pkg:").partition("/")[2].rpartition("/")
        library = {"type": "library", "bom-ref": str(number), "purl": purl}
        library |= {"name": name, "version": version}
        libraries.append(library | ({"group": group.replace("%40", "@")} if group else {}))
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
    folder.mkdir(exist_ok=True)
    (folder / "bom.json").write_text(json.dumps({**document, "components": libraries}))
    return folder / "bom.json"

"""Real trivy and cosign with the databases that we push to a registry of our own."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.advisories import record, write_osv_folder
from tests.support.cli import Project, make_project, signing_environment
from tests.support.databases import CRITICAL, write_kev
from tests.support.images import ImageSpec, debian_layer, make_layout
from tests.support.peers import find_peer
from tests.support.registry import RunningRegistry, running_registry

SEVERITY = [{"type": "CVSS_V3", "score": CRITICAL}]
RECORDS = (
    record("PYSEC-2026-1", aliases=["CVE-2026-1001"], severity=SEVERITY),
    record(
        "PYSEC-2026-2", aliases=["CVE-2026-1002"], events=[{"introduced": "1.1"}, {"fixed": "2"}]
    ),
    record(
        "DEBIAN-CVE-2026-1003",
        "Debian:12",
        "openssl",
        events=[{"introduced": "0"}, {"fixed": "3.0.12-1~deb12u1"}],
        upstream=["CVE-2026-1003"],
    ),
    record(
        "DEBIAN-CVE-2026-1004",
        "Debian:12",
        "zlib",
        events=[{"introduced": "0"}],
        upstream=["CVE-2026-1004"],
    ),
)
METADATA = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"


@dataclass(frozen=True)
class Place:
    """A project, a registry with a pushed database, and an image to scan."""

    project: Project
    registry: RunningRegistry
    reference: str
    env: dict[str, str]
    layout: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    base = tmp_path_factory.mktemp("place")
    with running_registry() as registry:
        project = make_project(base, None)
        built = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        listed = ("PyPI", "Debian:12")
        write_osv_folder(project.folder / "osv", *RECORDS, built=built, ecosystems=listed)
        write_kev(project.folder / "kev.json", "CVE-2026-1003", released=datetime.now(UTC))
        made = project.run("db", "build", "osv", "-o", "db", "--trivy", "--kev", "kev.json")
        assert made.exit_code == 0, made.stderr
        reference = f"{registry.host}/security/advisories:latest"
        keys = signing_environment()
        pushed = project.run("db", "push", "db", reference, env=keys)
        assert pushed.exit_code == 0, pushed.stderr
        project.write("cosign.pub", keys["COSIGN_PUBLIC_KEY"])
        system = debian_layer(
            ("libssl3", "3.0.11-1~deb12u2", "openssl"), ("zlib1g", "1:1.2.13.dfsg-1", "zlib")
        )
        path = "usr/local/lib/python3.11/site-packages/demo-1.0.dist-info/METADATA"
        layout = make_layout(base / "layout", ImageSpec(layers=[system, {path: METADATA}])).layout
        yield Place(
            project, registry, reference, {"COSIGN_PUBLIC_KEY": keys["COSIGN_PUBLIC_KEY"]}, layout
        )


def scan(place: Place, *more: str) -> dict[str, Any]:
    """Scan the image with the command line; returns the only scan."""
    path = f"{find_peer('trivy').parent}:{os.environ['PATH']}"  # type: ignore[union-attr]
    argv = ("scan", str(place.layout), "--scan-db", place.reference, *more)
    done = place.project.run(*argv, env={**place.env, "PATH": path})
    assert done.exit_code in (0, 1), done.stderr
    (image,) = place.project.result()["images"]
    found: dict[str, Any] = image["scans"][0]
    return found


def pairs(scan_result: dict[str, Any]) -> set[tuple[str, str]]:
    return {(f["package"]["name"], f["id"]) for f in scan_result["findings"]}


EXPECTED = {("demo", "CVE-2026-1001"), ("libssl3", "CVE-2026-1003"), ("zlib1g", "CVE-2026-1004")}


@pytest.mark.peer("trivy")
def test_trivy_pulls_its_database_from_our_registry_and_finds_the_same(
    place: Place, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    argv = [str(find_peer("trivy")), "image", "--input", str(place.layout), "--format", "json"]
    argv += ["--output", str(report), "--scanners", "vuln", "--cache-dir", str(tmp_path / "cache")]
    argv += ["--db-repository", f"{place.reference}-trivy", "--skip-java-db-update"]
    argv += ["--skip-version-check", "--disable-telemetry"]
    env = {"HOME": str(tmp_path), "PATH": os.defpath}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(report.read_text())["Results"]
    found = {
        (v["PkgName"], v["VulnerabilityID"])
        for result in results
        for v in result.get("Vulnerabilities", [])
    }
    assert found == EXPECTED == pairs(scan(place))


@pytest.mark.peer("trivy")
def test_scanner_trivy_uses_the_database_beside_ours(place: Place) -> None:
    result = scan(place, "--scanner", "trivy")
    assert pairs(result) == EXPECTED
    (database,) = result["coverage"]["databases"]
    assert database["location"].startswith(f"{place.registry.host}/security/advisories@sha256:")
    assert [gap["gap"] for gap in result["coverage"]["gaps"]] == []


@pytest.mark.peer("trivy")
def test_policy_about_exploits_counts_for_trivy_too(place: Place) -> None:
    place.project.write("policy.yml", "spec: {rules: [{knownExploited: true, action: BLOCK}]}")
    result = scan(place, "--scanner", "trivy", "--policy", "policy.yml")
    exploited = {f["id"] for f in result["findings"] if f["known_exploited"]}
    assert exploited == {"CVE-2026-1003"}
    assert [item["name"] for item in result["coverage"]["lists"]] == ["kev"]


@pytest.mark.peer("cosign2", "cosign3")
@pytest.mark.parametrize("program", ["cosign2", "cosign3"])
@pytest.mark.parametrize("suffix", ["", "-trivy"])
def test_cosign_verifies_both_databases(
    place: Place, tmp_path: Path, program: str, suffix: str
) -> None:
    argv = [str(find_peer(program)), "verify", "--key", str(place.project.folder / "cosign.pub")]
    argv += ["--insecure-ignore-tlog", "--allow-http-registry", f"{place.reference}{suffix}"]
    env = {"HOME": str(tmp_path), "PATH": os.defpath}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr

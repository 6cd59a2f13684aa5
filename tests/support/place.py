"""A place with everything that a real run needs: dockerd, distribution 2.8, a Debian base image, keys, advisories."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ci_registry.advisories.trivy_db import (
    TrivyAdvisory,
    TrivyVulnerability,
    write_trivy_db,
)
from ci_registry.findings import Severity
from tests.support.advisories import record, write_osv_folder
from tests.support.distribution import running_distribution
from tests.support.docker import Dockerd, running_dockerd
from tests.support.images import ImageSpec, make_layout
from tests.support.peers import PEERS, peer_environment

DEBIAN_ROOT = PEERS / "debian-12-root.tar"
PASSWORD = "correct horse"
CVSS = {
    Severity.CRITICAL: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    Severity.LOW: "CVSS:3.1/AV:L/AC:H/PR:L/UI:N/S:U/C:N/I:N/A:L",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where everything is."""

    folder: Path
    registry: str
    """`127.0.0.1:PORT` of a real distribution 2.8."""
    base: str
    """Reference of a real Debian 12 in it."""
    context: Path
    """A build context whose Dockerfile has a RUN on that base."""
    trivy_cache: Path
    osv_folder: Path
    env: dict[str, str]
    """Peers first on PATH, DOCKER_HOST, COSIGN_PASSWORD; no settings of ci-registry."""

    def change(self, text: str) -> None:
        """Change the one file that the image copies."""
        (self.context / "app.txt").write_text(f"{text}\n")


def write_advisories(
    folder: Path, *, severity: Severity = Severity.LOW, fixed: str = "", now: datetime | None = None
) -> tuple[Path, Path]:
    """Write one record about Debian's zlib as an OSV folder and as a trivy database; returns both."""
    built = now or datetime.now(UTC)
    events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
    osv = write_osv_folder(
        folder / "osv",
        record(
            "CVE-2026-90001",
            "Debian:12",
            "zlib",
            events=events,
            severity=[{"type": "CVSS_V3", "score": CVSS[severity]}],
        ),
        built=built.isoformat(),
        ecosystems=("Debian:12",),
    )
    advisory = TrivyAdvisory(
        bucket="debian 12",
        package="zlib",
        id="CVE-2026-90001",
        fixed_version=fixed,
        severity=severity,
    )
    detail = TrivyVulnerability(
        id="CVE-2026-90001",
        title="invented for the tests",
        severity=severity,
        vendor_severity={"debian": severity},
    )
    write_trivy_db(
        folder / "trivy",
        [advisory],
        [detail],
        updated_at=built,
        next_update=built + timedelta(days=1),
    )
    return osv, folder / "trivy"


def push_debian(folder: Path, registry: str) -> str:
    """Put the real Debian root into the registry with crane; returns its reference."""
    reference = f"{registry}/base/debian:12"
    spec = ImageSpec(
        layers=[DEBIAN_ROOT.read_bytes()],
        level=1,
        config={"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
    )
    make_layout(folder, spec)
    subprocess.run(
        ["crane", "push", "--insecure", str(folder), reference],
        env=peer_environment(),
        check=True,
        capture_output=True,
    )
    shutil.rmtree(folder)
    return reference


def write_context(folder: Path, base: str) -> Path:
    """Write a context with a RUN on the base and one file that changes."""
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text(
        f"FROM {base}\nRUN --network=none dpkg --list > /packages.txt && useradd --uid 1000 app\n"
        'COPY app.txt /srv/app.txt\nUSER app\nCMD ["cat", "/srv/app.txt"]\n'
    )
    (folder / "app.txt").write_text("one\n")
    return folder


def make_keys(folder: Path, env: dict[str, str]) -> None:
    """Make `cosign.key` and `cosign.pub` with the real cosign."""
    subprocess.run(
        ["cosign2", "generate-key-pair"], cwd=folder, env=env, check=True, capture_output=True
    )


@contextlib.contextmanager
def open_place(folder: Path, *, daemon: Dockerd | None = None) -> Iterator[Place]:
    """Start a registry (and a dockerd unless one is given) and prepare everything; stopped at the end."""
    with contextlib.ExitStack() as stack:
        docker = daemon or stack.enter_context(running_dockerd(containerd_store=True))
        (folder / "registry").mkdir()
        registry = stack.enter_context(running_distribution(folder / "registry"))
        base = push_debian(folder / "debian", registry)
        osv, trivy = write_advisories(folder / "advisories")
        env = docker.env | {"COSIGN_PASSWORD": PASSWORD, "HOME": str(folder)}
        make_keys(folder, env)
        yield Place(
            folder=folder,
            registry=registry,
            base=base,
            context=write_context(folder / "context", base),
            trivy_cache=trivy,
            osv_folder=osv,
            env=env,
        )


@pytest.fixture(scope="session")
def place(dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One place for all tests of a process: use images of your own names in it."""
    with open_place(tmp_path_factory.mktemp("place"), daemon=dockerd) as found:
        yield found

"""The scanners as the command line runs them, each on a database that holds the same invented advisories."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.advisories import record, write_osv_folder
from tests.support.cli import CRITICAL, Outcome, Project, make_project
from tests.support.grype_cases import Record, build_database, github_record, os_record, osv_record
from tests.support.grype_cases import set_built as set_built_of_grype
from tests.support.peers import PEERS


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One critical advisory about one package; the built-in policy blocks what it affects."""

    ecosystem: str
    """As OSV writes it: `Debian:12`, `AlmaLinux:9`, `PyPI`, …"""
    package: str
    id: str
    fixed: str = ""
    """Everything below is affected; empty: there is no fix."""
    introduced: str = "0"
    """The first affected version; the databases of grype have no such thing."""

    def osv(self) -> dict[str, object]:
        """Return the OSV record."""
        semver = self.ecosystem in ("npm", "Go", "crates.io")
        return record(
            self.id,
            self.ecosystem,
            self.package,
            events=[
                {"introduced": self.introduced},
                *([{"fixed": self.fixed}] if self.fixed else []),
            ],
            range_type="SEMVER" if semver else "ECOSYSTEM",
            summary=f"Critical: something is wrong in {self.package}",
            severity=[{"type": "CVSS_V3", "score": CRITICAL}],
            **({"related": [f"CVE-{self.id}"]} if self.ecosystem.startswith("Alma") else {}),
        )

    def grype(self) -> Record:
        """Return what grype's builder reads."""
        base, _, release = self.ecosystem.partition(":")
        if base in ("Debian", "Alpine"):
            kind = "dpkg" if base == "Debian" else "apk"
            name = f"{base.lower()}:{release.removeprefix('v')}"
            return os_record(name, self.id, self.package, self.fixed, kind, severity="Critical")
        if base == "AlmaLinux":
            return osv_record("alma", self.osv())
        kind = {"PyPI": "python", "npm": "npm"}[base]
        identity = f"GHSA-aaaa-bbbb-{self.id[-4:]}"
        return github_record(identity, self.id, kind, self.package, self.fixed, severity="Critical")


Options = tuple[str, ...]
MakeDatabase = Callable[[Project, str, tuple[Advice, ...], datetime], Options]
"""Gets the project, a name for the database, its advisories and its date; returns options of `scan`."""


def _compiled(scanner: str) -> MakeDatabase:
    def make(project: Project, name: str, advice: tuple[Advice, ...], built: datetime) -> Options:
        source = project.base / f"{name}-osv"
        ecosystems = sorted({item.ecosystem for item in advice})
        write_osv_folder(
            source, *(a.osv() for a in advice), built=built.isoformat(), ecosystems=ecosystems
        )
        target = project.base / f"{name}-{scanner}"
        made = project.run("db", "build", str(source), "--trivy", "-o", str(target))
        assert made.exit_code == 0, made.stderr
        return ("--scanner", scanner, "--scan-db", str(target))

    return make


def _grype(project: Project, name: str, advice: tuple[Advice, ...], built: datetime) -> Options:
    folder = build_database(project.base / f"{name}-grype", [item.grype() for item in advice])
    set_built_of_grype(folder / "vulnerability.db", built)
    return ("--scanner", "grype", "--scan-grype-db", str(folder))


SCANNERS: Mapping[str, MakeDatabase] = {
    "osv": _compiled("osv"),
    "trivy": _compiled("trivy"),
    "grype": _grype,
}
"""A scanner more is a line more here, and one in `PROGRAMS` when it is a program."""
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "trivy": ("trivy",),
    "grype": ("grype", "oracle-grype-db"),
}


def every_scanner() -> list[object]:
    """Return the parameters of a test: each name, skipped where its program is missing."""
    return [
        pytest.param(
            name, marks=[pytest.mark.peer(*PROGRAMS[name])] if name in PROGRAMS else [], id=name
        )
        for name in SCANNERS
    ]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One scanner with one database, in a project of its own."""

    project: Project
    options: Options

    def scan(self, layout: Path, *more: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Run `ci-registry scan` on a layout with the built-in policy."""
        return self.project.run("scan", str(layout), *self.options, *more, env=self._env(env))

    @staticmethod
    def _env(more: Mapping[str, str] | None) -> dict[str, str]:
        path = f"{PEERS / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, **(more or {})}

    def findings(self, *, without: str = "") -> set[tuple[str, str, str]]:
        """Return (package, version, advisory) of the last run, without packages of one purl type."""
        return {
            (found["package"]["name"], found["package"]["version"], found["id"])
            for image in self.project.result()["images"]
            for scan in image["scans"]
            for found in scan["findings"]
            if found["package"]["ecosystem"] != without
        }


def desk(
    folder: Path,
    scanner: str,
    advice: Iterable[Advice],
    *,
    built: datetime | None = None,
) -> Desk:
    """Make a project and a database that is of now unless a time is given."""
    project = make_project(folder, None)
    when = built or datetime.now(UTC)
    options = SCANNERS[scanner](project, "advisories", tuple(advice), when)
    return Desk(project=project, options=options)

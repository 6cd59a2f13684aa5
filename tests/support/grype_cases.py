"""Databases and images for tests of the grype adapter; run as a module it records what grype writes.

    python -m tests.support.grype_cases

Each recording under `tests/golden/scanners/grype/CASE/` is what grype 0.121 wrote for the image of that
case (those of `trivy_cases` and a few more) and the database built here: `report.json`, `packages.json`
and `stderr.txt`. What is the same in every report, such as grype's own settings, is left out.
"""

import json
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from ci_registry.cancel import Cancel
from ci_registry.process import Command, Completed, ProcessRunner
from ci_registry.scanners.grype import GrypeScanner
from ci_registry.scanners.interface import ImageView
from tests.support.images import ImageSpec, debian_layer, make_layout
from tests.support.os_databases import ALMA_RELEASE, rpm_header, rpm_sqlite
from tests.support.peers import find_peer
from tests.support.trivy_cases import BUILT, CASES, NOW, OPENSSL, inventory_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "scanners" / "grype"
_SCHEMAS = "https://raw.githubusercontent.com/anchore/vunnel/main/schema/vulnerability"
OS_SCHEMA = f"{_SCHEMAS}/os/schema-1.1.0.json"
GITHUB_SCHEMA = f"{_SCHEMAS}/github-security-advisory/schema-1.0.0.json"
OSV_SCHEMA = f"{_SCHEMAS}/osv/schema-1.6.0.json"

Record = tuple[str, str, object, str]
"""Provider, identifier, item, schema."""


def os_record(
    release: str, identity: str, package: str, fixed: str, kind: str, *, severity: str = "High"
) -> Record:
    """Return what a distribution says of one package; `fixed` is empty when it won't be fixed."""
    advisory = {"AdvisorySummary": [], "NoAdvisory": not fixed}
    item = {
        "Vulnerability": {
            "CVSS": [],
            "Description": f"{package}: something is wrong",
            "FixedIn": [
                {
                    "Name": package,
                    "NamespaceName": release,
                    "Version": fixed or "None",
                    "VersionFormat": kind,
                    "VendorAdvisory": advisory,
                }
            ],
            "Link": f"https://advisories.example/{identity}",
            "Metadata": {},
            "Name": identity,
            "NamespaceName": release,
            "Severity": severity,
        }
    }
    provider = release.partition(":")[0]
    return provider, f"{release.replace(':', '-')}-{identity}", item, OS_SCHEMA


def github_record(
    identity: str, cve: str, ecosystem: str, package: str, fixed: str, *, severity: str = "Medium"
) -> Record:
    """Return an advisory for a language package."""
    affected = {
        "ecosystem": ecosystem,
        "identifier": fixed,
        "name": package,
        "namespace": f"github:{ecosystem}",
        "range": f"< {fixed}",
    }
    advisory = {
        "CVE": [cve],
        "FixedIn": [affected],
        "Metadata": {"CVE": [cve]},
        "Severity": severity,
        "Summary": f"{package}: something is wrong",
        "ghsaId": identity,
        "namespace": f"github:{ecosystem}",
        "url": f"https://github.com/advisories/{identity}",
        "withdrawn": None,
    }
    return "github", identity, {"Advisory": advisory, "Vulnerability": {}}, GITHUB_SCHEMA


def osv_record(provider: str, record: dict[str, object]) -> Record:
    """Return an OSV record of a provider that grype reads such records of: `alma`, `govulndb`."""
    return provider, str(record["id"]), record, OSV_SCHEMA


RECORDS: tuple[Record, ...] = (
    os_record("debian:12", "CVE-2026-1000", "openssl", "3.0.12-1~deb12u1", "dpkg"),
    os_record("debian:12", "CVE-2026-1001", "zlib", "", "dpkg", severity="Low"),
    os_record("debian:12", "CVE-2026-1002", "docker-ce", "99", "dpkg"),
    os_record("debian:12", "CVE-2026-1003", "odd", "99", "dpkg"),
    os_record("debian:12", "CVE-2026-1004", "linux", "99", "dpkg", severity="Critical"),
    os_record("alpine:3.20", "CVE-2026-1005", "musl", "1.2.9-r0", "apk"),
    github_record("GHSA-aaaa-aaaa-2000", "CVE-2026-2000", "python", "demo-tool", "2.2"),
    github_record(
        "GHSA-aaaa-aaaa-3000", "CVE-2026-3000", "npm", "@scope/left", "1.2.0", severity="Critical"
    ),
    osv_record(
        "alma",
        {
            "id": "ALSA-2026:1",
            "summary": "Important: openssl",
            "modified": "2026-01-01T00:00:00Z",
            "published": "2026-01-01T00:00:00Z",
            "related": ["CVE-2026-4000"],
            "affected": [
                {
                    "package": {"ecosystem": "AlmaLinux:9", "name": "openssl"},
                    "ranges": [
                        {
                            "type": "ECOSYSTEM",
                            "events": [{"introduced": "0"}, {"fixed": "1:3.0.9-1.el9"}],
                        }
                    ],
                }
            ],
        },
    ),
)


def build_database(folder: Path, records: Iterable[Record] = RECORDS) -> Path:
    """Build a database with grype's own builder; it claims to be of `BUILT`."""
    source, target = folder / "records", folder / "built"
    for provider, identity, item, schema in records:
        path = source / provider / "results" / f"{identity.replace(':', '-')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"identifier": identity, "item": item, "schema": schema}
        path.write_text(json.dumps(document))
    builder = find_peer("oracle-grype-db")
    assert builder is not None
    captured = BUILT.isoformat().replace("+00:00", "Z")
    done = subprocess.run(
        [builder, source, target, captured], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    set_built(target / "vulnerability.db", BUILT)
    return target


def set_built(path: Path, built_at: datetime) -> None:
    """Make a database claim to be of another time; the builder writes today's."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE db_metadata SET build_timestamp = ?", (str(built_at),))


_TABLES = """
    CREATE TABLE db_metadata (build_timestamp, model, revision, addition);
    CREATE TABLE providers (id, version, processor, date_captured, input_digest);
    CREATE TABLE operating_systems (id INTEGER PRIMARY KEY, name, release_id, major_version, minor_version,
        label_version, codename, channel, eol_date, eoas_date);
    CREATE TABLE packages (id INTEGER PRIMARY KEY, ecosystem, name);
    CREATE TABLE affected_package_handles (id INTEGER PRIMARY KEY, operating_system_id, package_id);
    CREATE TABLE operating_system_specifier_overrides (alias, version, version_pattern, codename, channel,
        replacement, replacement_major_version, replacement_minor_version, replacement_label_version,
        replacement_channel, rolling, applicable_client_db_schemas);
"""
_ALIASES = (("almalinux", "rhel", 0), ("rocky", "rhel", 0), ("wolfi", None, 1))
_NAMES = {"rhel": "redhat"}


def write_database(
    folder: Path,
    packages: Iterable[tuple[str, str, str]] = (
        ("debian 12", "deb", "openssl"),
        ("debian 12", "deb", "odd"),
        ("alpine 3.20", "apk", "musl"),
        ("", "python", "demo-tool"),
        ("", "npm", "@scope/left"),
    ),
    *,
    built_at: datetime = BUILT,
    ends: dict[str, datetime] | None = None,
    model: int = 6,
) -> Path:
    """Write by hand the tables of a database that the adapter reads, for tests without any program.

    Args:
        folder: gets `vulnerability.db`.
        packages: (release, or empty for language packages; grype's type; name) of what is affected.
        built_at: when it claims to be made.
        ends: release → end of its support.
        model: number of the schema.
    """
    folder.mkdir(parents=True, exist_ok=True)
    systems: dict[str, int] = {}
    with closing(sqlite3.connect(folder / "vulnerability.db")) as db, db:
        db.executescript(_TABLES)
        db.execute("INSERT INTO db_metadata VALUES (?, ?, 1, 10)", (str(built_at), model))
        for alias, name, rolling in _ALIASES:
            row: tuple[object, ...] = (
                alias,
                "",
                "",
                "",
                "",
                name,
                None,
                None,
                None,
                None,
                rolling,
                "",
            )
            db.execute(
                f"INSERT INTO operating_system_specifier_overrides VALUES ({','.join('?' * 12)})",
                row,
            )
        for number, (release, kind, package) in enumerate(packages, start=1):
            db.execute("INSERT INTO packages VALUES (?, ?, ?)", (number, kind, package))
            if release and release not in systems:
                systems[release] = len(systems) + 1
                name, _, version = release.partition(" ")
                major, _, minor = version.partition(".")
                end = str(ends[release]) if ends and release in ends else None
                release_row = (_NAMES.get(name, name), name, major, minor, "", "", "", end, None)
                db.execute(
                    f"INSERT INTO operating_systems VALUES ({systems[release]},{','.join('?' * 9)})",
                    release_row,
                )
            db.execute(
                "INSERT INTO affected_package_handles VALUES (?, ?, ?)",
                (number, systems.get(release), number),
            )
    return folder


MORE_CASES: dict[str, ImageSpec] = {
    "almalinux": ImageSpec(
        layers=[
            {
                "etc/os-release": ALMA_RELEASE,
                "var/lib/rpm/rpmdb.sqlite": rpm_sqlite(
                    rpm_header(name="openssl", version="3.0.7", release="1.el9", epoch=1)
                ),
            }
        ]
    ),
    "kernel-headers": ImageSpec(
        layers=[debian_layer(OPENSSL, ("linux-libc-dev", "6.1.1-1", "linux"))]
    ),
}
ALL_CASES = CASES | MORE_CASES


def grype_view(folder: Path, case: str) -> ImageView:
    """Make the image of a case and inspect it."""
    made = make_layout(folder / "layout", ALL_CASES[case])
    work = folder / "work"
    work.mkdir()
    return ImageView(layout=made.layout, inventory=inventory_of(made), work=work)


def grype_scanner(database: Path, *, now: datetime = NOW, **more: object) -> GrypeScanner:
    """Return the adapter on the real grype."""
    values: dict[str, object] = {
        "run": ProcessRunner(cancel=Cancel()),
        "env": dict(os.environ),
        "program": find_peer("grype"),
        "database": database,
        "now": lambda: now,
        "max_db_age": timedelta(hours=48),
        "timeout_s": 120.0,
    }
    return GrypeScanner(**(values | more))  # type: ignore[arg-type]


def trimmed(report: dict[str, object]) -> dict[str, object]:
    """Leave out what is the same in every report, or another in every run."""
    source = report["source"]
    assert isinstance(source, dict)
    target = {k: v for k, v in source["target"].items() if k not in ("manifest", "config")}
    target["userInput"] = "layout"
    descriptor = report["descriptor"]
    assert isinstance(descriptor, dict)
    kept = {key: descriptor[key] for key in ("name", "version")}
    return report | {"source": source | {"target": target}, "descriptor": kept}


def _record() -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        database = build_database(folder / "database")
        for case in ALL_CASES:
            (folder / case).mkdir()
            view = grype_view(folder / case, case)
            lines: list[str] = []

            def run(command: Command, *, on_stderr_line: object = None) -> Completed:
                del on_stderr_line
                runner = ProcessRunner(cancel=Cancel())
                return runner(command, on_stderr_line=lines.append)  # noqa: B023

            grype_scanner(database, run=run).scan(view)
            target = GOLDEN / case
            target.mkdir(parents=True, exist_ok=True)
            report = trimmed(json.loads((view.work / "report.json").read_text()))
            packages = json.loads((view.work / "packages.json").read_text())
            shown = {
                key: packages[key]
                for key in ("bomFormat", "specVersion", "components")
                if key in packages
            }
            (target / "report.json").write_text(json.dumps(report, indent=1) + "\n")
            (target / "packages.json").write_text(json.dumps(shown, indent=1) + "\n")
            (target / "stderr.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    _record()

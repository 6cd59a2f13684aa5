"""Images and a database for tests of the trivy adapter; run as a module it records trivy's reports.

    python -m tests.support.trivy_cases

Each recording under `tests/golden/scanners/trivy/CASE/` is what trivy 0.76 wrote for the image of that
case and the database made here: `report.json` and `stderr.txt`.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ci_registry.advisories.trivy_db import (
    TrivyAdvisory,
    TrivySource,
    TrivyStatus,
    TrivyVulnerability,
    write_trivy_db,
)
from ci_registry.cancel import Cancel
from ci_registry.findings import Inventory, Severity
from ci_registry.inventory.inspect import inspect_image
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import parse_descriptor
from ci_registry.process import ProcessRunner
from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.trivy import TrivyScanner
from tests.support.archives import classes, zip_of
from tests.support.images import ImageSpec, MadeImage, debian_layer, dpkg_status, make_layout
from tests.support.peers import find_peer

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "scanners" / "trivy"
BUILT = datetime(2026, 6, 1, 6, 0, tzinfo=UTC)
NOW = BUILT + timedelta(hours=6)
OPENSSL = ("libssl3", "3.0.11-1~deb12u2", "openssl")

PIP = "pip::GitHub Security Advisory pip"
NPM = "npm::GitHub Security Advisory npm"
ADVISORIES = (
    TrivyAdvisory(
        bucket="debian 12",
        package="openssl",
        id="CVE-2026-1000",
        fixed_version="3.0.12-1~deb12u1",
        severity=Severity.HIGH,
        vendor_ids=("DSA-9000-1",),
    ),
    TrivyAdvisory(
        bucket="debian 12",
        package="zlib",
        id="CVE-2026-1001",
        status=TrivyStatus.WILL_NOT_FIX,
    ),
    TrivyAdvisory(bucket="debian 12", package="docker-ce", id="CVE-2026-1002"),
    TrivyAdvisory(bucket="debian 12", package="odd", id="CVE-2026-1003"),
    TrivyAdvisory(
        bucket=PIP,
        package="demo-tool",
        id="CVE-2026-2000",
        vendor_ids=("GHSA-aaaa",),
        vulnerable_versions=(">=1.0, <1.5", ">=2.0, <2.2"),
        patched_versions=("1.5", "2.2"),
    ),
    TrivyAdvisory(
        bucket=NPM,
        package="@scope/left",
        id="CVE-2026-3000",
        vulnerable_versions=("<1.2.0",),
        patched_versions=("1.2.0",),
    ),
)
VULNERABILITIES = (
    TrivyVulnerability(
        id="CVE-2026-1000",
        title="openssl: something is wrong",
        vendor_severity={"debian": Severity.HIGH, "nvd": Severity.CRITICAL},
        published_at=datetime(2026, 1, 1, tzinfo=UTC),
    ),
    TrivyVulnerability(id="CVE-2026-1001", vendor_severity={"nvd": Severity.LOW}),
    TrivyVulnerability(
        id="CVE-2026-2000",
        title="demo-tool: something is wrong",
        vendor_severity={"ghsa": Severity.MEDIUM, "nvd": Severity.CRITICAL},
    ),
    TrivyVulnerability(id="CVE-2026-3000"),
)
SOURCES = {
    PIP: TrivySource(id="ghsa", name="GitHub Security Advisory pip"),
    NPM: TrivySource(id="ghsa", name="GitHub Security Advisory npm"),
}


def make_database(
    folder: Path,
    advisories: tuple[TrivyAdvisory, ...] = ADVISORIES,
    *,
    updated_at: datetime = BUILT,
) -> Path:
    """Write the database into a cache folder of trivy; trivy itself never finds it too old."""
    write_trivy_db(
        folder,
        advisories,
        VULNERABILITIES,
        updated_at=updated_at,
        next_update=datetime(2099, 1, 1, tzinfo=UTC),
        sources=SOURCES,
    )
    return folder


Files = dict[str, bytes | str | None]


def wheel(name: str, version: str) -> Files:
    """Return the files of an installed Python distribution."""
    folder = f"usr/local/lib/python3.11/site-packages/{name}-{version}.dist-info"
    return {f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}


def node_module(name: str, version: str) -> Files:
    """Return the files of an installed npm package."""
    text = json.dumps({"name": name, "version": version})
    return {f"app/node_modules/{name}/package.json": text}


def _system(identity: str, version: str, debian_version: str | None) -> Files:
    files = debian_layer(OPENSSL)
    files["etc/os-release"] = f"ID={identity}\nVERSION_ID={version}\n"
    del files["etc/debian_version"]
    return files | ({} if debian_version is None else {"etc/debian_version": debian_version})


def _status(*blocks: str) -> Files:
    start = "Status: install ok installed\nArchitecture: amd64\nDescription: x\n"
    text = "\n".join(f"{start}{block}" for block in blocks)
    return debian_layer() | {"var/lib/dpkg/status": text + "\n" + dpkg_status(OPENSSL)}


CASES: dict[str, ImageSpec] = {
    "findings": ImageSpec(
        layers=[
            debian_layer(OPENSSL, ("zlib1g", "1:1.2.13.dfsg-1", "zlib (1:1.2.13)")),
            wheel("Demo_Tool", "2.1")
            | node_module("@scope/left", "1.1.0")
            | {"app/package.json": '{"name": "app", "version": "1.0.0"}'},
        ]
    ),
    "clean": ImageSpec(
        layers=[
            debian_layer(("libssl3", "3.0.13-1", "openssl"))
            | wheel("demo-tool", "2.2")
            | node_module("@scope/left", "1.2.0")
        ]
    ),
    "arm64": ImageSpec(architecture="arm64", layers=[debian_layer(OPENSSL)]),
    "unknown-distribution": ImageSpec(layers=[_system("weirdos", "1", "")]),
    "scratch": ImageSpec(layers=[{"hello": "x"}]),
    "unsupported-release": ImageSpec(layers=[_system("debian", "99", "99.1\n")]),
    "release-without-data": ImageSpec(layers=[_system("debian", "11", "11.9\n")]),
    "end-of-life": ImageSpec(layers=[_system("debian", "10", "10.13\n")]),
    "another-release": ImageSpec(layers=[_system("debian", "12", "99.1\n")]),
    "no-debian-version": ImageSpec(
        layers=[_system("debian", "12", None) | wheel("demo-tool", "2.1")]
    ),
    "third-party": ImageSpec(
        layers=[
            _status(
                "Package: docker-ce\nVersion: 5:24.0-1\nMaintainer: Docker <support@docker.com>\n"
            )
        ]
    ),
    "unparsable-versions": ImageSpec(
        layers=[
            _status("Package: odd\nVersion: v1.0\n"),
            wheel("demo-tool", "not-a-version") | node_module("@scope/left", "1.2.3.4"),
        ]
    ),
    "alpine": ImageSpec(
        layers=[
            {
                "etc/os-release": "ID=alpine\nVERSION_ID=3.22.1\n",
                "etc/alpine-release": "3.22.1\n",
                "lib/apk/db/installed": "P:musl\nV:1.2.5-r0\nA:x86_64\no:musl\n\n",
            }
        ]
    ),
    "jar": ImageSpec(layers=[debian_layer(OPENSSL), {"app/x.jar": zip_of(classes("org/example"))}]),
}


def inventory_of(made: MadeImage) -> Inventory:
    """Inspect a one-image layout with the product's own code."""
    index = json.loads((made.layout / "index.json").read_bytes())

    def path(digest: Digest) -> Path:
        return made.layout / "blobs" / digest.algorithm / digest.hex

    def open_blob(digest: Digest) -> Iterator[bytes]:
        yield path(digest).read_bytes()

    inspected = inspect_image(
        parse_descriptor(index["manifests"][0], what="test"),
        read=lambda digest: path(digest).read_bytes(),
        open_blob=open_blob,
        cancel=Cancel(),
        workers=1,
    )
    return inspected.platforms[0].inventory


def view_of(folder: Path, case: str) -> ImageView:
    """Make the image of a case and inspect it."""
    made = make_layout(folder / "layout", CASES[case])
    work = folder / "work"
    work.mkdir()
    return ImageView(layout=made.layout, inventory=inventory_of(made), work=work)


def scanner_for(database: Path, *, now: datetime = NOW, **more: object) -> TrivyScanner:
    """Return the adapter on the real trivy."""
    program = find_peer("trivy")
    values: dict[str, object] = {
        "run": ProcessRunner(cancel=Cancel()),
        "env": dict(os.environ),
        "program": program,
        "database": database,
        "now": lambda: now,
        "max_db_age": timedelta(hours=48),
        "timeout_s": 120.0,
    }
    return TrivyScanner(**(values | more))  # type: ignore[arg-type]


def _without_paths(lines: list[str], folder: str) -> str:
    return "\n".join(lines).replace(folder, "").replace("/work/", "/") + "\n"


def _record() -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        database = make_database(folder / "database")
        for case in CASES:
            (folder / case).mkdir()
            view = view_of(folder / case, case)
            lines: list[str] = []

            class Recorder:
                def __call__(self, command: object, *, on_stderr_line: object = None) -> object:
                    run = ProcessRunner(cancel=Cancel())
                    return run(command, on_stderr_line=lines.append)  # type: ignore[arg-type]  # noqa: B023

            scanner_for(database, run=Recorder()).scan(view)
            target = GOLDEN / case
            target.mkdir(parents=True, exist_ok=True)
            report = json.loads((view.work / "report.json").read_text())
            report["ArtifactName"] = "layout"
            for result in report.get("Results", []):
                result["Target"] = result["Target"].replace(str(view.layout), "layout")
            (target / "report.json").write_text(json.dumps(report, indent=1) + "\n")
            (target / "stderr.txt").write_text(_without_paths(lines, text))


if __name__ == "__main__":
    _record()

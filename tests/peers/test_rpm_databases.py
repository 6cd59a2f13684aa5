"""RPM databases of every kind against go-rpmdb, which trivy uses, and against rpm itself."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ci_registry.findings import Distribution
from ci_registry.inventory.reading import ImageFile
from ci_registry.inventory.rpm import condense_rpm, read_rpm
from ci_registry.inventory.rpm_database import rpm_headers
from ci_registry.inventory.rpm_header import parse_rpm_header
from tests.support.os_databases import rpm_berkeley, rpm_header, rpm_ndb, rpm_sqlite
from tests.support.peers import PEERS, find_peer
from tests.support.rpm_root import FORMAT, ask_rpm, make_rpm_root

SAMPLES = PEERS / "rpmdb-samples"
NAMES = ("Packages", "Packages.db", "rpmdb.sqlite")


def samples() -> list[Path]:
    return sorted(path for path in SAMPLES.rglob("*") if path.name in NAMES)


def theirs(path: Path) -> list[dict[str, Any]]:
    oracle = find_peer("oracle-rpmdb")
    assert oracle is not None
    text = subprocess.run(
        [str(oracle), str(path)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    found: list[dict[str, Any]] = json.loads(text)
    return found


def ours(path: Path) -> list[dict[str, Any]]:
    headers = [parse_rpm_header(blob) for blob in rpm_headers(path.read_bytes())]
    return [
        {
            "Name": h.name,
            "Version": h.version,
            "Release": h.release,
            "Arch": h.architecture,
            "SourceRpm": "" if h.source_rpm == "(none)" else h.source_rpm,
            "Vendor": h.vendor,
            "Modularity": h.modularity_label,
            "Epoch": h.epoch,
            "Files": {name: digest for name, digest in h.files if digest},
        }
        for h in headers
    ]


def in_order(packages: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(package, sort_keys=True) for package in packages)


@pytest.mark.peer("oracle-rpmdb")
def test_real_databases_are_read_as_go_rpmdb_reads_them() -> None:
    assert len(samples()) >= 15
    counts: dict[str, int] = {}
    for path in samples():
        found = theirs(path)
        for package in found:
            package["SourceRpm"] = package["SourceRpm"].replace("(none)", "")
        assert in_order(ours(path)) == in_order(found), path
        counts[path.name] = counts.get(path.name, 0) + len(found)
    assert min(counts.values()) >= 35
    assert sorted(counts) == sorted(NAMES)


@pytest.mark.peer("oracle-rpmdb")
@pytest.mark.parametrize("kind", ["sqlite", "ndb", "berkeley"])
def test_databases_made_by_hand_are_real_to_go_rpmdb(tmp_path: Path, kind: str) -> None:
    make = {"sqlite": rpm_sqlite, "ndb": rpm_ndb, "berkeley": rpm_berkeley}[kind]
    names = {"sqlite": "rpmdb.sqlite", "ndb": "Packages.db", "berkeley": "Packages"}
    path = tmp_path / names[kind]
    long = rpm_header({f"/usr/bin/tool{n:04}": "x" for n in range(200)}, name="long", epoch=3)
    path.write_bytes(make(long, rpm_header(vendor="v" * 3000)))
    assert in_order(ours(path)) == in_order(theirs(path))


@pytest.mark.peer("rpm", "rpmbuild")
def test_a_database_of_rpm_is_read_as_rpm_reads_it(tmp_path: Path) -> None:
    root = make_rpm_root(tmp_path)
    database = root / "var/lib/rpm/rpmdb.sqlite"
    content = condense_rpm(database.read_bytes())
    file = ImageFile(
        path="var/lib/rpm/rpmdb.sqlite",
        real="var/lib/rpm/rpmdb.sqlite",
        content=content,
        layer=0,
        diff_id="sha256:0",
    )
    packages, problems, claims = read_rpm([file], Distribution(id="almalinux", version="9.4"))
    assert problems == []
    mine = [
        "|".join(
            (
                p.name,
                p.version,
                p.architecture,
                p.source_name or p.name,
                p.module,
                str(p.third_party),
            )
        )
        for p in packages
    ]
    assert sorted(mine) == sorted(
        _expected(line) for line in ask_rpm(root, "-qa", "--qf", FORMAT).splitlines()
    )
    metadata = next(claim for claim in claims if claim.path.endswith("METADATA"))
    digests = ask_rpm(root, "-q", "--qf", "[%{FILENAMES} %{FILEDIGESTS}\n]", metadata.owner)
    assert f"/{metadata.path} {metadata.checksum}\n" in digests


def _expected(line: str) -> str:
    name, version, architecture, source, module, vendor = line.split("|")
    source_name = source.removesuffix(".src.rpm").rsplit("-", 2)[0]
    module = "" if module == "(none)" else module
    return "|".join((name, version, architecture, source_name, module, str(vendor != "AlmaLinux")))

"""The real grype, offline, on images made here and databases that its own builder made."""

import hashlib
import os
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ci_registry.advisories.database import open_osv_folder
from ci_registry.errors import ToolError
from ci_registry.findings import Finding, Gap, ScanResult
from ci_registry.scanners.grype_report import GrypeReport, parse_report
from ci_registry.scanners.ignored import ignored_files
from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.osv import OsvScanner
from tests.peers.test_trivy_systems import CRATES, build_go, layer_of
from tests.support.advisories import record, write_osv_folder
from tests.support.grype_cases import (
    ALL_CASES,
    GOLDEN,
    Record,
    build_database,
    github_record,
    grype_scanner,
    grype_view,
    os_record,
)
from tests.support.images import ImageSpec, debian_layer, make_layout
from tests.support.os_databases import APK_RELEASE, apk_database, apk_record
from tests.support.peers import find_peer, go_version
from tests.support.programs import rust_program
from tests.support.trivy_cases import (
    CASES,
    NOW,
    OPENSSL,
    inventory_of,
    node_module,
    scanner_for,
    wheel,
)
from tests.support.trivy_cases import make_database as make_trivy_database

pytestmark = pytest.mark.peer("grype", "oracle-grype-db")


@pytest.fixture(name="database", scope="module")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_database(tmp_path_factory.mktemp("database"))


def _gaps(result: ScanResult) -> list[tuple[Gap, str]]:
    return [(g.gap, g.ecosystem) for g in result.coverage.gaps]


def _stable(report: GrypeReport) -> GrypeReport:
    return replace(report, grype_version="")


def _view(folder: Path, spec: ImageSpec) -> ImageView:
    made = make_layout(folder / "layout", spec)
    (folder / "work").mkdir()
    return ImageView(layout=made.layout, inventory=inventory_of(made), work=folder / "work")


@pytest.mark.parametrize("case", sorted(ALL_CASES))
def test_recordings_are_what_grype_writes(tmp_path: Path, database: Path, case: str) -> None:
    view = grype_view(tmp_path, case)
    grype_scanner(database).scan(view)

    def read(folder: Path) -> GrypeReport:
        files = (folder / "report.json", folder / "packages.json")
        return parse_report(*(path.read_bytes() for path in files))

    assert _stable(read(view.work)) == _stable(read(GOLDEN / case))


def test_probe_finds_a_usable_grype(database: Path) -> None:
    info = grype_scanner(database).probe()
    assert info.version.startswith("0.")
    assert len(info.sha256) == 64


def test_covered_image_gives_findings_and_no_gap(tmp_path: Path, database: Path) -> None:
    result = grype_scanner(database).scan(grype_view(tmp_path, "findings"))
    assert {f.id for f in result.findings} == {
        "CVE-2026-1000",
        "CVE-2026-1001",
        "CVE-2026-2000",
        "CVE-2026-3000",
    }
    assert result.coverage.gaps == ()
    assert result.tool_exit_code == 0


@pytest.mark.parametrize("compression", ["zstd", ""])
def test_every_compression_gives_the_same(tmp_path: Path, database: Path, compression: str) -> None:
    view = _view(tmp_path, replace(CASES["findings"], compression=compression))
    result = grype_scanner(database).scan(view)
    assert len(result.findings) == 4
    assert result.coverage.gaps == ()


def test_files_and_variables_of_the_user_silence_nothing(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".grype.yaml").write_text('exclude: ["**"]\nonly-notfixed: true\n')
    monkeypatch.chdir(project)
    env = {**os.environ, "GRYPE_ONLY_NOTFIXED": "true", "GRYPE_EXCLUDE": "**"}
    result = grype_scanner(database, env=env).scan(grype_view(tmp_path, "findings"))
    assert len(result.findings) == 4
    assert ignored_files(project) == (".grype.yaml",)


def test_kernel_findings_in_packages_of_headers_are_not_left_out(
    tmp_path: Path, database: Path
) -> None:
    result = grype_scanner(database).scan(grype_view(tmp_path, "kernel-headers"))
    assert "CVE-2026-1004" in {f.id for f in result.findings}
    assert result.coverage.gaps == ()


def test_old_database_is_stale_and_grype_still_runs(tmp_path: Path, database: Path) -> None:
    late = grype_scanner(database, now=NOW + timedelta(days=7 * 365))
    result = late.scan(grype_view(tmp_path, "clean"))
    assert (Gap.DATABASE_STALE, "") in _gaps(result)
    assert result.tool_exit_code == 0


def test_data_of_another_release_is_no_coverage_although_grype_uses_it(
    tmp_path: Path, database: Path
) -> None:
    result = grype_scanner(database).scan(grype_view(tmp_path, "alpine"))
    assert [f.id for f in result.findings] == ["CVE-2026-1005"]  # of Alpine 3.20, in 3.22
    assert _gaps(result) == [(Gap.NO_DATA, "apk")]


def test_list_of_fixes_alone_is_no_coverage_of_a_clone(tmp_path: Path, database: Path) -> None:
    result = grype_scanner(database).scan(grype_view(tmp_path, "almalinux"))
    assert (result.findings, result.tool_exit_code) == ((), 0)
    assert _gaps(result) == [(Gap.NO_DATA, "rpm")]


def test_clone_is_matched_with_the_data_it_is_a_clone_of(tmp_path: Path) -> None:
    rhel = os_record("rhel:9", "CVE-2026-4000", "openssl", "1:3.0.9-1.el9", "rpm")
    database = build_database(tmp_path / "db", (rhel,))
    result = grype_scanner(database).scan(grype_view(tmp_path, "almalinux"))
    assert [f.id for f in result.findings] == ["CVE-2026-4000"]
    assert result.coverage.gaps == ()


def test_database_without_anything_of_the_image_is_never_clean(tmp_path: Path) -> None:
    other = os_record("alpine:3.20", "CVE-2026-1", "musl", "9", "apk")
    result = grype_scanner(build_database(tmp_path / "db", (other,))).scan(
        grype_view(tmp_path, "findings")
    )
    assert result.findings == ()
    assert _gaps(result) == [(Gap.NO_DATA, kind) for kind in ("deb", "npm", "pypi")]


def test_scans_leave_the_database_alone_and_run_side_by_side(
    tmp_path: Path, database: Path
) -> None:
    path = database / "vulnerability.db"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    listed = sorted(database.iterdir())
    scanner = grype_scanner(database)

    def scan(number: int) -> int:
        folder = tmp_path / str(number)
        folder.mkdir()
        return len(scanner.scan(grype_view(folder, "findings")).findings)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(scan, range(2))) == [4, 4]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert sorted(database.iterdir()) == listed


def test_imported_database_counts_like_the_bare_one(tmp_path: Path, database: Path) -> None:
    env = {
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "GRYPE_DB_CACHE_DIR": str(tmp_path / "cache"),
        "GRYPE_DB_VALIDATE_AGE": "false",
        "GRYPE_CHECK_FOR_APP_UPDATE": "false",
    }
    program = find_peer("grype")
    assert program is not None
    command = [str(program), "db", "import", str(database / "vulnerability.db")]
    subprocess.run(command, env=env, check=True, capture_output=True)
    result = grype_scanner(tmp_path / "cache").scan(grype_view(tmp_path, "findings"))
    assert len(result.findings) == 4
    assert result.coverage.gaps == ()


def test_grype_that_takes_too_long_is_a_tool_error(tmp_path: Path, database: Path) -> None:
    with pytest.raises(ToolError, match="did not finish"):
        grype_scanner(database, timeout_s=0.0).scan(grype_view(tmp_path, "findings"))


_SCRIPT = """#!/bin/sh
for argument; do case $argument in
  json=*) report=${argument#json=} ;;
  cyclonedx-json=*) packages=${argument#cyclonedx-json=} ;;
esac; done
"""


def test_program_that_dies_while_writing_is_a_tool_error(tmp_path: Path, database: Path) -> None:
    program = tmp_path / "grype"
    program.write_text(_SCRIPT + 'printf \'{"mat\' >"$report"; : >"$packages"\nexit 0\n')
    program.chmod(0o755)
    with pytest.raises(ToolError, match="exit code 0 and half a report"):
        grype_scanner(database, program=program).scan(grype_view(tmp_path, "findings"))


def test_good_report_counts_after_megabytes_of_noise_and_exit_code_1(
    tmp_path: Path, database: Path
) -> None:
    program = tmp_path / "grype"
    program.write_text(
        f'{_SCRIPT}"{find_peer("grype")}" "$@"\n'
        "yes '[0000]  WARN noise' | head -c 80000000 >&2\n"
        "yes x | head -c 80000000\nexit 1\n"
    )
    program.chmod(0o755)
    result = grype_scanner(database, program=program).scan(grype_view(tmp_path, "findings"))
    assert (len(result.findings), result.tool_exit_code) == (4, 1)
    assert result.notes == ("grype: noise",)


def _seen(result: ScanResult) -> set[Gap]:
    return {gap for gap, _ in _gaps(result)} & {
        Gap.UNSCANNED_PACKAGES,
        Gap.UNINVENTORIED_PACKAGES,
        Gap.UNREAD_DATABASE,
    }


def test_alpine_root_has_the_packages_that_grype_lists(tmp_path: Path, database: Path) -> None:
    records = (
        apk_record("libssl3", "3.3.2-r1", origin="openssl"),
        apk_record("musl", "1.2.5-r0"),
    )
    files = {"etc/os-release": APK_RELEASE, "lib/apk/db/installed": apk_database(*records)}
    result = grype_scanner(database).scan(_view(tmp_path, ImageSpec(layers=[files])))
    assert _gaps(result) == [(Gap.END_OF_LIFE, "apk")]
    assert [f.id for f in result.findings] == ["CVE-2026-1005"]


@pytest.mark.skipif(go_version() is None, reason="no Go on PATH")
def test_go_and_rust_programs_have_the_packages_that_grype_lists(
    tmp_path: Path, database: Path
) -> None:
    program = build_go(tmp_path / "go")
    layer = layer_of({"srv/app": program, "srv/rust": rust_program(CRATES)})
    view = _view(tmp_path, ImageSpec(layers=[debian_layer(OPENSSL), layer]))
    assert {p.ecosystem for p in view.inventory.packages} >= {"golang", "cargo"}
    assert _seen(grype_scanner(database).scan(view)) == set()


_AGREED = (
    ("openssl", "Debian:12", "CVE-2026-1000", "3.0.12-1~deb12u1"),
    ("zlib", "Debian:12", "CVE-2026-1001", ""),
    ("epoch", "Debian:12", "CVE-2026-1002", "1:0.5"),
    ("tilde", "Debian:12", "CVE-2026-1003", "2.0"),
    ("demo-tool", "PyPI", "CVE-2026-2000", "2.2"),
    ("pre", "PyPI", "CVE-2026-2001", "2.0rc1"),
    ("@scope/left", "npm", "CVE-2026-3000", "1.2.0"),
    ("pre", "npm", "CVE-2026-3001", "1.0.0"),
)
_IMAGE = ImageSpec(
    layers=[
        debian_layer(
            OPENSSL,
            ("openssl", "3.0.12-1~deb12u1", ""),
            ("zlib1g", "1:1.2.13.dfsg-1", "zlib (1:1.2.13)"),
            ("epoch", "9.9-1", ""),
            ("epoch2", "2:0.1-1", "epoch"),
            ("tilde", "2.0~rc1", ""),
        ),
        wheel("Demo_Tool", "2.1")
        | wheel("pre", "2.0b3")
        | node_module("@scope/left", "1.1.9")
        | node_module("pre", "1.0.0-rc.9")
        | node_module("fine", "1.0.0"),
    ]
)


def _records() -> Iterable[Record]:
    for number, (name, ecosystem, identity, fix) in enumerate(_AGREED):
        if ecosystem == "Debian:12":
            yield os_record("debian:12", identity, name, fix, "dpkg")
        else:
            kind = "python" if ecosystem == "PyPI" else "npm"
            yield github_record(f"GHSA-aaaa-bbbb-{number:04}", identity, kind, name, fix)


def _facts(findings: Iterable[Finding]) -> set[tuple[str, str, str, tuple[str, ...]]]:
    return {(f.id, f.package.name, f.package.version, f.fixed_versions) for f in findings}


def test_embedded_scanner_and_grype_agree(tmp_path: Path) -> None:
    view = _view(tmp_path, _IMAGE)
    theirs = grype_scanner(build_database(tmp_path / "grype", _records())).scan(view)
    osv = [
        record(
            identity,
            ecosystem,
            name,
            events=[{"introduced": "0"}, *([{"fixed": fix}] if fix else [])],
        )
        for name, ecosystem, identity, fix in _AGREED
    ]
    folder = write_osv_folder(tmp_path / "osv", *osv, built="2026-06-01T06:00:00Z")
    ours = OsvScanner(
        source=open_osv_folder(folder), now=lambda: NOW, max_db_age=timedelta(hours=48)
    ).scan(view)
    assert _facts(ours.findings) == _facts(theirs.findings)
    assert len(ours.findings) == 8
    assert ours.coverage.gaps == theirs.coverage.gaps == ()


@pytest.mark.peer("trivy")
def test_trivy_and_grype_list_the_same_packages(tmp_path: Path, database: Path) -> None:
    view = _view(tmp_path, _IMAGE)
    grype = grype_scanner(database).scan(view)
    (tmp_path / "other").mkdir()
    second = replace(view, work=tmp_path / "other")
    trivy = scanner_for(make_trivy_database(tmp_path / "trivy")).scan(second)
    assert _seen(grype) == _seen(trivy) == set()

"""The grype adapter on recorded reports, and its command; no program is started."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ci_registry.errors import IntegrityError, ToolError
from ci_registry.findings import Gap, ScanResult, ScanStatus, Severity
from ci_registry.process import Command, Completed
from ci_registry.scanners.grype import GrypeScanner
from ci_registry.scanners.interface import ImageView
from tests.support.grype_cases import ALL_CASES, GOLDEN, grype_view, write_database
from tests.support.images import make_layout
from tests.support.trivy_cases import CASES, NOW


@dataclass
class Replay:
    """Stands for grype: writes both documents and says its lines on stderr."""

    report: bytes | None
    packages: bytes | None = None
    stderr: str = ""
    exit_code: int = 0
    timed_out: bool = False
    commands: list[Command] = field(default_factory=list)

    def __call__(
        self, command: Command, *, on_stderr_line: Callable[[str], None] | None = None
    ) -> Completed:
        self.commands.append(command)
        for argument in command.argv:
            kind, _, path = argument.partition("=")
            if kind == "json" and self.report is not None:
                Path(path).write_bytes(self.report)
            if kind == "cyclonedx-json" and self.packages is not None:
                Path(path).write_bytes(self.packages)
        for line in self.stderr.splitlines():
            if on_stderr_line is not None:
                on_stderr_line(line)
        return Completed(
            argv=command.argv,
            exit_code=self.exit_code,
            stdout=b"grype 0.121.2\n",
            stderr=self.stderr.encode(),
            duration_s=0.1,
            timed_out=self.timed_out,
        )


def _recorded(case: str) -> Replay:
    folder = GOLDEN / case
    return Replay(
        (folder / "report.json").read_bytes(),
        (folder / "packages.json").read_bytes(),
        (folder / "stderr.txt").read_text(),
    )


def _scanner(run: object, database: Path, **more: object) -> GrypeScanner:
    values: dict[str, object] = {
        "run": run,
        "env": {"PATH": "/usr/bin"},
        "program": Path("/opt/grype"),
        "database": database,
        "now": lambda: NOW,
        "max_db_age": timedelta(hours=48),
        "timeout_s": 900.0,
    }
    return GrypeScanner(**(values | more))  # type: ignore[arg-type]


@pytest.fixture(name="database", scope="module")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_database(tmp_path_factory.mktemp("database"))


def _gaps(result: ScanResult) -> list[tuple[Gap, str]]:
    return [(g.gap, g.ecosystem) for g in result.coverage.gaps]


@pytest.mark.parametrize(
    ("case", "findings", "gaps"),
    [
        ("clean", 0, []),
        ("findings", 4, []),
        ("arm64", 1, []),
        ("scratch", 0, [(Gap.NO_PACKAGES, "")]),
        ("unknown-distribution", 0, [(Gap.UNKNOWN_DISTRIBUTION, "deb")]),
        ("unsupported-release", 0, [(Gap.NO_DATA, "deb")]),
        ("release-without-data", 0, [(Gap.NO_DATA, "deb")]),
        ("end-of-life", 0, [(Gap.END_OF_LIFE, "deb"), (Gap.NO_DATA, "deb")]),
        ("another-release", 0, [(Gap.UNKNOWN_DISTRIBUTION, "deb")]),
        ("no-debian-version", 2, []),
        ("third-party", 1, [(Gap.THIRD_PARTY_PACKAGES, "deb")]),
        ("unparsable-versions", 1, [(Gap.UNDECIDED, "")]),
        ("alpine", 1, [(Gap.NO_DATA, "apk")]),
        ("jar", 1, [(Gap.UNREAD_DATABASE, "maven")]),
        ("almalinux", 0, [(Gap.NO_DATA, "rpm")]),
        ("kernel-headers", 2, []),
    ],
)
def test_recorded_report_gives_these_findings_and_gaps(
    tmp_path: Path, database: Path, case: str, findings: int, gaps: list[tuple[Gap, str]]
) -> None:
    result = _scanner(_recorded(case), database).scan(grype_view(tmp_path, case))
    assert _gaps(result) == gaps
    assert len(result.findings) == findings


def test_every_case_has_a_recording() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(ALL_CASES)


def test_findings_are_on_our_own_packages_under_their_cve(tmp_path: Path, database: Path) -> None:
    view = grype_view(tmp_path, "findings")
    result = _scanner(_recorded("findings"), database).scan(view)
    by_id = {f.id: f for f in result.findings}
    openssl = by_id["CVE-2026-1000"]
    assert openssl.package in view.inventory.packages
    assert (openssl.severity, openssl.severity_source) == (Severity.HIGH, "debian")
    assert (openssl.fixed_versions, openssl.fix_state) == (("3.0.12-1~deb12u1",), "fixed")
    demo = by_id["CVE-2026-2000"]
    assert demo.package in view.inventory.packages
    assert demo.aliases == ("GHSA-aaaa-aaaa-2000",)
    assert demo.severities == (("ghsa", "Medium"),)
    assert by_id["CVE-2026-1001"].fix_state == "wont-fix"
    assert by_id["CVE-2026-1001"].fixed_versions == ()
    assert (result.scanner, result.scanner_version, result.tool_exit_code) == (
        "grype",
        "0.121.2",
        0,
    )
    assert result.status is ScanStatus.COMPLETE


def test_severity_of_the_distribution_comes_before_nvd_and_all_are_kept(
    tmp_path: Path, database: Path
) -> None:
    run = _recorded("findings")
    report = json.loads(run.report or b"")
    match = next(m for m in report["matches"] if m["vulnerability"]["id"] == "CVE-2026-1001")
    match["relatedVulnerabilities"] = [
        {
            "id": "CVE-2026-1001",
            "namespace": "nvd:cpe",
            "severity": "Critical",
            "cvss": [
                {
                    "source": "nvd@nist.gov",
                    "vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
                }
            ],
            "knownExploited": [{"cve": "CVE-2026-1001"}],
            "epss": [{"cve": "CVE-2026-1001", "epss": 0.25}],
        }
    ]
    run.report = json.dumps(report).encode()
    result = _scanner(run, database).scan(grype_view(tmp_path, "findings"))
    (finding,) = (f for f in result.findings if f.id == "CVE-2026-1001")
    assert (finding.severity, finding.severity_source) == (Severity.LOW, "debian")
    assert finding.severities[1:] == (
        ("nvd", "Critical"),
        ("nvd", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"),
    )
    assert (finding.known_exploited, finding.epss) == (True, 0.25)
    match["vulnerability"]["severity"] = "Unknown"
    again = tmp_path / "again"
    again.mkdir()
    run.report = json.dumps(report).encode()
    result = _scanner(run, database).scan(grype_view(again, "findings"))
    (finding,) = (f for f in result.findings if f.id == "CVE-2026-1001")
    assert (finding.severity, finding.severity_source) == (Severity.CRITICAL, "nvd")


def test_several_cves_of_one_advisory_stay_its_aliases(tmp_path: Path, database: Path) -> None:
    run = _recorded("findings")
    report = json.loads(run.report or b"")
    match = next(m for m in report["matches"] if m["vulnerability"]["id"].startswith("GHSA"))
    name = match["vulnerability"]["id"]
    match["relatedVulnerabilities"] = [{"id": "CVE-2026-8"}, {"id": "CVE-2026-9"}]
    run.report = json.dumps(report).encode()
    result = _scanner(run, database).scan(grype_view(tmp_path, "findings"))
    (finding,) = (f for f in result.findings if f.id == name)
    assert finding.aliases == ("CVE-2026-8", "CVE-2026-9")


def test_one_vulnerability_of_two_sources_is_one_finding_of_the_stricter(
    tmp_path: Path, database: Path
) -> None:
    run = _recorded("findings")
    report = json.loads(run.report or b"")
    first = next(m for m in report["matches"] if m["artifact"]["type"] == "python")
    second = json.loads(json.dumps(first))
    second["vulnerability"] |= {"id": "PYSEC-1", "severity": "Critical", "namespace": "pypa:x"}
    report["matches"].append(second)
    run.report = json.dumps(report).encode()
    result = _scanner(run, database).scan(grype_view(tmp_path, "findings"))
    (finding,) = (f for f in result.findings if f.id == "CVE-2026-2000")
    assert finding.severity is Severity.CRITICAL
    assert finding.aliases == ("GHSA-aaaa-aaaa-2000", "PYSEC-1")


def test_what_grype_leaves_out_by_itself_is_named(tmp_path: Path, database: Path) -> None:
    run = _recorded("findings")
    report = json.loads(run.report or b"")
    report["ignoredMatches"] = [report["matches"].pop()]
    name = report["ignoredMatches"][0]["vulnerability"]["id"]
    run.report = json.dumps(report).encode()
    result = _scanner(run, database).scan(grype_view(tmp_path, "findings"))
    (gap,) = result.coverage.gaps
    assert gap.gap is Gap.UNDECIDED
    assert name in gap.detail


def test_database_facts_are_read_from_the_database(tmp_path: Path, database: Path) -> None:
    scanner = _scanner(_recorded("clean"), database, database_location="grype-db")
    result = scanner.scan(grype_view(tmp_path, "clean"))
    (facts,) = result.coverage.databases
    assert facts.built_at == datetime(2026, 6, 1, 6, tzinfo=UTC)
    assert facts.location == "grype-db"
    assert facts.digest.startswith("sha256:")
    assert facts.ecosystems == ("alpine 3.20", "debian 12", "npm", "python")


def test_database_of_2019_is_a_gap_although_grype_is_told_not_to_mind(tmp_path: Path) -> None:
    database = write_database(tmp_path / "db", built_at=datetime(2019, 1, 1, tzinfo=UTC))
    result = _scanner(_recorded("clean"), database).scan(grype_view(tmp_path, "clean"))
    assert _gaps(result) == [(Gap.DATABASE_STALE, "")]


def test_without_a_database_grype_is_not_run(tmp_path: Path) -> None:
    run = _recorded("clean")
    result = _scanner(run, tmp_path / "none").scan(grype_view(tmp_path, "clean"))
    assert _gaps(result) == [(Gap.DATABASE_ABSENT, "")]
    assert run.commands == []


@pytest.mark.parametrize("content", [b"garbage" * 4096, b"", b"SQLite format 3\0" + bytes(9000)])
def test_damaged_database_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vulnerability.db").write_bytes(content)
    with pytest.raises(IntegrityError, match="no usable database"):
        _scanner(_recorded("clean"), tmp_path).scan(grype_view(tmp_path, "clean"))


def test_database_of_another_schema_is_an_error(tmp_path: Path) -> None:
    database = write_database(tmp_path / "db", model=5)
    with pytest.raises(IntegrityError, match="schema"):
        _scanner(_recorded("clean"), database).scan(grype_view(tmp_path, "clean"))


def test_end_of_support_that_only_the_database_knows_is_a_gap(tmp_path: Path) -> None:
    database = write_database(
        tmp_path / "db",
        [("debian 12", "deb", "openssl"), ("", "python", "x"), ("", "npm", "y")],
        ends={"debian 12": NOW - timedelta(days=1)},
    )
    result = _scanner(_recorded("clean"), database).scan(grype_view(tmp_path, "clean"))
    assert _gaps(result) == [(Gap.END_OF_LIFE, "deb")]


def test_language_without_data_is_a_gap(tmp_path: Path) -> None:
    database = write_database(tmp_path / "db", [("debian 12", "deb", "openssl"), ("", "npm", "y")])
    result = _scanner(_recorded("clean"), database).scan(grype_view(tmp_path, "clean"))
    assert _gaps(result) == [(Gap.NO_DATA, "pypi")]


def test_clone_is_covered_by_the_data_that_grype_uses_for_it(tmp_path: Path) -> None:
    database = write_database(tmp_path / "db", [("rhel 9", "rpm", "openssl")])
    result = _scanner(_recorded("almalinux"), database).scan(grype_view(tmp_path, "almalinux"))
    assert result.coverage.gaps == ()


def test_report_of_another_image_and_platform_is_a_gap(tmp_path: Path, database: Path) -> None:
    result = _scanner(_recorded("arm64"), database).scan(grype_view(tmp_path, "findings"))
    assert _gaps(result)[:3] == [(Gap.WRONG_IMAGE, "")] * 3  # config, layers, architecture


def test_layout_of_two_platforms_is_refused(tmp_path: Path, database: Path) -> None:
    view = grype_view(tmp_path, "findings")
    two = make_layout(tmp_path / "two", CASES["findings"], CASES["arm64"])
    run = _recorded("findings")
    with pytest.raises(IntegrityError, match="index"):
        _scanner(run, database).scan(
            ImageView(layout=two.layout, inventory=view.inventory, work=view.work)
        )
    assert run.commands == []


def test_swapped_layer_is_refused_before_grype_sees_it(tmp_path: Path, database: Path) -> None:
    view = grype_view(tmp_path, "findings")
    blobs = view.layout / "blobs" / "sha256"
    layer = next(p for p in blobs.iterdir() if p.read_bytes()[:2] == b"\x1f\x8b")
    layer.write_bytes(b"\x1f\x8bother")
    run = _recorded("findings")
    with pytest.raises(IntegrityError, match="the manifest says"):
        _scanner(run, database).scan(view)
    assert run.commands == []


_REPORT = (GOLDEN / "findings" / "report.json").read_bytes()
_PACKAGES = (GOLDEN / "findings" / "packages.json").read_bytes()


@pytest.mark.parametrize(
    "run",
    [
        Replay(None, None, exit_code=0),
        Replay(None, None, exit_code=1, stderr="[0000] ERROR failed to load vulnerability db"),
        Replay(_REPORT, None, exit_code=0),
        Replay(None, _PACKAGES, exit_code=0),
        Replay(b"", b"", exit_code=1),
        Replay(_REPORT[: len(_REPORT) // 2], _PACKAGES, exit_code=0),
        Replay(_REPORT, _PACKAGES[: len(_PACKAGES) // 2], exit_code=0),
        Replay(b"{}", _PACKAGES, exit_code=0),
        Replay(_REPORT, b"{}", exit_code=0),
        Replay(b'{"source": {"type": "image"}}', _PACKAGES),
        Replay(_REPORT.replace(b'"type": "image"', b'"type": "directory"'), _PACKAGES),
        Replay(_REPORT, _PACKAGES, exit_code=-9),
        Replay(_REPORT, _PACKAGES, timed_out=True),
    ],
    ids=range(13),
)
def test_crash_timeout_and_half_a_report_are_tool_errors(
    tmp_path: Path, database: Path, run: Replay
) -> None:
    with pytest.raises(ToolError, match="grype"):
        _scanner(run, database).scan(grype_view(tmp_path, "findings"))


def test_whole_report_counts_whatever_the_exit_code(tmp_path: Path, database: Path) -> None:
    run = _recorded("findings")
    run.exit_code = 2
    result = _scanner(run, database).scan(grype_view(tmp_path, "findings"))
    assert result.tool_exit_code == 2
    assert len(result.findings) == 4


def test_empty_matches_without_a_list_of_packages_are_never_clean(
    tmp_path: Path, database: Path
) -> None:
    run = _recorded("clean")
    run.packages = b'{"bomFormat": "CycloneDX", "components": []}'
    result = _scanner(run, database).scan(grype_view(tmp_path, "clean"))
    assert _gaps(result) == [(Gap.UNSCANNED_PACKAGES, kind) for kind in ("deb", "npm", "pypi")]


def test_package_that_only_grype_lists_is_a_gap(tmp_path: Path, database: Path) -> None:
    run = _recorded("clean")
    packages = json.loads(run.packages or b"")
    packages["components"].append(
        {
            "type": "library",
            "name": "left-pad",
            "version": "1.0",
            "purl": "pkg:npm/left-pad@1.0",
            "properties": [{"name": "syft:package:type", "value": "npm"}],
        }
    )
    run.packages = json.dumps(packages).encode()
    result = _scanner(run, database).scan(grype_view(tmp_path, "clean"))
    assert _gaps(result) == [(Gap.UNINVENTORIED_PACKAGES, "npm")]


def test_grype_gets_nothing_of_the_user(tmp_path: Path, database: Path) -> None:
    run = _recorded("findings")
    secrets = {
        "GRYPE_ONLY_FIXED": "true",
        "GRYPE_IGNORE_STATES": "fixed",
        "GRYPE_REGISTRY_AUTH_PASSWORD": "p",
        "SYFT_EXCLUDE": "**",
        "DOCKER_HOST": "unix:///var/run/docker.sock",
        "DOCKER_CONFIG": "/root/.docker",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t",
        "GITHUB_TOKEN": "t",
        "CI_REGISTRY_PASSWORD": "p",
        "COSIGN_PASSWORD": "p",
        "SIGSTORE_ID_TOKEN": "t",
        "HTTPS_PROXY": "http://proxy",
        "XDG_CONFIG_HOME": "/root/.config",
        "HOME": "/root",
    }
    view = grype_view(tmp_path, "findings")
    _scanner(run, database, env=secrets | {"PATH": "/usr/bin", "LANG": "C"}).scan(view)
    (command,) = run.commands
    assert dict(command.env) == {
        "PATH": "/usr/bin",
        "LANG": "C",
        "HOME": str(view.work / "home"),
        "TMPDIR": str(view.work / "tmp"),
        "GRYPE_DB_CACHE_DIR": str(view.work / "cache"),
        "GRYPE_CHECK_FOR_APP_UPDATE": "false",
        "GRYPE_DB_AUTO_UPDATE": "false",
        "GRYPE_DB_VALIDATE_AGE": "false",
        "GRYPE_DB_VALIDATE_BY_HASH_ON_START": "false",
        "GRYPE_EXTERNAL_SOURCES_ENABLE": "false",
        "GRYPE_MATCH_UPSTREAM_KERNEL_HEADERS": "true",
    }
    assert command.cwd == view.work / "cwd"
    assert command.timeout_s == 900
    assert list((view.work / "cwd").iterdir()) == list((view.work / "home").iterdir()) == []
    assert command.argv == (
        "/opt/grype",
        f"oci-dir:{view.layout}",
        "--config",
        f"{view.work}/config.yaml",
        "--output",
        f"json={view.work}/report.json",
        "--output",
        f"cyclonedx-json={view.work}/packages.json",
    )
    assert (view.work / "config.yaml").read_bytes() == b""


@pytest.mark.parametrize("place", ["file", "folder", "cache"])
def test_database_is_found_as_a_file_a_folder_and_a_cache(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "db"
    path = write_database(folder / "6" if place == "cache" else folder) / "vulnerability.db"
    run = _recorded("clean")
    view = grype_view(tmp_path, "clean")
    result = _scanner(run, path if place == "file" else folder).scan(view)
    assert result.coverage.gaps == ()
    assert (view.work / "cache/6/vulnerability.db").resolve() == path.resolve()
    assert not [p for p in path.parent.iterdir() if p != path]  # nothing was written beside it


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"grype 0.87.0\n", "too old"),
        (b"grype [not provided]\n", "built without a version"),
        (b"hello\n", "not grype"),
        (b"", "not grype"),
    ],
)
def test_unusable_grype_is_refused(
    tmp_path: Path, database: Path, answer: bytes, message: str
) -> None:
    def run(command: Command, *, on_stderr_line: object = None) -> Completed:
        del on_stderr_line
        return Completed(argv=command.argv, exit_code=0, stdout=answer, stderr=b"", duration_s=0)

    with pytest.raises(ToolError, match=message):
        _scanner(run, database).probe()


def test_probe_records_program_and_database(tmp_path: Path, database: Path) -> None:
    program = tmp_path / "grype"
    program.write_bytes(b"program")
    info = _scanner(Replay(None), database, program=program).probe()
    assert (info.name, info.version, info.program) == ("grype", "0.121.2", str(program))
    assert len(info.sha256) == 64
    assert info.database.startswith("grype-db of 2026-06-01T06:00:00+00:00")

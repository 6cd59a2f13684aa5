"""The trivy adapter on recorded reports, and its command; no program is started."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ci_registry.errors import IntegrityError, ToolError
from ci_registry.findings import Gap, ScanResult, ScanStatus, Severity
from ci_registry.process import Command, Completed
from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.trivy import TrivyScanner
from tests.support.images import ImageSpec, debian_layer, make_layout
from tests.support.trivy_cases import (
    CASES,
    GOLDEN,
    NOW,
    OPENSSL,
    inventory_of,
    make_database,
    view_of,
)


@dataclass
class Replay:
    """Stands for trivy: writes a report and says its lines on stderr."""

    report: bytes | None
    stderr: str = ""
    exit_code: int = 0
    timed_out: bool = False
    commands: list[Command] = field(default_factory=list)

    def __call__(
        self, command: Command, *, on_stderr_line: Callable[[str], None] | None = None
    ) -> Completed:
        self.commands.append(command)
        if self.report is not None and "--output" in command.argv:
            Path(command.argv[command.argv.index("--output") + 1]).write_bytes(self.report)
        for line in self.stderr.splitlines():
            if on_stderr_line is not None:
                on_stderr_line(line)
        return Completed(
            argv=command.argv,
            exit_code=self.exit_code,
            stdout=b"Version: 0.76.0\n",
            stderr=self.stderr.encode(),
            duration_s=0.1,
            timed_out=self.timed_out,
        )


def _recorded(case: str) -> Replay:
    folder = GOLDEN / case
    return Replay((folder / "report.json").read_bytes(), (folder / "stderr.txt").read_text())


def _scanner(run: Replay, database: Path, **more: object) -> TrivyScanner:
    values: dict[str, object] = {
        "run": run,
        "env": {"PATH": "/usr/bin"},
        "program": Path("/opt/trivy"),
        "database": database,
        "now": lambda: NOW,
        "max_db_age": timedelta(hours=48),
        "timeout_s": 900.0,
    }
    return TrivyScanner(**(values | more))  # type: ignore[arg-type]


@pytest.fixture(name="database", scope="module")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("database"))


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
        ("release-without-data", 0, [(Gap.END_OF_LIFE, "deb"), (Gap.NO_DATA, "deb")]),
        ("end-of-life", 0, [(Gap.END_OF_LIFE, "deb"), (Gap.NO_DATA, "deb")]),
        ("another-release", 0, [(Gap.UNKNOWN_DISTRIBUTION, "deb")]),
        ("no-debian-version", 1, [(Gap.UNKNOWN_DISTRIBUTION, "deb")]),
        ("third-party", 1, [(Gap.THIRD_PARTY_PACKAGES, "deb")]),
        ("unparsable-versions", 1, [(Gap.UNDECIDED, ""), (Gap.UNSCANNED_PACKAGES, "deb")]),
        ("alpine", 0, [(Gap.NO_DATA, "apk")]),
        ("jar", 1, [(Gap.UNREAD_DATABASE, "maven")]),
    ],
)
def test_recorded_report_gives_these_findings_and_gaps(
    tmp_path: Path, database: Path, case: str, findings: int, gaps: list[tuple[Gap, str]]
) -> None:
    result = _scanner(_recorded(case), database).scan(view_of(tmp_path, case))
    assert _gaps(result) == gaps
    assert len(result.findings) == findings


def test_every_case_has_a_recording() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(CASES)


def test_findings_are_on_our_own_packages_with_every_severity(
    tmp_path: Path, database: Path
) -> None:
    view = view_of(tmp_path, "findings")
    result = _scanner(_recorded("findings"), database).scan(view)
    by_id = {f.id: f for f in result.findings}
    openssl = by_id["CVE-2026-1000"]
    assert openssl.package in view.inventory.packages
    assert openssl.aliases == ("DSA-9000-1",)
    assert (openssl.severity, openssl.severity_source) == (Severity.HIGH, "debian")
    assert openssl.severities == (("debian", "HIGH"), ("nvd", "CRITICAL"))
    assert openssl.fixed_versions == ("3.0.12-1~deb12u1",)
    assert openssl.title == "openssl: something is wrong"
    assert openssl.published_at == datetime(2026, 1, 1, tzinfo=UTC)
    demo = by_id["CVE-2026-2000"]
    assert demo.package in view.inventory.packages
    assert demo.fixed_versions == ("2.2",)  # 1.5 is of a branch below the installed 2.1
    assert by_id["CVE-2026-3000"].severity is Severity.UNKNOWN
    assert result.scanner_version == "0.76.0"
    assert result.tool_exit_code == 0
    assert result.status is ScanStatus.COMPLETE


def test_database_facts_are_our_own(tmp_path: Path, database: Path) -> None:
    result = _scanner(_recorded("clean"), database, database_location="mirror/trivy-db:2").scan(
        view_of(tmp_path, "clean")
    )
    (facts,) = result.coverage.databases
    assert facts.built_at == datetime(2026, 6, 1, 6, tzinfo=UTC)
    assert facts.location == "mirror/trivy-db:2"
    assert facts.digest.startswith("sha256:")
    assert "debian 12" in facts.ecosystems


def test_database_of_2019_is_a_gap_whatever_trivy_says(tmp_path: Path) -> None:
    database = make_database(tmp_path / "db", updated_at=datetime(2019, 1, 1, tzinfo=UTC))
    result = _scanner(_recorded("clean"), database).scan(view_of(tmp_path, "clean"))
    assert _gaps(result) == [(Gap.DATABASE_STALE, "")]


def test_without_a_database_trivy_is_not_run(tmp_path: Path) -> None:
    run = _recorded("clean")
    result = _scanner(run, tmp_path / "none").scan(view_of(tmp_path, "clean"))
    assert _gaps(result) == [(Gap.DATABASE_ABSENT, "")]
    assert run.commands == []


def test_damaged_database_is_an_error(tmp_path: Path) -> None:
    database = make_database(tmp_path / "db")
    (database / "db" / "trivy.db").write_bytes(b"garbage" * 4096)
    with pytest.raises(IntegrityError):
        _scanner(_recorded("clean"), database).scan(view_of(tmp_path, "clean"))


def test_report_of_another_platform_is_a_gap(tmp_path: Path, database: Path) -> None:
    result = _scanner(_recorded("arm64"), database).scan(view_of(tmp_path, "findings"))
    assert _gaps(result)[:3] == [(Gap.WRONG_IMAGE, "")] * 3  # config, layers, architecture


def test_layout_of_two_platforms_is_refused(tmp_path: Path, database: Path) -> None:
    view = view_of(tmp_path, "findings")
    two = make_layout(tmp_path / "two", CASES["findings"], CASES["arm64"])
    view = ImageView(layout=two.layout, inventory=view.inventory, work=view.work)
    run = _recorded("findings")
    with pytest.raises(IntegrityError, match="index"):
        _scanner(run, database).scan(view)
    assert run.commands == []


def test_layout_with_an_attestation_beside_the_image_is_refused(
    tmp_path: Path, database: Path
) -> None:
    view = view_of(tmp_path, "findings")
    path = view.layout / "index.json"
    index = json.loads(path.read_bytes())
    index["manifests"].insert(0, index["manifests"][0])
    path.write_text(json.dumps(index))
    with pytest.raises(IntegrityError, match="2 entries"):
        _scanner(_recorded("findings"), database).scan(view)


def _layer_of(view: ImageView) -> Path:
    blobs = view.layout / "blobs" / "sha256"
    return max(blobs.iterdir(), key=lambda path: path.read_bytes()[:2] == b"\x1f\x8b")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-5], lambda data: b"\x1f\x8bother"], ids=["cut", "swapped"]
)
def test_swapped_or_cut_layer_is_refused_before_trivy_sees_it(
    tmp_path: Path, database: Path, damage: Callable[[bytes], bytes]
) -> None:
    view = view_of(tmp_path, "findings")
    layer = _layer_of(view)
    layer.write_bytes(damage(layer.read_bytes()))
    run = _recorded("findings")
    with pytest.raises(IntegrityError, match="the manifest says"):
        _scanner(run, database).scan(view)
    assert run.commands == []


def test_layout_of_another_image_is_refused(tmp_path: Path, database: Path) -> None:
    view = view_of(tmp_path, "findings")
    other = make_layout(tmp_path / "other", ImageSpec(layers=[debian_layer(OPENSSL)]))
    view = ImageView(layout=other.layout, inventory=view.inventory, work=view.work)
    with pytest.raises(IntegrityError, match="has config"):
        _scanner(_recorded("findings"), database).scan(view)


_REPORT = (GOLDEN / "findings" / "report.json").read_bytes()


@pytest.mark.parametrize(
    "run",
    [
        Replay(None, exit_code=0),
        Replay(None, exit_code=1, stderr="FATAL\tFatal error"),
        Replay(None, exit_code=2, stderr="panic: runtime error\n\ngoroutine 1 [running]:"),
        Replay(_REPORT[: len(_REPORT) // 2], exit_code=0),
        Replay(b"", exit_code=0),
        Replay(b"{}", exit_code=0),
        Replay(b'{"SchemaVersion": 3}', exit_code=0),
        Replay(b'{"SchemaVersion": 2, "Results": {}}', exit_code=0),
        Replay(_REPORT, exit_code=-9),
        Replay(_REPORT, timed_out=True),
    ],
    ids=lambda run: (
        f"exit {run.exit_code}, {'no' if run.report is None else len(run.report)} bytes"
    ),
)
def test_crash_timeout_and_half_a_report_are_tool_errors(
    tmp_path: Path, database: Path, run: Replay
) -> None:
    with pytest.raises(ToolError, match="trivy"):
        _scanner(run, database).scan(view_of(tmp_path, "findings"))


def test_whole_report_counts_whatever_the_exit_code(tmp_path: Path, database: Path) -> None:
    run = _recorded("findings")
    run.exit_code = 1
    result = _scanner(run, database).scan(view_of(tmp_path, "findings"))
    assert result.tool_exit_code == 1
    assert len(result.findings) == 4


def test_trivy_gets_nothing_of_the_user(tmp_path: Path, database: Path) -> None:
    run = _recorded("findings")
    secrets = {
        "TRIVY_SEVERITY": "CRITICAL",
        "TRIVY_USERNAME": "u",
        "TRIVY_PASSWORD": "p",
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
    view = view_of(tmp_path, "findings")
    _scanner(run, database, env=secrets | {"PATH": "/usr/bin", "LANG": "C"}).scan(view)
    (command,) = run.commands
    assert dict(command.env) == {
        "PATH": "/usr/bin",
        "LANG": "C",
        "HOME": str(view.work / "home"),
        "TMPDIR": str(view.work / "tmp"),
    }
    assert command.cwd == view.work / "cwd"
    assert list((view.work / "cwd").iterdir()) == []
    assert list((view.work / "home").iterdir()) == []


def test_command_is_offline_unfiltered_and_uncached(tmp_path: Path, database: Path) -> None:
    run = _recorded("findings")
    view = view_of(tmp_path, "findings")
    _scanner(run, database).scan(view)
    (command,) = run.commands
    work = view.work
    assert command.argv == (
        "/opt/trivy",
        "image",
        "--input",
        str(view.layout),
        "--format",
        "json",
        "--output",
        f"{work}/report.json",
        "--scanners",
        "vuln",
        "--list-all-pkgs",
        "--exit-code",
        "0",
        "--cache-dir",
        f"{work}/cache",
        "--cache-backend",
        "memory",
        "--skip-db-update",
        "--skip-java-db-update",
        "--offline-scan",
        "--skip-version-check",
        "--disable-telemetry",
        "--no-progress",
        "--timeout",
        "960s",
        "--config",
        f"{work}/config.yaml",
        "--ignorefile",
        f"{work}/ignore",
    )
    assert command.timeout_s == 900
    assert (work / "config.yaml").read_bytes() == (work / "ignore").read_bytes() == b""
    assert (work / "cache/db/trivy.db").resolve() == (database / "db/trivy.db").resolve()


def test_version_trouble_is_not_crowded_out_by_other_warnings(
    tmp_path: Path, database: Path
) -> None:
    run = _recorded("findings")
    run.stderr = "".join(
        f"t\tWARN\tUnable to get vulnerability details\terr.time={n}\n" for n in range(500)
    )
    run.stderr += 't\tWARN\tVersion matching error\terr="malformed version: x"\n' * 3
    result = _scanner(run, database).scan(view_of(tmp_path, "findings"))
    assert (Gap.UNDECIDED, "") in _gaps(result)
    assert result.notes == ("trivy: Unable to get vulnerability details err.time=0",)


def test_odd_version_with_advisories_is_a_gap_although_trivy_said_nothing(
    tmp_path: Path, database: Path
) -> None:
    run = _recorded("unparsable-versions")
    run.stderr = ""
    result = _scanner(run, database).scan(view_of(tmp_path, "unparsable-versions"))
    assert (Gap.UNDECIDED, "") in _gaps(result)


def test_package_that_trivy_drops_from_its_list_is_a_gap(tmp_path: Path, database: Path) -> None:
    run = _recorded("findings")
    assert run.report is not None
    report = json.loads(run.report)
    del report["Results"][0]["Packages"][0]
    run.report = json.dumps(report).encode()
    result = _scanner(run, database).scan(view_of(tmp_path, "findings"))
    assert _gaps(result) == [(Gap.UNSCANNED_PACKAGES, "deb")]


def test_no_results_at_all_is_a_gap_for_each_kind(tmp_path: Path, database: Path) -> None:
    run = _recorded("findings")
    assert run.report is not None
    report = json.loads(run.report)
    del report["Results"]
    run.report = json.dumps(report).encode()
    result = _scanner(run, database).scan(view_of(tmp_path, "findings"))
    assert _gaps(result) == [(Gap.UNSCANNED_PACKAGES, kind) for kind in ("deb", "npm", "pypi")]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"Version: 0.69.4\n", "hijacked"),
        (b"Version: 0.58.1\n", "too old"),
        (b"hello\n", "not trivy"),
        (b"", "not trivy"),
    ],
)
def test_unusable_trivy_is_refused(
    tmp_path: Path, database: Path, answer: bytes, message: str
) -> None:
    class Answering(Replay):
        def __call__(self, command: Command, *, on_stderr_line: object = None) -> Completed:
            return Completed(
                argv=command.argv, exit_code=0, stdout=answer, stderr=b"", duration_s=0
            )

    with pytest.raises(ToolError, match=message):
        _scanner(Answering(None), database).probe()


def test_probe_records_program_and_database(tmp_path: Path, database: Path) -> None:
    program = tmp_path / "trivy"
    program.write_bytes(b"program")
    info = _scanner(Replay(None), database, program=program).probe()
    assert (info.name, info.version, info.program) == ("trivy", "0.76.0", str(program))
    assert len(info.sha256) == 64
    assert info.database.startswith("trivy-db of 2026-06-01T06:00:00+00:00")


def test_inventory_of_the_cases_is_read_by_our_own_code(tmp_path: Path) -> None:
    made = make_layout(tmp_path / "l", CASES["findings"])
    assert [p.name for p in inventory_of(made).packages] == [
        "libssl3",
        "zlib1g",
        "@scope/left",
        "Demo_Tool",
    ]

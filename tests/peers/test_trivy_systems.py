"""What the real trivy lists in images of apk and rpm distributions, and of Go and Rust programs, we list too."""

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from ci_registry.findings import Gap, Package
from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.trivy_report import TrivyReport, parse_report
from tests.support.images import ImageSpec, make_layout, tar_of
from tests.support.os_databases import APK_RELEASE, apk_database, apk_record
from tests.support.peers import go_version
from tests.support.programs import rust_program
from tests.support.rpm_root import make_rpm_root
from tests.support.trivy_cases import inventory_of, make_database, scanner_for

pytestmark = pytest.mark.peer("trivy")
PIP = "usr/lib/python3.12/site-packages/pip-24.0.dist-info/METADATA"
PIP_TEXT = "Metadata-Version: 2.1\nName: pip\nVersion: 24.0\n\nText\n"
LEFT = "usr/lib/python3.12/site-packages/left-1.0.dist-info/METADATA"
CRATES = {
    "packages": [
        {"name": "app", "version": "0.1.0", "source": "local", "root": True},
        {"name": "serde", "version": "1.0.1", "source": "crates.io", "dependencies": []},
        {"name": "cc", "version": "1.0.0", "source": "crates.io", "kind": "build"},
    ]
}
ALPINE = {"etc/os-release": APK_RELEASE, "etc/alpine-release": "3.20.3\n"}


@pytest.fixture(name="database", scope="module")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("database"))


def layer_of(files: Mapping[str, bytes | str]) -> bytes:
    """Return a layer whose files may all be executed: into others trivy does not look for programs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(path)
            info.mode, info.size = 0o755, len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def both(
    folder: Path, database: Path, *layers: bytes
) -> tuple[tuple[Package, ...], TrivyReport, set[tuple[Gap, str]]]:
    """Return our packages, trivy's report, and the gaps that the adapter makes of the two."""
    made = make_layout(folder / "layout", ImageSpec(layers=layers))
    (folder / "work").mkdir()
    view = ImageView(layout=made.layout, inventory=inventory_of(made), work=folder / "work")
    result = scanner_for(database).scan(view)
    report = parse_report((view.work / "report.json").read_bytes())
    return view.inventory.packages, report, {(g.gap, g.ecosystem) for g in result.coverage.gaps}


def ours(packages: tuple[Package, ...]) -> list[tuple[str, str, str, str]]:
    """Return the packages that no OS package owns, as trivy names them."""
    return sorted(
        (
            p.ecosystem,
            p.name,
            p.version.replace("(devel)", ""),
            p.path if p.ecosystem in ("golang", "cargo", "pypi") else "",
        )
        for p in packages
        if not p.owner
    )


def theirs(report: TrivyReport, programs: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Return trivy's packages; its list leaves out the path of a program, which is the target.

    Args:
        report: of trivy.
        programs: path of the only program by purl type.
    """
    return sorted(
        (
            p.ecosystem,
            p.name,
            p.version.removeprefix("v") if p.name == "stdlib" else p.version,
            p.path or programs.get(p.ecosystem, ""),
        )
        for p in report.packages
    )


def build_go(folder: Path) -> bytes:
    """Build a program with one vendored dependency, without network."""
    files = {
        "go.mod": ("module example.com/acme/app\n\ngo 1.21\n\nrequire example.com/Dep v1.2.3\n"),
        "main.go": 'package main\n\nimport "example.com/Dep"\n\nfunc main() { println(dep.Word) }\n',
        "vendor/modules.txt": "# example.com/Dep v1.2.3\n## explicit; go 1.21\nexample.com/Dep\n",
        "vendor/example.com/Dep/dep.go": 'package dep\n\nconst Word = "word"\n',
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    env = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=vendor", "GOTOOLCHAIN": "local"}
    env |= {"GOPROXY": "off", "GOOS": "linux", "GOARCH": "amd64"}
    command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", "app", "."]
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, timeout=280)
    return (folder / "app").read_bytes()


def test_an_alpine_root_has_the_packages_that_trivy_sees(tmp_path: Path, database: Path) -> None:
    records = (
        apk_record("libssl3", "3.3.2-r1", origin="openssl"),
        apk_record("py3-pip", "24.0-r2", origin="py3-pip", files={PIP: PIP_TEXT}),
        apk_record("nginx", "1.27.0-r1", maintainer="NGINX Packaging <nginx-packaging@f5.com>"),
        apk_record(".build-deps", "20240101.120000"),
    )
    files = {**ALPINE, "lib/apk/db/installed": apk_database(*records), PIP: PIP_TEXT}
    added = tar_of({LEFT: PIP_TEXT.replace("pip", "left")})
    packages, report, gaps = both(tmp_path, database, tar_of(files), added)
    assert ours(packages) == theirs(report, {})
    assert [p.name for p in packages if p.owner] == ["pip"]
    assert [p.name for p in packages if p.third_party] == ["nginx"]
    assert not gaps & {(Gap.UNSCANNED_PACKAGES, "apk"), (Gap.UNINVENTORIED_PACKAGES, "apk")}


@pytest.mark.peer("rpm", "rpmbuild")
def test_an_rpm_root_has_the_packages_that_trivy_sees(tmp_path: Path, database: Path) -> None:
    root = make_rpm_root(tmp_path)
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        tar.add(root, arcname=".")
    packages, report, gaps = both(tmp_path, database, layer.read_bytes())
    assert ours(packages) == theirs(report, {})
    assert {(p.name, p.owner) for p in packages if p.ecosystem == "pypi"} == {
        ("python3-demo", "python3-demo"),
        ("nodejs", "nodejs"),
        ("docker-ce", ""),
    }
    foreign = {p.name for p in packages if p.third_party}
    assert foreign == {p.name for p in report.third_party} == {"docker-ce", "docker-ce-libs"}
    assert (Gap.THIRD_PARTY_PACKAGES, "rpm") in gaps
    assert not gaps & {(Gap.UNSCANNED_PACKAGES, "rpm"), (Gap.UNINVENTORIED_PACKAGES, "rpm")}


@pytest.mark.skipif(go_version() is None, reason="no Go on PATH")
def test_go_and_rust_programs_have_the_packages_that_trivy_sees(
    tmp_path: Path, database: Path
) -> None:
    program = build_go(tmp_path / "go")
    owned = apk_record("tool", "1-r0", files={"usr/bin/tool": program})
    files = {**ALPINE, "lib/apk/db/installed": apk_database(owned)}
    base = layer_of({**files, "usr/bin/tool": program})
    added = layer_of({"srv/app": program, "srv/rust": rust_program(CRATES)})
    packages, report, gaps = both(tmp_path, database, base, added)
    assert ours(packages) == theirs(report, {"golang": "srv/app", "cargo": "srv/rust"})
    assert [p.version for p in packages if p.name == "example.com/Dep" and not p.owner] == [
        "v1.2.3"
    ]
    assert {p.owner for p in packages if p.path == "usr/bin/tool"} == {"tool"}
    kinds = {
        kind for gap, kind in gaps if gap in (Gap.UNSCANNED_PACKAGES, Gap.UNINVENTORIED_PACKAGES)
    }
    assert kinds == set()


@pytest.mark.skipif(go_version() is None, reason="no Go on PATH")
def test_a_go_program_that_may_not_be_executed_is_only_in_our_list(
    tmp_path: Path, database: Path
) -> None:
    program = build_go(tmp_path / "go")
    packages, report, _ = both(tmp_path, database, tar_of({**ALPINE, "srv/app": program}))
    assert {p.name for p in packages} == {"example.com/Dep", "example.com/acme/app", "stdlib"}
    assert report.packages == ()

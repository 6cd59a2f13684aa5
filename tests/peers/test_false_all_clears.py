"""The ways in which scanners were seen to say "clean" about what they did not read; none may end with 0 here."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from tests.support.images import Files, ImageSpec, debian_layer, make_layout, put_blob
from tests.support.os_databases import ALMA_RELEASE, APK_RELEASE, apk_record, rpm_header, rpm_sqlite
from tests.support.scanner_table import Advice, Desk, desk, every_scanner
from tests.support.trivy_cases import node_module, wheel

BLOCKED, INFRASTRUCTURE, INCOMPLETE = 1, 4, 5
OLD, GOOD = ("libssl3", "3.0.11-1", "openssl"), ("libssl3", "99.1-1", "openssl")
DEBIAN = Advice(ecosystem="Debian:12", package="openssl", id="CVE-2026-90001", fixed="99")
ADVICE = (
    DEBIAN,
    Advice(ecosystem="AlmaLinux:9", package="openssl", id="ALSA-2026:90002", fixed="99"),
    Advice(ecosystem="PyPI", package="demo-tool", id="CVE-2026-90003", fixed="99"),
)
NO_DEBIAN = (Advice(ecosystem="Alpine:v3.20", package="musl", id="CVE-2026-90004", fixed="99"),)
LAST_DECADE = datetime(2019, 5, 1, tzinfo=UTC)


def image(folder: Path, *layers: Files, **more: str) -> Path:
    return make_layout(folder, ImageSpec(layers=layers, **more)).layout  # type: ignore[arg-type]


def vulnerable(folder: Path) -> Path:
    return image(folder, debian_layer(OLD), wheel("demo-tool", "1.0"))


def clean(folder: Path) -> Path:
    return image(folder, debian_layer(GOOD), wheel("demo-tool", "99.1"))


def second_platform(folder: Path) -> Path:
    """The first platform is clean, and a scanner that ignores the question scans that one."""
    specs = (
        ImageSpec(layers=[debian_layer(GOOD)]),
        ImageSpec(layers=[debian_layer(OLD)], architecture="arm64"),
    )
    return make_layout(folder, *specs).layout


def system(identity: str, version: str, *, debian_version: str = "12.5\n") -> Files:
    files = debian_layer(OLD) | {"etc/debian_version": debian_version}
    return files | {"etc/os-release": f"ID={identity}\nVERSION_ID={version}\n"}


def without_debian_version(folder: Path) -> Path:
    """Trivy drops all of dpkg and keeps a Python result."""
    files = {path: text for path, text in debian_layer(OLD).items() if path != "etc/debian_version"}
    return image(folder, files, wheel("demo-tool", "99.1"))


def third_party(folder: Path) -> Path:
    headers = (
        rpm_header(name="openssl", version="1.0", vendor="Somebody"),
        rpm_header(name="nginx", version="1.0", vendor="Somebody"),
    )
    return image(
        folder,
        {"etc/os-release": ALMA_RELEASE, "var/lib/rpm/rpmdb.sqlite": rpm_sqlite(*headers)},
    )


def alpine(folder: Path, identity: str = APK_RELEASE) -> Path:
    database = apk_record("musl", "1.2.5-r0", origin="musl") + "\n\n"
    return image(folder, {"etc/os-release": identity, "lib/apk/db/installed": database})


def wolfi(folder: Path) -> Path:
    return alpine(folder, "ID=wolfi\nVERSION_ID=20230201\n")


def swapped(folder: Path) -> Path:
    """Under the name of the vulnerable layer lies a clean one."""
    layout, other = vulnerable(folder), clean(folder.with_name("other"))
    (layer, *_), (replacement, *_) = layers_of(layout), layers_of(other)
    layer.write_bytes(replacement.read_bytes())
    return layout


def truncated(folder: Path) -> Path:
    layout = vulnerable(folder)
    layer = layers_of(layout)[0]
    layer.write_bytes(layer.read_bytes()[:-40])
    return layout


def layers_of(layout: Path) -> list[Path]:
    """Return the files of the layers, in their order."""
    index = json.loads((layout / "index.json").read_bytes())
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
    return [blobs / layer["digest"][7:] for layer in manifest["layers"]]


def with_attestation(folder: Path, *, first: bool) -> Path:
    """An index of the vulnerable image and what BuildKit attests about it."""
    layout = vulnerable(folder)
    entry = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    statement = put_blob(layout, b'{"_type":"https://in-toto.io/Statement/v0.1"}')
    config = put_blob(layout, b'{"architecture":"unknown","os":"unknown","rootfs":{}}')
    body = dump(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": blob(layout, config, media_types.OCI_CONFIG),
            "layers": [blob(layout, statement, "application/vnd.in-toto+json")],
        }
    )
    about = {"vnd.docker.reference.type": "attestation-manifest"}
    about["vnd.docker.reference.digest"] = entry["digest"]
    attestation = {
        **blob(layout, put_blob(layout, body), media_types.OCI_MANIFEST),
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": about,
    }
    entries = [attestation, entry] if first else [entry, attestation]
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    root = blob(layout, put_blob(layout, dump(index)), media_types.OCI_INDEX)
    (layout / "index.json").write_bytes(dump({"schemaVersion": 2, "manifests": [root]}))
    return layout


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


def blob(layout: Path, digest: str, media_type: str) -> dict[str, object]:
    size = (layout / "blobs" / "sha256" / digest[7:]).stat().st_size
    return {"mediaType": media_type, "digest": str(digest), "size": size}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way; `make` gets a folder and returns the layout to scan."""

    make: Callable[[Path], Path]
    ends: tuple[int, ...]
    """Exit codes that are right; 0 never is."""
    advice: tuple[Advice, ...] = ADVICE
    built: datetime | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """Of the project that the scan runs in."""
    env: Mapping[str, str] = field(default_factory=dict)


SILENCING = {
    ".trivyignore": "CVE-2026-90001\nCVE-2026-90003\n",
    ".trivyignore.yaml": "vulnerabilities: [{id: CVE-2026-90001}, {id: CVE-2026-90003}]\n",
    "trivy.yaml": "severity: [LOW]\nscan: {skip-dirs: ['**']}\n",
    ".grype.yaml": 'exclude: ["**"]\nignore: [{vulnerability: CVE-2026-90001}]\n',
    ".grype/config.yaml": 'exclude: ["**"]\n',
    "osv-scanner.toml": '[[IgnoredVulns]]\nid = "CVE-2026-90001"\n',
}
VARIABLES = {
    "TRIVY_SEVERITY": "LOW",
    "TRIVY_IGNOREFILE": ".trivyignore",
    "TRIVY_CONFIG": "trivy.yaml",
    "TRIVY_SKIP_DIRS": "**",
    "GRYPE_CONFIG": ".grype.yaml",
    "GRYPE_EXCLUDE": "**",
    "GRYPE_ONLY_FIXED": "false",
}

CASES: Mapping[str, Case] = {
    "1-another-platform-is-scanned": Case(make=second_platform, ends=(BLOCKED,)),
    "2-unknown-distribution": Case(
        make=lambda f: image(f, system("weirdos", "1")), ends=(INCOMPLETE,)
    ),
    "2-empty-root": Case(make=lambda f: image(f, {"hello": "x"}), ends=(INCOMPLETE,)),
    "3-unsupported-release": Case(
        make=lambda f: image(f, system("debian", "99", debian_version="99.1\n")), ends=(INCOMPLETE,)
    ),
    "3-release-without-data": Case(
        make=lambda f: image(f, system("debian", "13", debian_version="13.1\n")), ends=(INCOMPLETE,)
    ),
    "3-database-without-the-distribution": Case(
        make=vulnerable, ends=(INCOMPLETE,), advice=NO_DEBIAN
    ),
    "4-database-of-2019": Case(make=clean, ends=(INCOMPLETE,), built=LAST_DECADE),
    "5-all-rpms-of-third-parties": Case(make=third_party, ends=(INCOMPLETE,)),
    "6-nothing-could-be-compared": Case(
        make=lambda f: image(f, debian_layer(GOOD), wheel("demo-tool", "not-a-version")),
        ends=(INCOMPLETE,),
    ),
    "7-swapped-layer": Case(make=swapped, ends=(INFRASTRUCTURE,)),
    "7-truncated-layer": Case(make=truncated, ends=(INFRASTRUCTURE,)),
    "8-attestation-in-front": Case(make=lambda f: with_attestation(f, first=True), ends=(BLOCKED,)),
    "8-attestation-behind": Case(make=lambda f: with_attestation(f, first=False), ends=(BLOCKED,)),
    "9-files-in-the-tree": Case(make=vulnerable, ends=(BLOCKED,), files=SILENCING),
    "9-variables": Case(make=vulnerable, ends=(BLOCKED,), files=SILENCING, env=VARIABLES),
    "alpine-without-data": Case(make=alpine, ends=(INCOMPLETE,)),
    "wolfi-without-data": Case(make=wolfi, ends=(INCOMPLETE,)),
    "npm-without-data": Case(
        make=lambda f: image(f, debian_layer(GOOD), node_module("left", "1.0.0")),
        ends=(INCOMPLETE,),
    ),
    "debian-that-does-not-say-so": Case(make=without_debian_version, ends=(BLOCKED, INCOMPLETE)),
}


@pytest.fixture(name="scanner", params=every_scanner())
def _scanner(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_was_not_read_is_never_clean(tmp_path: Path, scanner: str, case: Case) -> None:
    at = desk(tmp_path / "desk", scanner, case.advice, built=case.built)
    for path, text in case.files.items():
        at.project.write(path, text)
        (at.project.base / "home" / path).parent.mkdir(exist_ok=True)
        (at.project.base / "home" / path).write_text(text)

    done = at.scan(case.make(tmp_path / "layout"), env=case.env)

    assert done.exit_code in case.ends, done.stdout + done.stderr
    assert 0 not in case.ends
    wanted = {BLOCKED: "block"}.get(done.exit_code, "incomplete")
    assert at.project.result()["images"][0]["verdict"] == wanted


def test_the_same_table_lets_a_clean_image_pass(tmp_path: Path, scanner: str) -> None:
    at = desk(tmp_path / "desk", scanner, ADVICE)
    done = at.scan(clean(tmp_path / "layout"))
    assert done.exit_code == 0, done.stdout + done.stderr
    assert at.findings() == set()


def test_the_same_table_blocks_a_vulnerable_image(tmp_path: Path, scanner: str) -> None:
    at = desk(tmp_path / "desk", scanner, ADVICE)
    assert at.scan(vulnerable(tmp_path / "layout")).exit_code == BLOCKED
    assert at.findings() == {
        ("libssl3", "3.0.11-1", "CVE-2026-90001"),
        ("demo-tool", "1.0", "CVE-2026-90003"),
    }


def _blocks(at: Desk, layout: Path) -> None:
    done = at.scan(layout)
    assert done.exit_code == BLOCKED, done.stdout + done.stderr


def test_a_swapped_layer_poisons_no_cache(tmp_path: Path, scanner: str) -> None:
    at = desk(tmp_path / "desk", scanner, ADVICE)
    assert at.scan(swapped(tmp_path / "swapped")).exit_code == INFRASTRUCTURE
    _blocks(at, vulnerable(tmp_path / "untouched"))


def test_a_known_layer_covers_no_damaged_one(tmp_path: Path, scanner: str) -> None:
    at = desk(tmp_path / "desk", scanner, ADVICE)
    _blocks(at, vulnerable(tmp_path / "untouched"))
    for make in (truncated, swapped):
        done = at.scan(make(tmp_path / make.__name__))
        assert done.exit_code == INFRASTRUCTURE, done.stdout + done.stderr
        assert str(digest_of(b""))[:7] in done.stderr  # the layer is named

"""SBOMs that trivy and syft wrote: real ones where the shared data is, hand-written ones of the same shape."""

import json
from pathlib import Path

import pytest

from ci_registry.findings import Distribution, UnreadDatabase
from ci_registry.sbom.reading import read_sbom

REPORTS = Path(__file__).parents[4] / "shared/data/reports"
REAL = [
    "trivy-0.76.0/alpine310.cyclonedx",
    "trivy-0.76.0/alpine310.spdx-json",
    "syft-1.18.1/alpine310.cyclonedx-json",
    "syft-1.18.1/alpine310.spdx-json",
]


@pytest.mark.skipif(not REPORTS.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", REAL)
def test_real_document_gives_the_packages_of_the_image(name: str) -> None:
    document = read_sbom((REPORTS / name).read_bytes(), what=name)
    inventory = document.inventory
    assert not document.names_unread
    assert inventory.distribution is not None
    assert inventory.distribution.id == "alpine"
    assert inventory.distribution.version.startswith("3.10")
    system = {
        (p.name, p.version, p.source_name) for p in inventory.packages if p.ecosystem == "apk"
    }
    assert ("libcrypto1.1", "1.1.1c-r0", "openssl") in system
    assert len(system) == 7


def _cyclonedx(*components: dict[str, object]) -> bytes:
    return json.dumps(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "metadata": {
                "timestamp": "2026-01-01T00:00:00Z",
                "tools": [{"vendor": "a", "name": "maker", "version": "2"}],
                "component": {"type": "container", "name": "img", "version": "sha256:" + "c" * 64},
            },
            "components": list(components),
        }
    ).encode()


def test_component_without_purl_is_a_named_gap() -> None:
    document = read_sbom(
        _cyclonedx(
            {"type": "library", "name": "mystery", "version": "1"},
            {"type": "application", "name": "package-lock.json"},
        ),
        what="x",
    )
    assert document.inventory.unread == (
        UnreadDatabase(
            kind="generic", path="", reason="the component 'mystery' has no package URL"
        ),
    )
    assert document.tool == "maker 2"
    assert document.inventory.manifest_digest == "sha256:" + "c" * 64


def test_nested_components_are_read() -> None:
    inner = {"type": "library", "name": "b", "version": "1", "purl": "pkg:npm/b@1"}
    document = read_sbom(
        _cyclonedx({"type": "application", "name": "lock", "components": [inner]}), what="x"
    )
    assert [p.name for p in document.inventory.packages] == ["b"]


def test_distribution_comes_from_the_purls_when_no_component_names_it() -> None:
    document = read_sbom(
        _cyclonedx(
            {
                "type": "library",
                "name": "libssl3",
                "purl": "pkg:deb/debian/libssl3@3.0?arch=arm64&distro=debian-12&upstream=openssl%403.0.1",
            }
        ),
        what="x",
    )
    assert document.inventory.distribution == Distribution(id="debian", version="12")
    assert document.inventory.platform == "linux/arm64"
    (package,) = document.inventory.packages
    assert (package.source_name, package.source_version) == ("openssl", "3.0.1")


def test_epoch_of_trivy_is_part_of_the_version() -> None:
    document = read_sbom(
        _cyclonedx(
            {
                "type": "library",
                "name": "vim",
                "purl": "pkg:rpm/almalinux/vim@9.0-1.el9?epoch=2&distro=almalinux-9",
                "properties": [
                    {"name": "aquasecurity:trivy:SrcName", "value": "vim"},
                    {"name": "aquasecurity:trivy:SrcVersion", "value": "9.0"},
                    {"name": "aquasecurity:trivy:SrcRelease", "value": "1.el9"},
                    {"name": "aquasecurity:trivy:SrcEpoch", "value": "2"},
                ],
            }
        ),
        what="x",
    )
    (package,) = document.inventory.packages
    assert (package.version, package.source_name, package.source_version) == ("2:9.0-1.el9", "", "")

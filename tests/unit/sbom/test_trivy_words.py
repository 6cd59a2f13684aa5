"""What our SBOMs say about OS packages in trivy's words; that trivy reads it is shown with the real one."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ci_registry.findings import Distribution, Package
from ci_registry.sbom.cyclonedx import write_cyclonedx
from ci_registry.sbom.document import SbomDocument
from ci_registry.sbom.reading import read_sbom
from ci_registry.sbom.spdx import write_spdx
from ci_registry.sbom.trivy_words import trivy_facts
from tests.support.advisories import apk, deb, inventory, pypi, rpm

NOW = datetime(2026, 11, 24, tzinfo=UTC)
MODULE = "nodejs:18:9010020221118120946:rhel9"


@pytest.mark.parametrize(
    ("package", "facts"),
    [
        (
            deb("libssl3", "3.0.11-1+b1", "openssl", "3.0.11-1"),
            {"SrcName": "openssl", "SrcVersion": "3.0.11", "SrcRelease": "1"},
        ),
        (
            deb("cpp", "4:12.2.0-3", "gcc-defaults", "1.203"),
            {"SrcName": "gcc-defaults", "SrcVersion": "1.203"},
        ),
        (
            deb("zlib1g", "1:1.2-13-1"),
            {"SrcName": "zlib1g", "SrcVersion": "1.2-13", "SrcRelease": "1", "SrcEpoch": "1"},
        ),
        (
            rpm("nodejs", "0:18.1-1.el9", module=MODULE),
            {
                "SrcName": "nodejs",
                "SrcVersion": "18.1",
                "SrcRelease": "1.el9",
                "Modularitylabel": MODULE,
            },
        ),
        (
            apk("libcrypto3", "3.3.2-r1", "openssl"),
            {"SrcName": "openssl", "SrcVersion": "3.3.2-r1"},
        ),
        (pypi("demo", "1.0-1"), {}),
    ],
    ids=["deb", "no-revision", "epoch", "rpm", "apk", "python"],
)
def test_source_is_split_as_trivy_wants_it(package: Package, facts: dict[str, str]) -> None:
    assert trivy_facts(package) == facts


def document(package: Package) -> SbomDocument:
    return SbomDocument(image="app", inventory=inventory(package), created_at=NOW, tool="t 1")


def test_spdx_says_it_in_the_sentence_that_trivy_reads() -> None:
    written = write_spdx(document(deb("libssl3", "3.0.11-1+b1", "openssl", "3.0.11-1")))
    packages = {p["name"]: p for p in json.loads(written)["packages"]}
    assert packages["libssl3"]["sourceInfo"] == "built package from: openssl 3.0.11-1"
    assert packages["debian"]["SPDXID"] == "SPDXRef-OperatingSystem"


@pytest.mark.parametrize(
    ("name", "identity"), [("alma", "almalinux"), ("redhat", "rhel"), ("debian", "debian")]
)
def test_distributions_are_known_by_the_name_that_trivy_gives_them(
    name: str, identity: str
) -> None:
    made = inventory(rpm("openssl", "3.0-1"), distribution=Distribution(id=name, version="9.4"))
    for write in (write_cyclonedx, write_spdx):
        data = write(replace(document(rpm("openssl", "3.0-1")), inventory=made))
        found = read_sbom(data, what="x").inventory.distribution
        assert found is not None
        assert found.id == identity

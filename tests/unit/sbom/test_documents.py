"""Both SBOM formats: valid against the official schemas, and nothing is lost on the way back."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema.protocols import Validator
from referencing import Registry, Resource

from ci_registry.errors import IntegrityError
from ci_registry.findings import (
    AdvisoryDatabase,
    Coverage,
    CoverageGap,
    Distribution,
    Gap,
    Inventory,
    Package,
    UnreadDatabase,
)
from ci_registry.sbom.cyclonedx import read_cyclonedx, write_cyclonedx
from ci_registry.sbom.document import SbomDocument
from ci_registry.sbom.facts import coverage_from_json, coverage_to_json
from ci_registry.sbom.purl import parse_purl
from ci_registry.sbom.reading import read_sbom
from ci_registry.sbom.spdx import read_spdx, write_spdx

SCHEMAS = Path(__file__).parents[2] / "schemas"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WRITERS = {"cyclonedx": write_cyclonedx, "spdx": write_spdx}
DIGEST = "sha256:" + "a" * 64

OPENSSL = Package(
    ecosystem="deb",
    name="libssl3",
    version="3.0.11-1~deb12u2",
    purl="pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12",
    source_name="openssl",
    source_version="3.0.11-1",
    architecture="amd64",
    layer="sha256:" + "1" * 64,
    path="var/lib/dpkg/status",
    from_base=True,
)
PIP_OF_DEBIAN = Package(
    ecosystem="pypi",
    name="pip",
    version="23.0.1",
    purl="pkg:pypi/pip@23.0.1",
    owner="python3-pip",
    path="usr/lib/python3/dist-packages/pip-23.0.1.dist-info/METADATA",
    from_base=False,
)
PYTHON3_PIP = Package(
    ecosystem="deb",
    name="python3-pip",
    version="23.0.1+dfsg-1",
    purl="pkg:deb/debian/python3-pip@23.0.1%2Bdfsg-1?arch=all&distro=debian-12",
    third_party=True,
)
SCOPED = Package(
    ecosystem="npm",
    name="@acme/web",
    version="1.0.0",
    purl="pkg:npm/%40acme/web@1.0.0",
    path="app/node_modules/@acme/web/package.json",
)
MODULE = Package(
    ecosystem="rpm",
    name="nodejs",
    version="1:18.20.2-1.module_el9",
    purl="pkg:rpm/almalinux/nodejs@18.20.2-1.module_el9?arch=x86_64&epoch=1&distro=almalinux-9.4",
    module="nodejs:18:9040020240419113512:rhel9",
)
INVENTORY = Inventory(
    platform="linux/amd64",
    manifest_digest=DIGEST,
    config_digest="sha256:" + "b" * 64,
    distribution=Distribution(id="debian", version="12", pretty_name="Debian GNU/Linux 12"),
    packages=(
        OPENSSL,
        PYTHON3_PIP,
        SCOPED,
        replace(SCOPED, path="srv/node_modules/@acme/web/package.json"),
        PIP_OF_DEBIAN,
        MODULE,
    ),
    unread=(UnreadDatabase(kind="maven", path="app/x.jar", reason="Java archive: damaged ü"),),
    files_count=12345,
)
COVERAGE = Coverage(
    platform="linux/amd64",
    manifest_digest=DIGEST,
    config_digest="sha256:" + "b" * 64,
    distribution=replace(INVENTORY.distribution, end_of_life=False),  # type: ignore[type-var]
    package_counts=INVENTORY.counts(),
    gaps=(
        CoverageGap(
            gap=Gap.UNREAD_DATABASE, detail="app/x.jar", ecosystem="maven", packages=("pkg:a/b",)
        ),
    ),
    databases=(
        AdvisoryDatabase(
            name="osv", location="db", built_at=NOW, digest=DIGEST, ecosystems=("Debian:12", "npm")
        ),
    ),
    skipped_count=1,
    lists=(AdvisoryDatabase(name="kev", location="db", built_at=NOW),),
    skipped=(("owned by a package of the operating system", 1),),
    with_data=("deb", "npm"),
    without_data=("maven",),
    scanner="osv 0.1.0",
    scanned_at=NOW,
)
DOCUMENT = SbomDocument(
    image="registry.example/acme/api",
    inventory=INVENTORY,
    created_at=NOW,
    tool="ci-registry 0.1.0",
    coverage=COVERAGE,
)


_HEAD = {"bomFormat": "CycloneDX", "metadata": {"timestamp": "2026-01-01T00:00:00Z"}}


@cache
def _validator(name: str) -> Validator:
    def load(file: str) -> dict[str, object]:
        document = json.loads((SCHEMAS / file).read_text())
        assert isinstance(document, dict)
        return document

    if name == "spdx":
        return jsonschema.Draft7Validator(load("spdx-2.3.json"))
    others = {
        "http://cyclonedx.org/schema/spdx.SNAPSHOT.schema.json": "cyclonedx-spdx.json",
        "http://cyclonedx.org/schema/jsf-0.82.SNAPSHOT.schema.json": "cyclonedx-jsf-0.82.json",
    }
    registry: Registry[Any] = Registry().with_resources(
        [(uri, Resource.from_contents(load(file))) for uri, file in others.items()]
    )
    return jsonschema.Draft7Validator(load("cyclonedx-1.6.json"), registry=registry)


def _sorted(document: SbomDocument) -> SbomDocument:
    key = sorted(
        document.inventory.packages,
        key=lambda p: (p.ecosystem, p.name, p.version, p.path, p.purl),
    )
    return replace(document, inventory=replace(document.inventory, packages=tuple(key)))


@pytest.mark.parametrize("kind", WRITERS)
def test_document_satisfies_the_official_schema(kind: str) -> None:
    _validator(kind).validate(json.loads(WRITERS[kind](DOCUMENT)))


@pytest.mark.parametrize("kind", WRITERS)
def test_schema_test_can_fail(kind: str) -> None:
    body = json.loads(WRITERS[kind](DOCUMENT))
    if kind == "spdx":
        del body["packages"][0]["downloadLocation"]
    else:
        body["components"][0]["type"] = "thing"
    with pytest.raises(jsonschema.ValidationError):
        _validator(kind).validate(body)


@pytest.mark.parametrize("kind", WRITERS)
def test_everything_survives_the_round_trip(kind: str) -> None:
    assert read_sbom(WRITERS[kind](DOCUMENT), what="sbom") == _sorted(DOCUMENT)


def test_coverage_record_of_an_earlier_version_says_less() -> None:
    written = coverage_to_json(COVERAGE)
    for name in ("lists", "skippedBecause", "withData", "withoutData", "scanner", "scannedAt"):
        del written[name]
    assert coverage_from_json(written, INVENTORY, "sbom") == replace(
        COVERAGE, lists=(), skipped=(), with_data=(), without_data=(), scanner="", scanned_at=None
    )


@pytest.mark.parametrize("kind", WRITERS)
def test_image_without_packages_or_distribution_survives(kind: str) -> None:
    empty = replace(
        DOCUMENT,
        coverage=None,
        inventory=replace(INVENTORY, packages=(), distribution=None, unread=()),
    )
    written = WRITERS[kind](empty)
    _validator(kind).validate(json.loads(written))
    assert read_sbom(written, what="sbom") == empty


@pytest.mark.parametrize("kind", WRITERS)
def test_same_document_gives_the_same_bytes(kind: str) -> None:
    assert WRITERS[kind](DOCUMENT) == WRITERS[kind](DOCUMENT)


def test_cyclonedx_says_which_os_package_brought_a_language_package() -> None:
    body = json.loads(write_cyclonedx(DOCUMENT))
    depends = {item["ref"]: item["dependsOn"] for item in body["dependencies"]}
    assert depends[PYTHON3_PIP.purl] == [PIP_OF_DEBIAN.purl]
    assert body["compositions"][0]["aggregate"] == "incomplete"


def test_spdx_says_which_os_package_brought_a_language_package() -> None:
    body = json.loads(write_spdx(DOCUMENT))
    ids = {p["name"]: p["SPDXID"] for p in body["packages"]}
    assert {
        "spdxElementId": ids["python3-pip"],
        "relationshipType": "CONTAINS",
        "relatedSpdxElement": ids["pip"],
    } in body["relationships"]


_text = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12
)


@given(st.lists(st.tuples(_text, _text, _text, st.booleans()), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_in_both_formats(rows: list[tuple[str, str, str, bool]]) -> None:
    packages = [
        Package(
            ecosystem="npm",
            name=name,
            version=version,
            purl=f"pkg:npm/x{number}@1",
            path=path,
            owner=name,
            third_party=flag,
        )
        for number, (name, version, path, flag) in enumerate(rows)
    ]
    document = _sorted(replace(DOCUMENT, inventory=replace(INVENTORY, packages=tuple(packages))))
    for write in WRITERS.values():
        assert read_sbom(write(document), what="sbom") == document


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5) | st.integers(),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "components",
                        "metadata",
                        "purl",
                        "packages",
                        "name",
                        "properties",
                        "annotations",
                    ]
                ),
                x,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_other_json_is_a_document_or_an_error(value: object) -> None:
    base = {
        "bomFormat": "CycloneDX",
        "spdxVersion": "SPDX-2.3",
        "metadata": {"timestamp": "2026-01-01T00:00:00Z"},
    }
    document = json.dumps(base | (value if isinstance(value, dict) else {"components": value}))
    for read in (read_cyclonedx, read_spdx):
        with suppress(IntegrityError):
            read(document.encode(), what="sbom")


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (b"{}", "neither CycloneDX nor SPDX"),
        (b'{"bomFormat": "CycloneDX"', "not valid JSON"),
        (b'{"bomFormat": "CycloneDX", "metadata": {"timestamp": "yesterday"}}', "is no time"),
        (
            b'{"bomFormat": "CycloneDX", "metadata": {"timestamp": "2026-01-01T00:00:00"}}',
            "time zone",
        ),
        (b'{"spdxVersion": "SPDX-3.0"}', "no SPDX 2.2 or 2.3"),
        (
            json.dumps({**_HEAD, "components": [{"name": "x", "purl": "npm/x"}]}).encode(),
            "no package URL",
        ),
    ],
)
def test_malformed_document_is_named(data: bytes, fragment: str) -> None:
    with pytest.raises(IntegrityError, match=fragment):
        read_sbom(data, what="x.json")


def test_unknown_gap_is_an_error_and_not_left_out() -> None:
    text = write_cyclonedx(DOCUMENT).decode().replace("unread-database", "brand-new-gap")
    with pytest.raises(IntegrityError, match="unknown gap 'brand-new-gap'"):
        read_cyclonedx(text.encode(), what="x.json")


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("pkg:npm/%40acme/web@1.0.0", "@acme/web", "1.0.0"),
        ("pkg:golang/github.com/a/b@v1.2.3#sub", "github.com/a/b", "v1.2.3"),
        ("pkg:maven/org.acme/core@1.0?type=jar", "org.acme:core", "1.0"),
        ("pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64", "libc6", "2.36-9+deb12u4"),
        ("pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1", "zlib1g", "1:1.2.13.dfsg-1"),
        ("pkg:npm/x", "x", ""),
    ],
)
def test_purl_gives_the_name_that_advisories_use(text: str, name: str, version: str) -> None:
    purl = parse_purl(text)
    assert (purl.package_name, purl.version) == (name, version)

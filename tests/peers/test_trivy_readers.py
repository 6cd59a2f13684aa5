"""Our readers of language packages list what the real trivy lists; every difference is written down here."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.trivy_report import parse_report
from tests.support.archives import classes, manifest, pom, zip_of
from tests.support.images import Files, ImageSpec, debian_layer, make_layout
from tests.support.trivy_cases import OPENSSL, inventory_of, make_database, scanner_for

pytestmark = pytest.mark.peer("trivy")

Names = frozenset[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Files of an image, and the packages (name, version) that only one of the two lists."""

    kind: str
    files: Files
    both: int
    """How many packages both list."""
    ours: Names = frozenset()
    theirs: Names = frozenset()
    unread: frozenset[str] = frozenset()
    """Paths that our inventory names as unread; trivy says nothing about them."""


LOG4J = pom("org.apache.logging.log4j", "log4j-core", "2.14.1") | classes("org/apache/logging")
NETTY = pom("io.netty", "netty-common", "4.1.1.Final") | classes("io/netty/util")
TOOL = pom("com.acme", "tool", "1.0") | classes("com/acme/tool")
SPRING = manifest(Implementation_Title="spring-core", Implementation_Version="5.3.20") | classes(
    "org/springframework/core"
)
PLUGIN = manifest(Group_Id="org.jenkins-ci.plugins", Short_Name="git", Plugin_Version="4.1")
UNFINISHED = "groupId=a.b\nartifactId=c\nversion=${project.version}\n"


def gemspec(name: str, version: str) -> str:
    return f'Gem::Specification.new do |s|\n  s.name = "{name}".freeze\n  s.version = "{version}"\nend\n'


def package_json(name: str, version: str) -> str:
    return json.dumps({"name": name, "version": version})


def deps(*libraries: tuple[str, str]) -> str:
    target: dict[str, object] = {name: {"runtime": {"a.dll": {}}} for name, _ in libraries}
    target["Build.Only/1.0.0"] = {}
    return json.dumps(
        {
            "runtimeTarget": {"name": "net8"},
            "targets": {"net8": target},
            "libraries": {
                name: {"type": kind} for name, kind in (*libraries, ("Build.Only/1.0.0", "package"))
            },
        }
    )


INSTALLED = [{"name": "monolog/monolog", "version": "1.11.0"}, {"name": "a/b", "version": "v2.0"}]
EGG = "usr/lib/python3.11/site-packages"
CONDA = {"name": "zlib", "version": "1.2.11", "build": "h_1", "depends": [], "license": "Zlib"}

CASES = {
    "java": Case(
        kind="maven",
        files={
            "app/log4j-core-2.14.1.jar": zip_of(LOG4J),
            "app/tool-1.0.jar": zip_of(LOG4J | NETTY | TOOL),
            "app/boot.jar": b"#!/bin/sh\n"
            + zip_of({"BOOT-INF/lib/netty-common-4.1.1.Final.jar": zip_of(NETTY)}, stored=True),
            "app/shop.ear": zip_of({"w.war": zip_of({"WEB-INF/lib/tool-1.0.jar": zip_of(TOOL)})}),
            "app/damaged.war": zip_of({"WEB-INF/lib/x-1.0.jar": b"no", "y-2.jar": zip_of(TOOL)}),
        },
        both=3,
        unread=frozenset({"app/damaged.war!/WEB-INF/lib/x-1.0.jar"}),
    ),
    "java without pom.properties": Case(
        kind="maven",
        files={
            "app/log4j-core-2.14.1.jar": zip_of(LOG4J),
            "app/spring-core-5.3.20.jar": zip_of(SPRING),
            "plugins/git.jpi": zip_of(PLUGIN | {"WEB-INF/lib/netty-common.jar": zip_of(NETTY)}),
            "app/nameless-1.0.jar": zip_of(classes("com/acme")),
            "app/broken.jar": "no zip archive",
            "app/c-1.jar": zip_of(
                classes("a/b") | {"META-INF/maven/a.b/c/pom.properties": UNFINISHED}
            ),
        },
        both=1,
        ours=frozenset(
            {
                ("org.springframework:spring-core", "5.3.20"),
                ("org.jenkins-ci.plugins:git", "4.1"),
                ("io.netty:netty-common", "4.1.1.Final"),
            }
        ),
        theirs=frozenset({("a.b:c", "${project.version}")}),
        unread=frozenset({"app/nameless-1.0.jar", "app/broken.jar", "app/c-1.jar"}),
    ),
    "gems": Case(
        kind="gem",
        files={
            "usr/local/lib/ruby/gems/3.3.0/specifications/default/json-2.7.1.gemspec": gemspec(
                "json", "2.7.1"
            ),
            "usr/local/bundle/specifications/rack-2.2.3.gemspec": gemspec("rack", "2.2.3"),
            "usr/local/bundle/gems/rack-2.2.3/rack.gemspec": gemspec("rack-source", "0"),
            "usr/local/bundle/specifications/odd-1.0.gemspec": "Gem::Specification.new { |s| }",
        },
        both=2,
        unread=frozenset({"usr/local/bundle/specifications/odd-1.0.gemspec"}),
    ),
    "composer": Case(
        kind="composer",
        files={
            "app/vendor/composer/installed.json": json.dumps(
                {"packages": INSTALLED, "dev": True, "dev-package-names": ["a/b"]}
            ),
            "old/vendor/composer/installed.json": json.dumps([{"name": "o/ld", "version": "1.0"}]),
        },
        both=2,
        ours=frozenset({("o/ld", "1.0")}),
    ),
    "dotnet": Case(
        kind="nuget",
        files={
            "app/app.deps.json": deps(
                ("App/1.0.0", "project"),
                ("Newtonsoft.Json/13.0.1", "package"),
                ("runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1", "runtimepack"),
            ),
            "app/packages.lock.json": json.dumps(
                {
                    "version": 1,
                    "dependencies": {
                        "net8": {"Wished.For": {"type": "Direct", "resolved": "1.0.0"}}
                    },
                }
            ),
        },
        both=3,
        theirs=frozenset({("Wished.For", "1.0.0")}),
    ),
    "python": Case(
        kind="pypi",
        files={
            f"{EGG}/zipped-1.0-py3.11.egg": zip_of(
                {"EGG-INFO/PKG-INFO": "Metadata-Version: 1.1\nName: zipped\nVersion: 1.0\n"}
            ),
            f"{EGG}/folder-1.0-py3.11.egg/EGG-INFO/PKG-INFO": "Name: folder\nVersion: 1.0\n",
            f"{EGG}/single-1.0.egg-info": "Name: single\nVersion: 1.0\n",
            f"{EGG}/info-1.0.egg-info/PKG-INFO": "Name: info\nVersion: 1.0\n",
            f"{EGG}/wheel-1.0.dist-info/METADATA": "Name: wheel\nVersion: 1.0\n",
            f"{EGG}/empty-1.0-py3.11.egg": zip_of({"x": ""}),
        },
        both=5,
        unread=frozenset({f"{EGG}/empty-1.0-py3.11.egg"}),
    ),
    "node": Case(
        kind="npm",
        files={
            "usr/local/lib/node_modules/npm/package.json": package_json("npm", "10.0.0"),
            "usr/local/lib/node_modules/npm/node_modules/tar/package.json": package_json(
                "tar", "6.1.0"
            ),
            "app/node_modules/.pnpm/ms@2.0.0/node_modules/ms/package.json": package_json(
                "ms", "2.0.0"
            ),
            "app/node_modules/ms->.pnpm/ms@2.0.0/node_modules/ms": None,
            "app/node_modules/@scope/left/package.json": package_json("@scope/left", "1.0.0"),
            "app/node_modules/left/cjs/package.json": '{"type": "commonjs"}',
            "app/node_modules/bad/package.json": "{",
            "opt/yarn-v1.22.22/package.json": package_json("yarn", "1.22.22"),
            "app/package.json": package_json("my-own-app", "1.0.0"),
        },
        both=5,
        theirs=frozenset({("my-own-app", "1.0.0")}),
        unread=frozenset({"app/node_modules/bad/package.json"}),
    ),
    "conda": Case(
        kind="conda",
        files={
            "opt/conda/envs/test/conda-meta/zlib-1.2.11-h_1.json": json.dumps(CONDA),
            "opt/conda/conda-meta/xz-5.0-h_1.json": json.dumps(CONDA | {"name": "xz"}),
        },
        both=1,
        ours=frozenset({("xz", "1.2.11")}),
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_readers_and_trivy_list_the_same_packages(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    made = make_layout(tmp_path / "layout", ImageSpec(layers=[debian_layer(OPENSSL), case.files]))
    (tmp_path / "work").mkdir()
    inventory = inventory_of(made)
    view = ImageView(layout=made.layout, inventory=inventory, work=tmp_path / "work")
    scanner_for(make_database(tmp_path / "database")).scan(view)
    report = parse_report((view.work / "report.json").read_bytes())
    ours = {(p.name, p.version) for p in inventory.packages if p.ecosystem == case.kind}
    theirs = {(p.name, p.version) for p in report.packages if p.ecosystem == case.kind}
    assert ours - theirs == case.ours
    assert theirs - ours == case.theirs
    assert len(ours & theirs) == case.both
    assert {record.path for record in inventory.unread} == case.unread
    shared = {p.purl for p in report.packages if (p.name, p.version) in ours}
    assert shared <= {p.purl.partition("?")[0] for p in inventory.packages}

"""Gems, Composer and .NET packages, conda records, zipped eggs and package managers of Node are read."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.errors import IntegrityError
from ci_registry.findings import Inventory
from ci_registry.inventory.composer import composer_names, read_composer
from ci_registry.inventory.conda import conda_names, read_conda
from ci_registry.inventory.dotnet import read_dotnet
from ci_registry.inventory.egg import sift_egg
from ci_registry.inventory.interest import interest_in
from ci_registry.inventory.reading import ImageFile, Reading, UnreadableError
from ci_registry.inventory.ruby import gem_head, read_ruby
from tests.support.archives import zip_of
from tests.support.images import Files, ImageSpec, debian_layer, make_layout
from tests.support.inspection import inspect_layout

RACK = """# -*- encoding: utf-8 -*-
# stub: rack 2.2.3 ruby lib

Gem::Specification.new do |s|
  s.name = "rack".freeze
  s.version = "2.2.3"

  s.required_rubygems_version = Gem::Requirement.new(">= 0".freeze) if s.respond_to? :x
  s.platform = "x86_64-linux".freeze
  s.name_of_nothing = "no"
end
"""


def file(content: str | bytes, path: str) -> ImageFile:
    raw = content.encode() if isinstance(content, str) else content
    return ImageFile(path=path, real=path, content=raw, layer=0, diff_id="d")


def purls(reading: Reading) -> list[str]:
    return [package.purl for package in reading.packages]


def inventory(tmp_path: Path, *layers: Files) -> Inventory:
    made = make_layout(tmp_path / "layout", ImageSpec(layers=layers))
    return inspect_layout(made.layout).platforms[0].inventory


def gem(text: str) -> Reading:
    return read_ruby([file(gem_head(text.encode()), "usr/lib/ruby/specifications/x-1.gemspec")])


def composer(value: object) -> Reading:
    names = composer_names(json.dumps(value).encode())
    return read_composer([file(names, "app/vendor/composer/installed.json")])


def dotnet(value: object) -> Reading:
    return read_dotnet([file(json.dumps(value), "app/app.deps.json")])


# --- Ruby


def test_a_gem_is_named_by_its_specification() -> None:
    found = gem(RACK)
    assert purls(found) == ["pkg:gem/rack@2.2.3"]
    assert found.packages[0].path == "usr/lib/ruby/specifications/x-1.gemspec"


@pytest.mark.parametrize(
    ("text", "purl"),
    [
        ("Gem::Specification.new do |spec|\nspec.name='a'\nspec.version = '1.0.pre'", "a@1.0.pre"),
        ("Gem::Specification.new 'x' do |s|\n s.name = %q\n s.name = 'b'\n s.version = '2'", "b@2"),
        ("Gem::Specification.new do |s|\ns.name='a'\ns.version = Gem::Version.new('3.1')", "a@3.1"),
        ('Gem::Specification.new { |s|\n  s.name = "a_b"\n  s.version = "4" }', "a_b@4"),
    ],
)  # fmt: skip
def test_every_way_to_write_a_specification_is_read(text: str, purl: str) -> None:
    assert purls(gem(text)) == [f"pkg:gem/{purl}"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s.name = 'a'\ns.version = '1'",
        "Gem::Specification.new do |s|\n s.name = 'a'\n s.version = VERSION",
        "Gem::Specification.new do |s|\n s.name = NAME\n s.version = '1'",
        "Gem::Specification.new do |s|\n s.name = '../a'\n s.version = '1'",
    ],
)
def test_a_computed_specification_is_named_as_unread(text: str) -> None:
    found = gem(text)
    assert found.packages == ()
    assert found.unread[0].reason.startswith("no plain ")


def test_default_gems_and_owned_gems_are_found(tmp_path: Path) -> None:
    folder = "usr/lib/ruby/gems/3.1.0/specifications"
    base = debian_layer(("ruby3.1", "3.1.2-7", "")) | {
        f"{folder}/default/rack-2.2.3.gemspec": RACK,
        "var/lib/dpkg/info/ruby3.1.list": f"/{folder}/default/rack-2.2.3.gemspec\n",
    }
    local = "usr/local/bundle/specifications/rack-2.2.3.gemspec"
    found = inventory(tmp_path, base, {local: RACK})
    assert [(p.path, p.owner) for p in found.packages if p.ecosystem == "gem"] == [
        (f"{folder}/default/rack-2.2.3.gemspec", "ruby3.1"),
        (local, ""),
    ]


# --- Composer

MONOLOG = {"name": "monolog/monolog", "version": "1.11.0", "description": "x" * 100}


@pytest.mark.parametrize(
    "value", [[MONOLOG], {"packages": [MONOLOG], "dev": True, "dev-package-names": []}]
)
def test_composer_one_and_two_are_read(value: object) -> None:
    assert purls(composer(value)) == ["pkg:composer/monolog/monolog@1.11.0"]


def test_packages_for_development_are_installed_too() -> None:
    value = {
        "packages": [MONOLOG, {"name": "phpunit/phpunit", "version": "v9.0.0"}],
        "dev-package-names": ["phpunit/phpunit"],
    }
    assert purls(composer(value))[1] == "pkg:composer/phpunit/phpunit@v9.0.0"


@pytest.mark.parametrize(
    "value",
    [
        [{"name": "a/b"}],
        [{"name": "ab", "version": "1"}],
        [{"name": "a/b", "version": "\u001b"}],
        [{"name": "a" * 40 + "!", "version": "1"}],
    ],
)
def test_a_malformed_composer_package_names_the_file(value: object) -> None:
    found = composer(value)
    assert (found.packages, len(found.unread)) == ((), 1)


@pytest.mark.parametrize("value", [{}, "x", [1], {"packages": {}}])
def test_what_is_no_list_of_composer_packages_is_refused(value: object) -> None:
    with pytest.raises(IntegrityError):
        composer(value)


# --- .NET

DEPS = {
    "runtimeTarget": {"name": ".NETCoreApp,Version=v8.0/linux-x64"},
    "targets": {
        ".NETCoreApp,Version=v8.0/linux-x64": {
            "App/1.0.0": {"runtime": {"App.dll": {}}},
            "Newtonsoft.Json/13.0.1": {"runtime": {"lib/Newtonsoft.Json.dll": {}}},
            "Build.Only/1.0.0": {"compile": {"x.dll": {}}, "runtime": {}},
            "runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1": {"runtime": {"a": {}}},
        }
    },
    "libraries": {
        "App/1.0.0": {"type": "project"},
        "Newtonsoft.Json/13.0.1": {"type": "package"},
        "Build.Only/1.0.0": {"type": "package"},
        "Not.In.Target/2.0.0": {"type": "Package"},
        "Some.Reference/3.0.0": {"type": "reference"},
        "runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1": {"type": "runtimepack"},
    },
}


def test_libraries_at_run_time_and_the_bundled_runtime_are_read() -> None:
    assert purls(dotnet(DEPS)) == [
        "pkg:nuget/App@1.0.0",
        "pkg:nuget/Newtonsoft.Json@13.0.1",
        "pkg:nuget/Not.In.Target@2.0.0",
        "pkg:nuget/Microsoft.NETCore.App.Runtime.linux-x64@8.0.1",
    ]


def test_without_a_target_every_library_counts() -> None:
    assert len(dotnet({"libraries": DEPS["libraries"]}).packages) == 5


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"libraries": []},
        {"libraries": {"a": {"type": "package"}}},
        {"libraries": {"../a/1 ": {"type": "package"}}},
        {"libraries": {"a/1": "package"}},
        {"libraries": {}, "targets": []},
        {"libraries": {}, "runtimeTarget": {"name": 1}},
    ],
)
def test_a_malformed_dependency_list_is_named(value: object) -> None:
    found = dotnet(value)
    assert (found.packages, len(found.unread)) == ((), 1)


# --- conda


def test_a_conda_record_is_read() -> None:
    record = {"name": "zlib", "version": "1.2.11", "build": "h9_1", "subdir": "linux-64"}
    names = conda_names(json.dumps(record | {"files": ["x"] * 1000}).encode())
    assert len(names) < 200
    found = read_conda([file(names, "opt/conda/conda-meta/zlib.json")])
    assert purls(found) == ["pkg:conda/zlib@1.2.11?build=h9_1&subdir=linux-64"]


@pytest.mark.parametrize("record", [{}, {"name": "a"}, {"name": "a b", "version": "1"}])
def test_a_malformed_conda_record_is_named(record: object) -> None:
    found = read_conda([file(conda_names(json.dumps(record).encode()), "conda-meta/a.json")])
    assert (found.packages, len(found.unread)) == ((), 1)


# --- Python eggs

EGG = "usr/lib/python3.11/site-packages/demo-1.0-py3.11.egg"
PKG_INFO = "Metadata-Version: 1.1\nName: demo\nVersion: 1.0\n\nlong\n"


def test_a_zipped_egg_is_read(tmp_path: Path) -> None:
    egg = zip_of({"demo/__init__.py": "", "EGG-INFO/PKG-INFO": PKG_INFO})
    (package,) = inventory(tmp_path, {EGG: egg}).packages
    assert (package.purl, package.path) == ("pkg:pypi/demo@1.0", EGG)


def test_an_unpacked_egg_and_its_info_are_read(tmp_path: Path) -> None:
    found = inventory(
        tmp_path,
        {
            f"{EGG}/EGG-INFO/PKG-INFO": PKG_INFO,
            "opt/a.egg-info/PKG-INFO": "Name: a\nVersion: 1\n",
            "opt/b-2.egg-info": "Name: b\nVersion: 2\n",
        },
    )
    assert [p.purl for p in found.packages] == [
        "pkg:pypi/a@1",
        "pkg:pypi/b@2",
        "pkg:pypi/demo@1.0",
    ]


@pytest.mark.parametrize("egg", [zip_of({"x": ""}), zip_of({"EGG-INFO/PKG-INFO": "Name: x\n"})])
def test_an_egg_without_metadata_is_named(tmp_path: Path, egg: bytes) -> None:
    assert [u.kind for u in inventory(tmp_path, {EGG: egg}).unread] == ["pypi"]


# --- Node package managers


def package_json(name: str, version: str) -> str:
    return json.dumps({"name": name, "version": version})


@pytest.mark.parametrize(
    "path",
    [
        "usr/local/lib/node_modules/npm/package.json",
        "usr/local/lib/node_modules/npm/node_modules/tar/package.json",
        "app/node_modules/.pnpm/tar@6.0.0/node_modules/tar/package.json",
        "app/node_modules/@scope/tar/package.json",
        "opt/yarn-v1.22.22/package.json",
        "root/.cache/node/corepack/v1/pnpm/8.6.0/package.json",
        "root/.cache/node/corepack/yarn/1.22.19/package.json",
    ],
)
def test_packages_in_the_tree_of_package_managers_are_found(tmp_path: Path, path: str) -> None:
    (package,) = inventory(tmp_path, {path: package_json("tar", "6.0.0")}).packages
    assert (package.name, package.version, package.path) == ("tar", "6.0.0", path)


@pytest.mark.parametrize("path", ["app/package.json", "opt/yarn-v1/lib/package.json"])
def test_a_manifest_of_an_application_is_no_package(path: str) -> None:
    assert interest_in(path) is None


def test_a_pnpm_package_behind_its_link_counts_once(tmp_path: Path) -> None:
    real = "app/node_modules/.pnpm/tar@6.0.0/node_modules/tar"
    found = inventory(
        tmp_path,
        {
            f"{real}/package.json": package_json("tar", "6.0.0"),
            "app/node_modules/tar->.pnpm/tar@6.0.0/node_modules/tar": None,
        },
    )
    assert [p.path for p in found.packages] == [f"{real}/package.json"]


def test_npm_that_came_with_the_distribution_belongs_to_it(tmp_path: Path) -> None:
    path = "usr/share/nodejs/npm/node_modules/tar/package.json"
    base = debian_layer(("npm", "9.2.0~ds1-1", "")) | {
        path: package_json("tar", "6.0.0"),
        "var/lib/dpkg/info/npm.list": f"/{path}\n",
    }
    assert [(p.name, p.owner) for p in inventory(tmp_path, base).packages] == [
        ("npm", ""),
        ("tar", "npm"),
    ]


# --- anything


def _readings(data: bytes) -> Sequence[Reading]:
    return (
        read_ruby([file(gem_head(data), "a.gemspec")]),
        read_dotnet([file(data, "a.deps.json")]),
        read_composer([file(data, "installed.json")]),
        read_conda([file(data, "a.json")]),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("name", "version", "libraries", "targets", "runtimeTarget", "packages")
            )
            | st.text(max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
def test_any_content_is_a_reading_or_an_unread_file(data: bytes) -> None:
    for reading in _readings(data):
        assert len(reading.packages) + len(reading.unread) < 100
    for condense in (composer_names, conda_names):
        try:
            condense(data)
        except IntegrityError:
            continue
    with pytest.raises(UnreadableError):
        sift_egg(iter((data,)), len(data))


def test_a_hostile_specification_takes_no_time() -> None:
    start = "Gem::Specification.new do |s|\n"
    for text in ("\n" * 60_000, "s.name" * 10_000, " " * 60_000, "s.name = " * 7000, "|" * 60_000):
        assert gem(start + text).packages == ()
    names = "a." * 100_000
    assert composer([{"name": f"{names}/{names}!", "version": "1"}]).packages == ()

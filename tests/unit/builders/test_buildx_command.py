"""The exact command line of `docker buildx build`."""

from pathlib import Path
from typing import Any

import pytest

from ci_registry.builders.buildx_command import (
    build_command,
    create_arguments,
    engine_output,
    fields,
    oci_output,
    wants_fixed_times,
)
from ci_registry.builders.context_link import LinkedContext
from ci_registry.builders.interface import BuildRequest, BuildSecret, CacheReferences
from ci_registry.oci.platform import Platform
from ci_registry.secret import Secret

LINKED = LinkedContext(
    context=Path("/w/context/abc"), dockerfile=Path("/w/dockerfile/abc/Dockerfile")
)


def request(**more: Any) -> BuildRequest:
    values: dict[str, Any] = {
        "image": "api",
        "context": Path("/src"),
        "dockerfile": Path("/src/Dockerfile"),
        "layout": Path("/w/layout"),
        "work": Path("/w"),
    }
    return BuildRequest(**(values | more))


def arguments(asked: BuildRequest, **more: Any) -> tuple[str, ...]:
    output = oci_output(asked.layout, fixed_times=more.get("fixed_times", False))
    return build_command(asked, LINKED, output=output, metadata=Path("/w/m.json"), **more).arguments


def test_smallest_build_says_everything_that_decides_the_result() -> None:
    assert arguments(request()) == (
        *("buildx", "build", "--progress", "rawjson", "--provenance=false", "--sbom=false"),
        *("--platform", "linux/amd64"),
        "--output",
        "type=oci,dest=/w/layout,tar=false,oci-mediatypes=true",
        *("--metadata-file", "/w/m.json", "--file", "/w/dockerfile/abc/Dockerfile"),
        "/w/context/abc",
    )


def test_largest_build_has_every_option_in_a_fixed_order() -> None:
    asked = request(
        target="runtime",
        platforms=(Platform("linux", "amd64"), Platform("linux", "arm", "v7")),
        build_args={"B": "2", "A": "1=x"},
        labels={"org.x": "y z"},
        secrets=(
            BuildSecret(id="tok", value=Secret("hunter22")),
            BuildSecret(id="npmrc", file=Path("/home/me/a,b")),
        ),
        cache=CacheReferences(
            imports=("127.0.0.1:5000/c:main", "plain.example/c:pr"),
            export="ghcr.io/a/c:main",
            export_mode="min",
        ),
        plain_http=("plain.example",),
        pull=True,
        network="host",
        source_date_epoch=17,
    )
    found = arguments(asked, builder="mine", fixed_times=True)
    assert found[found.index("--sbom=false") + 1 :] == (
        *("--builder", "mine", "--platform", "linux/amd64,linux/arm/v7"),
        "--output",
        "type=oci,dest=/w/layout,tar=false,oci-mediatypes=true,rewrite-timestamp=true",
        *("--metadata-file", "/w/m.json", "--file", "/w/dockerfile/abc/Dockerfile"),
        *("--target", "runtime", "--pull", "--network", "host", "--allow", "network.host"),
        *("--build-arg", "A=1=x", "--build-arg", "B=2", "--build-arg", "SOURCE_DATE_EPOCH=17"),
        *("--label", "org.x=y z"),
        *("--secret", "id=tok,env=CIREG_SECRET_0", "--secret", 'id=npmrc,"src=/home/me/a,b"'),
        *("--cache-from", "type=registry,ref=127.0.0.1:5000/c:main"),
        *("--cache-from", "type=registry,ref=plain.example/c:pr,registry.insecure=true"),
        "--cache-to",
        "type=registry,ref=ghcr.io/a/c:main,mode=min,image-manifest=true,oci-mediatypes=true,ignore-error=true",
        "/w/context/abc",
    )


def test_secret_values_are_in_the_environment_only() -> None:
    asked = request(secrets=(BuildSecret(id="tok", value=Secret("hunter22")),))
    command = build_command(asked, LINKED, output="x", metadata=Path("/m"))
    assert command.secret_env == {"CIREG_SECRET_0": "hunter22"}
    assert "hunter22" not in " ".join(command.arguments)


def test_no_cache_reads_none_but_may_write_one() -> None:
    cache = CacheReferences(imports=("r.example/c:1",), export="r.example/c:1")
    found = arguments(request(no_cache=True, cache=cache))
    assert "--no-cache" in found
    assert "--cache-from" not in found
    assert "--cache-to" in found


def test_time_given_as_a_build_argument_wins() -> None:
    asked = request(build_args={"SOURCE_DATE_EPOCH": "5"}, source_date_epoch=17)
    found = arguments(asked, fixed_times=True)
    assert [a for a in found if a.startswith("SOURCE_DATE")] == ["SOURCE_DATE_EPOCH=5"]


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (("type=oci", "dest=/a b"), "type=oci,dest=/a b"),
        (("dest=/a,b", "x=1"), '"dest=/a,b",x=1'),
        (('dest=/a"b',), '"dest=/a""b"'),
    ],
)
def test_fields_are_quoted_as_csv(parts: tuple[str, ...], line: str) -> None:
    assert fields(*parts) == line


def test_engine_output_names_the_image() -> None:
    assert engine_output("x:build") == "type=docker,name=x:build"


def test_private_builder_shares_the_network_only_for_a_loopback_cache(tmp_path: Path) -> None:
    image = "moby/buildkit@sha256:" + "0" * 64
    remote = request(work=tmp_path, cache=CacheReferences(export="ghcr.io/a/c:main"))
    assert "network=host" not in create_arguments(remote, "b", image)
    local = request(work=tmp_path, cache=CacheReferences(imports=("127.0.0.1:5000/c:1",)))
    assert "network=host" in create_arguments(local, "b", image)


def test_private_builder_gets_plain_hosts_by_name(tmp_path: Path) -> None:
    asked = request(work=tmp_path, plain_http=("plain.example:5000",))
    found = create_arguments(asked, "b", "i@sha256:1")
    path = Path(found[found.index("--buildkitd-config") + 1])
    assert path.read_text() == '[registry."plain.example:5000"]\n  http = true\n'


@pytest.mark.parametrize(
    ("more", "dockerfile", "fixed"),
    [
        ({}, "FROM scratch\nCOPY a /\n", False),
        ({"no_cache": True}, "FROM scratch\n", True),
        ({"build_args": {"SOURCE_DATE_EPOCH": "5"}}, "FROM scratch\n", True),
        ({"build_args": {"OTHER": "5"}}, "FROM scratch\n", False),
        ({}, "FROM scratch\nARG SOURCE_DATE_EPOCH\n", True),
    ],
)
def test_layers_get_the_time_of_the_commit_only_where_it_is_asked_for(
    more: dict[str, Any], dockerfile: str, fixed: bool
) -> None:
    assert wants_fixed_times(request(**more), dockerfile) is fixed

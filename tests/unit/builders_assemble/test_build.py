"""The embedded builder writes the image that the Dockerfile describes, or says at which line it can't."""

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ci_registry.builders.assemble import Assemble
from ci_registry.builders.checks import check_layout
from ci_registry.cancel import Cancel
from ci_registry.errors import BuildError, CancelledError, ExitCode, SetupError, ToolError
from ci_registry.oci import media_types
from ci_registry.oci.manifest import Index, Manifest
from ci_registry.oci.platform import Platform
from ci_registry.registry.layout import Layout
from tests.support.assembling import AMD64, ARM64, BASE_CONFIG, Lab, file, make_base, tar
from tests.support.images import ImageSpec, make_layout


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, {"base": make_base(tmp_path / "base")})


# --- what it refuses


@pytest.mark.parametrize(
    ("dockerfile", "line", "reason"),
    [
        ("FROM scratch\n\nRUN make\n", 3, "it runs a program: RUN make"),
        ("FROM base AS b\nRUN x\nFROM scratch\nCOPY --from=b /a /a\n", 2, "RUN x"),
        ("FROM scratch\nADD https://x.example/a /a\n", 2, "ADD of a remote file"),
        ("FROM scratch\nADD git@x.example:a/b.git /a\n", 2, "ADD of a remote file"),
        ("FROM scratch\nCOPY --parents a/b /a\n", 2, "COPY --parents"),
        ("FROM scratch\nCOPY --chmod=u+x a /a\n", 2, "symbolic COPY --chmod=u+x"),
        ("# syntax=acme/frontend\nFROM scratch\n", 1, "a frontend of its own"),
        ("FROM scratch AS p\nONBUILD RUN x\nFROM p\n", 2, "RUN x"),
    ],
)
def test_what_needs_another_builder_is_refused_before_anything_is_written(
    dockerfile: str, line: int, reason: str, lab: Lab
) -> None:
    request = lab.request(dockerfile, {"a": ""})
    probe = lab.builder.probe(request)
    assert not probe.usable
    assert probe.reason.startswith(f"Dockerfile:{line}: ")
    assert reason in probe.reason
    with pytest.raises(SetupError) as caught:
        lab.builder.build(request)
    assert (caught.value.line, caught.value.exit_code) == (line, ExitCode.CONFIG)
    assert not request.layout.exists()
    assert lab.opened == []


def test_run_in_a_stage_that_is_not_needed_does_not_matter(lab: Lab) -> None:
    dockerfile = "FROM base AS test\nRUN x\nFROM scratch\nCOPY a /a\n"
    assert lab.builder.probe(lab.request(dockerfile)).usable
    assert list(lab.build(dockerfile, {"a": "A"}).image.files) == ["a"]
    assert lab.opened == []


def test_run_behind_onbuild_of_a_base_image_names_the_from_line(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", OnBuild=["RUN make"])
    request = Lab(tmp_path, {"base": base}).request("\nFROM base\n")
    with pytest.raises(SetupError, match="ONBUILD of base: it runs a program") as caught:
        Lab(tmp_path, {"base": base}).builder.build(request)
    assert caught.value.line == 2


def test_missing_dockerfile_and_bad_syntax_make_the_probe_unusable(lab: Lab) -> None:
    request = lab.request("FROM scratch\nCOYP a b\n")
    assert "Dockerfile:2: unknown instruction" in lab.builder.probe(request).reason
    request.dockerfile.unlink()
    assert "no Dockerfile" in lab.builder.probe(request).reason


@pytest.mark.parametrize(
    ("dockerfile", "message", "line"),
    [
        ("FROM scratch\nCOPY a /a\nCOPY missing /b\n", "/missing does not exist", 3),
        ("FROM scratch\nCOPY ../../../etc/passwd /b\n", "/etc/passwd does not exist", 2),
        ("FROM scratch\nCOPY out /b\n", "/out does not exist", 2),
        ("FROM scratch\nCOPY up /b\n", "/up does not exist", 2),
        ("FROM scratch\nCOPY loop /b\n", "too many links", 2),
        ("FROM scratch\nCOPY a /a\nCOPY a /a/b\n", "/a is not a directory", 3),
        ("FROM scratch\nCOPY a /x/\nCOPY d /x/a\n", "is not a directory", 3),
        ("FROM scratch\nCOPY d /e\nCOPY g /e\n", "cannot replace the directory /e/f", 3),
        ("FROM base\nCOPY e /\n", "cannot copy a directory to /bin", 2),
        ("FROM scratch\nCOPY a d /b\n", "2 sources need a folder", 2),
        ("FROM scratch\nCOPY [x /b\n", "malformed pattern", 2),
        ("FROM scratch\nCOPY --chmod=999 a /b\n", "no octal mode", 2),
        ("FROM scratch\nCOPY --chmod=70000 a /b\n", "no octal mode", 2),
        ("FROM scratch\nARG m=u+x\nCOPY --chmod=$m a /b\n", "symbolic modes", 3),
        ("FROM scratch\nCOPY --chown=app a /b\n", "has no /etc/passwd", 2),
        ("FROM base\nCOPY --chown=nobody a /b\n", "'nobody' is unknown", 2),
        ("FROM base\nCOPY --chown=app:none a /b\n", "'none' is unknown", 2),
        ("FROM base\nCOPY --link a /bin/x\n", "--link to /bin/x", 2),
        ("FROM base\nWORKDIR /etc/passwd\n", "/etc/passwd is not a directory", 2),
        ("FROM scratch\nENV a=${b:?unset}\n", "b: unset", 2),
        ("FROM scratch\nEXPOSE 70000\n", "invalid port", 2),
        ("FROM scratch\nEXPOSE 80/icmp\n", "invalid port", 2),
        ("FROM scratch\nSTOPSIGNAL NOPE\n", "unknown signal", 2),
        ("FROM scratch\nHEALTHCHECK --interval=soon CMD x\n", "no duration", 2),
        ("FROM scratch\nARG u=https://x.example/a\nADD $u /a\n", "remote file", 3),
        ("FROM --platform=linux/arm64 base\n", "would hold files of linux/arm64", 1),
        ("FROM --platform=linux/s390x base\n", "has no linux/s390x", 1),
    ],
)
def test_errors_of_the_author_name_the_line(
    dockerfile: str, message: str, line: int, lab: Lab
) -> None:
    files: dict[str, str | bytes | None] = {
        "a": "A",
        "d/f/x": "F",
        "g/f": "no folder",
        "e/bin/x": "X",
        "out->/etc/hostname-of-the-host": None,
        "up->../../../../../../etc/hostname": None,
        "loop->loop": None,
    }
    with pytest.raises(BuildError, match=message) as caught:
        lab.build(dockerfile, files)
    assert (caught.value.file, caught.value.line) == ("Dockerfile", line)


def test_links_out_of_the_context_are_clamped_at_its_root(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    image = lab.build(
        "FROM scratch\nCOPY l /a\nCOPY m/n /b\n",
        {"l->../../../../secret": None, "secret": "mine", "m->/": None, "n": "N"},
    ).image
    assert (image.files["a"].content, image.files["b"].content) == ("mine", "N")


def test_links_inside_a_copied_folder_stay_links_wherever_they_point(lab: Lab) -> None:
    image = lab.build(
        "FROM scratch\nCOPY d /d\n", {"d/l->/etc/shadow": None, "d/m->../..": None}
    ).image
    assert (image.files["d/l"].link, image.files["d/m"].link) == ("/etc/shadow", "../..")


# --- bases


def test_entry_never_goes_through_a_link_of_the_base(lab: Lab) -> None:
    image = lab.build("FROM base\nCOPY bb /bin/bb\n", {"bb": "BB"}).image
    assert image.files["bin"].link == "usr/bin"
    assert image.files["usr/bin/bb"].content == "BB"
    assert [m.name for m in image.layers[-1]] == ["usr", "usr/bin", "usr/bin/bb"]
    assert image.layers[-1][1].mode == 0o775  # as in the base


def test_base_layers_are_kept_byte_for_byte_and_only_needed_ones(lab: Lab) -> None:
    built = lab.build("FROM base\nCOPY --from=base /hidden/y /y\n")
    source = lab.bases["base"]
    index = source.fetch(source.root().digest)
    assert isinstance(index, Index)
    base = source.fetch(index.manifests[0].digest)
    assert isinstance(base, Manifest)
    ours = [layer["digest"] for layer in built.image.manifest["layers"]]
    assert ours[:-1] == [layer.digest for layer in base.layers]
    blobs = {p.name for p in (built.layout / "blobs" / "sha256").iterdir()}
    manifest = built.image.manifest
    named = {d["digest"] for d in [manifest["config"], *manifest["layers"]]}
    assert len(blobs) == len(named) + 1


def test_layers_of_an_image_that_only_gives_files_are_not_in_the_layout(lab: Lab) -> None:
    built = lab.build("FROM scratch\nCOPY --from=base /usr/lib/old /x\n")
    assert built.image.files["x"].content == "new"
    assert len(list((built.layout / "blobs" / "sha256").iterdir())) == 3


def test_settings_alone_need_no_file_of_the_base(lab: Lab) -> None:
    built = lab.build("FROM base\nENV a=b\nLABEL c=d\n")
    assert len(built.image.layers) == 2
    assert built.image.config["config"]["Labels"] == {"base": "1", "c": "d"}


def test_docker_media_types_become_oci(tmp_path: Path) -> None:
    layout = tmp_path / "docker"
    made = make_layout(layout, ImageSpec(layers=[{"a": "A"}]))
    body = (
        Layout(layout)
        .fetch(made.digest)
        .body.replace(media_types.OCI_MANIFEST.encode(), media_types.DOCKER_MANIFEST.encode())
    )
    body = body.replace(media_types.OCI_LAYER_GZIP.encode(), media_types.DOCKER_LAYER_GZIP.encode())
    body = body.replace(media_types.OCI_CONFIG.encode(), media_types.DOCKER_CONFIG.encode())
    base = Layout(layout)
    base.set_root(base.write_manifest(body, media_types.DOCKER_MANIFEST))
    manifest = Lab(tmp_path, {"base": base}).build("FROM base\n").image.manifest
    assert manifest["mediaType"] == media_types.OCI_MANIFEST
    assert manifest["config"]["mediaType"] == media_types.OCI_CONFIG
    assert [layer["mediaType"] for layer in manifest["layers"]] == [media_types.OCI_LAYER_GZIP]


def test_zstd_layers_stay_zstd(tmp_path: Path) -> None:
    make_layout(tmp_path / "z", ImageSpec(layers=[{"a": "A"}], compression="zstd"))
    lab = Lab(tmp_path, {"base": Layout(tmp_path / "z")})
    image = lab.build("FROM base\nCOPY --from=base /a /b\n").image
    assert image.manifest["layers"][0]["mediaType"] == media_types.OCI_LAYER_ZSTD
    assert image.files["b"].content == "A"


def test_base_that_is_for_another_platform_than_asked_is_refused(tmp_path: Path) -> None:
    make_layout(tmp_path / "one", ImageSpec(layers=[{"a": "A"}], architecture="amd64"))
    lab = Lab(tmp_path, {"base": Layout(tmp_path / "one")})
    with pytest.raises(BuildError, match="is for linux/amd64, not linux/arm64"):
        lab.build("FROM base\n", platforms=(ARM64,))


def test_config_without_variant_serves_the_variant_of_its_index_entry(tmp_path: Path) -> None:
    make_layout(tmp_path / "arm", ImageSpec(layers=[{"a": "A"}], architecture="arm"))
    lab = Lab(tmp_path, {"base": Layout(tmp_path / "arm")})
    built = lab.build("FROM base\n", platforms=(Platform("linux", "arm", "v6"),))
    check_layout(built.layout, (Platform("linux", "arm", "v6"),), tool="assemble")


def test_absent_base_is_a_setup_error_at_its_line(lab: Lab) -> None:
    with pytest.raises(SetupError, match="base image nope does not exist") as caught:
        lab.build("FROM scratch\nCOPY --from=nope /a /a\n")
    assert caught.value.line == 2


def test_damaged_base_layer_is_a_tool_error(tmp_path: Path) -> None:
    made = make_layout(tmp_path / "bad", ImageSpec(layers=[{"a": "A"}]))
    base = Layout(tmp_path / "bad")
    digest = base.fetch(made.digest).layers[0].digest  # type: ignore[union-attr]
    base.blob_path(digest).write_bytes(b"x" * base.blob_path(digest).stat().st_size)
    with pytest.raises(ToolError, match="base image base"):
        Lab(tmp_path, {"base": base}).build("FROM base\nWORKDIR /x\n")


def test_layer_with_another_diff_id_than_the_config_says_is_refused(tmp_path: Path) -> None:
    make_layout(tmp_path / "base", ImageSpec(layers=[{"a": "A"}]))
    made = Layout(tmp_path / "base")
    manifest = made.fetch(made.root().digest)
    config = json.loads(b"".join(made.open(manifest.config.digest)))  # type: ignore[union-attr]
    config["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]
    written = made.write_blob((json.dumps(config).encode(),), media_types.OCI_CONFIG)
    document = json.loads(manifest.body) | {"config": written.to_json()}
    made.set_root(made.write_manifest(json.dumps(document).encode(), media_types.OCI_MANIFEST))
    with pytest.raises(ToolError, match="has diff id"):
        Lab(tmp_path, {"base": made}).build("FROM base\nWORKDIR /x\n")


def test_onbuild_triggers_of_a_base_image_run_first_and_are_gone_afterwards(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", OnBuild=["COPY a /triggered", "ENV T=1"])
    image = Lab(tmp_path, {"base": base}).build("FROM base\nENV U=$T\n", {"a": "A"}).image
    assert image.files["triggered"].content == "A"
    assert "U=1" in image.config["config"]["Env"]
    assert "OnBuild" not in image.config["config"]


def test_materials_name_the_index_that_was_used(lab: Lab) -> None:
    outcome = lab.build("FROM base\nCOPY --from=base /hidden/y /y\n").outcome
    assert outcome.materials == (("base", str(lab.bases["base"].root().digest)),)


# --- platforms, determinism, history


def test_every_platform_is_built_from_its_own_base_and_listed_in_an_index(lab: Lab) -> None:
    built = lab.build(
        "FROM base\nARG TARGETARCH\nCOPY f-$TARGETARCH /f\nENV A=$TARGETARCH\n",
        {"f-amd64": "1", "f-arm64": "2"},
        platforms=(AMD64, ARM64),
    )
    check_layout(built.layout, (AMD64, ARM64), tool="assemble")
    assert {p: i.files["f"].content for p, i in built.images.items()} == {
        "linux/amd64": "1",
        "linux/arm64": "2",
    }
    assert Layout(built.layout).root().media_type == media_types.OCI_INDEX


def test_same_input_gives_the_same_digest_wherever_and_whenever(lab: Lab) -> None:
    dockerfile = "FROM base\nCOPY . /x/\nADD t.tar /y/\nWORKDIR /w\n"
    files: dict[str, str | bytes | None] = {"b": "B", "a/c": "C", "t.tar": tar([file("f", "F")])}
    first = lab.request(dockerfile, files)
    second = lab.request(dockerfile, dict(reversed(files.items())))
    for path in second.context.rglob("*"):
        os.utime(path, (1, 1))
    digests = {Layout(lab.run(r).layout).root().digest for r in (first, second)}
    assert len(digests) == 1


def test_times_owners_and_names_are_fixed(lab: Lab) -> None:
    built = lab.build("FROM scratch\nCOPY a /a\n", {"a": "A"}, source_date_epoch=1_700_000_000)
    (member,) = built.image.layers[0]
    assert (member.mtime, member.uid, member.gid) == (1_700_000_000, 0, 0)
    assert (member.uname, member.gname) == ("", "")
    assert built.image.config["created"] == "2023-11-14T22:13:20Z"
    digest = built.image.manifest["layers"][0]["digest"].partition(":")[2]
    assert (built.layout / "blobs" / "sha256" / digest).read_bytes()[4:8] == b"\0\0\0\0"


def test_history_has_one_entry_an_instruction_and_marks_those_without_layer(lab: Lab) -> None:
    image = lab.build(
        "FROM scratch\nENV a=b\nWORKDIR /w\nWORKDIR /w\nCOPY *.none /\nCOPY a /\n", {"a": "A"}
    ).image
    assert [(e["created_by"], e.get("empty_layer", False)) for e in image.config["history"]] == [
        ("ENV a=b", True),
        ("WORKDIR /w", False),
        ("WORKDIR /w", True),
        ("COPY *.none /", True),
        ("COPY a /", False),
    ]


def test_history_agrees_with_the_layers_when_the_base_has_none(lab: Lab) -> None:
    image = lab.build("FROM base\nCOPY a /\n", {"a": "A"}).image
    filled = [e for e in image.config["history"] if not e.get("empty_layer")]
    assert len(filled) == len(image.manifest["layers"]) == 3


# --- arguments, labels, warnings, ends


def test_build_arguments_beat_defaults_but_only_where_declared(lab: Lab) -> None:
    dockerfile = """\
ARG G=global
FROM scratch
ENV BEFORE=x$A
ARG A=default
ARG G
ARG N
ENV A_=$A G_=$G N_=${N:-none}
"""
    env = lab.build(dockerfile, build_args={"A": "given"}).image.config["config"]["Env"]
    assert env[1:] == ["BEFORE=x", "A_=given", "G_=global", "N_=none"]


def test_argument_values_are_not_in_the_image(lab: Lab) -> None:
    built = lab.build(
        "FROM scratch\nARG TOKEN\nCOPY a /\n", {"a": ""}, build_args={"TOKEN": "hunter2"}
    )
    assert "hunter2" not in json.dumps(built.image.config)


def test_unused_build_argument_and_empty_wildcard_are_warned_about(lab: Lab) -> None:
    built = lab.build(
        "FROM scratch\nCOPY *.none /x/\n", build_args={"NOPE": "1", "http_proxy": "x"}
    )
    assert built.outcome.warnings == (
        "Dockerfile:2: *.none matches nothing",
        "Dockerfile: build argument NOPE is declared by no ARG that is reached",
    )


def test_labels_of_the_request_win_over_the_dockerfile(lab: Lab) -> None:
    built = lab.build("FROM scratch\nLABEL a=1 b=2\n", labels={"b": "3", "c": "4"})
    assert built.image.config["config"]["Labels"] == {"a": "1", "b": "3", "c": "4"}


def test_target_stage_is_built(lab: Lab) -> None:
    dockerfile = "FROM scratch AS one\nCOPY a /\nFROM one\nCOPY b /\n"
    built = lab.build(dockerfile, {"a": "", "b": ""}, target="one")
    assert list(built.image.files) == ["a"]


def test_ignored_files_are_not_there_to_copy(lab: Lab) -> None:
    files = {".dockerignore": "*\n!keep/me\n", "keep/me": "1", "keep/not": "2", "x": "3"}
    image = lab.build("FROM scratch\nCOPY . /\n", files).image
    assert sorted(image.files) == ["keep", "keep/me"]
    with pytest.raises(BuildError, match="/x does not exist"):
        lab.build("FROM scratch\nCOPY x /\n", files)


def test_files_with_two_names_stay_one_file(lab: Lab) -> None:
    request = lab.request(
        "FROM scratch\nCOPY . /\n", {"a": "A" * 100, ".dockerignore": "D*\n.d*\n"}
    )
    (request.context / "b").hardlink_to(request.context / "a")
    image = lab.run(request).image
    assert [(m.name, m.islnk()) for m in image.layers[0]] == [("a", False), ("b", True)]


def test_cancelled_build_stops(lab: Lab) -> None:
    cancel = Cancel()
    cancel.set("test")
    builder = Assemble(open_base=lab.open_base, cancel=cancel)
    with pytest.raises(CancelledError):
        builder.build(lab.request("FROM scratch\nCOPY a /a\n", {"a": "A"}))


def test_build_that_takes_too_long_is_a_tool_error(lab: Lab) -> None:
    request = lab.request("FROM scratch\nCOPY a /a\n", {"a": "A"})
    with pytest.raises(ToolError, match="took longer"):
        lab.builder.build(replace(request, timeout=timedelta(seconds=-1)))


def test_base_config_fields_of_old_engines_are_dropped(lab: Lab) -> None:
    image = lab.build("FROM base\n").image
    assert set(image.config["config"]) == {*BASE_CONFIG}
    assert "container_config" not in image.config

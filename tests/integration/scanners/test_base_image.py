"""Whose package is it: the base image's or the image's own; and what a rebuild on a newer base would fix."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.advisories import record, write_osv_folder
from tests.support.cli import Project, make_project, signing_environment
from tests.support.images import ImageSpec, debian_layer, dpkg_status, make_layout, put_blob
from tests.support.registry import RunningRegistry, running_registry

BASE_NAME, BASE_DIGEST = (f"org.opencontainers.image.base.{word}" for word in ("name", "digest"))
LOW = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]
OLD = (("libold", "1", ""), ("zlib1g", "1", "zlib"))
NEW = (("libold", "1", ""), ("zlib1g", "2", "zlib"))


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


def _put_base(
    project: Project,
    registry: RunningRegistry,
    *packages: tuple[str, str, str],
    release: str = "12",
) -> str:
    """Point `base/debian:12` at an image with these packages; returns its digest."""
    files = debian_layer(*packages)
    files["etc/os-release"] = f'ID=debian\nVERSION_ID="{release}"\n'
    folder = project.folder / "base"
    shutil.rmtree(folder, ignore_errors=True)
    made = make_layout(folder, ImageSpec(layers=[files, {"etc/motd": "hello"}]))
    done = project.run("copy", "./base", f"{registry.host}/base/debian:12")
    assert done.exit_code == 0, done.stderr
    shutil.rmtree(folder)
    return str(made.digest)


@pytest.fixture
def project(tmp_path: Path, registry: RunningRegistry) -> Project:
    """An image whose own layer installs `libown` and so rewrites the database of the base's packages."""
    made = make_project(tmp_path, registry)
    _put_base(made, registry, *OLD)
    made.write("Dockerfile", f"FROM {registry.host}/base/debian:12\nCOPY rootfs/ /\n")
    made.write("rootfs/var/lib/dpkg/status", dpkg_status(*OLD, ("libown", "1", "")))
    shutil.rmtree(made.base / "osv")
    write_osv_folder(
        made.base / "osv",
        record("CVE-2026-9"),
        *(
            record(f"CVE-2026-{n}", "Debian:12", name, severity=LOW, events=events)
            for n, name, events in (
                (1, "libold", ({"introduced": "0"}, {"fixed": "9"})),
                (2, "zlib", ({"introduced": "0"}, {"fixed": "2"})),
                (3, "libown", ({"introduced": "0"}, {"fixed": "9"})),
            )
        ),
        built=datetime.now(UTC).isoformat(),
        ecosystems=("PyPI", "Debian:12"),
    )
    return made


def _run(project: Project, *arguments: str, command: str = "run") -> dict[str, Any]:
    done = project.run(command, *arguments, env=signing_environment())
    assert done.exit_code == 0, done.stderr
    image: dict[str, Any] = project.result()["images"][0]
    return image


def _built(project: Project) -> Path:
    """Build the image into a layout of its own."""
    assert project.run("build", "-o", "layout").exit_code == 0
    return project.folder / "layout" / "app"


def _annotate(layout: Path, annotations: dict[str, str]) -> None:
    """Let the image of a layout claim something."""
    index = json.loads((layout / "index.json").read_text())
    (entry,) = index["manifests"]
    path = layout / "blobs" / entry["digest"].replace(":", "/")
    body = json.dumps({**json.loads(path.read_text()), "annotations": annotations}).encode()
    entry.update(digest=str(put_blob(layout, body)), size=len(body))
    (layout / "index.json").write_text(json.dumps(index))


def _owners(image: dict[str, Any]) -> dict[str, bool | None]:
    return {f["finding"]["package"]["name"]: f["from_base"] for f in image["decision"]["findings"]}


def test_packages_of_the_base_are_told_from_own_ones_in_a_rewritten_database(
    project: Project,
) -> None:
    image = _run(project)
    assert _owners(image) == {"libold": True, "zlib1g": True, "libown": False}
    (base,) = image["bases"]
    assert (base["layers_count"], base["findings_count"], base["reason"]) == (2, 2, "")
    assert base["reference"].endswith("/base/debian:12")
    assert base["newer_digest"] == ""
    text = (project.reports / "summary.md").read_text()
    assert "base image: 2 findings, own layers: 1" in text
    sbom = json.loads((project.reports / "sbom-app-linux-amd64.cdx.json").read_text())
    said = {
        part["name"]: p["value"]
        for part in sbom["components"]
        for p in part.get("properties", ())
        if p["name"] == "ci-registry:from-base"
    }
    assert said == {"libold": "true", "zlib1g": "true", "libown": "false", "demo": "false"}


def test_rescan_knows_the_owners_from_the_attested_inventory(
    project: Project, registry: RunningRegistry
) -> None:
    _run(project)
    image = _run(project, f"{registry.host}/team/app:v1", command="rescan")
    assert _owners(image) == {"libold": True, "zlib1g": True, "libown": False}


def test_host_that_the_run_has_nothing_to_do_with_is_not_asked(project: Project) -> None:
    with running_registry() as stranger:
        target = _built(project)
        _annotate(target, {BASE_NAME: f"{stranger.host}/base/debian:12"})
        image = _run(project, str(target), command="scan")
        assert stranger.seen == []
    assert set(_owners(image).values()) == {None}
    why = f"the image names {stranger.host}, which this run has nothing to do with"
    assert image["bases"][0]["reason"] == why
    assert f"not known: {why}" in (project.reports / "summary.md").read_text()


def test_image_in_a_registry_names_its_base_by_annotation_and_the_layers_prove_it(
    project: Project, registry: RunningRegistry
) -> None:
    _annotate(_built(project), {BASE_NAME: f"{registry.host}/base/debian:12"})
    place = f"{registry.host}/other/app:v1"
    assert project.run("copy", "./layout/app", place).exit_code == 0
    assert _owners(_run(project, place, command="scan"))["zlib1g"] is True
    registry.seen.clear()
    assert _owners(_run(project, place, command="scan"))["zlib1g"] is True
    asked = [(s.method, s.path) for s in registry.seen if "/base/debian/" in s.path]
    assert asked == [("HEAD", "/v2/base/debian/manifests/12")]
    registry.seen.clear()
    image = _run(project, place, "--offline", command="scan")
    assert not [s for s in registry.seen if "/base/debian/" in s.path]
    (base,) = image["bases"]
    assert "--offline" in base["newer_reason"] + base["reason"]


def test_false_claim_about_the_base_is_not_believed(
    project: Project, registry: RunningRegistry
) -> None:
    _annotate(_built(project), {BASE_NAME: f"{registry.host}/base/debian:12"})
    _put_base(project, registry, ("nothing", "1", ""))
    place = f"{registry.host}/other/app:v1"
    assert project.run("copy", "./layout/app", place).exit_code == 0
    image = _run(project, place, command="scan")
    assert set(_owners(image).values()) == {None}
    assert "points at another image now" in image["bases"][0]["reason"]


def test_registry_that_is_gone_is_a_reason_and_no_failure(
    project: Project, registry: RunningRegistry
) -> None:
    _annotate(_built(project), {BASE_NAME: f"{registry.host}/base/gone:12"})
    place = f"{registry.host}/other/app:v1"
    assert project.run("copy", "./layout/app", place).exit_code == 0
    image = _run(project, place, command="scan")
    assert image["bases"][0]["layers_count"] is None
    assert "does not exist" in image["bases"][0]["reason"]


def _prebuilt(project: Project, registry: RunningRegistry) -> None:
    """Put the image, built on the old base, into a registry."""
    base = str(registry.store.catalog.tag("base/debian", "12"))
    names = {BASE_NAME: f"{registry.host}/base/debian:12", BASE_DIGEST: base}
    _annotate(_built(project), names)
    assert project.run("copy", "./layout/app", f"{registry.host}/other/app:v1").exit_code == 0


def test_newer_base_without_inventory_is_named_without_a_number(
    project: Project, registry: RunningRegistry
) -> None:
    _prebuilt(project, registry)
    newer = _put_base(project, registry, *NEW)
    image = _run(project, f"{registry.host}/other/app:v1", command="scan")
    (base,) = image["bases"]
    assert (base["newer_digest"], base["fixed_count"]) == (newer, None)
    assert "scan.read_new_base is off" in base["newer_reason"] or "no SBOM" in base["newer_reason"]
    assert "has a newer digest" in (project.reports / "summary.md").read_text()
    assert "has a newer digest" in (project.reports / "junit-ci-registry.xml").read_text()


def test_newer_base_is_read_when_that_is_allowed_and_the_fixes_are_counted(
    project: Project, registry: RunningRegistry
) -> None:
    _prebuilt(project, registry)
    newer = _put_base(project, registry, *NEW)
    place = f"{registry.host}/other/app:v1"
    done = project.run("scan", place, "--scan-read-new-base", env=signing_environment())
    (base,) = project.result()["images"][0]["bases"]
    assert (base["newer_digest"], base["findings_count"]) == (newer, 2)
    assert (base["fixed_count"], base["added_count"]) == (1, 0)
    line = f"rebuild on {registry.host}/base/debian:12 ({newer[:19]}…) fixes 1 of 2 base findings"
    assert line in done.stdout
    again = _run(project, place, command="scan")  # its inventory is kept
    assert again["bases"][0]["fixed_count"] == 1


def test_nothing_is_called_fixed_by_a_newer_base_that_the_advisories_do_not_cover(
    project: Project, registry: RunningRegistry
) -> None:
    _prebuilt(project, registry)
    _put_base(project, registry, *NEW, release="13")
    image = _run(project, f"{registry.host}/other/app:v1", "--scan-read-new-base", command="scan")
    (base,) = image["bases"]
    assert (base["findings_count"], base["fixed_count"]) == (2, None)
    assert "the packages of the newer base are not all covered" in base["newer_reason"]


def test_image_from_scratch_has_no_base(tmp_path: Path, registry: RunningRegistry) -> None:
    project = make_project(tmp_path, registry, version="1.0", policy="policy.yml")
    project.write("policy.yml", "spec: {rules: [{severity: CRITICAL, action: WARN}]}")
    done = project.run("run", env=signing_environment())
    assert done.exit_code == 0, done.stderr
    assert _owners(project.result()["images"][0]) == {"demo": False}
    assert "no base image: FROM scratch" in done.stdout
    assert "[own layers]" in done.stdout


def test_newer_base_with_an_attested_inventory_needs_no_reading(
    project: Project, registry: RunningRegistry
) -> None:
    _prebuilt(project, registry)
    rootfs = project.folder / "base-rootfs"
    for path, text in debian_layer(*NEW).items():
        project.write(f"base-rootfs/{path}", text or b"")
    project.write("base.Dockerfile", "FROM scratch\nCOPY base-rootfs/ /\n")
    assert rootfs.is_dir()
    done = project.run(
        "run", "--image", f"{registry.host}/base/debian", "--dockerfile", "base.Dockerfile",
        "--tags", "12", "--on-existing", "overwrite", env=signing_environment(),
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    registry.seen.clear()
    image = _run(project, f"{registry.host}/other/app:v1", command="scan")
    (base,) = image["bases"]
    assert (base["findings_count"], base["fixed_count"]) == (2, 1)
    layers = [layer["digest"] for p in image["platforms"] for layer in p["layers"]]
    pulled = {s.path for s in registry.seen if "/base/debian/blobs/" in s.path}
    assert not [path for path in pulled if any(layer in path for layer in layers)]

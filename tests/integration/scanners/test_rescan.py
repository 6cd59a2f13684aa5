"""`rescan`: published images are matched again by their attested inventory; no layer is pulled."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.advisories import record, write_osv_folder
from tests.support.cli import CRITICAL, Project, make_project, signing_environment
from tests.support.registry import RunningRegistry, running_registry
from tests.support.signing import key_pair


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, registry: RunningRegistry) -> Project:
    """A project whose image was published, signed and attested."""
    made = make_project(tmp_path, registry)
    done = made.run("run", env=signing_environment())
    assert done.exit_code == 0, done.stderr
    registry.seen.clear()
    return made


def _new_advisory(project: Project) -> None:
    """Since the image was published a vulnerability became known."""
    write_osv_folder(
        project.base / "osv",
        record(
            "CVE-2026-90002",
            events=({"introduced": "0"}, {"fixed": "9"}),
            severity=[{"type": "CVSS_V3", "score": CRITICAL}],
        ),
        record("DEBIAN-2026-1", "Debian:12", "zlib"),
        built=datetime.now(UTC).isoformat(),
        ecosystems=("PyPI", "Debian:12"),
    )


def test_image_that_stays_clean_passes_and_no_layer_is_pulled(
    project: Project, registry: RunningRegistry
) -> None:
    published = project.result()["images"][0]
    layers = [layer["digest"] for p in published["platforms"] for layer in p["layers"]]
    outcome = project.run("rescan", f"{registry.host}/team/app", env=signing_environment())
    result = project.result()
    assert (outcome.exit_code, result["command"], result["verdict"]) == (0, "rescan", "pass")
    (image,) = result["images"]  # `v1` and `latest` are one image
    assert image["digest"] == published["digest"]
    assert layers
    assert not [s.path for s in registry.seen if any(layer in s.path for layer in layers)]
    assert {s.method for s in registry.seen} <= {"GET", "HEAD"}


def test_what_became_vulnerable_since_is_blocked(
    project: Project, registry: RunningRegistry
) -> None:
    _new_advisory(project)
    outcome = project.run("rescan", f"{registry.host}/team/app:v1", env=signing_environment())
    assert outcome.exit_code == 1
    assert "CVE-2026-90002" in " ".join(project.junit()["failure"])
    assert json.dumps(project.result()["images"][0]["decision"]).count("CVE-2026-90002")


def test_image_without_inventory_is_named_and_the_others_are_judged(
    project: Project, registry: RunningRegistry
) -> None:
    again = project.run(
        "run", "--no-sign-sbom", "--tags", "bare", "--registry", f"{registry.host}/other",
        env=signing_environment(),
    )  # fmt: skip
    assert again.exit_code == 0, again.stderr
    outcome = project.run(
        "rescan", f"{registry.host}/other/app", f"{registry.host}/team/app:v1",
        env=signing_environment(),
    )  # fmt: skip
    verdicts = [image["verdict"] for image in project.result()["images"]]
    assert (outcome.exit_code, verdicts) == (5, ["incomplete", "pass"])
    assert "has no trusted inventory: no SBOM is attested" in outcome.stderr


def test_image_without_inventory_is_read_with_pull(
    project: Project, registry: RunningRegistry
) -> None:
    project.run(
        "run", "--no-sign-sbom", "--tags", "bare", "--registry", f"{registry.host}/other",
        env=signing_environment(),
    )  # fmt: skip
    _new_advisory(project)
    outcome = project.run(
        "rescan", f"{registry.host}/other/app:bare", "--pull", env=signing_environment()
    )
    assert outcome.exit_code == 1
    assert "read now" in outcome.stdout


def test_inventory_of_another_key_is_not_believed(
    project: Project, registry: RunningRegistry
) -> None:
    other = {"COSIGN_PUBLIC_KEY": key_pair("other").public_pem.decode()}
    outcome = project.run("rescan", f"{registry.host}/team/app:v1", env=other)
    assert outcome.exit_code == 5
    assert "not signed by a trusted key" in outcome.stderr


def test_without_a_key_to_trust_nothing_is_judged(
    project: Project, registry: RunningRegistry
) -> None:
    outcome = project.run("rescan", f"{registry.host}/team/app:v1")
    assert outcome.exit_code == 2
    assert "COSIGN_PUBLIC_KEY" in outcome.stderr


def test_images_in_use_are_read_from_a_file(project: Project, registry: RunningRegistry) -> None:
    digest = project.result()["images"][0]["digest"]
    lines = (
        f"# production\n{registry.host}/team/app@{digest}  # api\n\n{registry.host}/team/app:v1\n"
    )
    project.write("in-use.txt", lines)
    outcome = project.run("rescan", "--in-use", "in-use.txt", env=signing_environment())
    assert outcome.exit_code == 0, outcome.stderr
    assert len(project.result()["images"]) == 1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        ((), 2, "no image is named"),
        (("HOST/team/ap",), 4, "HOST/team/ap has no tags"),
        (("HOST/team/app:nix",), 4, "HOST/team/app:nix does not exist"),
        (("HOST/team/app", "--match-tags", "x*"), 4, "HOST/team/app has no tag that matches x*"),
        (("--in-use", "bad.txt"), 2, "bad.txt:2: "),
    ],
)
def test_mistakes_are_named(
    project: Project,
    registry: RunningRegistry,
    arguments: tuple[str, ...],
    exit_code: int,
    message: str,
) -> None:
    project.write("bad.txt", f"{registry.host}/team/app:v1\nNot A Reference\n")
    argv = [text.replace("HOST", registry.host) for text in arguments]
    outcome = project.run("rescan", *argv, env=signing_environment())
    assert outcome.exit_code == exit_code, outcome.stderr
    assert outcome.troubles[0].startswith(message.replace("HOST", registry.host))

"""Runs against a baseline: only what is new counts, and a baseline that can't be used never helps."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.advisories import record, write_osv_folder
from tests.support.changes import OWN, commit_base, commit_change, github_change
from tests.support.cli import (
    CRITICAL,
    SETTINGS,
    Outcome,
    Project,
    make_project,
    signing_environment,
)
from tests.support.registry import RunningRegistry, running_registry
from tests.support.signing import key_pair

ONLY_NEW = "spec: {rules: [{severityAtLeast: HIGH, action: BLOCK, onlyNew: true}]}"
MEDIUM = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:N/A:N"


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, registry: RunningRegistry) -> Project:
    """A project whose image was released, clean at that time, and whose policy counts only what is new."""
    made = make_project(tmp_path, registry, policy="policy.yml")
    made.write("policy.yml", ONLY_NEW)
    done = _run(made)
    assert done.exit_code == 0, done.stderr
    shutil.copy(made.reports / "result.json", made.base / "earlier.json")
    return made


def _run(
    project: Project, *arguments: str, command: str = "run", env: dict[str, str] | None = None
) -> Outcome:
    extra = ("--on-existing", "overwrite") if command == "run" else ()
    return project.run(command, *extra, *arguments, env={**signing_environment(), **(env or {})})


def _advisories(project: Project, *more: dict[str, object], score: str = CRITICAL) -> None:
    """Since the release a vulnerability of what was released became known."""
    shutil.rmtree(project.base / "osv")
    write_osv_folder(
        project.base / "osv",
        record(
            "CVE-2026-90002",
            events=({"introduced": "0"}, {"fixed": "9"}),
            severity=[{"type": "CVSS_V3", "score": score}],
        ),
        record("DEBIAN-2026-1", "Debian:12", "zlib"),
        *more,
        built=datetime.now(UTC).isoformat(),
        ecosystems=("PyPI", "Debian:12"),
    )


def _add_package(project: Project, name: str = "extra") -> None:
    folder = f"rootfs/app/lib/python3.12/site-packages/{name}-1.0.dist-info"
    project.write(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def _extra() -> dict[str, object]:
    return record("CVE-2026-90003", name="extra", severity=[{"type": "CVSS_V3", "score": CRITICAL}])


def _decision(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = project.result()["images"][0]["decision"]
    return found


def _changes(project: Project) -> dict[str, str]:
    return {f["finding"]["id"]: f["change"] for f in _decision(project)["findings"]}


def test_what_became_known_since_the_release_is_not_new_against_it(project: Project) -> None:
    _advisories(project)
    assert _run(project).exit_code == 1  # without a baseline all of it is new
    assert _decision(project)["comparison"]["problem"]
    done = _run(project, "--baseline", "release")
    assert done.exit_code == 0, done.stdout
    assert _changes(project) == {"CVE-2026-90002": "unchanged"}
    assert "0 new, 0 worsened, 1 unchanged, 0 fixed" in done.stdout


def test_package_that_the_change_adds_is_new_against_the_release(project: Project) -> None:
    _add_package(project)
    _advisories(project, _extra())
    done = _run(project, "--baseline", "release")
    assert done.exit_code == 1
    assert _changes(project) == {"CVE-2026-90002": "unchanged", "CVE-2026-90003": "new"}
    assert "1 finding on linux/amd64: CVE-2026-90003 in pkg:pypi/extra" in done.stdout
    summary = (project.reports / "summary.md").read_text()
    assert "1 new, 0 worsened, 1 unchanged, 0 fixed" in summary
    assert "| new |" in summary
    assert (
        'name="findings_new" value="1"' in (project.reports / "junit-ci-registry.xml").read_text()
    )


def test_package_that_the_change_updates_is_fixed(project: Project) -> None:
    _advisories(project)
    shutil.rmtree(project.folder / "rootfs" / "app")
    folder = "rootfs/app/lib/python3.12/site-packages/demo-9.dist-info"
    project.write(f"{folder}/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 9\n")
    done = _run(project, "--baseline", "release")
    assert done.exit_code == 0, done.stdout
    (fixed,) = _decision(project)["comparison"]["fixed"]
    assert (fixed["ids"], fixed["package"]) == (["CVE-2026-90002"], "pkg:pypi/demo")
    assert "fixed since the baseline" in done.stdout


def test_image_by_name_is_a_baseline_too(project: Project, registry: RunningRegistry) -> None:
    _advisories(project)
    done = _run(project, "--baseline", f"{registry.host}/team/app:v1")
    assert done.exit_code == 0, done.stdout


def test_against_a_stored_result_what_became_known_since_is_new(project: Project) -> None:
    _advisories(project)
    done = _run(project, "--baseline", str(project.base / "earlier.json"))
    assert done.exit_code == 1
    assert _changes(project) == {"CVE-2026-90002": "new"}
    assert "what became known since is new" in done.stdout


def test_severity_that_rose_since_a_stored_result_is_worsened(project: Project) -> None:
    _advisories(project, score=MEDIUM)
    assert _run(project).exit_code == 0
    stored = project.base / "medium.json"
    shutil.copy(project.reports / "result.json", stored)
    assert _run(project, "--baseline", str(stored)).exit_code == 0
    assert _changes(project) == {"CVE-2026-90002": "unchanged"}
    _advisories(project)
    done = _run(project, "--baseline", str(stored))
    assert done.exit_code == 1
    assert _changes(project) == {"CVE-2026-90002": "worsened"}
    assert "CRITICAL" in done.stdout
    assert "worsened (was MEDIUM)" in done.stdout
    assert "worsened (was MEDIUM)" in (project.reports / "junit-ci-registry.xml").read_text()


def test_rescan_says_what_became_vulnerable_since_a_stored_result(
    project: Project, registry: RunningRegistry
) -> None:
    place = f"{registry.host}/team/app:v1"
    stored = project.base / "rescan.json"
    assert _run(project, place, command="rescan").exit_code == 0
    shutil.copy(project.reports / "result.json", stored)
    _advisories(project)
    done = _run(project, place, "--baseline", str(stored), command="rescan")
    assert (done.exit_code, _changes(project)) == (1, {"CVE-2026-90002": "new"})
    again = _run(project, place, "--baseline", str(project.base / "earlier.json"), command="rescan")
    assert (again.exit_code, _changes(project)) == (1, {"CVE-2026-90002": "new"})  # by its digest


def _broken(project: Project, registry: RunningRegistry) -> dict[str, tuple[str, str]]:
    """Return baselines that can't be used, with what is said of them."""
    result = json.loads((project.base / "earlier.json").read_text())

    def stored(name: str, **changes: Any) -> str:
        path = project.base / f"{name}.json"
        path.write_text(json.dumps({**result, **changes}))
        return str(path)

    image = result["images"][0]
    cut = project.base / "cut.json"
    cut.write_text(json.dumps(result)[:-50])
    return {
        "no file": ("nowhere.json", "does not exist"),
        "half a file": (str(cut), "JSON"),
        "a newer version": (stored("newer", schema_version=2), "schema_version is 2"),
        "another image": (
            stored("other", images=[{**image, "name": "x", "digest": "", "destinations": []}]),
            "has no image app",
        ),
        "not judged": (stored("unjudged", images=[{**image, "decision": None}]), "was not judged"),
        "incomplete": (
            stored("incomplete", images=[{**image, "verdict": "incomplete"}]),
            "app is incomplete in",
        ),
        "no such tag": ("release:nix", "team/app:nix does not exist"),
        "no such image": (f"{registry.host}/team/nix:v1", "does not exist"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "no file", "half a file", "a newer version", "another image", "not judged", "incomplete",
        "no such tag", "no such image",
    ],
)  # fmt: skip
def test_baseline_that_cannot_be_used_makes_everything_new_and_says_why(
    project: Project, registry: RunningRegistry, case: str
) -> None:
    baseline, why = _broken(project, registry)[case]
    _advisories(project)
    done = _run(project, "--baseline", baseline)
    assert done.exit_code == 1
    assert _changes(project) == {"CVE-2026-90002": "new"}
    problem = _decision(project)["comparison"]["problem"]
    assert why in problem
    assert f"every finding counts as new: {problem}" in _decision(project)["reasons"]
    assert problem in done.stdout


def test_release_that_nobody_trusted_signed_does_not_count(project: Project) -> None:
    _advisories(project)
    other = {"COSIGN_PUBLIC_KEY": key_pair("other").public_pem.decode()}
    done = _run(project, "--baseline", "release", "--push", "never", env=other)
    assert done.exit_code == 1
    assert "not signed by a trusted key" in _decision(project)["comparison"]["problem"]
    nobody = {"COSIGN_PUBLIC_KEY": ""}
    done = _run(project, "--baseline", "release", "--push", "never", env=nobody)
    assert done.exit_code == 1
    assert "no public key" in _decision(project)["comparison"]["problem"]


def test_release_whose_own_scan_is_incomplete_does_not_count(project: Project) -> None:
    _advisories(project, _extra())
    facts = project.base / "osv" / "database.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "ecosystems": ["Debian:12"]}))
    done = _run(project, "--baseline", "release")
    assert done.exit_code == 5
    assert "is not covered itself" in _decision(project)["comparison"]["problem"]


def _set_baseline(project: Project, baseline: str, **more: Any) -> None:
    settings = json.loads((project.folder / SETTINGS).read_text())
    settings["scan"]["baseline"] = baseline
    project.write(SETTINGS, json.dumps({**settings, **more}))


def _stored_with_everything(project: Project) -> str:
    """Return a result in which everything is known already, as a change would forge it."""
    assert _run(project, "--push", "never").exit_code == 1
    return (project.reports / "result.json").read_text()


def test_change_cannot_bring_its_own_stored_result(project: Project) -> None:
    _advisories(project)
    forged = _stored_with_everything(project)
    _set_baseline(project, "baseline.json")
    commit_base(project)
    project.write("baseline.json", forged)
    commit_change(project)
    done = _run(project, env=github_change(project, repository=OWN))
    assert done.exit_code == 1
    problem = _decision(project)["comparison"]["problem"]
    assert (
        problem == "the baseline baseline.json is where the change can write it, and main has none"
    )


def test_stored_result_of_the_trusted_ref_counts_and_not_what_the_change_made_of_it(
    project: Project,
) -> None:
    _advisories(project)
    known = _stored_with_everything(project)
    _set_baseline(project, "baseline.json")
    project.write("baseline.json", known)
    commit_base(project)
    project.write("baseline.json", "{}")
    commit_change(project)
    done = _run(project, env=github_change(project, repository=OWN))
    assert done.exit_code == 0, done.stdout
    assert _changes(project) == {"CVE-2026-90002": "unchanged"}


def test_change_cannot_choose_another_baseline_or_another_release(
    project: Project, registry: RunningRegistry
) -> None:
    """`other/app` holds what the change adds: against it nothing would be new."""
    _advisories(project, _extra())
    _set_baseline(project, "release")
    commit_base(project)
    _add_package(project)
    loose = "spec: {rules: [{severity: LOW, action: WARN}]}"
    project.write("loose.yml", loose)
    settings = json.loads((project.folder / SETTINGS).read_text())
    settings["registry"] = f"{registry.host}/other"
    project.write(SETTINGS, json.dumps({**settings, "policy": "loose.yml"}))
    released = _run(project)
    assert released.exit_code == 0, released.stderr
    settings["scan"]["baseline"] = f"{registry.host}/other/app:latest"
    project.write(SETTINGS, json.dumps(settings))
    commit_change(project)
    done = _run(project, env=github_change(project, repository=OWN))
    assert done.exit_code == 1, done.stdout
    assert _changes(project) == {"CVE-2026-90002": "unchanged", "CVE-2026-90003": "new"}
    assert "/team/app:latest" in _decision(project)["comparison"]["source"]

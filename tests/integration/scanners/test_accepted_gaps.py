"""Gaps and their acceptances through the command line: what is accepted passes, and nothing else does."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.archives import classes, zip_of
from tests.support.cli import OS_RELEASE, Project, image_files, make_project
from tests.support.images import Files, ImageSpec, make_layout
from tests.support.os_databases import ALMA_RELEASE, rpm_header, rpm_sqlite

SOON = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
PAST = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()


def stanza(name: str, version: str) -> str:
    return (
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"
    )


def debian(*stanzas: str, release: str = OS_RELEASE) -> Files:
    return {"etc/os-release": release, "var/lib/dpkg/status": "\n".join(stanzas)}


FINE = stanza("base-files", "12.4")
IMAGES: Mapping[str, Files] = {
    "no-packages": {"hello": "x"},
    "unknown-distribution": debian(FINE, release="ID=weirdos\nVERSION_ID=1\n"),
    "no-data": debian(FINE, release="ID=debian\nVERSION_ID=13\n"),
    "undecided": debian(FINE, stanza("zlib", "not:a:version")),
    "third-party-packages": {
        "etc/os-release": ALMA_RELEASE,
        "var/lib/rpm/rpmdb.sqlite": rpm_sqlite(rpm_header(name="nginx", vendor="Somebody")),
    },
    "unread-database": {**image_files(), "app/x.jar": zip_of(classes("org/example"))},
}
"""An image for each gap that makes incomplete and can be accepted."""


def scan(
    base: Path, files: Files, *entries: Mapping[str, object], mode: str = "enforce"
) -> tuple[Project, int]:
    """Scan an image with a policy that accepts gaps; returns the exit code too."""
    project = make_project(base, None)
    facts = json.loads((base / "osv" / "database.json").read_text())
    facts["ecosystems"] += ["AlmaLinux:9"]
    alma = {"id": "ALSA-1", "modified": facts["built"], "affected": []}
    affected = {"package": {"ecosystem": "AlmaLinux:9", "name": "other"}, "versions": ["1-1"]}
    alma["affected"] = [affected]
    (base / "osv" / "records" / "ALSA-1.json").write_text(json.dumps(alma))
    (base / "osv" / "database.json").write_text(json.dumps(facts))
    spec = {
        "mode": mode,
        "rules": [{"severity": "CRITICAL", "action": "BLOCK"}],
        "coverage": {"accept": list(entries)},
    }
    head = {"apiVersion": "v1", "kind": "Policy", "metadata": {"name": "p"}}
    project.write("policy.yml", json.dumps({**head, "spec": spec}))
    layout = make_layout(base / "layout", ImageSpec(layers=[files])).layout
    done = project.run("scan", str(layout), "--policy", "policy.yml")
    return project, done.exit_code


def accept(gap: str, **changes: object) -> dict[str, object]:
    known = {"gap": gap, "images": ["layout"], "owner": "ops", "reason": "we looked"}
    return {**known, "expires": SOON, **changes}


@pytest.mark.parametrize("gap", IMAGES)
def test_a_gap_that_is_accepted_by_name_passes_with_a_warning(tmp_path: Path, gap: str) -> None:
    project, exit_code = scan(tmp_path, IMAGES[gap], accept(gap))
    decision = project.result()["images"][0]["decision"]
    assert exit_code == 0, decision
    assert decision["verdict"] == "warn"
    assert {g["gap"]["gap"] for g in decision["gaps"]} == {gap}
    assert decision["gaps"][0]["accepted_by"] == f"ops until {SOON}: we looked"
    text = (project.reports / "junit-ci-registry.xml").read_text()
    assert "we looked" in text


Entry = Callable[[str], dict[str, object]]


@pytest.mark.parametrize("gap", IMAGES)
@pytest.mark.parametrize(
    ("entry", "mode"),
    [
        (lambda gap: accept("end-of-life"), "enforce"),
        (lambda gap: accept(gap, expires=PAST), "enforce"),
        (lambda gap: accept(gap, images=["another"]), "enforce"),
        (lambda gap: accept(gap, expires=PAST), "audit"),
    ],
    ids=["wrong-name", "expired", "other-image", "expired-in-audit-mode"],
)
def test_any_other_entry_leaves_it_incomplete(
    tmp_path: Path, gap: str, entry: Entry, mode: str
) -> None:
    project, exit_code = scan(tmp_path, IMAGES[gap], entry(gap), mode=mode)
    decision = project.result()["images"][0]["decision"]
    assert exit_code == 5, decision
    assert decision["verdict"] == decision["enforced_verdict"] == "incomplete"
    assert any(reason.startswith(f"{gap} on linux/amd64") for reason in decision["reasons"])


@pytest.mark.parametrize("name", ["database-stale", "database-absent", "wrong-image", "anything"])
def test_a_policy_that_accepts_what_nobody_may_is_2(tmp_path: Path, name: str) -> None:
    project, exit_code = scan(tmp_path, IMAGES["no-packages"], accept(name))
    assert exit_code == 2
    assert "accept[0].gap must be one of no-packages" in str(project.junit()["error"])

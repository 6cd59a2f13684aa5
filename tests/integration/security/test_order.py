"""Nothing gets a name, a signature or a manifest before the verdict, and nothing is taken on trust after it."""

import re
from pathlib import Path

import pytest

from ci_registry.registry_server.options import Corrupt, Fault
from tests.support.canaries import Canaries
from tests.support.cli import VULNERABLE, Project, make_project, tags_of
from tests.support.registry import RunningRegistry

AUDIT = {
    "apiVersion": "v1",
    "kind": "Policy",
    "metadata": {"name": "audit"},
    "spec": {"mode": "audit", "rules": [{"severity": "CRITICAL", "action": "BLOCK"}]},
}


def writes(registry: RunningRegistry) -> list[str]:
    """Everything that was put, by kind and in order; repetitions are left out."""
    found = []
    for seen in registry.seen:
        if seen.method not in ("PUT", "PATCH") and "digest=" not in seen.path:
            continue
        path = seen.path
        kind = "blob" if "/blobs/" in path else "signature" if "sha256-" in path else "tag"
        if "/manifests/sha256:" in path:
            kind = "manifest"
        found.append(kind)
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("verdict", ["block", "incomplete"])
@pytest.mark.parametrize("upload", ["overlap", "after-verdict"])
def test_image_that_did_not_pass_leaves_blobs_at_most(
    tmp_path: Path, registry: RunningRegistry, canaries: Canaries, verdict: str, upload: str
) -> None:
    version = VULNERABLE if verdict == "block" else "2.0"
    project = make_project(tmp_path, registry, version=version, publish={"upload": upload})
    db = "offline" if verdict == "incomplete" else str(tmp_path / "osv")

    done = project.run("run", "--scan-db", db, "--sign", "key", env=canaries.env)

    assert done.exit_code == (1 if verdict == "block" else 5), done.stderr
    assert project.result()["images"][0]["verdict"] == verdict
    assert writes(registry) == (["blob"] if upload == "overlap" else [])
    assert registry.count("GET", "/referrers/") == 0
    assert tags_of(registry) == {}
    image = project.result()["images"][0]
    assert (image["pushed"], image["signed"], image["published"]) == (False, False, [])


def test_passing_image_is_put_then_signed_then_tagged(
    project: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    done = project.run("run", "--sign", "key", env=canaries.env)

    assert done.exit_code == 0, done.stderr
    paths = [(s.method, s.path) for s in registry.seen]
    puts = [path for method, path in paths if method == "PUT" and "/manifests/" in path]
    digest = project.result()["images"][0]["digest"]
    assert puts[0].endswith(digest)
    tagged = [n for n, path in enumerate(puts) if re.search(r"/manifests/(v1|latest)$", path)]
    signed = [n for n, path in enumerate(puts) if "sha256-" in path or path != puts[0]]
    assert tagged == [len(puts) - 2, len(puts) - 1]
    assert any(0 < n < tagged[0] for n in signed)
    last_tag = max(n for n, entry in enumerate(paths) if entry == ("PUT", puts[-1]))
    assert ("GET", puts[-1]) in paths[last_tag:]


def test_audit_mode_publishes_what_enforce_would_block_and_never_signs_it(
    tmp_path: Path, registry: RunningRegistry, canaries: Canaries
) -> None:
    project = make_project(tmp_path, registry, version=VULNERABLE, policy=AUDIT)

    done = project.run("run", "--sign", "key", env=canaries.env)

    assert done.exit_code == 0, done.stderr
    image = project.result()["images"][0]
    assert (image["verdict"], image["pushed"], image["signed"]) == ("warn", True, False)
    assert "signature" not in writes(registry)
    assert "never signed" in str(project.junit()["skipped"])


def test_audit_mode_signs_what_enforce_lets_through(
    tmp_path: Path, registry: RunningRegistry, canaries: Canaries
) -> None:
    project = make_project(tmp_path, registry, policy=AUDIT)

    assert project.run("run", env=canaries.env).exit_code == 0
    assert project.result()["images"][0]["signed"]


def test_tag_that_reads_back_as_other_bytes_fails_the_run(
    project: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    registry.faults.add(Fault(action=Corrupt(), method="GET", path="/manifests/v1$", times=0))

    done = project.run("run", env=canaries.env)

    assert done.exit_code == 4, done.stderr
    assert "latest" not in tags_of(registry)


def test_signature_that_reads_back_as_other_bytes_moves_no_tag(
    project: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    registry.faults.add(Fault(action=Corrupt(), method="GET", path="/manifests/sha256-", times=0))

    done = project.run("run", "--sign", "key", env=canaries.env)

    assert done.exit_code != 0
    assert tags_of(registry) == {}

"""Real clients against the embedded registry."""

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.registry_server.options import TokenAuth
from ci_registry.registry_server.store import FolderStore
from tests.support.images import ImageSpec, MadeImage, make_layout
from tests.support.peers import peer_environment
from tests.support.registry import RunningRegistry, running_registry


class Shell:
    """Runs peers with a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.env = peer_environment() | {"HOME": str(home), "DOCKER_CONFIG": str(home)}

    def __call__(self, *argv: str, stdin: str = "") -> str:
        done = subprocess.run(
            argv,
            env=self.env,
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def sh(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home")


@pytest.fixture
def image(tmp_path: Path) -> MadeImage:
    """An image of two platforms, one of them with a layer of several MiB."""
    big = {"etc/x": b"x" * 5_000_000}
    return make_layout(
        tmp_path / "layout",
        ImageSpec(layers=[big, {"etc/y": "y"}]),
        ImageSpec(layers=[big, {"etc/z": "z"}], architecture="arm64"),
    )


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    store = FolderStore(tmp_path / "registry")
    with running_registry(store=store) as running:
        yield running
    store.close()


@pytest.mark.peer("crane")
def test_crane_pushes_copies_lists_pulls_and_deletes(
    registry: RunningRegistry, sh: Shell, tmp_path: Path
) -> None:
    image = make_layout(tmp_path / "one", ImageSpec(layers=[{"etc/x": b"x" * 3_000_000}]))
    source, target = f"{registry.host}/team/app:v1", f"{registry.host}/other/app:v2"
    sh("crane", "push", str(image.layout), source)
    assert sh("crane", "digest", source).strip() == image.digest
    sh("crane", "cp", source, target)
    assert registry.count("POST", "mount=") > 0
    sh("crane", "tag", target, "latest")
    assert sh("crane", "ls", f"{registry.host}/other/app").split() == ["latest", "v2"]
    assert sh("crane", "catalog", registry.host).split() == ["other/app", "team/app"]
    assert "PASS" in sh("crane", "validate", "--remote", target)
    sh("crane", "pull", "--format=oci", target, "pulled")
    index = json.loads((sh.home / "pulled" / "index.json").read_bytes())
    assert index["manifests"][0]["digest"] == image.digest
    sh("crane", "delete", target)
    assert sh("crane", "ls", f"{registry.host}/other/app").split() == ["latest"]


@pytest.mark.peer("oras")
def test_oras_copies_an_index_attaches_to_it_and_finds_what_was_attached(
    registry: RunningRegistry, sh: Shell, image: MadeImage
) -> None:
    target = f"{registry.host}/team/app:v1"
    sh(
        "oras",
        "cp",
        "--from-oci-layout",
        "--to-plain-http",
        f"{image.layout}@{image.digest}",
        target,
    )
    assert sh("oras", "resolve", "--plain-http", target).strip() == image.digest
    (sh.home / "sbom.json").write_text("{}")
    attach = ("oras", "attach", "--plain-http", "--artifact-type", "x/sbom", target)
    sh(*attach, "sbom.json:application/json")
    found = json.loads(sh("oras", "discover", "--plain-http", "--format", "json", target))
    assert [entry["artifactType"] for entry in found["referrers"]] == ["x/sbom"]
    assert registry.count("GET", "/referrers/") > 0
    assert registry.store.catalog.tags("team/app", after="", limit=10) == ("v1",)
    copy = f"{registry.host}/copy/app:v1"
    sh("oras", "cp", "-r", "--from-plain-http", "--to-plain-http", target, copy)
    found = json.loads(sh("oras", "discover", "--plain-http", "--format", "json", copy))
    assert len(found["referrers"]) == 1
    sh("oras", "manifest", "delete", "--plain-http", "-f", copy)


@pytest.mark.peer("oras")
def test_oras_falls_back_to_the_tag_scheme_without_the_referrers_api(
    sh: Shell, image: MadeImage
) -> None:
    with running_registry(referrers_api=False) as registry:
        target = f"{registry.host}/team/app:v1"
        sh(
            "oras",
            "cp",
            "--from-oci-layout",
            "--to-plain-http",
            f"{image.layout}@{image.digest}",
            target,
        )
        (sh.home / "sbom.json").write_text("{}")
        attach = ("oras", "attach", "--plain-http", "--artifact-type", "x/sbom", target)
        sh(*attach, "sbom.json:application/json")
        fallback = image.digest.replace(":", "-")
        assert registry.store.catalog.tag("team/app", fallback) is not None
        found = json.loads(sh("oras", "discover", "--plain-http", "--format", "json", target))
        assert len(found["referrers"]) == 1


@pytest.mark.peer("skopeo")
def test_skopeo_copies_every_platform_there_and_back(
    registry: RunningRegistry, sh: Shell, image: MadeImage
) -> None:
    target = f"docker://{registry.host}/team/app:v1"
    policy = ("--insecure-policy",)
    sh("skopeo", *policy, "copy", "--all", "--preserve-digests", "--dest-tls-verify=false",
       f"oci:{image.layout}", target)  # fmt: skip
    raw = sh("skopeo", "inspect", "--raw", "--tls-verify=false", target)
    assert {m["digest"] for m in json.loads(raw)["manifests"]} >= set(image.manifests)
    sh("skopeo", *policy, "copy", "--all", "--src-tls-verify=false", target, "oci:back:v1")
    assert (sh.home / "back" / "blobs" / "sha256" / image.manifests[1].hex).exists()


@pytest.mark.peer("crane", "oras")
def test_clients_log_in_with_a_password_and_with_tokens(sh: Shell, tmp_path: Path) -> None:
    image = make_layout(tmp_path / "one", ImageSpec(layers=[{"a": "b"}]))
    for auth in (None, TokenAuth(key=secrets.token_bytes(16))):
        password = secrets.token_hex(8)
        with running_registry(users={"ann": password}, token_auth=auth) as registry:
            target = f"{registry.host}/team/app:v1"
            refused = subprocess.run(
                ["crane", "push", str(image.layout), target],
                env=sh.env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert refused.returncode != 0
            assert "unauthorized" in refused.stderr.lower()
            login = ("login", "-u", "ann", "--password-stdin", registry.host)
            sh("crane", "auth", *login, stdin=password)
            sh("crane", "push", str(image.layout), target)
            sh("crane", "cp", target, f"{registry.host}/other/app:v1")
            sh("oras", *login, "--plain-http", stdin=password)
            assert (
                sh("oras", "repo", "tags", "--plain-http", f"{registry.host}/other/app") == "v1\n"
            )
            tokens = registry.count("GET", "/token")
            assert (tokens > 0) == (auth is not None)


@pytest.mark.peer("crane")
def test_crane_survives_a_busy_and_breaking_registry(sh: Shell, tmp_path: Path) -> None:
    from ci_registry.registry_server.options import Answer, Fault, Reset

    image = make_layout(tmp_path / "one", ImageSpec(layers=[{"a": b"x" * 100_000}]))
    faults = [
        Fault(action=Answer(status=503), method="PUT", path="/blobs/uploads/"),
        Fault(action=Reset(request_bytes=50), method="PATCH", path="/blobs/uploads/"),
    ]
    with running_registry(faults=faults) as registry:
        sh("crane", "push", str(image.layout), f"{registry.host}/team/app:v1")
        assert "PASS" in sh("crane", "validate", "--remote", f"{registry.host}/team/app:v1")
        assert 503 in {seen.status for seen in registry.seen}

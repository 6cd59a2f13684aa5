"""Real clients against the embedded registry."""

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.oci import media_types
from ci_registry.registry_server.catalog import TOUCH_STEP_S
from ci_registry.registry_server.options import TokenAuth
from ci_registry.registry_server.serve import TlsFiles
from ci_registry.registry_server.store import GRACE_S, FolderStore
from tests.support.docker import SHELL, Dockerd, write_context
from tests.support.images import ImageSpec, MadeImage, make_layout
from tests.support.peers import peer_environment
from tests.support.registry import RunningRegistry, running_registry
from tests.support.tls import Authority


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


@pytest.mark.peer("crane", "oras", "skopeo")
def test_clients_speak_tls_and_take_tokens(sh: Shell, tmp_path: Path, image: MadeImage) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("server")
    tls = TlsFiles(certificate=issued.certificate, key=issued.key)
    password, auth = secrets.token_hex(8), TokenAuth(key=secrets.token_bytes(16))
    sh.env["SSL_CERT_FILE"] = str(authority.file)
    with running_registry(tls=tls, users={"ann": password}, token_auth=auth) as registry:
        login = ("login", "-u", "ann", "--password-stdin", registry.host)
        sh("crane", "auth", *login, stdin=password)
        target = f"{registry.host}/team/app:v1"
        sh("oras", "cp", "--from-oci-layout", f"{image.layout}@{image.digest}", target)
        assert sh("crane", "digest", target).strip() == image.digest
        assert "PASS" in sh("crane", "validate", "--remote", target)
        sh("skopeo", "--insecure-policy", "copy", "--all", f"docker://{target}", "oci:back:v1")
        assert registry.count("GET", "/token") > 0
        assert all(seen.status != 500 for seen in registry.seen)


@pytest.mark.peer("cosign2", "cosign3", "crane")
@pytest.mark.parametrize("program", ["cosign2", "cosign3"])
def test_cosign_signs_and_verifies_also_after_a_collection(
    registry: RunningRegistry, sh: Shell, tmp_path: Path, program: str
) -> None:
    image = make_layout(tmp_path / "one", ImageSpec(layers=[{"a": "b"}]))
    target = f"{registry.host}/team/app"
    sh("crane", "push", str(image.layout), f"{target}:v1")
    sh.env["COSIGN_PASSWORD"] = "secret"
    sh(program, "generate-key-pair")
    old = ["--use-signing-config=false"] if program == "cosign3" else []
    sh(program, "sign", "--key", "cosign.key", "--tlog-upload=false", *old, "-y",
       f"{target}@{image.digest}")  # fmt: skip
    verify = (program, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog", f"{target}:v1")
    shown = json.loads(sh(*verify, "-o", "json"))
    assert shown[0]["critical"]["image"]["docker-manifest-digest"] == image.digest
    registry.store.collect(time.time() + 2 * (GRACE_S + TOUCH_STEP_S))
    sh(*verify)
    if program == "cosign3":  # no tag leads to the bundle, only its subject
        assert registry.store.catalog.tags("team/app", after="", limit=9) == ("v1",)
    sh("crane", "delete", f"{target}@{image.digest}")
    for tag in registry.store.catalog.tags("team/app", after="", limit=9):
        sh("crane", "delete", f"{target}:{tag}")
    registry.store.collect(time.time() + 2 * (GRACE_S + TOUCH_STEP_S))
    assert registry.store.catalog.used_bytes == 0


@pytest.mark.peer("trivy", "skopeo")
def test_trivy_reads_an_image(registry: RunningRegistry, sh: Shell, tmp_path: Path) -> None:
    files = {"etc/os-release": 'ID=debian\nVERSION_ID="12"\n', "var/lib/dpkg/status": _STATUS}
    image = make_layout(tmp_path / "one", ImageSpec(layers=[files]))
    target = f"{registry.host}/team/app:v1"
    sh("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{image.layout}",
       f"docker://{target}")  # fmt: skip
    options = ("--quiet", "--image-src", "remote", "--insecure", "--format", "cyclonedx")
    bom = json.loads(sh("trivy", "image", *options, target))
    assert "base-files" in {component["name"] for component in bom["components"]}


_STATUS = """\
Package: base-files
Status: install ok installed
Architecture: amd64
Version: 12.4

"""


@pytest.mark.peer("dockerd", "docker", "containerd")
def test_docker_pushes_and_pulls(
    registry: RunningRegistry, dockerd: Dockerd, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "context", f"{SHELL}COPY note /note\n", note="hello\n")
    target = f"{registry.host}/team/app:v1"
    dockerd.docker("build", "--quiet", "--provenance=false", "--tag", target, str(context))
    dockerd.docker("push", "--quiet", target)
    digest = registry.store.catalog.tag("team/app", "v1")
    assert digest is not None
    dockerd.docker("rmi", "--force", target)
    dockerd.docker("pull", "--quiet", target)
    shown = dockerd.docker("image", "inspect", "--format", "{{json .RepoDigests}}", target)
    assert json.loads(shown) == [f"{registry.host}/team/app@{digest}"]
    dockerd.docker("tag", target, f"{registry.host}/other/app:v1")
    dockerd.docker("push", "--quiet", f"{registry.host}/other/app:v1")
    assert registry.store.catalog.tag("other/app", "v1") == digest
    assert registry.count("POST", "mount=") > 0
    assert all(seen.status != 500 for seen in registry.seen)


@pytest.mark.peer("dockerd", "docker", "containerd")
def test_buildx_keeps_its_cache_there_also_through_a_collection(
    registry: RunningRegistry, dockerd: Dockerd, tmp_path: Path
) -> None:
    text = f"{SHELL}RUN --network=none busybox echo made > /made\n"
    context = write_context(tmp_path / "context", text)
    cache = f"type=registry,ref={registry.host}/team/cache:main"

    def build(*options: str) -> str:
        output = f"type=oci,dest={tmp_path / 'image.tar'}"
        argv = ("buildx", "build", "--progress=plain", "--output", output, *options, str(context))
        done = subprocess.run(
            ["docker", *argv], env=dockerd.env, capture_output=True, text=True, check=True
        )
        return done.stderr

    dockerd.prune()
    assert "CACHED" not in build("--cache-to", f"{cache},mode=max")
    digest = registry.store.catalog.tag("team/cache", "main")
    assert digest is not None
    kept = registry.store.catalog.manifest("team/cache", digest)
    assert kept is not None
    assert kept.media_type in (media_types.OCI_INDEX, media_types.OCI_MANIFEST)
    before = registry.store.catalog.used_bytes
    registry.store.collect(time.time() + 2 * (GRACE_S + TOUCH_STEP_S))
    assert registry.store.catalog.used_bytes == before
    dockerd.prune()
    assert "CACHED" in build("--cache-from", cache)
    assert all(seen.status != 500 for seen in registry.seen)

"""What we copied and deleted, seen by crane, oras, skopeo, Docker and cosign; and what they wrote, copied by us."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ci_registry.attestations.manifests import signature_tag
from ci_registry.oci.digest import Digest, digest_of
from tests.support.distribution import BOTH, OLD, running_distribution
from tests.support.docker import Dockerd, write_context
from tests.support.images import ImageSpec, MadeImage, make_layout
from tests.support.peers import peer_environment
from tests.support.registry import running_registry
from tests.support.signing import PASSWORD, key_pair

pytestmark = pytest.mark.peer("docker-registry", "crane")

PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


def run(*argv: str | Path, check: bool = True, env: Mapping[str, str] | None = None) -> str:
    """Run a program with an environment that holds no login; returns stdout."""
    done = subprocess.run(
        argv,
        env={**peer_environment(), "COSIGN_PASSWORD": PASSWORD.reveal(), **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not check or done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout.strip() if done.returncode == 0 else f"FAILED {done.stderr}"


def ours(*argv: str | Path) -> dict[str, Any]:
    """Run `ci-registry`; returns its JSON."""
    command = (sys.executable, "-m", "ci_registry", *argv, "--format", "json")
    parsed: dict[str, Any] = json.loads(run(*command, env={"HOME": "/nonexistent"}))
    return parsed


@pytest.fixture(scope="module", params=BOTH)
def program(request: pytest.FixtureRequest) -> str:
    """The registry's program."""
    return str(request.param)


@pytest.fixture(scope="module")
def host(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A distribution for all tests; each uses repositories of its own."""
    with running_distribution(tmp_path_factory.mktemp("one"), program=program) as running:
        yield running


@pytest.fixture(scope="module")
def other(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second one, always 2.8; empty again for each program of the first."""
    with running_distribution(tmp_path_factory.mktemp(f"two-{program}")) as running:
        yield running


@pytest.fixture
def made(tmp_path: Path) -> MadeImage:
    """An image for two platforms."""
    noise = b"".join(digest_of(str(n).encode()).encode() for n in range(40_000))
    specs = (
        ImageSpec(layers=[{"big": noise}, {"b": "2"}], architecture="amd64"),
        ImageSpec(layers=[{"a": "1"}], architecture="arm64"),
    )
    return make_layout(tmp_path / "image", *specs)


@pytest.mark.peer("oras", "skopeo")
def test_crane_oras_and_skopeo_see_the_image_that_we_copied(host: str, made: MadeImage) -> None:
    name = f"{host}/seen/app:v1"
    ours("copy", made.layout, name)
    assert run("crane", "digest", name) == made.digest
    run("crane", "validate", "--remote", name)
    fetched = json.loads(run("oras", "manifest", "fetch", "--plain-http", "--descriptor", name))
    assert fetched["digest"] == made.digest
    raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    assert digest_of(raw.encode()) == made.digest


def test_a_repository_that_crane_filled_is_copied_tag_by_tag(
    host: str, other: str, made: MadeImage, tmp_path: Path
) -> None:
    single = make_layout(tmp_path / "single", ImageSpec(layers=[{"s": "1"}]))
    for tag, image in (("v1", made), ("v2", single), ("v3", single)):
        run("crane", "push", "--index", image.layout, f"{host}/many/app:{tag}")
    first = ours("copy", f"{host}/many/app", f"{other}/many/app", "--all-tags")
    assert (first["copied"], first["failed"]) == (3, 0)
    assert run("crane", "ls", f"{other}/many/app") == run("crane", "ls", f"{host}/many/app")
    for tag in ("v1", "v2", "v3"):
        assert run("crane", "digest", f"{other}/many/app:{tag}") == run(
            "crane", "digest", f"{host}/many/app:{tag}"
        )
        run("crane", "validate", "--remote", f"{other}/many/app:{tag}")
    again = ours("copy", f"{host}/many/app", f"{other}/many/app", "--all-tags")
    assert (again["copied"], again["up_to_date"]) == (0, 3)
    listed = ours("ls", "-l", f"{other}/many/app")
    assert [t["tag"] for t in listed["tags"]] == ["v1", "v2", "v3"]


def test_within_one_distribution_nothing_travels(host: str, made: MadeImage) -> None:
    ours("copy", made.layout, f"{host}/mount/a:v1")
    report = ours("copy", f"{host}/mount/a:v1", f"{host}/mount/b:v1")
    (item,) = report["items"]
    assert item["mounted"] == item["blobs"] == 5
    assert report["bytes_sent"] == 0
    run("crane", "validate", "--remote", f"{host}/mount/b:v1")


def test_distribution_takes_no_sparse_index(host: str, made: MadeImage) -> None:
    command = ("copy", made.layout, f"{host}/sparse/app:v1", "--platform", "linux/arm64")
    said = run(sys.executable, "-m", "ci_registry", *command, check=False)
    assert "--rewrite-index" in said
    (item,) = ours(*command, "--rewrite-index")["items"]
    assert run("crane", "digest", f"{host}/sparse/app:v1") == item["digest"] != made.digest
    run("crane", "validate", "--remote", f"{host}/sparse/app:v1")


# --- archives


@pytest.mark.peer("skopeo")
def test_an_archive_of_skopeo_is_copied_and_ours_is_read_by_it(
    host: str, made: MadeImage, tmp_path: Path
) -> None:
    name = f"{host}/archive/app:v1"
    ours("copy", made.layout, name)
    theirs = tmp_path / "theirs.tar"
    keep = ("--all", "--preserve-digests")
    run("skopeo", "copy", *keep, *PLAIN, f"docker://{name}", f"oci-archive:{theirs}:v1")
    (item,) = ours("copy", f"oci-archive:{theirs}", f"{host}/archive/from-skopeo")["items"]
    assert (item["digest"], item["tag"]) == (made.digest, "v1")
    mine = tmp_path / "mine.tar"
    ours("copy", name, f"oci-archive:{mine}")
    run(
        "skopeo",
        "copy",
        *keep,
        *PLAIN,
        f"oci-archive:{mine}:v1",
        f"docker://{host}/archive/back:v1",
    )
    assert run("crane", "digest", f"{host}/archive/back:v1") == made.digest


@pytest.mark.peer("oras")
def test_oras_reads_our_archive_and_crane_our_layout(
    host: str, made: MadeImage, tmp_path: Path
) -> None:
    archive = tmp_path / "x.tar"
    ours("copy", made.layout, f"oci-archive:{archive}:v1")
    found = json.loads(
        run("oras", "manifest", "fetch", "--oci-layout", "--descriptor", f"{archive}:v1")
    )
    assert found["digest"] == made.digest
    to = f"{host}/archive/oras:v1"
    run("oras", "cp", "--from-oci-layout", "--to-plain-http", f"{archive}:v1", to)
    assert run("crane", "digest", to) == made.digest
    ours("copy", f"oci-archive:{archive}", f"oci:{tmp_path / 'layout'}")
    run("crane", "push", "--index", tmp_path / "layout", f"{host}/archive/crane:v1")
    run("crane", "validate", "--remote", f"{host}/archive/crane:v1")


def test_a_tarball_of_crane_is_a_docker_archive(host: str, made: MadeImage, tmp_path: Path) -> None:
    ours("copy", made.layout, f"{host}/tarball/app:v1")
    tarball = tmp_path / "crane.tar"
    run("crane", "pull", "--platform", "linux/amd64", f"{host}/tarball/app:v1", tarball)
    (item,) = ours("copy", f"docker-archive:{tarball}", f"{host}/tarball/back:v1")["items"]
    run("crane", "validate", "--remote", f"{host}/tarball/back:v1")
    assert run("crane", "config", f"{host}/tarball/back:v1") == run(
        "crane", "config", "--platform", "linux/amd64", f"{host}/tarball/app:v1"
    )
    assert item["blobs"] <= 3


@pytest.mark.peer("skopeo")
def test_a_docker_archive_of_skopeo_and_podman_is_read(
    host: str, made: MadeImage, tmp_path: Path
) -> None:
    """Both write it with containers/image: layers as HEX.tar, unpacked."""
    name = f"{host}/podman/app:v1"
    ours("copy", made.layout, name)
    archive = tmp_path / "x.tar"
    to = f"docker-archive:{archive}:acme/app:v7"
    run(
        "skopeo",
        "copy",
        "--override-arch",
        "amd64",
        "--src-tls-verify=false",
        f"docker://{name}",
        to,
    )
    report = ours("copy", f"docker-archive:{archive}", f"{host}/podman/back", "--all-tags")
    assert [item["tag"] for item in report["items"]] == ["v7"]
    run("crane", "validate", "--remote", f"{host}/podman/back:v7")
    assert run("crane", "config", f"{host}/podman/back:v7") == run(
        "crane", "config", "--platform", "linux/amd64", name
    )


@pytest.mark.parametrize("store", ["containerd", "classic"])
def test_what_docker_saved_is_copied_and_our_archive_is_loaded(
    store: str, host: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    daemon: Dockerd = request.getfixturevalue(
        "dockerd" if store == "containerd" else "dockerd_classic"
    )
    for tag in ("one", "two"):
        context = write_context(
            tmp_path / tag, f"FROM scratch\nCOPY file /\nLABEL name={tag}\n", file=tag
        )
        daemon.docker("build", "-q", "-t", f"saved/app:{tag}", str(context))
    archive = tmp_path / "saved.tar"
    daemon.docker("save", "-o", str(archive), "saved/app:one", "saved/app:two")
    report = ours("copy", f"docker-archive:{archive}:two", f"{host}/saved/{store}:v2")
    assert report["copied"] == 1
    config = json.loads(run("crane", "config", f"{host}/saved/{store}:v2"))
    assert config["config"]["Labels"] == {"name": "two"}
    both = ours("copy", f"docker-archive:{archive}", f"{host}/saved/{store}-all", "--all-tags")
    assert both["copied"] == 2
    assert run("crane", "ls", f"{host}/saved/{store}-all").split() == ["one", "two"]
    for tag in ("one", "two"):
        run("crane", "validate", "--remote", f"{host}/saved/{store}-all:{tag}")
    unnamed = (sys.executable, "-m", "ci_registry", "copy", f"docker-archive:{archive}", "oci:x")
    assert "holds 2 images" in run(*unnamed, check=False)
    if store == "containerd":
        ours("copy", f"{host}/saved/{store}:v2", f"oci-archive:{tmp_path / 'load.tar'}:v2")
        loaded = daemon.docker("load", "-i", str(tmp_path / "load.tar"))
        assert report["items"][0]["digest"].partition(":")[2] in loaded or "v2" in loaded


# --- signatures


@contextlib.contextmanager
def target_of(kind: str, other: str) -> Iterator[str]:
    """Give the host of a registry without the referrers API, or with it."""
    if kind == "distribution":
        yield other
        return
    with running_registry() as registry:
        yield registry.host


@pytest.mark.peer("cosign2", "cosign3", "oras")
@pytest.mark.parametrize("kind", ["distribution", "embedded"])
def test_cosign_verifies_the_copy_in_both_formats_on_every_platform(
    kind: str, host: str, other: str, made: MadeImage, tmp_path: Path
) -> None:
    pair = key_pair("ours")
    private, public = tmp_path / "ours.key", tmp_path / "ours.pub"
    private.write_text(pair.private_pem.reveal())
    public.write_text(pair.public_pem.decode())
    env = {"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path)}
    repository = f"signed/{kind}"
    source = f"{host}/{repository}"
    ours("copy", made.layout, f"{source}:v1")
    key = ("--key", private)
    for digest in (made.digest, *made.manifests):
        subject = f"{source}@{digest}"
        run("cosign2", "sign", "--tlog-upload=false", "-y", *key, subject, env=env)
        flags = ("--tlog-upload=false", "--use-signing-config=false", "-y")
        run("cosign3", "sign", *flags, *key, subject, env=env)
    sbom = tmp_path / "sbom.json"
    sbom.write_text("{}")
    attach = ("oras", "attach", "--disable-path-validation", "--plain-http")
    run(*attach, "--artifact-type", "application/x-sbom", f"{source}:v1", sbom)
    with target_of(kind, other) as target_host:
        target = f"{target_host}/{repository}"
        report = ours("copy", f"{source}:v1", f"{target}:v1")
        assert report["items"][0]["referrers"] == 7
        for digest in (made.digest, *made.manifests):
            subject = f"{target}@{digest}"
            for program in ("cosign2", "cosign3"):
                run(program, "verify", "--insecure-ignore-tlog", "--key", public, subject, env=env)
            sig = signature_tag(Digest(digest))
            assert run("crane", "manifest", f"{target}:{sig}") == run(
                "crane", "manifest", f"{source}:{sig}"
            )
        tree = run("oras", "discover", "--plain-http", "--format", "json", f"{target}:v1")
        assert "application/x-sbom" in tree
        assert "sigstore.bundle" in tree
        listed = ours("referrers", f"{target}:v1")["referrers"]
        assert len(listed) == 3
        again = ours("copy", f"{source}:v1", f"{target}:v1")
        assert again["up_to_date"] == 1


# --- deletion


def test_untagging_takes_one_tag_or_none_and_siblings_stay(
    host: str, program: str, made: MadeImage
) -> None:
    name = f"{host}/untag/app"
    ours("copy", made.layout, f"{name}:v1")
    ours("tag", f"{name}:v1", "v2", "v3")
    said = run(sys.executable, "-m", "ci_registry", "untag", f"{name}:v2", check=False)
    if program == OLD:
        assert "this registry can't delete a tag" in said
    left = ["v1", "v2", "v3"] if program == OLD else ["v1", "v3"]
    assert run("crane", "ls", name).split() == left
    run("crane", "validate", "--remote", f"{name}:v3")


@pytest.mark.peer("oras")
def test_a_deleted_image_is_gone_for_others_too_and_a_sibling_is_whole(
    host: str, made: MadeImage, tmp_path: Path
) -> None:
    name = f"{host}/rm/app"
    single = make_layout(tmp_path / "single", ImageSpec(layers=[{"a": "1"}], architecture="arm64"))
    assert single.digest in made.manifests  # the same platform image, with a tag of its own
    ours("copy", made.layout, f"{name}:v1")
    ours("copy", single.layout, f"{name}:arm64")
    note = tmp_path / "note"
    note.write_text("n")
    attach = ("oras", "attach", "--disable-path-validation", "--plain-http")
    run(*attach, "--artifact-type", "x/note", f"{name}:v1", note)
    report = ours("rm", f"{name}:v1", "--yes")
    assert {r["status"] for r in report["removals"]} == {"deleted"}
    assert len(report["kept"]) == 1
    assert run("crane", "ls", name).split() == ["arm64"]
    run("crane", "validate", "--remote", f"{name}:arm64")
    assert run("crane", "digest", f"{name}@{made.digest}", check=False).startswith("FAILED")


def test_du_agrees_with_the_size_of_the_blobs(host: str, made: MadeImage) -> None:
    name = f"{host}/du/app"
    ours("copy", made.layout, f"{name}:v1")
    (row,) = ours("du", name)["repositories"]
    on_disk = sum(p.stat().st_size for p in (made.layout / "blobs").rglob("*") if p.is_file())
    assert row["stored_bytes"] == on_disk

"""The registry commands as users call them: what they print, their exit codes, and what they refuse."""

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Index, parse_manifest
from ci_registry.registry.archive import open_archive
from ci_registry.registry.layout import Layout
from ci_registry.registry.transfer import manifests_of
from ci_registry.registry_server.catalog import StoredManifest
from ci_registry.registry_server.lookup import describe
from ci_registry.registry_server.options import Answer, Fault, Stall
from tests.support.cli import Outcome, Project, wait_until
from tests.support.images import ImageSpec, MadeImage, make_layout
from tests.support.registry import RunningRegistry, running_registry
from tests.support.remote import remote_repository

SPECS = (
    ImageSpec(layers=[{"a": "1"}, {"b": "x" * 5000}], architecture="amd64"),
    ImageSpec(layers=[{"a": "1"}], architecture="arm64", config={"Env": ["TOKEN=hunter2"]}),
)


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty folder outside of any repository."""
    project = Project(base=tmp_path)
    for name in ("project", "home", "work", "tmp"):
        (tmp_path / name).mkdir()
    return project


@pytest.fixture
def image(project: Project) -> MadeImage:
    """A layout `image` in the project, for two platforms."""
    return make_layout(project.folder / "image", *SPECS)


def good(outcome: Outcome) -> str:
    assert outcome.exit_code == 0, outcome.stderr
    return outcome.stdout


def bad(outcome: Outcome, exit_code: int, message: str) -> None:
    assert outcome.exit_code == exit_code, (outcome.stdout, outcome.stderr)
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr


def as_json(outcome: Outcome) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(good(outcome))
    assert parsed["schema_version"] == 1
    return parsed


def test_an_image_goes_round_every_kind_of_place(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    host = registry.host
    for source, target in (
        ("image", f"{host}/team/app:v1"),
        (f"{host}/team/app:v1", f"docker://{host}/other/app:v2"),
        (f"{host}/other/app:v2", "oci-archive:image.tar"),
        ("oci-archive:image.tar", "oci:back:v3"),
        ("back", "oci-archive:again.tar:v4"),
        (f"oci:back@{image.digest}", f"{host}/third/app"),
    ):
        outcome = as_json(project.run("copy", source, target, "--format", "json"))
        assert (outcome["copied"], outcome["failed"]) == (1, 0)
        assert outcome["items"][0]["digest"] == image.digest
    assert open_archive(project.folder / "image.tar").tags() == ("v2",)
    assert open_archive(project.folder / "again.tar").tags() == ("v4",)
    assert Layout(project.folder / "back").tags() == ("v3",)
    assert registry.store.catalog.tags("third/app", after="", limit=9) == ()
    again = good(project.run("copy", "image", f"{host}/team/app:v1"))
    assert "0 copied, 1 up to date, 0 failed" in again
    assert project.left_overs == []


def test_a_layout_whose_tags_are_whole_references_is_understood(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    """As `ci-registry serve export` and some builders write them."""
    layout = Layout(image.layout)
    index = layout.fetch(image.digest)
    for tag in ("team/app:v1", "team/other:v2"):
        layout.push(tag, index.body, index.media_type)
    good(project.run("copy", "oci:image:team/app:v1", f"{registry.host}/team/app"))
    assert good(project.run("ls", f"{registry.host}/team/app")) == "v1\n"


def test_a_whole_repository_is_copied_and_copied_again(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    host = registry.host
    for tag in ("v1", "v2", "dev"):
        good(project.run("copy", "image", f"{host}/team/app:{tag}"))
    dry = good(project.run("copy", f"{host}/team/app", f"{host}/to/app", "--all-tags", "--dry-run"))
    assert dry.count("would copy") == 3
    assert not registry.store.catalog.has_repository("to/app")
    text = good(project.run("copy", f"{host}/team/app", f"{host}/to/app", "--tags", "v*"))
    assert "2 copied, 0 up to date, 0 failed" in text
    text = good(project.run("copy", f"{host}/team/app", f"{host}/to/app", "--all-tags"))
    assert "1 copied, 2 up to date, 0 failed" in text
    assert "--deep" in text
    layout = good(project.run("copy", f"{host}/team/app", "oci:all", "--all-tags"))
    assert "3 copied" in layout
    assert Layout(project.folder / "all").tags() == ("dev", "v1", "v2")
    assert good(project.run("ls", "all")) == "dev\nv1\nv2\n"


def test_tags_that_fail_are_listed_and_the_exit_code_is_4(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    host = registry.host
    for tag in ("v1", "v2"):
        good(project.run("copy", "image", f"{host}/team/app:{tag}"))
    other = make_layout(project.folder / "other", ImageSpec(layers=[{"o": "ther"}]))
    good(project.run("copy", "other", f"{host}/team/app:v3"))
    layer = Layout(other.layout).fetch(other.digest).layers[0].digest  # type: ignore[union-attr]
    registry.faults.add(Fault(action=Answer(status=404), path=f"blobs/{layer}", times=0))
    arguments = ("copy", f"{host}/team/app", "oci:all", "--all-tags", "--format", "json")
    failed = project.run(*arguments)
    assert failed.exit_code == 4
    report = json.loads(failed.stdout)
    assert {i["tag"]: i["status"] for i in report["items"]} == {
        "v1": "copied",
        "v2": "copied",
        "v3": "failed",
    }
    assert report["items"][2]["error"]
    registry.faults.clear()
    report = as_json(project.run(*arguments))
    assert (report["copied"], report["up_to_date"]) == (1, 2)


def test_an_archive_that_can_not_be_whole_is_not_written(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    good(project.run("copy", "image", f"{registry.host}/team/app:v1"))
    registry.faults.add(Fault(action=Answer(status=404), path="/blobs/", times=0))
    bad(project.run("copy", f"{registry.host}/team/app:v1", "oci-archive:x.tar"), 4, "404")
    assert sorted(path.name for path in project.folder.iterdir()) == ["image"]


def test_some_platforms(project: Project, registry: RunningRegistry, image: MadeImage) -> None:
    to = f"{registry.host}/team/app:v1"
    refused = project.run("copy", "image", to, "--platform", "linux/arm64")
    bad(refused, 2, "takes no index with only some of its platforms")
    assert "--rewrite-index" in refused.stderr
    written = project.run("copy", "image", to, "--platform", "linux/arm64", "--rewrite-index")
    assert f"sha256:{image.digest.hex}" not in good(written)
    assert "do not carry over" in written.stderr
    sparse = as_json(
        project.run("copy", "image", "oci:part", "--platform", "linux/arm64", "--format", "json")
    )
    assert sparse["items"][0]["digest"] == image.digest
    bad(project.run("copy", "image", to, "--platform", "linux/mips"), 2, "has no image for")
    bad(project.run("copy", "image", to, "--platform", "all"), 2, "not a platform")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("copy", "image", "ghcr.io/acme/api:" + "t" * 129), "is not a tag"),
        (("copy", "image", "ghcr.io/acme/.."), "is not a repository"),
        (("copy", "image", "docker-archive:x.tar"), "can only be read"),
        (("copy", "image", "oci:x", "--rewrite-index"), "needs --platform"),
        (("copy", "image:v1", "oci:x:v1", "--all-tags"), "names one image"),
        (("copy", "oci:image", "oci:x", "--tags"), "requires an argument"),
        (("copy", "image", "oci:x@sha256:" + "a" * 64), "the target names"),
        (("copy", "docker-archive:image", "oci:x"), "is no file"),
        (("tag", "image", "t" * 129), "not a tag"),
        (("tag", "image", "other:repo"), "not a tag"),
        (("copy", "image", "oci:image"), "source and target are the same"),
        (("copy", "oci:image:v1", "oci:image:v1"), "source and target are the same"),
        (
            ("copy", "r.example/a/b", "r.example/a/b", "--all-tags"),
            "source and target are the same",
        ),
        (("copy", "dir:image", "oci:x"), "dir: is no kind of place"),
        (("copy", "image", "http://r.example/a/b:v1"), "http:// is no kind of place"),
        (("copy", "image", "oci:image/index.json"), "is a file"),
        (("untag", "oci:image"), "names no tag"),
        (("untag", "oci-archive:x.tar:v1"), "can't be changed"),
        (("rm", "oci:image"), "names no image"),
        (("ls", "oci:image:v1"), "names one image"),
        (("du", "oci:image:v1"), "names one image"),
        (("ls", "./nothing"), "is no OCI layout folder"),
    ],
)
def test_what_makes_no_sense_is_exit_2(
    project: Project, image: MadeImage, arguments: tuple[str, ...], message: str
) -> None:
    bad(project.run(*arguments), 2, message)
    assert sorted(path.name for path in project.folder.iterdir()) == ["image"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("copy", "{host}/no/such:v1", "oci:x"),
        ("copy", "{host}/no/such", "oci:x", "--all-tags"),
        ("ls", "{host}/no/such"),
        ("inspect", "{host}/no/such"),
        ("referrers", "{host}/no/such:v1"),
        ("du", "{host}/no/such"),
        ("tag", "{host}/no/such:v1", "v2"),
        ("untag", "{host}/no/such:v1"),
        ("rm", "{host}/no/such:v1", "--yes"),
        ("ls", "oci:absent"),
    ],
)
def test_what_is_not_there_is_exit_4(
    project: Project, registry: RunningRegistry, arguments: tuple[str, ...]
) -> None:
    outcome = project.run(*(text.format(host=registry.host) for text in arguments))
    assert outcome.exit_code == 4, outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert len(outcome.stderr.splitlines()) <= 3


def test_the_given_login_counts_for_the_place_that_is_written(
    project: Project, image: MadeImage
) -> None:
    with running_registry(users={"ci": "hunter2"}) as closed:
        to = f"{closed.host}/team/app:v1"
        bad(project.run("copy", "image", to), 2, "401")
        env = {"CIREG_REGISTRY_USERNAME": "ci", "CIREG_REGISTRY_PASSWORD": "hunter2"}
        good(project.run("copy", "image", to, env=env))
        assert good(project.run("ls", f"{closed.host}/team/app", env=env)) == "v1\n"
        wrong = project.run(
            "ls", f"{closed.host}/team/app", env={**env, "CIREG_REGISTRY_PASSWORD": "no"}
        )
        assert wrong.exit_code == 2
        assert "hunter2" not in wrong.stderr


def test_a_job_without_a_checkout_can_copy_and_a_broken_policy_stops_nothing(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    name = f"{registry.host}/team/app"
    project.write("policy.yml", "rules: [what is this")
    project.write(".ci-registry.yml", "policy: policy.yml\n")
    env = {"GITHUB_ACTIONS": "true", "GITHUB_SHA": "a" * 40, "GITHUB_REF": "refs/heads/main"}
    good(project.run("copy", "image", f"{name}:v1", env=env))
    assert good(project.run("ls", name)) == "v1\n"
    bad(project.run("policy", "check"), 2, "policy.yml")


# --- reading


def test_a_long_list_says_what_each_tag_is(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    name = f"{registry.host}/team/app"
    good(project.run("copy", "image", f"{name}:v1"))
    with remote_repository(registry.host, "team/app") as repository:
        body = repository.fetch("v1")
        repository.push(f"sha256-{image.digest.hex}.sig", body.body, body.media_type)
    short = project.run("ls", name)
    assert good(short) == "v1\n"
    assert "1 signature tags are not shown" in short.stderr
    assert len(good(project.run("ls", "--all", name)).splitlines()) == 2
    (row,) = as_json(project.run("ls", "-l", name, "--format", "json"))["tags"]
    assert row == {
        "tag": "v1",
        "digest": image.digest,
        "media_type": media_types.OCI_INDEX,
        "size": len(body.body),
    }
    assert good(project.run("ls", "-l", name)).split()[0] == image.digest


def test_a_hundred_thousand_tags_are_listed(project: Project, registry: RunningRegistry) -> None:
    body = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    stored = StoredManifest(
        digest=digest_of(body), media_type=media_types.OCI_INDEX, size=len(body)
    )
    tags = tuple(f"build-{number:06}" for number in range(100_000))
    registry.store.put_manifest("team/app", stored, body, tags)
    outcome = project.run("ls", f"{registry.host}/team/app")
    assert tuple(good(outcome).split()) == tags
    assert registry.count("GET", "/tags/list") in (100, 101)


def test_a_reader_that_leaves_early_ends_the_list(
    project: Project, registry: RunningRegistry
) -> None:
    body = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    stored = StoredManifest(
        digest=digest_of(body), media_type=media_types.OCI_INDEX, size=len(body)
    )
    registry.store.put_manifest(
        "team/app", stored, body, tuple(f"build-{number:06}" for number in range(20_000))
    )
    command = f"{sys.executable} -m ci_registry ls {registry.host}/team/app | head -2"
    done = subprocess.run(
        command,
        shell=True,
        env=project.env,
        cwd=project.folder,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == [b"build-000000", b"build-000001"]
    assert b"Traceback" not in done.stderr
    assert b"Broken" not in done.stderr


def test_raw_is_exactly_the_bytes(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    name = f"{registry.host}/team/app:v1"
    good(project.run("copy", "image", name))
    for place in (name, "image", f"{registry.host}/team/app@{image.digest}"):
        done = subprocess.run(
            (sys.executable, "-m", "ci_registry", "inspect", "--raw", place),
            env=project.env,
            cwd=project.folder,
            capture_output=True,
            check=True,
        )
        assert hashlib.sha256(done.stdout).hexdigest() == image.digest.hex


def test_inspect_shows_platforms_and_layers_but_no_values_of_variables(
    project: Project, image: MadeImage
) -> None:
    text = good(project.run("inspect", "image"))
    assert "image linux/amd64" in text
    assert "environment: TOKEN" in text
    assert "hunter2" not in text
    tree = as_json(project.run("inspect", "image", "--format", "json"))["manifest"]
    assert tree["kind"] == "index"
    assert [child["platform"] for child in tree["manifests"]] == ["linux/amd64", "linux/arm64"]
    assert [len(child["layers"]) for child in tree["manifests"]] == [2, 1]


def test_foreign_text_can_not_drive_the_terminal(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    index = json.loads(Layout(image.layout).fetch(image.digest).body)
    index["annotations"] = {"note": "\x1b[31mred\n::error::boo"}
    layout = Layout(image.layout)
    layout.push("evil", json.dumps(index).encode(), media_types.OCI_INDEX)
    outcome = project.run("inspect", "oci:image:evil", env={"GITHUB_ACTIONS": "true"})
    assert "\x1b" not in good(outcome)
    assert not any(line.lstrip().startswith("::") for line in outcome.stdout.splitlines())


def test_du_adds_up(project: Project, registry: RunningRegistry, image: MadeImage) -> None:
    names = [f"{registry.host}/team/{name}" for name in ("a", "b")]
    for name in names:
        good(project.run("copy", "image", f"{name}:v1"))
    report = as_json(project.run("du", *names, names[0], "--format", "json"))
    files = [p for p in (image.layout / "blobs").rglob("*") if p.is_file()]
    stored = sum(path.stat().st_size for path in files)
    assert [r["stored_bytes"] for r in report["repositories"]] == [stored, stored]
    assert [r["unique_bytes"] for r in report["repositories"]] == [0, 0]
    assert abs(report["stored_bytes"] - stored) <= 2
    assert "UNIQUE" in good(project.run("du", names[0]))


# --- bounded


def test_too_many_referrers_are_named_and_there_is_a_way_round(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    name = f"{registry.host}/team/app:v1"
    good(project.run("copy", "image", name))
    subject = Layout(image.layout).fetch(image.digest).descriptor
    empty = {"mediaType": media_types.OCI_EMPTY, "digest": digest_of(b"{}"), "size": 2}
    for number in range(5000):
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": empty,
            "layers": [empty],
            "subject": subject.to_json(),
            "annotations": {"number": str(number)},
        }
        body = json.dumps(document).encode()
        digest = digest_of(body)
        registry.store.catalog.add_manifest("team/app", describe(parse_manifest(body), digest), ())
    bad(project.run("referrers", name), 4, f"more than 1000 referrers of {image.digest}")
    bad(project.run("copy", name, "oci:x"), 4, f"more than 1000 referrers of {image.digest}")
    good(project.run("copy", name, "oci:y", "--no-referrers"))
    assert registry.count("GET", "/referrers/") <= 8


def test_a_manifest_that_is_too_large_is_not_copied(
    project: Project, registry: RunningRegistry
) -> None:
    body = b'{"schemaVersion":2,"manifests":[]' + b" " * (4 * 1024 * 1024) + b"}"
    answer = Answer(
        status=200,
        headers=(
            ("Content-Type", media_types.OCI_INDEX),
            ("Docker-Content-Digest", digest_of(body)),
        ),
        body=body,
    )
    registry.faults.add(Fault(action=answer, path="/manifests/", times=0))
    bad(project.run("copy", f"{registry.host}/team/app:v1", "oci:x"), 4, "too large")
    bad(project.run("inspect", f"{registry.host}/team/app:v1"), 4, "too large")


def test_an_interrupted_copy_moves_no_tag(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    registry.faults.add(Fault(action=Stall(duration_s=30), method="PUT", path="/blobs/", times=0))
    running = project.start("copy", "image", f"{registry.host}/team/app:v1")
    wait_until(lambda: registry.count("POST", "/blobs/") >= 2, "an upload")
    running.signal(signal.SIGINT)
    outcome = running.wait(20)
    assert outcome.exit_code == 130
    assert registry.store.catalog.tags("team/app", after="", limit=9) == ()
    assert project.left_overs == []


# --- tags and deletion


def test_tags_move_and_go_one_by_one(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    name = f"{registry.host}/team/app"
    good(project.run("copy", "image", f"{name}:v1"))
    assert good(project.run("tag", f"{name}:v1", "v2", "latest")).count("(new)") == 2
    moved = as_json(project.run("tag", f"{name}:v1", "v2", "--format", "json"))["tags"]
    assert moved == [{"tag": "v2", "digest": image.digest, "before": image.digest}]
    bad(project.run("untag", f"{name}:v2@sha256:{'a' * 64}"), 2, "it was not removed")
    assert f"{image.digest} stays" in good(project.run("untag", f"{name}:v2@{image.digest}"))
    assert good(project.run("ls", name)) == "latest\nv1\n"


def test_untag_where_it_is_impossible_says_what_can_be_done(
    project: Project, image: MadeImage
) -> None:
    with running_registry(tag_delete=False) as harbor:
        name = f"{harbor.host}/team/app"
        good(project.run("copy", "image", f"{name}:v1"))
        outcome = project.run("untag", f"{name}:v1")
        bad(outcome, 2, "this registry can't delete a tag")
        assert f"ci-registry rm {name}@{image.digest}" in outcome.stderr
        assert good(project.run("ls", name)) == "v1\n"


def test_rm_says_what_goes_and_wants_a_yes(
    project: Project, registry: RunningRegistry, image: MadeImage
) -> None:
    name = f"{registry.host}/team/app"
    good(project.run("copy", "image", f"{name}:v1"))
    good(project.run("tag", f"{name}:v1", "prod"))
    refused = project.run("rm", f"{name}:v1")
    bad(refused, 2, "needs --yes")
    dry = project.run("rm", f"{name}:v1", "--dry-run")
    assert "nothing was deleted" in good(dry)
    for text in (refused.stderr, dry.stderr):
        for gone in ("prod", "v1", image.digest, *image.manifests):
            assert gone in text
    assert good(project.run("ls", name)) == "prod\nv1\n"
    child = project.run("rm", f"{name}@{image.manifests[0]}", "--yes")
    bad(child, 2, "is a part of index")
    report = as_json(project.run("rm", f"{name}@{image.digest}", "--yes", "--format", "json"))
    assert {r["status"] for r in report["removals"]} == {"deleted"}
    assert [r["kind"] for r in report["removals"]] == [
        "tag",
        "tag",
        "image",
        "platform",
        "platform",
    ]
    assert project.run("ls", name).exit_code == 4


@pytest.mark.parametrize(("answer", "exit_code", "stays"), [("y", 0, False), ("n", 0, True)])
def test_rm_asks_on_a_terminal(
    project: Project,
    registry: RunningRegistry,
    image: MadeImage,
    answer: str,
    exit_code: int,
    *,
    stays: bool,
) -> None:
    name = f"{registry.host}/team/app"
    good(project.run("copy", "image", f"{name}:v1"))
    parent, child = pty.openpty()
    try:
        process = subprocess.Popen(
            (sys.executable, "-m", "ci_registry", "rm", f"{name}:v1"),
            cwd=project.folder,
            env=project.env,
            stdin=child,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.write(parent, f"{answer}\n".encode())
        _, stderr = process.communicate(timeout=60)
    finally:
        os.close(parent)
        os.close(child)
    assert process.returncode == exit_code, stderr
    assert b"Delete these" in stderr
    assert bool(registry.store.catalog.tags("team/app", after="", limit=9)) == stays


def test_a_layout_can_be_cleaned_up_too(project: Project, image: MadeImage) -> None:
    good(project.run("copy", "image", "oci:kept:v1"))
    other = make_layout(project.folder / "other", ImageSpec(layers=[{"o": "ther"}]))
    good(project.run("copy", "other", "oci:kept:v2"))
    good(project.run("rm", "oci:kept:v1", "--yes"))
    layout = Layout(project.folder / "kept")
    assert layout.tags() == ("v2",)
    assert layout.root().digest == other.digest
    assert len(manifests_of(layout, layout.root())) == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_prints_a_script(project: Project, shell: str) -> None:
    text = good(project.run(env={"_CI_REGISTRY_COMPLETE": f"{shell}_source"}))
    assert "_CI_REGISTRY_COMPLETE" in text
    assert "ci-registry" in text


def test_completion_offers_commands_and_options(project: Project) -> None:
    env = {
        "_CI_REGISTRY_COMPLETE": "bash_complete",
        "COMP_CWORD": "1",
        "COMP_WORDS": "ci-registry c",
    }
    assert "plain,copy" in good(project.run(env=env)).splitlines()
    env |= {"COMP_CWORD": "2", "COMP_WORDS": "ci-registry copy --all"}
    assert good(project.run(env=env)) == "plain,--all-tags\n"


def test_an_index_is_what_the_copied_bytes_say(project: Project, image: MadeImage) -> None:
    good(project.run("copy", "image", "oci-archive:x.tar:v1"))
    archive = open_archive(project.folder / "x.tar")
    index = archive.fetch(Digest(image.digest))
    assert isinstance(index, Index)
    assert [child.digest for child in index.manifests] == list(image.manifests)

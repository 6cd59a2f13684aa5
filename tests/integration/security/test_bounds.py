"""Images, databases and settings that want to break out or to eat the machine are refused, in little memory."""

import gzip
import io
import json
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.canaries import Canaries
from tests.support.cli import OS_RELEASE, Project, make_project
from tests.support.images import DEBIAN_OS_RELEASE, ImageSpec, make_layout, put_blob, tar_of
from tests.support.registry import RunningRegistry

MAX_MEMORY_BYTES = 1024 * 1024 * 1024


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    """Return a tar with one entry."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)
    return buffer.getvalue()


def escape(layout: Path) -> None:
    make_layout(layout, ImageSpec(layers=[entry("../../../../escaped")]))


def escape_by_hard_link(layout: Path) -> None:
    make_layout(layout, ImageSpec(layers=[entry("a", tarfile.LNKTYPE, "../../../etc/passwd")]))


def bomb(layout: Path) -> None:
    """Thirty layers' worth of zeroes in one: 4 GiB from 4 MiB."""
    plain = tar_of({"etc/os-release": DEBIAN_OS_RELEASE})[:1024]
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed:
        packed.write(plain)
    chunk = gzip.compress(bytes(64 * 1024 * 1024), 9, mtime=0)
    blob = buffer.getvalue() + chunk * 64
    replace_layer(layout, blob)


def lying_size(layout: Path) -> None:
    edit_manifest(layout, lambda m: m["layers"][0].update(size=m["layers"][0]["size"] + 1))


def deep_manifest(layout: Path) -> None:
    edit_manifest(layout, lambda m: m.update(annotations=json.loads("[" * 100 + "]" * 100)))


def large_manifest(layout: Path) -> None:
    edit_manifest(layout, lambda m: m.update(annotations={"a": "x" * 5 * 1024 * 1024}))


def path_for_a_digest(layout: Path) -> None:
    edit_manifest(layout, lambda m: m["layers"][0].update(digest="sha256:../../../../etc/passwd"))


def blob_path(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def edit_manifest(layout: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Make an image and store another manifest for it."""
    made = make_layout(layout, ImageSpec(layers=[{"etc/os-release": OS_RELEASE}]))
    manifest = json.loads(blob_path(layout, str(made.digest)).read_text())
    edit(manifest)
    body = json.dumps(manifest).encode()
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0] |= {"digest": str(put_blob(layout, body)), "size": len(body)}
    (layout / "index.json").write_text(json.dumps(index))


def replace_layer(layout: Path, blob: bytes) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["layers"][0] |= {"digest": str(put_blob(layout, blob)), "size": len(blob)}

    edit_manifest(layout, edit)


@pytest.mark.parametrize(
    "make",
    [
        escape,
        escape_by_hard_link,
        bomb,
        lying_size,
        deep_manifest,
        large_manifest,
        path_for_a_digest,
    ],
    ids=lambda make: make.__name__,
)
def test_hostile_image_is_refused_before_a_scanner_or_registry_gets_it(
    tmp_path: Path, registry: RunningRegistry, canaries: Canaries, make: Callable[[Path], None]
) -> None:
    project = make_project(tmp_path, registry, images={"app": {"from_layout": "image"}})
    make(project.folder / "image")

    done = run_in_little_memory(project, canaries)

    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    result = project.result()
    assert result["images"][0]["verdict"] == "incomplete"
    assert result["images"][0]["failed_step"] in ("build", "inspect", "obtain")
    assert not [s for s in registry.seen if s.method == "PUT"]
    assert not list(tmp_path.rglob("escaped"))


def run_in_little_memory(
    project: Project, canaries: Canaries
) -> "subprocess.CompletedProcess[str]":
    """Run with an address space that a bomb would not fit into."""
    limit = (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES)
    return subprocess.run(
        [sys.executable, "-m", "ci_registry", "run"],
        cwd=project.folder,
        env=project.env | canaries.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("records/EVIL-1.json", b"[" * 200_000),
        ("records/EVIL-1.json", b'{"id": "EVIL-1", "affected": [{"package": 7}]}'),
        ("database.json", b"[" * 200_000),
        ("all.zip", b"PK\x03\x04 no archive"),
    ],
    ids=["deep", "misshapen", "deep facts", "no archive"],
)
def test_advisories_that_cannot_be_read_end_the_run_and_are_never_no_findings(
    project: Project, registry: RunningRegistry, canaries: Canaries, name: str, data: bytes
) -> None:
    (project.base / "osv" / name).write_bytes(data)

    done = project.run("run", env=canaries.env)

    assert done.exit_code in (4, 5), done.stderr
    assert "Traceback" not in done.stderr
    assert project.result()["images"][0]["verdict"] == "incomplete"
    assert not [s for s in registry.seen if s.method == "PUT" and "/manifests/" in s.path]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n" * 1
        + "".join(
            f"{chr(99 + n)}: &{chr(99 + n)} [{', '.join(['*' + chr(98 + n)] * 9)}]\n"
            for n in range(9)
        ),
        "policy: !!python/object/apply:os.system ['touch pwned']\n",
        "images: " + "[" * 20_000 + "\n",
    ],
    ids=["bomb", "python", "deep"],
)
def test_settings_cannot_run_code_or_explode(project: Project, text: str) -> None:
    project.write(".ci-registry.yml", text)

    done = project.run("run")

    assert done.exit_code == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(project.base.rglob("pwned"))

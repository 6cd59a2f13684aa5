"""What `--format json` prints is what the reference page says, key by key."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.oci import media_types
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.layout import Layout
from tests.support.cli import Project
from tests.support.images import ImageSpec, make_layout
from tests.support.registry import running_registry
from tests.support.remote import remote_repository

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "json.md"
_ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
_FREE = ("annotations", "labels")
"""Objects whose keys are the image's own."""


def documented() -> dict[str, set[str]]:
    """Return the keys of each command on the page."""
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        title, _, body = section.partition("\n")
        for command in re.findall(r"`([a-z-]+)`", title):
            found[command] = set(_ROW.findall(body))
    return found


def keys_of(value: object, path: str = "") -> set[str]:
    """Return the path of each key; what stands in a list is `name[]`, a manifest in a manifest its parent."""
    if isinstance(value, list):
        return {key for item in value for key in keys_of(item, f"{path}[]")}
    if not isinstance(value, dict):
        return set()
    found: set[str] = set()
    for key, inner in value.items():
        here = f"{path}.{key}".lstrip(".")
        found.add(here)
        if key in _FREE:
            continue
        deeper = "manifest" if re.fullmatch(r"(manifest)(\.manifests)", here) else here
        found |= {k.replace("manifest[]", "manifest") for k in keys_of(inner, deeper)}
    return found


@pytest.fixture
def outputs(tmp_path: Path) -> Iterator[dict[str, set[str]]]:
    """Run every command so that each key turns up; yields command → keys."""
    for name in ("project", "home", "work", "tmp"):
        (tmp_path / name).mkdir()
    project = Project(base=tmp_path)
    specs = [
        ImageSpec(layers=[{"a": name}], architecture=name, config={"Env": ["A=b"]})
        for name in ("amd64", "arm64")
    ]
    image = make_layout(project.folder / "image", *specs)
    with running_registry() as registry:
        name = f"{registry.host}/team/app"

        def run(*arguments: str) -> set[str]:
            return keys_of(json.loads(project.run(*arguments, "--format", "json").stdout))

        copied = run("copy", "image", f"{name}:v1")
        with remote_repository(registry.host, "team/app") as repository:
            repository.push("bad", *_broken(image.layout))
            root = repository.fetch("v1").descriptor
            repository.attach(root, _referrer(root), media_types.OCI_INDEX)
        copied |= run("copy", name, "oci:to", "--all-tags", "--platform", "linux/amd64")
        yield {
            "copy": copied,
            "ls": run("ls", "-l", name),
            "inspect": run("inspect", f"{name}:v1"),
            "referrers": run("referrers", f"{name}:v1"),
            "du": run("du", name),
            "tag": run("tag", f"{name}:v1", "v2"),
            "untag": run("untag", f"{name}:v2"),
            "rm": run("rm", f"{name}:v1", "--yes"),
        }


def _broken(layout: Path) -> tuple[bytes, str]:
    """Return an image for one platform only, so that copying another one fails."""
    index = json.loads(Layout(layout).fetch(Layout(layout).root().digest).body)
    index["manifests"] = [c for c in index["manifests"] if c["platform"]["architecture"] != "amd64"]
    return json.dumps(index).encode(), media_types.OCI_INDEX


def _referrer(subject: Descriptor) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "artifactType": "application/x-note",
            "manifests": [],
            "subject": subject.to_json(),
        }
    ).encode()


def test_the_page_lists_exactly_what_is_printed(outputs: dict[str, set[str]]) -> None:
    pages = documented()
    assert set(pages) == set(outputs)
    for command, keys in outputs.items():
        assert keys == pages[command], command

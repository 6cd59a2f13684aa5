"""The names under which BuildKit gets a context."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ci_registry.builders.context_link import check_inputs, link_context
from ci_registry.builders.interface import BuildRequest, BuildSecret
from ci_registry.errors import SetupError


def request(tmp_path: Path, **more: Any) -> BuildRequest:
    context = tmp_path / "src"
    context.mkdir(exist_ok=True)
    dockerfile = context / "Dockerfile"
    dockerfile.write_text("FROM scratch\n")
    values: dict[str, Any] = {
        "image": "api",
        "context": context,
        "dockerfile": dockerfile,
        "layout": tmp_path / "layout",
        "work": tmp_path / "work",
    }
    return BuildRequest(**(values | more))


def test_links_lead_to_the_real_folders(tmp_path: Path) -> None:
    asked = request(tmp_path)
    linked = link_context(asked, lambda _c, _d: "hash")
    assert linked.context.resolve() == asked.context
    assert linked.dockerfile.read_text() == "FROM scratch\n"
    assert linked.dockerfile.name == "Dockerfile"
    assert len(linked.context.name) == 64
    assert linked.context.name == linked.dockerfile.parent.name


def test_name_follows_context_dockerfile_and_its_ignore_file(tmp_path: Path) -> None:
    asked = request(tmp_path)

    def name(context_hash: str = "hash") -> str:
        return link_context(asked, lambda _c, _d: context_hash).context.name

    names = [name(), name("other")]
    asked.dockerfile.write_text("FROM scrotch\n")
    names.append(name())
    asked.dockerfile.with_name("Dockerfile.dockerignore").write_text("")
    names.append(name())
    asked.dockerfile.with_name("Dockerfile.dockerignore").write_text("x")
    names.append(name())
    assert len(set(names)) == 5
    assert names[-1] == name()


def test_what_is_missing_is_named_before_anything_starts(tmp_path: Path) -> None:
    good = request(tmp_path)
    check_inputs(good)
    absent = tmp_path / "absent"
    bad = {
        "not a folder": dataclasses.replace(good, context=absent),
        "svc/Dockerfile does not exist": dataclasses.replace(
            good, dockerfile=absent, dockerfile_name="svc/Dockerfile"
        ),
        "'npm' of api is missing": dataclasses.replace(
            good, secrets=(BuildSecret(id="npm", file=absent),)
        ),
    }
    for words, asked in bad.items():
        with pytest.raises(SetupError, match=words):
            check_inputs(asked)

"""The pages lead somewhere, and what they show parses."""

import re
from pathlib import Path

import pytest
import yaml

from ci_registry.config.load import SAME_AS_CHECKOUT, SourceFile, load_settings
from ci_registry.policy.reader import read_policy
from tests.support.peers import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def yaml_blocks() -> list[tuple[str, str]]:
    return [
        (str(page.relative_to(ROOT)), text)
        for page in PAGES
        for kind, text in FENCE.findall(page.read_text())
        if kind == "yaml"
    ]


@pytest.mark.parametrize(("page", "text"), yaml_blocks())
def test_every_yaml_sample_is_valid_for_what_it_is(page: str, text: str) -> None:
    data = yaml.safe_load(text)
    if isinstance(data, dict) and data.get("kind") == "Policy":
        assert read_policy(text.encode(), file=page).rules
    elif isinstance(data, dict) and "images" in data:
        file = SourceFile(path=page, data=text.encode())
        loaded = load_settings(checkout=file, trusted=SAME_AS_CHECKOUT, env={}, options={})
        assert loaded.selected


def test_every_command_stands_in_a_page() -> None:
    from ci_registry.cli.main import _COMMANDS

    text = "\n".join(page.read_text() for page in PAGES)
    for command in _COMMANDS:
        assert f"ci-registry {command}" in text, command


def test_console_samples_name_only_options_that_exist() -> None:
    import click

    from ci_registry.cli.main import cli
    from ci_registry.config.options import all_options

    context = click.Context(cli)
    known = {spec.option for spec in all_options()}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        parts = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
        known |= {o for part in parts for p in part.params for o in (*p.opts, *p.secondary_opts)}
    for page in PAGES:
        for kind, text in FENCE.findall(page.read_text()):
            if kind != "console":
                continue
            for line in text.splitlines():
                if line.startswith("$ ci-registry"):
                    shown = line.partition("#")[0]
                    assert set(re.findall(r"(?<= )--[a-z-]+", shown)) <= known, line

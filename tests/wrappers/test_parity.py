"""action.yml, the GitLab template, the command line, the environment names and the docs agree."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from ci_registry.config.options import Scope, all_options
from tests.support.peers import ROOT


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_reference", ROOT / "scripts/make_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
HEADER, BODY = yaml.safe_load_all((ROOT / "gitlab-templates/image.yml").read_text())
INPUTS = {spec.name: spec for spec in all_options() if spec.wrapper_input}
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]


@pytest.mark.parametrize("name", list(GENERATOR.files()))
def test_made_files_are_current(name: str) -> None:
    assert (ROOT / name).read_text() == GENERATOR.files()[name], "run: make reference"


def test_action_has_every_setting_and_nothing_else() -> None:
    assert set(ACTION["inputs"]) == {*INPUTS, "python-path"}


def test_every_input_defaults_to_not_given_and_is_described() -> None:
    for name, entry in ACTION["inputs"].items():
        assert entry["default"] == "", name
        assert entry["description"].endswith("."), name
    for name, entry in HEADER["spec"]["inputs"].items():
        if name.replace("_", "-") in INPUTS and name != "report_dir":
            assert entry["default"] == "", name


def test_action_is_composite_without_foreign_actions_and_without_expressions_in_scripts() -> None:
    assert ACTION["runs"]["using"] == "composite"
    for step in STEPS:
        assert "uses" not in step
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]


def test_each_input_reaches_the_tool_once_under_its_environment_name() -> None:
    env = {name: value for step in STEPS for name, value in step.get("env", {}).items()}

    assert env.pop("INPUT_PYTHON_PATH") == "${{ inputs.python-path }}"
    assert env == {spec.env: f"${{{{ inputs.{name} }}}}" for name, spec in INPUTS.items()}


def test_outputs_come_from_the_step_of_the_same_name() -> None:
    for name, entry in ACTION["outputs"].items():
        assert entry["value"] == f"${{{{ steps.run.outputs.{name} }}}}"


def test_template_has_the_same_settings_with_underscores() -> None:
    own = {"job_name", "stage", "runner_image", "rules", "allow_failure", "report_dir"}
    own |= {"dotenv_prefix"}
    expected = {name.replace("-", "_") for name in INPUTS} - {
        "registry_username",
        "registry_password",
    }

    assert set(HEADER["spec"]["inputs"]) - own == expected - own


def test_template_passes_inputs_by_variables_only() -> None:
    job = BODY[".$[[ inputs.job_name ]]"]

    assert job["script"] == ["ci-registry run"]
    assert "before_script" not in job
    for name, value in job["variables"].items():
        found = re.fullmatch(r"\$\[\[ inputs\.(\w+) \]\]", value)
        assert found is not None, name
        entry = HEADER["spec"]["inputs"][found[1]]
        assert entry.get("type") != "array", "GitLab refuses an array as a variable"
        assert name == "CIREG_" + found[1].upper()


def test_template_options_are_the_choices_of_the_setting() -> None:
    for name, spec in INPUTS.items():
        entry = HEADER["spec"]["inputs"].get(name.replace("-", "_"))
        if entry is not None and spec.choices:
            assert tuple(entry["options"]) == ("", *spec.choices)


def test_command_line_offers_every_setting() -> None:
    from ci_registry.cli.run import plan, run

    for command in (run, plan):
        offered = {option for parameter in command.params for option in parameter.opts}
        assert {spec.option for spec in all_options() if not spec.is_secret} <= offered


def test_secrets_are_no_command_line_options() -> None:
    from ci_registry.cli.run import run

    offered = {option for parameter in run.params for option in parameter.opts}
    assert not {spec.option for spec in all_options() if spec.is_secret} & offered


def test_reference_page_names_every_setting() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()

    for spec in all_options():
        assert spec.env in page
        if spec.scope is not Scope.RUN and not spec.hidden:
            assert spec.key.rsplit(".", 1)[-1] in page


def test_example_includes_use_only_inputs_that_exist() -> None:
    names = set(HEADER["spec"]["inputs"])
    for path in sorted((ROOT / "gitlab-templates" / "examples").glob("*.yml")):
        for document in yaml.safe_load_all(path.read_text()):
            for include in document.get("include", []):
                assert set(include.get("inputs", {})) <= names, path.name


def test_environment_prefix_is_never_gitlabs() -> None:
    assert not [spec.env for spec in all_options() if spec.env.startswith("CI_REGISTRY")]


def test_no_file_of_the_product_names_a_moving_action_tag() -> None:
    for path in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]:
        for line in Path(path).read_text().splitlines():
            found = re.search(r"uses:\s*actions/[\w-]+@(\S+)", line)
            assert found is None or re.fullmatch(r"[0-9a-f]{40}|<sha>", found[1]), f"{path}: {line}"

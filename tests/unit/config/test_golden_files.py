"""Whole settings files: what the reader says of each, and that the JSON schema agrees."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ci_registry.config.load import SAME_AS_CHECKOUT, SourceFile, load_settings
from ci_registry.config.schema import json_schema
from ci_registry.config.yaml_reader import Kind, Node, read_document
from ci_registry.errors import ConfigError
from tests.support.golden import assert_golden, golden_cases

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def as_editor_sees(node: Node) -> Any:
    """Resolve plain scalars as YAML 1.2's core schema does, which is what editors validate."""
    if node.kind is Kind.MAPPING:
        return {key.text: as_editor_sees(value) for key, value in node.entries}
    if node.kind is Kind.LIST:
        return [as_editor_sees(item) for item in node.items]
    if node.is_empty:
        return None
    if node.is_plain and node.text in ("true", "false"):
        return node.text == "true"
    if node.is_plain and node.text.lstrip("-").replace(".", "", 1).isdigit():
        return float(node.text) if "." in node.text else int(node.text)
    return node.text


def name(path: Path) -> str:
    return path.name


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("case", golden_cases("config/positive"), ids=name)
def test_a_good_file_is_read_and_validates(case: Path) -> None:
    file = SourceFile(path="input.yml", data=(case / "input.yml").read_bytes())

    loaded = load_settings(checkout=file, trusted=SAME_AS_CHECKOUT, env={}, options={})

    given = [v for v in loaded.values if v.source != "default"]
    assert_golden(case, "".join(f"{v.key} = {v.value}  <{v.source}>\n" for v in given))
    VALIDATOR.validate(as_editor_sees(read_document(file.data, file="input.yml")))


@pytest.mark.parametrize("case", golden_cases("config/negative"), ids=name)
def test_a_bad_file_is_refused_by_the_reader_and_by_the_schema(case: Path) -> None:
    file = SourceFile(path="input.yml", data=(case / "input.yml").read_bytes())

    with pytest.raises(ConfigError) as caught:
        load_settings(checkout=file, trusted=SAME_AS_CHECKOUT, env={}, options={})

    assert_golden(case, "".join(f"{problem}\n" for problem in caught.value.problems))
    assert not VALIDATOR.is_valid(as_editor_sees(read_document(file.data, file="input.yml")))

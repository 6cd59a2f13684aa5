"""The page that names a test for every security rule names only tests that exist."""

import ast
import re

import pytest

from tests.support.peers import ROOT

PAGE = (ROOT / "docs" / "explanation" / "security-tests.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))
SUITE = "tests/integration/security/"


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_named_test_exists(file: str, name: str) -> None:
    path = ROOT / re.sub(r"^S/", SUITE, file)
    functions = {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}
    assert name in functions


def test_every_rule_has_a_line() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")][2:]
    assert {str(n) for n in range(1, 11)} <= {row.split()[1] for row in rows}
    assert all("::test_" in row for row in rows)


def test_every_test_file_of_the_suite_is_named() -> None:
    files = {path.name for path in (ROOT / SUITE).glob("test_*.py")}
    assert files == {file.removeprefix("S/") for file, _ in NAMED if file.startswith("S/")}

"""The page about bad input to a scan names only tests that exist."""

import ast
import re

import pytest

from tests.support.peers import ROOT

PAGE = (ROOT / "docs" / "explanation" / "scan-trouble.md").read_text()
SHORT = {
    r"^T/": "tests/integration/trouble/",
    r"^S/": "tests/integration/security/",
    r"^A$": "tests/peers/test_false_all_clears.py",
}
NAMED = sorted(set(re.findall(r"`(A|[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_named_test_exists(file: str, name: str) -> None:
    for short, long in SHORT.items():
        file = re.sub(short, long, file)
    body = ast.parse((ROOT / file).read_text()).body
    assert name in {n.name for n in body if isinstance(n, ast.FunctionDef)}


def test_every_case_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 20
    assert all("::test_" in row for row in rows)

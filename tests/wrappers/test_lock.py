"""The wheels that the action installs are locked by hash and are all that the product needs."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.peers import ROOT

LOCK = (ROOT / "actions/requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", LOCK, re.MULTILINE))


def test_every_dependency_is_locked_in_a_version_that_is_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    for text in project["dependencies"]:
        wanted = Requirement(text)
        assert Version(PINS[wanted.name.lower()]) in wanted.specifier, text


def test_every_locked_package_has_hashes() -> None:
    blocks = re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.MULTILINE)[1:]

    assert len(blocks) == len(PINS)
    for block in blocks:
        assert "--hash=sha256:" in block, block[:60]


def test_lock_names_no_index() -> None:
    assert "://" not in LOCK

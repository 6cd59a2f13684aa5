"""A registry and a project of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import VULNERABLE, Project, make_project
from tests.support.registry import RunningRegistry, running_registry


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    """A friendly registry that is empty."""
    with running_registry() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, registry: RunningRegistry) -> Project:
    """A project whose image passes and goes to `registry`."""
    return make_project(tmp_path, registry)


@pytest.fixture
def vulnerable(tmp_path: Path, registry: RunningRegistry) -> Project:
    """A project whose image the built-in policy blocks."""
    return make_project(tmp_path, registry, version=VULNERABLE)

"""A registry that wants a password, a project that goes to it, and secrets of every kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.canaries import REGISTRY_PASSWORD, USER, Canaries, make_canaries
from tests.support.cli import Project, make_project
from tests.support.registry import RunningRegistry, running_registry


@pytest.fixture(scope="session")
def canaries() -> Canaries:
    """Secrets that must turn up nowhere."""
    return make_canaries()


@pytest.fixture
def registry() -> Iterator[RunningRegistry]:
    """An empty registry with one user."""
    with running_registry(users={USER: REGISTRY_PASSWORD}) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, registry: RunningRegistry) -> Project:
    """A project whose image passes and goes to `registry`."""
    return make_project(tmp_path, registry)

"""The registry under test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_registry.registry_server.store import FolderStore, MemoryStore
from tests.support.asking import Asked


@pytest.fixture(params=["memory", "folder"])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Asked]:
    """A friendly registry, in memory and in a folder."""
    store = (
        MemoryStore()
        if request.param == "memory"
        else FolderStore(tmp_path / "registry", durable=False)
    )
    yield Asked(store)
    store.close()

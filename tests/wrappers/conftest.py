"""A RUNNER_TEMP for all tests of a process, so that the wheels are installed once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def runner_temp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUNNER_TEMP of one job with many steps."""
    return tmp_path_factory.mktemp("runner-temp")

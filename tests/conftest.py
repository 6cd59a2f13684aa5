"""Guards for unit tests and the rules for peers."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.peers import go_version, missing_reason


def _no_io(*_args: object, **_kwargs: object) -> Any:
    raise AssertionError("unit tests open no sockets and start no programs")


@pytest.fixture(autouse=True)
def _guard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep unit tests away from the network, other programs and the caller's environment."""
    for name in list(os.environ):
        foreign = name.startswith(
            ("CIREG_", "GITHUB_", "CI_", "GITLAB_", "COSIGN_", "TRIVY_", "RUNNER_")
        )
        if foreign and name != "CIREG_PEERS_DIR":
            monkeypatch.delenv(name)
    if "unit" in Path(str(request.node.path)).parts:
        monkeypatch.setattr(socket.socket, "connect", _no_io)
        monkeypatch.setattr(socket.socket, "bind", _no_io)
        monkeypatch.setattr(subprocess, "Popen", _no_io)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests whose peers are absent; with CI=true that is a failure."""
    required = os.environ.get("CI") == "true"
    for marker in item.iter_markers("peer"):
        if reason := missing_reason(marker.args):
            (pytest.fail if required else pytest.skip)(reason)
    for marker in item.iter_markers("go_peer"):
        if reason := missing_reason(marker.args):
            version = go_version()
            if required and version is not None and version >= (1, 21):
                pytest.fail(reason)
            pytest.skip(reason if version else f"{reason}; no Go >= 1.21 on PATH")

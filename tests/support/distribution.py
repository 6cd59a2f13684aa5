"""Runs a real CNCF distribution, 2.8 (`docker-registry`) or 3.1 (`registry3`), on a free loopback port."""

import contextlib
import json
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.peers import find_peer, peer_environment
from tests.support.tls import Certified

USER, PASSWORD = "ci", "loopback-only"
_BCRYPT = "$2b$04$tASXzRjnkTbOswtT.D8Dg.f1pG4uirSs0bOGQs5s48mvoXNofAB2K"
_START_TIMEOUT_S = 20.0
OLD, NEW = "docker-registry", "registry3"
"""The programs of distribution 2.8 and 3.1."""
BOTH = (
    pytest.param(OLD, marks=pytest.mark.peer(OLD), id="distribution-2.8"),
    pytest.param(NEW, marks=pytest.mark.go_peer(NEW), id="distribution-3.1"),
)
"""For tests and fixtures that run with each of them."""


def basic_auth(folder: Path) -> dict[str, Any]:
    """Return an `auth` section that admits only `USER` with `PASSWORD`."""
    file = folder / "htpasswd"
    file.write_text(f"{USER}:{_BCRYPT}\n")
    return {"htpasswd": {"realm": "test", "path": str(file)}}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(url, timeout=2, context=context):
            return True
    except urllib.error.HTTPError:
        return True  # 401: it runs and wants a login
    except OSError:
        return False


def _wait_until_up(process: "subprocess.Popen[bytes]", url: str, log: Path) -> bool:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(url):
            return True
        time.sleep(0.05)
    if process.poll() is None:
        raise AssertionError(f"the registry did not start: {log.read_text()[-2000:]}")
    return False


def _start(
    name: str,
    folder: Path,
    host: str,
    auth: Mapping[str, Any] | None,
    tls: Certified | None,
    *,
    access_log: bool,
) -> "subprocess.Popen[bytes]":
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": not access_log}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": host},
    }
    if tls:
        config["http"]["tls"] = {"certificate": str(tls.certificate), "key": str(tls.key)}
    if auth:
        config["auth"] = dict(auth)
    path = folder / "config.yml"
    path.write_text(json.dumps(config))
    program = find_peer(name)
    assert program is not None, f"{name} is not installed"
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [program, "serve", path],
            stdout=log,
            stderr=log,
            env=peer_environment() | {"OTEL_TRACES_EXPORTER": "none"},
        )


@contextlib.contextmanager
def running_distribution(
    tmp_path: Path,
    auth: Mapping[str, Any] | None = None,
    *,
    tls: Certified | None = None,
    program: str = OLD,
    access_log: bool = False,
) -> Iterator[str]:
    """Run a registry with its storage below `tmp_path`; yields `127.0.0.1:PORT`.

    `program` is `OLD` or `NEW`; `auth` is the section of distribution's configuration, for example `basic_auth(tmp_path)`; with
    `tls` it speaks https; with `access_log` each request is a line of the file `log` in its folder.
    It has no referrers API, so clients use the fallback tag.
    """
    folder = tmp_path / program
    folder.mkdir(exist_ok=True)
    for _ in range(5):  # somebody may take the port between probe and start
        host = f"127.0.0.1:{_free_port()}"
        process = _start(program, folder, host, auth, tls, access_log=access_log)
        try:
            if _wait_until_up(
                process, f"{'https' if tls else 'http'}://{host}/v2/", folder / "log"
            ):
                yield host
                return
        finally:
            process.kill()
            process.wait()
    raise AssertionError(f"{program} does not start: {(folder / 'log').read_text()[-2000:]}")

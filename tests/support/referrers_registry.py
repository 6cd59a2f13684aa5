"""Runs the program `referrers-registry`: it lists referrers but never sends OCI-Subject."""

import contextlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from tests.support.peers import find_peer, peer_environment

_START_TIMEOUT_S = 20.0


@contextlib.contextmanager
def running_referrers_registry() -> Iterator[str]:
    """Run it on a free loopback port; yields `127.0.0.1:PORT`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    program = find_peer("referrers-registry")
    assert program is not None
    process = subprocess.Popen(
        [program, host],
        env=peer_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, host)
        yield host
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: "subprocess.Popen[bytes]", host: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{host}/v2/", timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("referrers-registry did not start")

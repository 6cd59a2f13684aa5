"""Starts and stops real Docker daemons of our own, and makes images from busybox."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.peers import find_peer, peer_environment

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Dockerd:
    """A running daemon."""

    host: str
    """For `DOCKER_HOST`."""
    root: Path
    containerd_store: bool

    @property
    def env(self) -> dict[str, str]:
        """The environment of a user of this daemon."""
        keep = ("PATH", "DOCKER_CONFIG", "HOME", "LANG")
        env = {name: value for name, value in peer_environment().items() if name in keep}
        return env | {"DOCKER_HOST": self.host}

    def docker(self, *arguments: str, check: bool = True) -> str:
        """Run the Docker CLI and return its stdout."""
        done = subprocess.run(
            ["docker", *arguments], env=self.env, capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def prune(self) -> None:
        """Forget everything that builds have cached."""
        self.docker("builder", "prune", "--all", "--force")


def why_no_dockerd() -> str:
    """Say why no daemon can be started here; empty when it can be tried."""
    missing = [p for p in ("dockerd", "docker", "containerd", "runc") if find_peer(p) is None]
    if missing:
        return f"peer not installed: {', '.join(missing)} (make peers)"
    return "" if os.geteuid() == 0 else "dockerd needs root"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a program that we started and its process group: containerd belongs to dockerd's."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def running_dockerd(
    *, containerd_store: bool, init_program: Path | None = None
) -> Iterator[Dockerd]:
    """Run a daemon with data, sockets and containerd of its own; no bridge, no iptables."""
    root = Path(tempfile.mkdtemp(prefix="cireg-dockerd-"))  # a short path: sockets allow 107 bytes
    settings: dict[str, object] = {
        "features": {"containerd-snapshotter": containerd_store},
        "insecure-registries": ["127.0.0.0/8"],
        "iptables": False,
        "ip6tables": False,
        "bridge": "none",
        "data-root": str(root / "data"),
        "exec-root": str(root / "exec"),
        "pidfile": str(root / "pid"),
        "hosts": [f"unix://{root}/docker.sock"],
    }
    if init_program is not None:
        settings["init-path"] = str(init_program)
    (root / "daemon.json").write_text(json.dumps(settings))
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            ["dockerd", "--config-file", str(root / "daemon.json")],
            env=peer_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    daemon = Dockerd(
        host=f"unix://{root}/docker.sock", root=root, containerd_store=containerd_store
    )
    try:
        _wait_for(daemon, process)
        yield daemon
    finally:
        _stop(process)
        _unmount_below(root)
        shutil.rmtree(root, ignore_errors=True)


def _wait_for(daemon: Dockerd, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if daemon.docker("version", "--format", "{{.Server.Version}}", check=False).strip():
            return
        time.sleep(0.2)
    tail = "\n".join((daemon.root / "log").read_text(errors="replace").splitlines()[-5:])
    if os.environ.get("CI") == "true":
        pytest.fail(f"dockerd did not start: {tail}")
    pytest.skip(f"dockerd does not start here: {tail}")


def _unmount_below(root: Path) -> None:
    """Unmount what a killed daemon may have left, deepest first."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in sorted((p for p in points if p.startswith(f"{root}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


@contextlib.contextmanager
def answering(status: int) -> Iterator[str]:
    """Run a registry on loopback that answers every request with `status`; yields `host:port`."""

    class Handler(BaseHTTPRequestHandler):
        default_request_version = "HTTP/1.0"  # so that a TLS hello gets an HTTP answer

        def answer(self) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = answer  # noqa: N815 - http.server's names

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


BUSYBOX = Path("/bin/busybox")
"""Static, from the package busybox-static."""

SHELL = "FROM scratch AS shell\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n"
"""First lines of a Dockerfile whose RUN works without any base image: see `write_context`."""


def write_context(folder: Path, dockerfile: str, **files: str) -> Path:
    """Write a build context with a Dockerfile, busybox, and more files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    shutil.copy(BUSYBOX, folder / "busybox")
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    """A daemon with the containerd image store, one per test process."""
    if reason := why_no_dockerd():
        pytest.skip(reason)
    with running_dockerd(containerd_store=True) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def dockerd_classic() -> Iterator[Dockerd]:
    """A daemon with Docker's classic image store, one per test process."""
    if reason := why_no_dockerd():
        pytest.skip(reason)
    with running_dockerd(containerd_store=False) as daemon:
        yield daemon

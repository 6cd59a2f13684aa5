"""Our transport against httpx's own, under the same client, against real registries, side by side.

usage: python -m benchmarks.transport [--runs N] [--heads N] [--mebibytes N]

Requests a second with 1, 16 and 64 threads (directly and with 20 ms round trip), and one large blob
pulled and pushed, plain and over TLS. Runs alternate; medians and ratios (ours / httpx) are printed.
Needs `make peers`.
"""

import argparse
import contextlib
import hashlib
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from benchmarks.registries import embedded_registry, relay_to
from ci_registry.cancel import Cancel
from ci_registry.network.client import HttpClient
from ci_registry.network.message import Request
from ci_registry.network.settings import HttpSettings
from ci_registry.oci.digest import digest_of
from tests.support.distribution import running_distribution
from tests.support.tls import Authority

ROUND_TRIP_S = 0.02
THREADS = (1, 16, 64)
KINDS = ("ours", "httpx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement."""

    wall_s: float
    cpu_s: float


def timed(action: Callable[[], None]) -> Measured:
    """Measure an action: wall time, and the processor time of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return Measured(wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


@contextlib.contextmanager
def client_of(kind: str, ca_file: Path | None) -> Iterator[HttpClient]:
    """Open a client on one of the two transports."""
    transport = None
    if kind == "httpx":
        context = (
            ssl.create_default_context(cafile=ca_file) if ca_file else ssl.create_default_context()
        )
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        transport = httpx.HTTPTransport(verify=context, trust_env=False, limits=limits)
    with HttpClient(HttpSettings(ca_file=ca_file), Cancel(), transport=transport) as client:
        yield client


def heads(client: HttpClient, url: str, *, threads: int, count: int) -> None:
    """Send HEAD requests from several threads."""
    request = Request(method="HEAD", url=f"{url}/v2/bench/heads/manifests/absent")

    def work() -> None:
        for _ in range(count // threads):
            if client.request(request).status != 404:
                raise SystemExit("the registry has a manifest that nobody pushed")

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def push(
    client: HttpClient,
    url: str,
    repository: str,
    *,
    blob: bytes,
    mebibytes: int,
    path: list[str],
) -> None:
    """Upload so many times a piece as one blob; its path is added to `path`."""

    digest = hashlib.sha256()
    for _ in range(mebibytes):
        digest.update(blob)
    name = f"sha256:{digest.hexdigest()}"
    begun = client.request(Request(method="POST", url=f"{url}/v2/{repository}/blobs/uploads/"))
    location = httpx.URL(url).join(begun.headers.get("Location"))
    separator = "&" if "?" in str(location) else "?"
    quarter = len(blob) // 4
    pieces = [blob[start : start + quarter] for start in range(0, len(blob), quarter)]
    answer = client.request(
        Request(
            method="PUT",
            url=f"{location}{separator}digest={name}",
            body=lambda: (piece for _ in range(mebibytes) for piece in pieces),
            size_bytes=mebibytes * len(blob),
        )
    )
    if answer.status != 201:
        raise SystemExit(f"upload: HTTP {answer.status} {answer.body[:300]!r}")
    path.append(f"/v2/{repository}/blobs/{name}")


def pull(client: HttpClient, url: str, size_bytes: int) -> None:
    """Download a blob and drop it."""
    received = 0
    with client.stream(Request(method="GET", url=url)) as response:
        for piece in response.chunks:
            received += len(piece)
    if received != size_bytes:
        raise SystemExit(f"got {received} bytes instead of {size_bytes}")


def show(title: str, rows: dict[str, list[Measured]], *, per: int = 0) -> None:
    """Print medians of both, and the ratio."""
    wall = {kind: statistics.median(row.wall_s for row in rows[kind]) for kind in KINDS}
    cpu = {kind: statistics.median(row.cpu_s for row in rows[kind]) for kind in KINDS}
    cells = []
    for kind in KINDS:
        if per:
            cells.append(f"{per / wall[kind]:8.0f}/s {cpu[kind] / per * 1000:6.3f} ms CPU")
        else:
            cells.append(f"{wall[kind]:8.2f} s  {cpu[kind]:6.2f} s CPU ")
    ratio = f"time {wall['ours'] / wall['httpx']:.2f}, CPU {cpu['ours'] / cpu['httpx']:.2f}"
    print(f"{title:<38}{cells[0]}   {cells[1]}   {ratio}", flush=True)


def compare_heads(name: str, url: str, arguments: argparse.Namespace, ca_file: Path | None) -> None:
    """Compare requests a second for each number of threads."""
    for threads in THREADS:
        rows: dict[str, list[Measured]] = {kind: [] for kind in KINDS}
        count = arguments.heads // threads * threads
        for number in range(arguments.runs):
            for kind in KINDS if number % 2 else reversed(KINDS):
                with client_of(kind, ca_file) as client:
                    heads(client, url, threads=threads, count=threads)  # connects
                    work = partial(heads, client, url, threads=threads, count=count)
                    rows[kind].append(timed(work))
        show(f"HEAD {name}, {threads} threads", rows, per=count)


def compare_blobs(name: str, url: str, arguments: argparse.Namespace, ca_file: Path | None) -> None:
    """Compare one large upload and download."""
    block = bytes(range(256)) * 4096
    pushes: dict[str, list[Measured]] = {kind: [] for kind in KINDS}
    pulls: dict[str, list[Measured]] = {kind: [] for kind in KINDS}
    for number in range(arguments.runs):
        for kind in KINDS if number % 2 else reversed(KINDS):
            with client_of(kind, ca_file) as client:
                repository = f"bench/{kind}{number}-{digest_of(name.encode()).hex[:8]}"
                path: list[str] = []
                sending = partial(
                    push,
                    client,
                    url,
                    repository,
                    blob=block,
                    mebibytes=arguments.mebibytes,
                    path=path,
                )
                pushes[kind].append(timed(sending))
                size_bytes = arguments.mebibytes << 20
                pulls[kind].append(timed(partial(pull, client, url + path[0], size_bytes)))
    show(f"push {arguments.mebibytes} MiB {name}", pushes)
    show(f"pull {arguments.mebibytes} MiB {name}", pulls)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--heads", type=int, default=2000)
    parser.add_argument("--mebibytes", type=int, default=1024)
    arguments = parser.parse_args()
    print(f"{'':<38}{'ours':>26}   {'httpx':>26}   ratio ours / httpx")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "plain").mkdir()
        (folder / "tls").mkdir()
        authority = Authority(folder)
        embedded = stack.enter_context(embedded_registry(folder / "embedded"))
        plain = stack.enter_context(running_distribution(folder / "plain"))
        tls = stack.enter_context(
            running_distribution(folder / "tls", tls=authority.issue("registry"))
        )
        far = stack.enter_context(relay_to(plain, ROUND_TRIP_S))
        for title, url, ca_file in (
            ("embedded", f"http://{embedded.host}", None),
            ("distribution", f"http://{plain}", None),
            ("distribution TLS", f"https://{tls}", authority.file),
        ):
            compare_heads(title, url, arguments, ca_file)
            compare_blobs(title, url, arguments, ca_file)
        compare_heads("distribution at 20 ms", f"http://{far}", arguments, None)
    return 0


if __name__ == "__main__":
    sys.exit(main())

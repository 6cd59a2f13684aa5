"""HEAD requests a second of the client and of the server, layer by layer: where the time goes."""

import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.registries import embedded_registry
from ci_registry.cancel import Cancel
from ci_registry.network.client import HttpClient
from ci_registry.network.message import Request
from ci_registry.network.settings import HttpSettings
from ci_registry.registry.remote import RemoteRegistry
from ci_registry.registry_server import message
from ci_registry.registry_server.app import handle
from ci_registry.registry_server.options import Options
from ci_registry.registry_server.store import FolderStore
from tests.support.distribution import running_distribution

PATH = "/v2/bench/heads/manifests/absent"
THREADS = (1, 16, 64)


def rate(count: int, threads: int, work: Callable[[int], None]) -> tuple[float, float]:
    """Return calls a second and processor milliseconds of this process per call; work gets its share."""
    each = count // threads
    workers = [threading.Thread(target=work, args=(each,)) for _ in range(threads)]
    wall, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    done = each * threads
    return done / (time.perf_counter() - wall), (time.process_time() - cpu) / done * 1000


def _show(title: str, runs: list[tuple[float, float]]) -> None:
    rates = statistics.median(run[0] for run in runs)
    cpu_ms = statistics.median(run[1] for run in runs)
    print(f"  {title:<44}{rates:8.0f}/s  {cpu_ms:6.3f} ms CPU each", flush=True)


def raw(host: str) -> Callable[[int], None]:
    """Return work that sends the same bytes and reads one answer: the least that can be done."""
    name, _, port = host.partition(":")
    asked = f"HEAD {PATH} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n".encode()

    def work(count: int) -> None:
        with socket.create_connection((name, int(port))) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(count):
                sock.sendall(asked)
                answer = sock.recv(65536)
                while not answer.endswith(b"\r\n\r\n"):
                    answer += sock.recv(65536)

    return work


def _of_client(name: str, host: str, count: int) -> None:
    """Measure the client against one server, from the bare socket up."""
    with HttpClient(HttpSettings(), Cancel()) as client:
        repository = RemoteRegistry(client).repository(f"{host}/bench/heads")
        request = Request(method="HEAD", url=f"http://{host}{PATH}")

        def plain(share: int) -> None:
            for _ in range(share):
                client.request(request)

        def whole(share: int) -> None:
            for _ in range(share):
                repository.resolve("absent")

        for threads in THREADS:
            for title, work in (("a socket", raw(host)), ("HttpClient", plain), ("resolve", whole)):
                work(threads)
                runs = [rate(count, threads, work) for _ in range(3)]
                _show(f"{name}, {title}, {threads} threads", runs)


def _of_server(folder: Path, count: int) -> None:
    """Measure the handler without a socket; what is missing to a socket's rate is the shell."""
    store = FolderStore(folder, durable=False)
    request = message.Request(method="HEAD", path=PATH, headers={"accept": "*/*"})
    options = Options()

    def work(share: int) -> None:
        for _ in range(share):
            handle(store, request, options)

    try:
        work(10)
        _show("embedded, handler alone, 1 thread", [rate(count, 1, work) for _ in range(3)])
    finally:
        store.close()


def compare_heads(folder: Path, count: int) -> None:
    """Print all of it."""
    print(
        f"\nHEAD of a manifest that is absent, {count} times, medians of 3 (client and server share the cores)"
    )
    with embedded_registry(folder / "embedded") as embedded:
        _of_client("embedded", embedded.host, count)
    with running_distribution(folder) as host:
        _of_client("distribution", host, count)
    _of_server(folder / "store", count)


if __name__ == "__main__":
    sys.exit("run it with: python -m benchmarks.registry --only heads")

"""Runs what the benchmarks talk to, each in a process of its own: registries and a relay that adds delay.

As a program: `python -m benchmarks.registries embedded FOLDER LOG` or `… relay PORT DELAY_S`; it prints
`127.0.0.1:PORT` and ends with its standard input.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ci_registry.registry_server.message import Request, Response
from ci_registry.registry_server.serve import EmbeddedRegistry
from ci_registry.registry_server.store import FolderStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """An embedded registry that runs, and its list of requests."""

    host: str
    log: Path

    def requests(self) -> Counter[str]:
        """Return how many requests of each method it has answered so far."""
        return Counter(line.split(" ")[0] for line in self.log.read_text().splitlines())

    def total(self) -> int:
        """Return how many requests it has answered so far."""
        return self.requests().total()


@contextlib.contextmanager
def _child(*argv: str) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.registries", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def embedded_registry(folder: Path) -> Iterator[Embedded]:
    """Run an embedded registry with its storage and log in a new folder."""
    folder.mkdir(parents=True)
    log = folder / "requests"
    log.touch()
    with _child("embedded", str(folder / "store"), str(log)) as host:
        yield Embedded(host=host, log=log)


@contextlib.contextmanager
def relay_to(host: str, round_trip_s: float) -> Iterator[str]:
    """Run a relay in front of a host; gives its address, or the host's own when nothing is to be added."""
    if not round_trip_s:
        yield host
        return
    with _child("relay", host.rpartition(":")[2], str(round_trip_s / 2)) as address:
        yield address


def _serve_embedded(folder: str, log: str) -> None:
    with Path(log).open("a", buffering=1) as lines:
        lock = threading.Lock()

        def observe(request: Request, response: Response) -> None:
            with lock:
                lines.write(f"{request.method} {request.path} {response.status}\n")

        store = FolderStore(Path(folder), durable=False)
        with EmbeddedRegistry(store, observer=observe) as registry:
            print(registry.host, flush=True)
            sys.stdin.read()
        store.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass bytes on, each a fixed time after it came; how many are under way is not limited."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

    delivery = asyncio.create_task(deliver())
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 20):
            queue.put_nowait((loop.time() + delay_s, data))
    queue.put_nowait((loop.time() + delay_s, b""))
    await delivery


async def _relay(port: int, delay_s: float) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        for stream in (writer, back):
            stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(_pump(reader, back, delay_s), _pump(there, writer, delay_s))
        back.close()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, own_port = server.sockets[0].getsockname()
    print(f"{host}:{own_port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # whatever is still connected: the benchmark is over


def main() -> int:
    """Serve until standard input ends."""
    kind, *rest = sys.argv[1:]
    if kind == "embedded":
        _serve_embedded(*rest)
    else:
        asyncio.run(_relay(int(rest[0]), float(rest[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Where the processor time of requests and blobs goes: client against embedded registry, user against system.

usage: python -m benchmarks.processor_time [--heads N] [--mebibytes N] [--folder FOLDER]

The registry is a process of its own without fsync; with `--folder` in memory no disk takes part.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.registries import embedded_registry
from benchmarks.transport import client_of, heads, pull, push

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def _newest_child() -> int:
    """Return the process that was started last: the registry."""
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children").read_text(encoding="ascii").split()
    return int(children[-1])


def _times_of(pid: int) -> tuple[float, float]:
    """Return user and system time of another process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) / _TICKS_PER_S, int(fields[12]) / _TICKS_PER_S


def _measure(title: str, pid: int, action: Callable[[], None], scale: float) -> None:
    server, own, wall = _times_of(pid), os.times(), time.perf_counter()
    action()
    wall = time.perf_counter() - wall
    later, now = _times_of(pid), os.times()
    cells = (
        wall,
        now.user - own.user,
        now.system - own.system,
        later[0] - server[0],
        later[1] - server[1],
    )
    print(f"{title:<26}" + "".join(f"{cell * scale:12.3f}" for cell in cells), flush=True)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=4000)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    columns = ("wall", "client user", "system", "server user", "system")
    print(f"{'':<26}" + "".join(f"{column:>12}" for column in columns))
    block, path = bytes(range(256)) * 4096, list[str]()
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as name,
        embedded_registry(Path(name) / "registry") as registry,
        client_of("ours", None) as client,
    ):
        pid, url = _newest_child(), f"http://{registry.host}"
        heads(client, url, threads=16, count=160)
        for threads in (1, 16):
            work = partial(heads, client, url, threads=threads, count=arguments.heads)
            _measure(f"HEAD, {threads} threads, ms", pid, work, 1000 / arguments.heads)
        size = arguments.mebibytes
        _measure(
            f"push of {size} MiB, s",
            pid,
            partial(push, client, url, "bench/x", blob=block, mebibytes=size, path=path),
            1,
        )
        _measure(f"pull of {size} MiB, s", pid, partial(pull, client, url + path[0], size << 20), 1)
        digest, started = hashlib.sha256(), time.process_time()
        for _ in range(size):
            digest.update(block)
        print(f"SHA-256 of {size} MiB: {time.process_time() - started:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

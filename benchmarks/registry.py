"""Copying, listing, pulling and pushing against crane, oras and skopeo, side by side in one run.

usage: python -m benchmarks.registry [--runs N] [--seconds S] [--mebibytes N]

Wall time is taken from the start of each process. Rounds alternate the order of the tools; medians are
printed, with processor time, peak memory and the requests that each side answered. Directly, and
through a relay that adds 20 ms round trip. skopeo remembers where it has put a blob and mounts it in later
rounds of a push; its first round counts. No round begins after --seconds. Needs `make peers`.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.images import noisy_image
from benchmarks.registries import Embedded, embedded_registry, relay_to
from ci_registry.oci.manifest import Manifest
from ci_registry.registry.layout import Layout
from tests.support.distribution import running_distribution
from tests.support.peers import peer_environment
from tests.support.remote import remote_repository
from tests.support.tls import Authority

ROUND_TRIP_S = 0.02
TAGS = 100
LIMIT_S = 120.0
"""How long one command may take."""

Argv = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """How one program is told what to do; images on disk are OCI layouts with the tag v1."""

    name: str
    copy: Callable[[str, str], Argv]
    list_tags: Callable[[str], Argv]
    pull: Callable[[str, Path, bool], Argv]
    push: Callable[[Path, str, bool], Argv]
    """Source, target, and whether the registry speaks plain HTTP."""


@dataclass(slots=True)
class Rows:
    """What one tool needed for one task, run by run."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    requests: list[tuple[int, int]] = field(default_factory=list)
    """Of the source and of the target."""


def tools(ca_file: Path) -> tuple[Tool, ...]:
    """Return ours first, then the others."""
    own = (sys.executable, "-m", "ci_registry")
    quiet = ("--network-ca-file", str(ca_file), "-q")

    def ours(name: str, *flags: str) -> Tool:
        return Tool(
            name=name,
            copy=lambda source, target: (*own, "copy", *quiet, *flags, source, target),
            list_tags=lambda repository: (*own, "ls", *quiet, repository),
            pull=lambda ref, to, _: (*own, "copy", *quiet, *flags, ref, f"oci:{to}:v1"),
            push=lambda path, ref, _: (*own, "copy", *quiet, *flags, f"oci:{path}:v1", ref),
        )

    driver = (sys.executable, "-m", "benchmarks.copy_driver", "--ca-file", str(ca_file))
    return (
        ours("ci-registry"),
        ours("… --no-referrers", "--no-referrers"),
        Tool(
            name="… its library",
            copy=lambda source, target: (*driver, "copy", source, target),
            list_tags=lambda repository: (*driver, "list", repository),
            pull=lambda ref, to, _: (*driver, "copy", ref, f"oci:{to}:v1"),
            push=lambda path, ref, _: (*driver, "copy", f"oci:{path}:v1", ref),
        ),
        Tool(
            name="crane",
            copy=lambda source, target: ("crane", "cp", source, target),
            list_tags=lambda repository: ("crane", "ls", repository),
            pull=lambda ref, to, _: ("crane", "pull", "--format", "oci", ref, str(to)),
            push=lambda path, ref, _: ("crane", "push", str(path), ref),
        ),
        _oras(),
        _skopeo(),
    )


def _oras() -> Tool:
    return Tool(
        name="oras",
        copy=lambda source, target: (
            *("oras", "cp", "--no-tty", "--from-plain-http", "--to-plain-http"),
            *(source, target),
        ),
        list_tags=lambda repository: ("oras", "repo", "tags", "--plain-http", repository),
        pull=lambda ref, to, plain: (
            *("oras", "cp", "--no-tty", *(["--from-plain-http"] if plain else [])),
            *(ref, "--to-oci-layout", f"{to}:v1"),
        ),
        push=lambda path, ref, plain: (
            *("oras", "cp", "--no-tty", *(["--to-plain-http"] if plain else [])),
            *("--from-oci-layout", f"{path}:v1", ref),
        ),
    )


def _skopeo() -> Tool:
    start = ("skopeo", "--insecure-policy")
    return Tool(
        name="skopeo",
        copy=lambda source, target: (
            *(*start, "copy", "-q", "--all", "--preserve-digests"),
            *("--src-tls-verify=false", "--dest-tls-verify=false"),
            *(f"docker://{source}", f"docker://{target}"),
        ),
        list_tags=lambda repository: (
            *(*start, "list-tags", "--tls-verify=false", f"docker://{repository}"),
        ),
        pull=lambda ref, to, plain: (
            *(*start, "copy", "-q", *(["--src-tls-verify=false"] if plain else [])),
            *(f"docker://{ref}", f"oci:{to}:v1"),
        ),
        push=lambda path, ref, plain: (
            *(*start, "copy", "-q", *(["--dest-tls-verify=false"] if plain else [])),
            *(f"oci:{path}:v1", f"docker://{ref}"),
        ),
    )


def run(argv: Argv, env: dict[str, str], rows: Rows) -> None:
    """Run a program to its end, add what it took, and stop the benchmark when it fails."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(argv, env=env, stdout=output, stderr=output)
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process, ended, rows.peak_mb))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        rows.wall_s.append(time.perf_counter() - started)
        ended.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            text = output.read()[-2000:].decode(errors="replace")
            raise SystemExit(f"{' '.join(argv)} ended with {process.returncode}:\n{text}")
    rows.cpu_s.append(usage.ru_utime + usage.ru_stime)


def _watch(
    process: "subprocess.Popen[bytes]", ended: threading.Event, peaks_mb: list[float]
) -> None:
    """Note the peak of the memory of a program (`ru_maxrss` holds what this process had), and end it in time."""
    until = time.monotonic() + LIMIT_S
    while not ended.wait(0.02):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            line = next(line for line in lines if line.startswith("VmHWM"))
            peaks_mb.append(int(line.split()[1]) / 1024)
        if time.monotonic() > until:
            process.kill()
            return


def show(title: str, results: dict[str, Rows]) -> None:
    """Print one task."""
    print(f"\n{title}")
    ours = statistics.median(next(iter(results.values())).wall_s)
    for name, rows in results.items():
        wall = statistics.median(rows.wall_s)
        counted = ""
        if rows.requests:
            source, target = (
                int(statistics.median(side)) for side in zip(*rows.requests, strict=True)
            )
            counted = f"   requests {source:4} / {target:4}"
        print(
            f"  {name:<18}{wall:7.2f} s  x{wall / ours:5.2f}  CPU {statistics.median(rows.cpu_s):6.2f} s"
            f"  peak {max(rows.peak_mb, default=0):5.0f} MB{counted}",
            flush=True,
        )


class Benchmark:
    """The tools, and how long there is."""

    def __init__(self, arguments: argparse.Namespace, ca_file: Path) -> None:
        self._runs: int = arguments.runs
        self._until = time.monotonic() + arguments.seconds
        self._tools = tools(ca_file)
        self._env = peer_environment() | {"SSL_CERT_FILE": str(ca_file)}
        self._number = 0

    @property
    def last_name(self) -> str:
        """The name that the last run of a tool was given."""
        return f"n{self._number}"

    def compare(
        self,
        title: str,
        task: Callable[[Tool, str], Argv],
        *,
        sides: tuple[Embedded, Embedded] | None = None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Run a task with every tool in turn; it gets the tool and a name that was never used before."""
        results = {tool.name: Rows() for tool in self._tools}
        for number in range(self._runs):
            if number and time.monotonic() > self._until:
                print(f"\n(out of time after {number} rounds)")
                break
            for tool in self._tools if number % 2 else reversed(self._tools):
                self._number += 1
                rows = results[tool.name]
                before = [side.requests().total() for side in sides or ()]
                run(task(tool, self.last_name), self._env, rows)
                now = [side.requests().total() for side in sides or ()]
                if sides is not None:
                    rows.requests.append((now[0] - before[0], now[1] - before[1]))
                after()
        show(title, results)


def put(layout: Layout, repository: str, *, tags: int = 1) -> None:
    """Push an image for the others to find, under v1, v2, …"""
    host, _, name = repository.partition("/")
    with remote_repository(host, name) as target:
        root = layout.root()
        manifest = layout.fetch(root.digest)
        assert isinstance(manifest, Manifest)
        for blob in manifest.blobs:
            target.push_blob(blob, lambda blob=blob: layout.open(blob.digest))  # type: ignore[misc]
        for number in range(1, tags + 1):
            target.push(f"v{number}", manifest.body, manifest.media_type)


def compare_requests(bench: Benchmark, folder: Path) -> None:
    """Copy and list between two embedded registries, near and far."""
    small = noisy_image(folder / "small", 3 << 20, 200_000)
    with (
        embedded_registry(folder / "source") as source,
        embedded_registry(folder / "target") as target,
    ):
        put(small, f"{source.host}/app", tags=TAGS)
        for round_trip_s in (0.0, ROUND_TRIP_S):
            where = f"at {round_trip_s * 1000:.0f} ms" if round_trip_s else "directly"
            with (
                relay_to(source.host, round_trip_s) as near,
                relay_to(target.host, round_trip_s) as far,
            ):
                bench.compare(
                    f"copy one image, cold, {where} (config, 3 MiB, 200 kB)",
                    lambda tool, name, near=near, far=far: tool.copy(  # type: ignore[misc]
                        f"{near}/app:v1", f"{far}/{name}/app:v1"
                    ),
                    sides=(source, target),
                )
                bench.compare(
                    f"list {TAGS} tags, {where}",
                    lambda tool, _, near=near: tool.list_tags(f"{near}/app"),  # type: ignore[misc]
                    sides=(source, target),
                )


def compare_bytes(bench: Benchmark, folder: Path, authority: Authority, mebibytes: int) -> None:
    """Pull and push one large layer, plain and over TLS."""
    large = noisy_image(folder / "large", mebibytes << 20)
    there = folder / "pulled"
    for title, tls in (("plain", None), ("TLS", authority.issue("registry", "0.0.0.0"))):
        place = folder / title
        place.mkdir()
        with running_distribution(place, tls=tls) as loopback:
            # 0.0.0.0 reaches this machine too, and nobody takes it for loopback and tries plain HTTP
            host = loopback.replace("127.0.0.1", "0.0.0.0") if tls else loopback
            bench.compare(
                f"push {mebibytes} MiB, {title}",
                lambda tool, name, host=host, tls=tls: tool.push(  # type: ignore[misc]
                    large.path, f"{host}/{name}/big:v1", tls is None
                ),
            )
            pushed = f"{host}/{bench.last_name}/big:v1"
            bench.compare(
                f"pull {mebibytes} MiB, {title}",
                lambda tool, _, ref=pushed, tls=tls: tool.pull(ref, there, tls is None),  # type: ignore[misc]
                after=lambda: shutil.rmtree(there),
            )
        shutil.rmtree(place)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--mebibytes", type=int, default=1024)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority(folder)
        bench = Benchmark(arguments, authority.file)
        compare_requests(bench, folder)
        compare_bytes(bench, folder, authority, arguments.mebibytes)
    return 0


if __name__ == "__main__":
    sys.exit(main())

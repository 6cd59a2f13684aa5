"""Copying, listing, pulling and pushing against crane, oras and skopeo, side by side in one run.

usage: python -m benchmarks.registry [--quick] [--only PART] [--runs N] [--phase-seconds S]
                                     [--tags N] [--mebibytes N] [--folder DIR] [--lock FILE]

Wall time is taken from the start of each process. Rounds alternate the order of the tools; medians are
printed, with processor time, peak memory and the requests that each side answered; at the end, which
aims were met. Directly, and through a relay that adds 20 ms round trip. PART is image, repository,
bytes or heads. skopeo remembers where it has put a blob and mounts it in later rounds of a push; its
first round counts. --folder is where everything is stored: /dev/shm takes the disk out. Needs `make peers`.
"""

import argparse
import compileall
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.heads import compare_heads
from benchmarks.images import noisy_image
from benchmarks.measure import Aims, Bench, Results
from benchmarks.registries import embedded_registry, relay_to
from benchmarks.tools import CRANE, CRANE_16, DEEP, OURS, Argv, Tool, tools
from ci_registry.oci.manifest import Manifest
from ci_registry.registry.layout import Layout
from ci_registry.registry.remote import RemoteRepository
from tests.support.distribution import running_distribution
from tests.support.peers import peer_environment
from tests.support.remote import remote_repository
from tests.support.tls import Authority

ROUND_TRIP_S = 0.02
PARTS = ("image", "repository", "bytes", "heads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution that runs, and its access log."""

    host: str
    log: Path

    def total(self) -> int:
        """Return how many requests it has answered so far."""
        return sum(b" /v2" in line for line in self.log.read_bytes().splitlines())


def put_blobs(target: RemoteRepository, layout: Layout) -> Manifest:
    """Push what an image is made of; returns its manifest."""
    manifest = layout.fetch(layout.root().digest)
    assert isinstance(manifest, Manifest)
    for blob in manifest.blobs:
        target.push_blob(blob, lambda blob=blob: layout.open(blob.digest))  # type: ignore[misc]
    return manifest


def put(layout: Layout, repository: str, *, tags: int = 1) -> None:
    """Push an image for the others to find, under v1, v2, …"""
    host, _, name = repository.partition("/")
    with remote_repository(host, name) as target:
        manifest = put_blobs(target, layout)
        for number in range(1, tags + 1):
            target.push(f"v{number}", manifest.body, manifest.media_type)


def put_many(folder: Path, repository: str, tags: int) -> None:
    """Push as many images with a common layer of 3 MiB and one of their own, under v1, v2, …"""
    host, _, name = repository.partition("/")
    base = noisy_image(folder / "base", 3 << 20)
    with remote_repository(host, name) as target:
        common = json.loads(put_blobs(target, base).body)["layers"]
        for number in range(1, tags + 1):
            own = put_blobs(target, noisy_image(folder / f"image{number}", 20_000))
            document = json.loads(own.body)
            document["layers"] = common + document["layers"]
            target.push(f"v{number}", json.dumps(document).encode(), own.media_type)


def compare_image(bench: Bench, aims: Aims, folder: Path, tags: int) -> None:
    """Copy one image and list tags between two embedded registries, near and far."""
    small = noisy_image(folder / "small", 3 << 20, 200_000)
    with (
        embedded_registry(folder / "source") as source,
        embedded_registry(folder / "target") as target,
    ):
        put(small, f"{source.host}/app", tags=tags)
        for round_trip_s in (0.0, ROUND_TRIP_S):
            with (
                relay_to(source.host, round_trip_s) as near,
                relay_to(target.host, round_trip_s) as far,
            ):
                copied = bench.compare(
                    f"copy one image, cold, {_where(round_trip_s)} (config, 3 MiB, 200 kB)",
                    lambda tool, name, near=near, far=far: (
                        tool.copy  # type: ignore[misc]
                        and tool.copy(f"{near}/app:v1", f"{far}/{name}/app:v1")
                    ),
                    sides=(source, target),
                )
                bench.compare(
                    f"list {tags} tags, {_where(round_trip_s)}",
                    lambda tool, _, near=near: (
                        tool.list_tags  # type: ignore[misc]
                        and tool.list_tags(f"{near}/app")
                    ),
                    sides=(source, target),
                )
                if round_trip_s:
                    asked = copied[OURS].asked(1)
                    aims.at_most("one image cold, requests of the target", asked, 8)


def _where(round_trip_s: float) -> str:
    return f"at {round_trip_s * 1000:.0f} ms" if round_trip_s else "directly"


def copy_all(
    source: str, target: Callable[[str], str], tags: int, *, without: tuple[str, ...] = ()
) -> Callable[[Tool, str], Argv | None]:
    """Return the task of copying a repository."""

    def task(tool: Tool, name: str) -> Argv | None:
        if tool.copy_all is None or tool.name in without:
            return None
        return tool.copy_all(source, target(name), tags)

    return task


def compare_repository(bench: Bench, aims: Aims, folder: Path, tags: int) -> None:
    """Copy many tags, cold and again; the registries are distribution, which has no referrers API."""
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    with (
        running_distribution(folder / "one", access_log=True) as one,
        running_distribution(folder / "two", access_log=True) as two,
    ):
        sides = (
            Distribution(host=one, log=folder / "one/docker-registry/log"),
            Distribution(host=two, log=folder / "two/docker-registry/log"),
        )
        put_many(folder / "many", f"{one}/app", tags)
        put_many(folder / "same", f"{two}/unrelated", 1)
        for round_trip_s in (0.0, ROUND_TRIP_S):
            with relay_to(one, round_trip_s) as near, relay_to(two, round_trip_s) as far:
                where = _where(round_trip_s)
                cold = bench.compare(
                    f"copy {tags} tags, cold, {where}",
                    copy_all(
                        f"{near}/app",
                        lambda name, far=far: f"{far}/{name}/app",  # type: ignore[misc]
                        tags,
                        without=(DEEP,),
                    ),
                    sides=sides,
                )
                synced = f"{far}/{cold[OURS].last_name}/app"
                again = bench.compare(
                    f"copy {tags} tags again, nothing to do, {where}",
                    copy_all(f"{near}/app", lambda _, synced=synced: synced, tags),  # type: ignore[misc]
                    sides=sides,
                )
            if round_trip_s:
                _check_repository(aims, cold, again, tags)
    _compare_with_api(bench, folder / "api", tags)


def _check_repository(aims: Aims, cold: Results, again: Results, tags: int) -> None:
    for what, results in (("first copy", cold), ("nothing to do", again)):
        ratio = results[OURS].wall / results[CRANE_16].wall
        aims.at_most(f"{tags} tags at 20 ms, {what}, time over crane -j 16", ratio, 1)
    ratio = cold[OURS].asked(1) / cold[CRANE_16].asked(1)
    aims.at_most(f"{tags} tags, first copy, target requests over crane's", ratio, 0.6)


def _compare_with_api(bench: Bench, folder: Path, tags: int) -> None:
    """The same where both sides have the referrers API: what looking for new referrers costs."""
    with (
        embedded_registry(folder / "source") as source,
        embedded_registry(folder / "target") as target,
    ):
        put_many(folder / "many", f"{source.host}/app", tags)
        with (
            relay_to(source.host, ROUND_TRIP_S) as near,
            relay_to(target.host, ROUND_TRIP_S) as far,
        ):
            slow = ("skopeo", "oras", CRANE)
            cold = bench.compare(
                f"copy {tags} tags, cold, with the referrers API, at 20 ms",
                copy_all(
                    f"{near}/app", lambda name: f"{far}/{name}/app", tags, without=(*slow, DEEP)
                ),
                sides=(source, target),
            )
            synced = f"{far}/{cold[OURS].last_name}/app"
            bench.compare(
                f"copy {tags} tags again, nothing to do, with the referrers API, at 20 ms",
                copy_all(f"{near}/app", lambda _: synced, tags, without=slow),
                sides=(source, target),
            )


def compare_bytes(
    bench: Bench, aims: Aims, folder: Path, authority: Authority, arguments: argparse.Namespace
) -> None:
    """Pull and push one large layer, plain and over TLS, near and far."""
    mebibytes: int = arguments.mebibytes
    large = noisy_image(folder / "large", mebibytes << 20)
    for title, tls in (("plain", None), ("TLS", authority.issue("registry", "0.0.0.0"))):
        for round_trip_s in (0.0, ROUND_TRIP_S):
            place = folder / title
            place.mkdir()
            with (
                running_distribution(place, tls=tls) as loopback,
                relay_to(loopback, round_trip_s) as address,
            ):
                # 0.0.0.0 reaches this machine too, and nobody takes it for loopback and tries plain HTTP
                host = address.replace("127.0.0.1", "0.0.0.0") if tls else address
                what = f"{mebibytes} MiB, {title}, {_where(round_trip_s)}"
                pushed, pulled = _move(bench, what, large, host, place / "pulled", plain=not tls)
            shutil.rmtree(place)
            if not round_trip_s:
                for name, results in (("push", pushed), ("pull", pulled)):
                    ratio = results[OURS].wall / results[CRANE].wall
                    aims.at_most(f"{name} {mebibytes} MiB, {title}, time over crane", ratio, 1)
                    aims.at_most(
                        f"{name} {mebibytes} MiB, {title}, memory", results[OURS].peak, 80, " MB"
                    )
    shutil.rmtree(large.path)


def _move(
    bench: Bench, what: str, large: Layout, host: str, there: Path, *, plain: bool
) -> tuple[Results, Results]:
    pushed = bench.compare(
        f"push {what}",
        lambda tool, name: tool.push and tool.push(large.path, f"{host}/{name}/big:v1", plain),
        once=("skopeo",),
    )
    reference = f"{host}/{pushed[OURS].last_name}/big:v1"
    pulled = bench.compare(
        f"pull {what}",
        lambda tool, _: tool.pull and tool.pull(reference, there, plain),
        after=lambda: shutil.rmtree(there, ignore_errors=True),
    )
    return pushed, pulled


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `--quick` sets what was not given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute or two: small, few rounds")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--phase-seconds", type=float)
    parser.add_argument("--tags", type=int)
    parser.add_argument("--mebibytes", type=int)
    parser.add_argument("--heads", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--lock", type=Path, help="held during each task")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    for name, small, large in (
        ("runs", 2, 5),
        ("phase_seconds", 20.0, 120.0),
        ("tags", 20, 100),
        ("mebibytes", 64, 1024),
        ("heads", 500, 3000),
    ):
        if getattr(arguments, name) is None:
            setattr(arguments, name, small if quick else large)
    return arguments


def main() -> int:
    """Run the benchmark."""
    arguments = parse_arguments()
    compileall.compile_dir("ci_registry", quiet=2)  # an installed package is compiled too
    parts: list[str] = arguments.only or list(PARTS)
    aims = Aims()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        authority = Authority(folder)
        bench = Bench(
            tools(authority.file),
            peer_environment() | {"SSL_CERT_FILE": str(authority.file)},
            runs=arguments.runs,
            phase_s=arguments.phase_seconds,
            lock=arguments.lock,
        )
        for part in parts:
            (folder / part).mkdir()
        if "image" in parts:
            compare_image(bench, aims, folder / "image", arguments.tags)
        if "repository" in parts:
            compare_repository(bench, aims, folder / "repository", arguments.tags)
        if "bytes" in parts:
            compare_bytes(bench, aims, folder / "bytes", authority, arguments)
        if "heads" in parts:
            with bench.alone():
                compare_heads(folder / "heads", arguments.heads)
    aims.show()
    return 0


if __name__ == "__main__":
    sys.exit(main())

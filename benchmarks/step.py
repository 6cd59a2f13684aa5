"""Wall time of `ci-registry run` against the usual chain of tools, on the same change, side by side.

usage: python benchmarks/step.py [--runs N]

The chain: docker buildx build --push, trivy image, cosign sign, cosign verify. Both use the same
dockerd, distribution registry, trivy and database; each round changes one file and runs all three, in
turns. Needs `make peers`. Prints medians, the best of each, and the median of the ratios of each round,
which a busy machine disturbs least; also the start-up time of `--help` and `plan`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.support.place import Place, open_place

TOOL = (sys.executable, "-I", "-m", "ci_registry")


def timed(action: Callable[[], None]) -> float:
    """Return the wall time of an action in seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def call(argv: tuple[str, ...], env: dict[str, str], folder: Path) -> None:
    """Run a program and stop the benchmark with its output when it fails."""
    done = subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )


def chain(place: Place, tag: str) -> dict[str, float]:
    """Run the four tools one after the other; returns the time of each."""
    ref = f"{place.registry}/bench/chain:{tag}"
    trivy = (
        "trivy",
        "image",
        "--image-src",
        "remote",
        "--insecure",
        "--scanners",
        "vuln",
        "--quiet",
    )
    trivy += ("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--skip-version-check")
    trivy += ("--disable-telemetry", "--cache-dir", str(place.trivy_cache), "--format", "json")
    sign = (
        "cosign",
        "sign",
        "--key",
        "cosign.key",
        "-y",
        "--tlog-upload=false",
        "--allow-insecure-registry",
    )
    verify = (
        "cosign",
        "verify",
        "--key",
        "cosign.pub",
        "--insecure-ignore-tlog",
        "--allow-insecure-registry",
    )
    steps = {
        "build --push": (
            "docker",
            "buildx",
            "build",
            "--provenance=false",
            "--push",
            "-t",
            ref,
            str(place.context),
        ),
        "trivy image": (*trivy, "--output", str(place.folder / "chain.json"), ref),
        "cosign sign": (*sign, "--use-signing-config=false", "--new-bundle-format=false", ref),
        "cosign verify": (*verify, "--new-bundle-format=false", ref),
    }
    return {
        name: timed(lambda argv=argv: call(argv, place.env, place.folder))
        for name, argv in steps.items()
    }


def step(place: Place, tag: str, scanner: str, database: Path) -> dict[str, float]:
    """Run `ci-registry run`; returns the whole time and the time of each step."""
    report = place.folder / f"report-{scanner}"
    argv = (
        *(
            *TOOL,
            "run",
            "--image",
            f"{place.registry}/bench/{scanner}",
            "--context",
            ".",
        ),
        *(
            "--tags",
            tag,
            "--scanner",
            scanner,
            "--scan-db",
            str(database),
            "--report-dir",
            str(report),
        ),
        *(
            "--sign-key",
            str(place.folder / "cosign.key"),
            "--builder",
            "buildx",
            "--cache",
            "off",
            "-q",
        ),
    )
    whole = timed(lambda: call(argv, place.env, place.context))
    image = json.loads((report / "result.json").read_text())["images"][0]
    return {"whole": whole} | {
        s["step"]: s["duration_s"] for s in image["steps"] if s["duration_s"]
    }


def show(title: str, rows: list[dict[str, float]]) -> None:
    """Print the median of each part, and the best."""
    print(f"\n{title:<34}{'median':>9}{'best':>9}")
    for name in rows[0]:
        times = [row.get(name, 0.0) for row in rows]
        print(f"  {name:<32}{statistics.median(times):7.3f} s{min(times):7.3f} s")


def start_up(place: Place, runs: int) -> None:
    """Print how long the command line takes to answer."""
    for argv in ((*TOOL, "--help"), (*TOOL, "plan", "--image", "example.org/app", "--offline")):
        times = [timed(lambda argv=argv: call(argv, place.env, place.context)) for _ in range(runs)]
        print(f"  ci-registry {' '.join(argv[4:5]):<16}{statistics.median(times) * 1000:7.0f} ms")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, open_place(Path(folder)) as place:
        chains, trivies, embedded = [], [], []
        for number in range(runs + 1):  # the first round warms every cache and is left out
            place.change(f"{datetime.now(UTC).isoformat()} {number}")
            rows = (
                chain(place, f"r{number}"),
                step(place, f"r{number}", "trivy", place.trivy_cache),
                step(place, f"r{number}", "osv", place.osv_folder),
            )
            for kept, row in zip((chains, trivies, embedded), rows, strict=True):
                kept.extend([row] if number else [])
        totals = [{"whole": sum(row.values())} | row for row in chains]
        show("chain of tools", totals)
        show("ci-registry run, scanner trivy", trivies)
        show("ci-registry run, scanner osv", embedded)
        for title, kept in (("trivy", trivies), ("osv", embedded)):
            pairs = zip(kept, totals, strict=True)
            ratio = statistics.median(ours["whole"] / theirs["whole"] for ours, theirs in pairs)
            print(f"\nratio, scanner {title}: {ratio:.2f} of the chain")
        print(f"\nstart-up (cores: {os.cpu_count()}, load: {os.getloadavg()[0]:.1f})")
        start_up(place, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())

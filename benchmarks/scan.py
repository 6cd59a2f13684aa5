"""How long a scan takes against trivy on the same image and advisories, cold and warm, and matching again.

    python -m benchmarks.scan [--image LAYOUT] [--runs 5] [--lock FILE]

The image is made by `benchmarks.scan_image` and kept in `.peers/scan-image`; the advisories are invented for
its packages. Cold: no cache. Warm: every layer was read before. Runs of both alternate.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.measure import Aims, Bench, Results, Rows, run
from benchmarks.scan_image import scan_image
from ci_registry.advisories.compiled import open_compiled
from ci_registry.findings import Inventory, Package
from ci_registry.sbom.cyclonedx import write_cyclonedx
from ci_registry.sbom.document import SbomDocument
from ci_registry.sbom.reading import read_sbom
from ci_registry.scanners.osv import OsvScanner
from tests.support.advisories import record, write_osv_folder
from tests.support.inspection import inspect_layout
from tests.support.peers import PEERS, find_peer

OURS, TRIVY = "ci-registry", "trivy"
"""In this order: ratios are of ours to trivy's."""
_PROMISED = ("Debian:12", "PyPI", "npm", "Go")
_ECOSYSTEMS = {"deb": "Debian:12", "pypi": "PyPI", "npm": "npm", "golang": "Go"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where everything is."""

    image: Path
    osv_db: Path
    trivy_db: Path
    work: Path
    trivy: Path
    packages: int

    def ours(self, cache: Path) -> tuple[str, ...]:
        """Return the command line; its cache is named by the environment."""
        return (
            *(sys.executable, "-m", "ci_registry", "scan", str(self.image), "-q"),
            *("--scanner", "osv", "--scan-db", str(self.osv_db)),
            *("--report-dir", str(cache / "report"), "--policy", str(self.work / "policy.yml")),
        )

    def theirs(self, cache: Path) -> tuple[str, ...]:
        """Return trivy's: packages and vulnerabilities, as JSON, asking nobody."""
        return (
            *(str(self.trivy), "image", "--input", str(self.image), "--format", "json"),
            *("--output", str(cache / "report.json"), "--scanners", "vuln", "--quiet"),
            *("--cache-dir", str(cache), "--skip-db-update", "--skip-java-db-update"),
            *("--offline-scan", "--skip-version-check", "--disable-telemetry"),
            *("--config", "/dev/null", "--ignorefile", "/dev/null"),
        )


def main() -> int:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, default=PEERS / "scan-image")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--lock", type=Path)
    arguments = parser.parse_args()
    trivy = find_peer("trivy")
    if trivy is None:
        raise SystemExit("scan: no trivy, see scripts/install-peers")
    image = scan_image(arguments.image)
    with tempfile.TemporaryDirectory() as folder:
        inventory = inspect_layout(image).platforms[0].inventory
        place = _prepare(Path(folder), image, trivy, inventory)
        bench = Bench((), {}, runs=arguments.runs, phase_s=600, lock=arguments.lock)
        with bench.alone():
            cold = _alternate(place, arguments.runs, warm=False)
            warm = _alternate(place, arguments.runs, warm=True)
            again = _again(place, inventory, arguments.runs)
        _show(image, place, cold, warm)
        aims = Aims()
        aims.at_most("cold: CPU, of trivy's", _ratio(cold, lambda r: r.cpu_s), 0.5)
        aims.at_most("warm: wall time, of trivy's", _ratio(warm, lambda r: r.wall_s), 1.0)
        peak = max(cold[OURS].peak, warm[OURS].peak)
        aims.at_most("peak memory", peak, 150, " MB")
        aims.at_most("an attested inventory again", again * 1000, 50, " ms")
        aims.show()
    return 0


def _prepare(folder: Path, image: Path, trivy: Path, inventory: Inventory) -> Place:
    now = datetime.now(UTC) - timedelta(minutes=1)
    records = [
        _advisory(number, package)
        for number, package in enumerate(inventory.packages)
        if number % 3 == 0
    ]
    osv = write_osv_folder(folder / "osv", *records, built=now.isoformat(), ecosystems=_PROMISED)
    own = (sys.executable, "-m", "ci_registry", "db", "build", str(osv), "--trivy", "-q")
    database = folder / "db"
    subprocess.run((*own, "--output", str(database)), check=True, stdout=subprocess.DEVNULL)
    policy = {
        "apiVersion": "v1",
        "kind": "Policy",
        "metadata": {"name": "list"},
        "spec": {"rules": [{"severity": "CRITICAL", "action": "WARN"}]},
    }
    (folder / "policy.yml").write_text(json.dumps(policy))
    trivy_db = next(path.parent.parent for path in database.rglob("trivy.db"))
    return Place(
        image=image,
        osv_db=database,
        trivy_db=trivy_db,
        work=folder,
        trivy=trivy,
        packages=len(inventory.packages),
    )


def _advisory(number: int, package: Package) -> dict[str, object]:
    """Return a record that affects a package, in every second case only older versions of it."""
    name = package.source_name or package.name
    fixed = [{"fixed": "999999"}] if number % 2 else [{"fixed": "0.0.1"}]
    return record(
        f"CVE-2026-{number:05}",
        _ECOSYSTEMS[package.ecosystem],
        name,
        events=[{"introduced": "0"}, *fixed],
        range_type="SEMVER" if package.ecosystem in ("npm", "golang") else "ECOSYSTEM",
    )


def _alternate(place: Place, runs: int, *, warm: bool) -> Results:
    """Run both in turns; warm ones after one run that counts for nothing."""
    results = {OURS: Rows(), TRIVY: Rows()}
    for number in range(runs + warm):
        order = (OURS, TRIVY) if number % 2 == 0 else (TRIVY, OURS)
        for name in order:
            cache = place.work / f"{name}-warm" if warm else place.work / f"{name}-cold-{number}"
            rows = Rows() if warm and number == 0 else results[name]
            _one(place, name, cache, rows)
            if rows.trouble:
                raise SystemExit(f"{name} {rows.trouble}")
            if not warm:
                shutil.rmtree(cache)
    return results


def _one(place: Place, name: str, cache: Path, rows: Rows) -> None:
    cache.mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(cache), "CIREG_WORK_DIR": str(cache)}
    env |= {"CIREG_CACHE_DIR": str(cache / "cache")}
    if name == TRIVY and not (cache / "db").exists():
        shutil.copytree(place.trivy_db, cache, dirs_exist_ok=True)
    run(place.ours(cache) if name == OURS else place.theirs(cache), env, rows)


def _again(place: Place, inventory: Inventory, runs: int) -> float:
    """Return the median time to read our SBOM and to match it with the database, in seconds."""
    document = SbomDocument(image="bench", inventory=inventory, created_at=datetime.now(UTC))
    text = write_cyclonedx(document)
    times = []
    for _ in range(runs + 1):  # the first imports what it needs and is left out
        started = time.perf_counter()
        read = read_sbom(text, what="the SBOM").inventory
        scanner = OsvScanner(
            source=open_compiled(place.osv_db),
            now=lambda: datetime.now(UTC),
            max_db_age=timedelta(hours=48),
        )
        found = scanner.match(read)
        times.append(time.perf_counter() - started)
        assert found.findings
    return statistics.median(times[1:])


def _ratio(results: Results, column: Callable[[Rows], list[float]]) -> float:
    """Return ours divided by trivy's: the median over pairs of runs."""
    pairs = zip(column(results[OURS]), column(results[TRIVY]), strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def _show(image: Path, place: Place, cold: Results, warm: Results) -> None:
    blobs = sum(path.stat().st_size for path in (image / "blobs" / "sha256").iterdir())
    print(f"{blobs / 1e6:.0f} MB compressed, {place.packages} packages")
    print(f"\n{'':<20}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}")
    for title, results in (("cold", cold), ("warm", warm)):
        for name, rows in results.items():
            cpu = statistics.median(rows.cpu_s)
            print(f"  {title}, {name:<14}{rows.wall:7.2f}{cpu:9.2f}{rows.peak:9.0f}")
        wall, cpu = (_ratio(results, column) for column in (lambda r: r.wall_s, lambda r: r.cpu_s))
        print(f"  {title}, {'ratio':<14}{wall:7.2f}{cpu:9.2f}")


if __name__ == "__main__":
    sys.exit(main())

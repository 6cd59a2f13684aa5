"""How long it takes to build an advisory database, and to open and ask it, against the folder of records.

    python -m benchmarks.advisories [FOLDER] [--packages 500]

FOLDER holds OSV records; default: as many made-up ones as a large image has to do with.
"""

import argparse
import contextlib
import json
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ci_registry.advisories.build import BuildRequest, build_database
from ci_registry.advisories.compiled import open_compiled
from ci_registry.advisories.compiled_file import DATABASE_FILE
from ci_registry.advisories.database import open_osv_folder
from ci_registry.advisories.ecosystems import Query
from ci_registry.advisories.source import AdvisorySource
from ci_registry.cache import DiskCache

ROUNDS = 5
MADE_UP = 20_000


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--packages", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        base = Path(work)
        source = arguments.folder or make_up(base / "osv")
        output = base / "db"
        request = BuildRequest(
            sources=(source,),
            output=output,
            now=datetime.now(UTC),
            built_at=datetime.now(UTC),
            ecosystems=("PyPI",),
        )
        build_s = seconds(lambda: build_database(request))
        size_mb = (output / DATABASE_FILE).stat().st_size / 1e6
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        info = open_compiled(output).info
        print(f"{info.records_count} records: built in {build_s:.2f} s, {size_mb:.1f} MB")
        print(f"peak memory of the build: {peak_mb:.0f} MB\n")
        queries = some_packages(output / DATABASE_FILE, arguments.packages)
        cache = DiskCache(folder=base / "cache", max_bytes=1 << 30)
        open_compiled(output, cache=cache).close()
        print(f"{len(queries)} packages:")
        _row("folder of records", lambda: open_osv_folder(source), queries)
        _row("compiled, checksum computed", lambda: open_compiled(output), queries)
        _row("compiled, checksum remembered", lambda: open_compiled(output, cache=cache), queries)


def make_up(folder: Path) -> Path:
    """Write records: half of them about packages that no image has."""
    folder.mkdir()
    for number in range(MADE_UP):
        affected = {
            "package": {"ecosystem": "PyPI", "name": f"package-{number % 4000}"},
            "ranges": [
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": f"1.{number}"}]}
            ],
        }
        record = {
            "id": f"PYSEC-2026-{number}",
            "modified": "2026-01-01T00:00:00Z",
            "aliases": [f"CVE-2026-{number:05}"],
            "summary": f"something is wrong in package-{number % 4000}",
            "details": "a sentence about it " * 40,
            "affected": [affected],
            "references": [{"type": "WEB", "url": f"https://example.com/{number}"}] * 5,
        }
        (folder / f"{number}.json").write_text(json.dumps(record))
    return folder


def some_packages(file: Path, count: int) -> tuple[Query, ...]:
    """Return questions: a fifth about packages with records, the rest about others, as in an image."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(
            "SELECT ecosystem, name FROM packages LIMIT ?", (count // 5,)
        ).fetchall()
    known = [Query(ecosystem=ecosystem, name=name) for ecosystem, name in rows]
    others = [Query(ecosystem="PyPI", name=f"unknown-{n}") for n in range(count - len(known))]
    return (*known, *others)


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _row(name: str, opener: Callable[[], AdvisorySource], queries: tuple[Query, ...]) -> None:
    opening, asking, found = [], [], 0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        source = opener()
        opened = time.perf_counter()
        found = sum(map(len, source.lookup(queries).values()))
        asking.append(time.perf_counter() - opened)
        opening.append(opened - started)
    open_ms, ask_ms = (statistics.median(times) * 1000 for times in (opening, asking))
    print(f"  {name:<32}{open_ms:9.1f} ms open{ask_ms:9.1f} ms lookup{found:7} records")


if __name__ == "__main__":
    main()

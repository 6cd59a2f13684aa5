"""Builds an advisory database: finds out how old and how complete the sources are, then compiles them."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from ci_registry.advisories.compile import Promise, write_compiled
from ci_registry.advisories.compiled_file import DATABASE_FILE, DatabaseInfo
from ci_registry.advisories.exploitation import read_epss, read_kev
from ci_registry.advisories.osv import Advisory, advisory_from
from ci_registry.advisories.records import FACTS_FILE, read_facts
from ci_registry.advisories.source import covered_ecosystems
from ci_registry.advisories.spool import Spool
from ci_registry.errors import UsageError

_CLOCK_SKEW = timedelta(minutes=5)
_PROMISE = "name each ecosystem that is complete: --ecosystem PyPI --ecosystem Debian:12"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What a database is made of."""

    sources: tuple[Path, ...]
    """Folders of OSV records (`*.json`, `all.zip`), or zip archives of them."""
    output: Path
    """Folder that gets the files; made when missing."""
    now: datetime
    built_at: datetime | None = None
    """When the data was made; needed for a source without `database.json`, and wins over it."""
    ecosystems: tuple[str, ...] = ()
    """What is complete, beside what the sources' `database.json` lists."""
    kev: Path | None = None
    epss: Path | None = None
    trivy: bool = False
    """Also write `db/trivy.db` and `db/metadata.json`, of the same records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was built."""

    info: DatabaseInfo
    left_out: tuple[str, ...] = ()
    """What trivy's database lacks, and why, one sentence each."""


def build_database(request: BuildRequest) -> Built:
    """Compile the sources into `advisories.sqlite` in the output folder, which gets its name last.

    Raises:
        UsageError: a source does not exist, or nobody says how old or how complete it is.
        IntegrityError: a record or list is malformed; names the file.
        StorageError: something can't be read or written.
    """
    promise = promise_of(request)
    request.output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".spool-", dir=request.output) as folder,
        Spool(Path(folder) / "spool.sqlite") as spool,
    ):
        for source in request.sources:
            if not spool.add(source):
                raise UsageError(f"{source} holds no OSV record: no .json file and no all.zip")
        left_out = _write_trivy(spool, request.output, promise) if request.trivy else ()
        info = write_compiled(spool, request.output / DATABASE_FILE, promise)
        return Built(info=info, left_out=left_out)


def _write_trivy(spool: Spool, output: Path, promise: Promise) -> tuple[str, ...]:
    """Write trivy's database of what is promised: data that is not complete must not look like coverage."""
    from ci_registry.advisories.trivy_db import write_trivy_db  # noqa: PLC0415 - hardly ever needed
    from ci_registry.advisories.trivy_export import trivy_content  # noqa: PLC0415 - likewise

    covered = covered_ecosystems((row[0] for row in spool.packages()), promise.listed)
    content = trivy_content(
        narrowed
        for record in spool.records()
        for narrowed in _narrowed(advisory_from(record.document, what=record.id), covered)
    )
    write_trivy_db(
        output,
        content.records,
        content.vulnerabilities,
        updated_at=promise.built_at,
        sources=content.sources,
    )
    return content.left_out


def _narrowed(advisory: Advisory, covered: tuple[str, ...]) -> Iterator[Advisory]:
    """Yield a record with its entries of covered ecosystems; what is about every release is about each."""
    affected = []
    for item in advisory.affected:
        releases = [name for name in covered if name.startswith(f"{item.ecosystem}:")]
        if releases:
            affected += [replace(item, ecosystem=name) for name in releases]
        elif item.ecosystem in covered:
            affected.append(item)
    if affected:
        yield replace(advisory, affected=tuple(affected))


def promise_of(request: BuildRequest) -> Promise:
    """Find out how old the data is (as old as its oldest source) and what is complete in it.

    Raises:
        UsageError: nobody says so, or it would be of the future.
    """
    times, listed = [], list(request.ecosystems)
    for source in request.sources:
        if not source.exists():
            raise UsageError(f"{source} does not exist")
        facts = read_facts(source) if source.is_dir() else None
        if facts is not None:
            listed += facts.ecosystems
        built_at = request.built_at or (facts.built_at if facts else None)
        if built_at is None:
            raise UsageError(
                f"nobody says when the data in {source} was made",
                hint=f"say it with --built-at TIME, or put a {FACTS_FILE} beside the records",
            )
        times.append(built_at)
    if not times:
        raise UsageError("no source is named", hint="name folders of OSV records or all.zip files")
    if not listed:
        raise UsageError("nobody says which ecosystems are complete", hint=_PROMISE)
    if min(times) > request.now + _CLOCK_SKEW:
        raise UsageError(f"the data claims to be made in the future, at {min(times).isoformat()}")
    return Promise(
        built_at=min(times),
        listed=tuple(dict.fromkeys(listed)),
        kev=read_kev(request.kev) if request.kev else None,
        epss=read_epss(request.epss) if request.epss else None,
    )

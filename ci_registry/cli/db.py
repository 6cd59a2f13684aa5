"""`db build | info | push | pull`: your own advisory database."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import format_option, log_options, setting_options
from ci_registry.cli.streams import write_out
from ci_registry.config.options import Scope
from ci_registry.errors import UsageError

if TYPE_CHECKING:
    from ci_registry.advisories.compiled_file import DatabaseInfo

_PARTS = ("config", "working_directory", "network", "auth", "cache_dir", "work_dir", "policy_ref")
_SHOWN = 20


@click.group()
def db() -> None:
    """Build, look at, push and pull your own advisory database."""


@db.command()
@click.argument(
    "sources", nargs=-1, required=True, metavar="SOURCE...", type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    default="advisories",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that gets advisories.sqlite.",
)
@click.option(
    "--built-at",
    metavar="TIME",
    help="When the data was made, for example 2026-01-31T06:00:00Z; needed for archives without a database.json.",
)
@click.option(
    "--ecosystem",
    "ecosystems",
    multiple=True,
    metavar="NAME",
    help="An ecosystem that is complete in the sources: PyPI, Debian:12, or Debian for all its releases. Repeatable.",
)
@click.option("--trivy", is_flag=True, help="Also write a trivy database, of the same records.")
@click.option(
    "--kev",
    type=click.Path(path_type=Path),
    help="CISA's list of known exploited vulnerabilities, JSON.",
)
@click.option("--epss", type=click.Path(path_type=Path), help="EPSS scores, CSV, gzipped or not.")
@log_options
@format_option
def build(
    *,
    sources: tuple[Path, ...],
    output: Path,
    built_at: str | None,
    ecosystems: tuple[str, ...],
    trivy: bool,
    kev: Path | None,
    epss: Path | None,
    output_format: str,
    **values: Any,
) -> None:
    """Compile OSV records into one database.

    SOURCE is a folder of OSV JSON files and all.zip archives, or such an archive, as osv.dev
    publishes one for each ecosystem. A folder's database.json says when it was made and what is complete.
    """
    from ci_registry.advisories.build import BuildRequest
    from ci_registry.cli.console import clean
    from ci_registry.wiring.database_files import build as build_database

    with open_caller(values) as caller:
        request = BuildRequest(
            sources=sources,
            output=output,
            now=caller.now(),
            built_at=_time(built_at) if built_at else None,
            ecosystems=ecosystems,
            kev=kev,
            epss=epss,
            trivy=trivy,
        )
        built = build_database(caller, request)
    if output_format == "json":
        document = {"schema_version": 1, "left_out": list(built.left_out), **built.info.to_json()}
        write_out(json.dumps(document, indent=2) + "\n")
        return
    write_out(_info_text(built.info))
    for text in built.left_out[:_SHOWN]:
        write_out(f"not in trivy's: {clean(text)}\n")
    if len(built.left_out) > _SHOWN:
        write_out(f"not in trivy's: {len(built.left_out) - _SHOWN} more, see --format json\n")


def _time(text: str) -> datetime:
    from ci_registry.advisories.osv import parse_time

    try:
        return parse_time(text)
    except ValueError as error:
        raise UsageError(
            f"--built-at {text[:50]!r} is no time with a zone",
            hint="write it like 2026-01-31T06:00:00Z; date -u +%FT%TZ prints the time now",
        ) from error


@db.command()
@click.argument("target", metavar="PATH|REFERENCE")
@setting_options(scopes=(Scope.SETTINGS, Scope.RUN), parts=(*_PARTS, "trust"))
@log_options
@format_option
def info(target: str, output_format: str, **values: Any) -> None:
    """Say how old a database is and what it holds; of one in a registry nothing but its config is read."""
    from ci_registry.cli.console import clean
    from ci_registry.wiring.database_files import describe

    with open_caller(values) as caller:
        found = describe(caller, target)
    if output_format == "json":
        write_out(json.dumps(found.to_json(), indent=2) + "\n")
        return
    write_out(f"location    {clean(found.location)}\nage         {found.age_hours:.1f} hours\n")
    write_out(_info_text(found.info))
    if found.trivy_at is not None:
        write_out(f"trivy       {found.trivy_at.isoformat()}\n")
    if found.trivy_digest:
        write_out(f"trivy       {found.trivy_digest}\n")
    if found.signed_by is not None:
        write_out(f"signed by   {found.signed_by or 'no key that is trusted here'}\n")


def _info_text(info: "DatabaseInfo") -> str:
    from ci_registry.cli.console import clean

    lines = [f"built       {info.built_at.isoformat()}", f"digest      {info.digest}"]
    lines.append(f"records     {info.records_count}")
    for name, date, count in (
        ("exploited", info.kev_at, info.kev_count),
        ("epss", info.epss_at, info.epss_count),
    ):
        if date is not None:
            lines.append(f"{name:<12}{count} of {date.isoformat()}")
    lines.append(f"complete    {clean(', '.join(info.listed))}")
    for ecosystem in info.ecosystems:
        counts = f"{ecosystem.records} records, {ecosystem.packages} packages"
        lines.append(f"  {clean(ecosystem.name)}: {counts}")
    return "".join(f"{line}\n" for line in lines)


@db.command()
@click.argument("folder", metavar="DIR")
@click.argument("references", nargs=-1, required=True, metavar="REFERENCE...")
@click.option(
    "--no-sign", is_flag=True, help="Push without a signature; then it must be named by digest."
)
@setting_options(scopes=(Scope.SETTINGS, Scope.RUN), parts=(*_PARTS, "sign"))
@log_options
@format_option
def push(
    folder: str, references: tuple[str, ...], no_sign: bool, output_format: str, **values: Any
) -> None:
    """Push the database in DIR to each REFERENCE, signed with the key that signs images; the tag moves last.

    A trivy database beside it goes to the same repository, with -trivy behind the tag.
    """
    from ci_registry.wiring.database_transfer import push_database

    with open_caller(values) as caller:
        pushed = push_database(caller, folder, references, sign=not no_sign)
    if output_format == "json":
        rows = [
            {
                "reference": str(item.reference),
                "digest": str(item.digest),
                "trivy": str(item.trivy) if item.trivy else None,
                "signed": item.signed,
                "bytes_sent": item.bytes_sent,
            }
            for item in pushed
        ]
        write_out(json.dumps({"schema_version": 1, "pushed": rows}, indent=2) + "\n")
        return
    for item in pushed:
        word = "signed" if item.signed else "NOT signed"
        write_out(f"pushed {item.reference}@{item.digest} ({word}, {item.bytes_sent} bytes sent)\n")
        if item.trivy is not None:
            write_out(f"for trivy: --db-repository {item.trivy}\n")


@db.command()
@click.argument("references", nargs=-1, metavar="[REFERENCE...]")
@click.option("-o", "--output", metavar="DIR", help="Also copy it to a folder.")
@click.option("--trivy", is_flag=True, help="Fetch the trivy database instead.")
@setting_options(scopes=(Scope.SETTINGS, Scope.RUN), parts=(*_PARTS, "trust", "scan"))
@log_options
@format_option
def pull(
    references: tuple[str, ...],
    output: str | None,
    trivy: bool,
    output_format: str,
    **values: Any,
) -> None:
    """Fetch an advisory database into the cache: the first REFERENCE that answers, default scan.databases.

    One that is named by tag must be signed by a key of `trust`; one that is named by digest must have it.
    """
    from ci_registry.cli.console import clean
    from ci_registry.wiring.database_transfer import pull_database

    with open_caller(values) as caller:
        fetched = pull_database(caller, references, output, trivy=trivy)
    if output_format == "json":
        document = {
            "schema_version": 1,
            "location": fetched.location,
            "folder": str(fetched.folder),
            "notes": list(fetched.notes),
        }
        write_out(json.dumps(document, indent=2) + "\n")
        return
    write_out(f"{clean(fetched.location)}\n{clean(str(output or fetched.folder))}\n")
    for note in fetched.notes:
        write_out(f"note: {clean(note)}\n")

"""Single steps on images: `build`, `scan`, `sign`, `verify`."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import format_option, log_options, setting_options
from ci_registry.cli.streams import write_out
from ci_registry.config.options import Scope

_SHARED = (Scope.SETTINGS, Scope.RUN)


def _time(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no time such as 2026-11-24T06:00:00Z") from error
    if time.tzinfo is None:
        raise click.BadParameter(f"{value!r} has no time zone; write 2026-11-24T06:00:00Z")
    return time.astimezone(UTC)


@click.command()
@setting_options()
@click.option(
    "-o",
    "--output",
    default="ci-registry-layout",
    show_default=True,
    help="Folder that gets one OCI layout directory per image.",
)
@log_options
@format_option
@click.pass_context
def build(ctx: click.Context, /, output: str, output_format: str, **values: Any) -> None:
    """Build images into OCI layouts and verify every byte; nothing is scanned, judged or pushed."""
    from ci_registry.cli.outcome import finish
    from ci_registry.pipeline.drive import Work
    from ci_registry.wiring.command import run_pipeline

    with open_caller(values) as caller:
        folder = (caller.folder / output).resolve()
        result, files = run_pipeline(caller, Work(command="build", keep_layouts=folder))
    ctx.exit(finish(result, files, output_format))


@click.command()
@click.argument("target", required=False)
@click.option(
    "--from-sbom",
    "sboms",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Match the packages of an SBOM (CycloneDX or SPDX as JSON) instead; once per platform.",
)
@click.option(
    "--from-report",
    "reports",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Judge what another scanner reported: SARIF, CycloneDX with vulnerabilities, or the JSON of"
    " trivy or grype; beside the scanners of --scanner when that is given too.",
)
@click.option(
    "--report-db-date",
    metavar="TIME",
    callback=_time,
    help="When the advisories behind the reports were made (RFC 3339), for formats that do not say.",
)
@setting_options(scopes=_SHARED)
@log_options
@format_option
@click.pass_context
def scan(
    ctx: click.Context,
    /,
    *,
    target: str | None,
    sboms: tuple[Path, ...],
    reports: tuple[Path, ...],
    report_db_date: datetime | None,
    output_format: str,
    **values: Any,
) -> None:
    """Scan and judge TARGET: an image reference, or an OCI layout directory; or an SBOM or report of it."""
    from ci_registry.cli.outcome import finish
    from ci_registry.pipeline.drive import Work
    from ci_registry.wiring.command import run_pipeline, scan_settings

    _check_sources(target, sboms, reports, report_db_date)
    with open_caller(values) as opened:
        caller = replace(opened, reports=reports, report_db_date=report_db_date)
        if target is not None:
            scanning, pull = scan_settings(caller, target)
            result, files = run_pipeline(scanning, Work(command="scan", pull=pull))
        else:
            from ci_registry.wiring.given import judge_reports, match_sboms

            result, files = match_sboms(caller, sboms) if sboms else judge_reports(caller)
    ctx.exit(finish(result, files, output_format))


def _check_sources(
    target: str | None,
    sboms: tuple[Path, ...],
    reports: tuple[Path, ...],
    report_db_date: datetime | None,
) -> None:
    if target is not None and sboms:
        raise click.UsageError("Name either an image or layout, or SBOM files with --from-sbom.")
    if target is None and not sboms and not reports:
        raise click.UsageError(
            "Name an image or layout, SBOM files with --from-sbom, or reports with --from-report."
        )
    if report_db_date is not None and not reports:
        raise click.UsageError("--report-db-date says something about --from-report.")


@click.command()
@click.argument("reference")
@click.option(
    "--result",
    "result_file",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="result.json of the run in which this digest passed; without it nothing is signed.",
)
@setting_options(scopes=_SHARED)
@log_options
@click.pass_context
def sign(ctx: click.Context, /, reference: str, result_file: Path, **values: Any) -> None:
    """Sign REFERENCE, when its digest passed in --result; read back and verify."""
    from ci_registry.wiring.single import sign_reference

    with open_caller(values) as caller:
        lines = sign_reference(caller, reference, result_file)
    write_out("".join(f"{line}\n" for line in lines))
    ctx.exit(0)


@click.command()
@click.argument("reference")
@click.option("--check-tag", is_flag=True, help="Also require a signature made for this very tag.")
@setting_options(scopes=_SHARED)
@log_options
@format_option
@click.pass_context
def verify(
    ctx: click.Context, /, reference: str, check_tag: bool, output_format: str, **values: Any
) -> None:
    """Verify the signatures of REFERENCE with the public key that `trust` names."""
    from ci_registry.cli.console import clean
    from ci_registry.wiring.single import verify_reference

    with open_caller(values) as caller:
        outcome = verify_reference(caller, reference, check_tag=check_tag)
    if output_format == "json":
        write_out(json.dumps(outcome.to_json(), indent=2) + "\n")
    else:
        for check in outcome.checks:
            write_out(f"{'✓' if check.passed else '✗'} {check.name}: {clean(check.detail)}\n")
        word = "verified" if outcome.valid else "NOT verified"
        write_out(f"{outcome.reference}: {word}\n")
    ctx.exit(int(outcome.exit_code))

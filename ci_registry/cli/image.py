"""Single steps on images: `build`, `scan`, `sign`, `verify`."""

import json
from pathlib import Path
from typing import Any

import click

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import format_option, log_options, setting_options
from ci_registry.cli.streams import write_out
from ci_registry.config.options import Scope

_SHARED = (Scope.SETTINGS, Scope.RUN)


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
@setting_options(scopes=_SHARED)
@log_options
@format_option
@click.pass_context
def scan(
    ctx: click.Context,
    /,
    target: str | None,
    sboms: tuple[Path, ...],
    output_format: str,
    **values: Any,
) -> None:
    """Scan and judge TARGET: an image reference, or an OCI layout directory; or an SBOM of it."""
    from ci_registry.cli.outcome import finish
    from ci_registry.pipeline.drive import Work
    from ci_registry.wiring.command import run_pipeline, scan_settings

    if (target is None) == (not sboms):
        raise click.UsageError("Name an image or layout, or SBOM files with --from-sbom.")
    with open_caller(values) as caller:
        if target is not None:
            scanning, pull = scan_settings(caller, target)
            result, files = run_pipeline(scanning, Work(command="scan", pull=pull))
        else:
            from ci_registry.wiring.given import match_sboms

            result, files = match_sboms(caller, sboms)
    ctx.exit(finish(result, files, output_format))


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

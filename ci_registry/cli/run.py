"""`run` and `plan`: the whole pipeline, and what it would do."""

import contextlib
import json
from typing import Any

import click

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import format_option, log_options, setting_options
from ci_registry.cli.streams import write_out
from ci_registry.errors import CiRegistryError, worst_exit_code


@click.command()
@setting_options()
@log_options
@format_option
@click.pass_context
def run(ctx: click.Context, /, output_format: str, **values: Any) -> None:
    """Build, scan, judge, push, sign and tag; reports in every outcome.

    With no settings file: ci-registry run --image ghcr.io/acme/app
    """
    from ci_registry.wiring.begin import begin_run

    with open_caller(values) as caller:
        begun = begin_run(caller, signs=True)
        with contextlib.suppress(CiRegistryError):  # raised again where it is reported
            begun()  # first of all: a key takes its time, in which the rest is imported
        from ci_registry.cli.outcome import finish
        from ci_registry.pipeline.drive import Work
        from ci_registry.wiring.command import run_pipeline

        result, files = run_pipeline(caller, Work(command="run"), begun)
    ctx.exit(finish(result, files, output_format))


@click.command()
@setting_options()
@log_options
@format_option
@click.pass_context
def plan(ctx: click.Context, /, output_format: str, **values: Any) -> None:
    """Print what `run` would do to each image and why; runs and writes nothing."""
    from ci_registry.cli.plan_text import plan_as_json, plan_as_text
    from ci_registry.wiring.command import plan_pipeline

    with open_caller(values) as caller:
        plans, notes = plan_pipeline(caller)
    if output_format == "json":
        write_out(json.dumps(plan_as_json(plans, notes), indent=2) + "\n")
    else:
        write_out(plan_as_text(plans, notes))
    codes = tuple(problem.exit_code for item in plans for problem in item.problems)
    ctx.exit(int(worst_exit_code(codes)))

"""`rescan`: published images against the advisories of today."""

from pathlib import Path
from typing import Any

import click

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import format_option, log_options, setting_options
from ci_registry.config.options import Scope


@click.command()
@click.argument("targets", nargs=-1)
@click.option(
    "--in-use",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with further images, one reference per line: what runs somewhere.",
)
@click.option("--match-tags", multiple=True, help="Only tags like this, for example 'v*'.")
@click.option("--pull", is_flag=True, help="Pull and read images that have no trusted inventory.")
@setting_options(scopes=(Scope.SETTINGS, Scope.RUN))
@log_options
@format_option
@click.pass_context
def rescan(
    ctx: click.Context,
    /,
    *,
    targets: tuple[str, ...],
    in_use: Path | None,
    match_tags: tuple[str, ...],
    pull: bool,
    output_format: str,
    **values: Any,
) -> None:
    """Match the images of TARGETS with the advisories of today, by their attested inventory.

    A target is a repository, which stands for all of its tags, or an image. No layer is pulled,
    unless --pull allows it. Exit code and reports are those of `run`.
    """
    from ci_registry.cli.outcome import finish
    from ci_registry.wiring.rescan import RescanChoice
    from ci_registry.wiring.rescan import rescan as rescan_images

    choice = RescanChoice(targets=targets, in_use=in_use, tags=match_tags, pull=pull)
    with open_caller(values) as caller:
        result, files = rescan_images(caller, choice)
    ctx.exit(finish(result, files, output_format))

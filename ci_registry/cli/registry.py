"""Commands for registries: `copy`, `ls`."""

import json
from typing import Any

import click

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import Command, format_option, log_options, setting_options
from ci_registry.cli.streams import write_out

_PARTS = ("network", "auth", "config", "working_directory")


def _shared(function: Command) -> Command:
    """Add what every registry command has: network and login settings, logging, output format."""
    return setting_options(parts=_PARTS)(log_options(format_option(function)))


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--all-tags", is_flag=True, help="Copy every tag of the repository.")
@click.option(
    "--tags", "patterns", multiple=True, metavar="PATTERN", help="Copy the tags that match a glob."
)
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="OS/ARCH",
    help="Copy only these platforms; the index keeps its digest where the target allows that.",
)
@click.option(
    "--rewrite-index",
    is_flag=True,
    help="With --platform: write an index of those platforms alone. Its digest is new, so"
    " signatures of the index do not carry over.",
)
@click.option(
    "--referrers/--no-referrers",
    "with_referrers",
    default=True,
    help="Also copy signatures, attestations and SBOMs. [default: --referrers]",
)
@click.option(
    "--deep",
    is_flag=True,
    help="With several tags: also look into those that are equal already.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be copied; write nothing.")
@_shared
@click.pass_context
def copy(
    ctx: click.Context,
    /,
    *,
    source: str,
    target: str,
    patterns: tuple[str, ...],
    platforms: tuple[str, ...],
    output_format: str,
    **values: Any,
) -> None:
    """Copy images from SOURCE to TARGET, byte for byte, signatures included.

    \b
    Each is one of:
      registry/repository[:tag][@digest]
      oci:DIR[:tag]            a folder with an OCI layout; an existing one needs no oci:
      oci-archive:FILE[:tag]   such a layout in one tar file
      docker-archive:FILE[:tag]   what `docker save` wrote; SOURCE only
    """  # noqa: D301 - click's mark for a paragraph that is not rewrapped
    from ci_registry.cli.registry_text import copy_as_json, copy_as_text
    from ci_registry.oci.platform import parse_platform
    from ci_registry.wiring.copying import CopyRequest, run_copy

    names = ("all_tags", "rewrite_index", "with_referrers", "deep", "dry_run")
    request = CopyRequest(
        source=source,
        target=target,
        tags=patterns,
        platforms=tuple(parse_platform(text) for text in platforms),
        **{name: values.pop(name) for name in names},
    )
    with open_caller(values) as caller:
        report = run_copy(caller, request)
    if output_format == "json":
        write_out(json.dumps(copy_as_json(report), indent=2) + "\n")
    else:
        write_out(copy_as_text(report))
    ctx.exit(int(report.exit_code))


@click.command()
@click.argument("repository")
@click.option("-l", "--long", "is_long", is_flag=True, help="With digest, size and media type.")
@click.option(
    "-a", "--all", "with_companions", is_flag=True, help="Also cosign's and fallback tags."
)
@_shared
def ls(
    repository: str, is_long: bool, with_companions: bool, output_format: str, **values: Any
) -> None:
    """List the tags of REPOSITORY (a registry's, oci:DIR or oci-archive:FILE)."""
    from ci_registry.cli.registry_lists import print_tags
    from ci_registry.wiring.reading import list_tags

    with open_caller(values) as caller:
        listed = list_tags(caller, repository, is_long=is_long, with_companions=with_companions)
        print_tags(listed, is_long=is_long, as_json=output_format == "json")

"""Commands for registries: `copy`, `ls`, `inspect`, `referrers`, `du`, `tag`, `untag`, `rm`."""

import json
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import Command, format_option, log_options, setting_options
from ci_registry.cli.streams import write_out

_PARTS = ("network", "auth", "config", "working_directory")


def _files(
    ctx: click.Context,  # noqa: ARG001 - click's signature
    param: click.Parameter,  # noqa: ARG001 - click's signature
    incomplete: str,
) -> list[CompletionItem]:
    """Let the shell complete files: a place may be a folder or an archive."""
    return [CompletionItem(incomplete, type="file")]


def _shared(function: Command) -> Command:
    """Add what every registry command has: network and login settings, logging, output format."""
    return setting_options(parts=_PARTS)(log_options(format_option(function)))


@click.command()
@click.argument("source", shell_complete=_files)
@click.argument("target", shell_complete=_files)
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
@click.argument("repository", shell_complete=_files)
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


@click.command()
@click.argument("reference", shell_complete=_files)
@click.option("--raw", is_flag=True, help="Print the manifest's bytes exactly as stored.")
@click.option(
    "--referrers/--no-referrers",
    "with_referrers",
    default=True,
    help="Also list signatures, attestations and SBOMs. [default: --referrers]",
)
@_shared
def inspect(
    reference: str, raw: bool, with_referrers: bool, output_format: str, **values: Any
) -> None:
    """Show what REFERENCE is made of: index, platforms, config, layers, referrers."""
    from ci_registry.cli.registry_tree import tree_as_json, tree_as_text
    from ci_registry.wiring.reading import inspect_image, raw_manifest

    with open_caller(values) as caller:
        if raw:
            body = raw_manifest(caller, reference)
            sys.stdout.buffer.write(body)
            return
        inspection = inspect_image(caller, reference, with_referrers=with_referrers)
    if output_format == "json":
        write_out(json.dumps(tree_as_json(inspection), indent=2) + "\n")
    else:
        write_out(tree_as_text(inspection))


@click.command()
@click.argument("reference", shell_complete=_files)
@_shared
def referrers(reference: str, output_format: str, **values: Any) -> None:
    """List what refers to REFERENCE: the referrers API, the fallback tag and cosign's tags, merged."""
    from ci_registry.cli.registry_lists import referrers_as_json, referrers_as_text
    from ci_registry.wiring.reading import referrers_of

    with open_caller(values) as caller:
        found = referrers_of(caller, reference)
    if output_format == "json":
        write_out(json.dumps(referrers_as_json(found), indent=2) + "\n")
    else:
        write_out(referrers_as_text(found))


@click.command()
@click.argument("repositories", nargs=-1, required=True, shell_complete=_files)
@click.option(
    "--referrers/--no-referrers",
    "with_referrers",
    default=True,
    help="Also count signatures, attestations and SBOMs. [default: --referrers]",
)
@_shared
def du(
    repositories: tuple[str, ...], with_referrers: bool, output_format: str, **values: Any
) -> None:
    """Count the bytes of REPOSITORIES from their manifests; no layer is read.

    \b
    LOGICAL  every image with all of its layers
    STORED   each layer once
    UNIQUE   in this repository alone
    SHARED   also in another one named here, on the same registry
    SHARE    unique, and an even part of what is shared
    """  # noqa: D301 - click's mark for a paragraph that is not rewrapped
    from ci_registry.cli.registry_lists import usage_as_json, usage_as_text
    from ci_registry.wiring.reading import count_usage

    with open_caller(values) as caller:
        usages = count_usage(caller, repositories, with_referrers=with_referrers)
    if output_format == "json":
        write_out(json.dumps(usage_as_json(usages), indent=2) + "\n")
    else:
        write_out(usage_as_text(usages))


@click.command()
@click.argument("source", shell_complete=_files)
@click.argument("tags", nargs=-1, required=True, metavar="NEWTAG...")
@_shared
def tag(source: str, tags: tuple[str, ...], output_format: str, **values: Any) -> None:
    """Put further tags on SOURCE, in the same repository; its bytes stay as they are."""
    from ci_registry.cli.console import clean
    from ci_registry.wiring.editing import tag_image

    with open_caller(values) as caller:
        moved = tag_image(caller, source, tags)
    if output_format == "json":
        rows = [{"tag": m.tag, "digest": m.digest, "before": m.before} for m in moved]
        write_out(json.dumps({"schema_version": 1, "tags": rows}, indent=2) + "\n")
        return
    for item in moved:
        before = "new" if item.before is None else f"was {item.before}"
        before = "already there" if item.before == item.digest else before
        write_out(f"{clean(item.tag)} {item.digest} ({before})\n")


@click.command()
@click.argument("reference", shell_complete=_files)
@_shared
def untag(reference: str, output_format: str, **values: Any) -> None:
    """Delete the tag REFERENCE and nothing else; its manifest and other tags stay.

    With @DIGEST behind the tag it is only deleted while it is there.
    """
    from ci_registry.cli.console import clean
    from ci_registry.wiring.editing import untag_image

    with open_caller(values) as caller:
        place, digest = untag_image(caller, reference)
    if output_format == "json":
        row = {"schema_version": 1, "repository": place.name, "tag": place.tag, "digest": digest}
        write_out(json.dumps(row, indent=2) + "\n")
    else:
        write_out(f"removed tag {clean(place.tag)}; {digest} stays\n")


@click.command()
@click.argument("reference", shell_complete=_files)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would go; delete nothing.")
@_shared
@click.pass_context
def rm(
    ctx: click.Context,
    /,
    *,
    reference: str,
    yes: bool,
    dry_run: bool,
    output_format: str,
    **values: Any,
) -> None:
    """Delete the image at REFERENCE (REPOSITORY:TAG or REPOSITORY@DIGEST), with all of its tags.

    Says first what goes: every tag on it, platforms that no other index lists, signatures and
    other referrers. Refuses when another index lists the image.
    """
    from ci_registry.cli.registry_removal import (
        Confirmation,
        deletion_as_json,
        deletion_as_text,
    )
    from ci_registry.wiring.editing import delete_image

    with open_caller(values) as caller:
        ask = Confirmation(yes=yes, dry_run=dry_run)
        deletion = delete_image(caller, reference, may_delete=ask)
    if output_format == "json":
        write_out(json.dumps(deletion_as_json(deletion), indent=2) + "\n")
    else:
        write_out(deletion_as_text(deletion))
    ctx.exit(int(deletion.exit_code))

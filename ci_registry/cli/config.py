"""`config show | check | schema`: the settings, where each came from, and their JSON schema."""

import json
from typing import Any

import click

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import format_option, log_options, setting_options
from ci_registry.cli.streams import write_out


@click.group()
def config() -> None:
    """Show, check and describe the settings."""


@config.command()
@setting_options()
@log_options
@format_option
def show(output_format: str, **values: Any) -> None:
    """Print every effective setting and where it came from."""
    from ci_registry.cli.console import clean
    from ci_registry.wiring.basis import read_basis

    with open_caller(values) as caller:
        basis = read_basis(caller, needs_images=False)
    rows = basis.loaded.values
    if output_format == "json":
        data = {row.key: {"value": row.value, "source": row.source} for row in rows}
        write_out(json.dumps(data, indent=2) + "\n")
        return
    width = max(len(row.key) for row in rows)
    for row in rows:
        write_out(f"{row.key:<{width}}  {clean(row.value) or '-'}  ({row.source})\n")
    for note in basis.notes:
        write_out(f"note: {clean(note)}\n")


@config.command()
@setting_options()
@log_options
def check(**values: Any) -> None:
    """Read settings, policy and waivers; report every problem at once (exit 2)."""
    from ci_registry.wiring.basis import read_basis

    with open_caller(values) as caller:
        basis = read_basis(caller)
    names = ", ".join(basis.loaded.selected)
    write_out(
        f"settings are valid: images {names}; policy {basis.policy.name} from"
        f" {basis.policy.source}; {len(basis.waivers)} waivers\n"
    )


@config.command()
def schema() -> None:
    """Print the JSON schema of .ci-registry.yml, for editors."""
    from ci_registry.config.schema import json_schema

    write_out(json.dumps(json_schema(), indent=2) + "\n")

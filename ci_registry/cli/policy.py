"""`policy check | explain`: the policy that would decide, in English."""

from typing import Any

import click

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import log_options, setting_options
from ci_registry.cli.streams import write_out


@click.group()
def policy() -> None:
    """Check and explain the policy and the waivers."""


@policy.command()
@setting_options()
@log_options
def explain(**values: Any) -> None:
    """Print each rule of the effective policy as one sentence."""
    from ci_registry.cli.console import clean
    from ci_registry.policy.explain import explain_policy
    from ci_registry.wiring.basis import read_basis

    with open_caller(values) as caller:
        basis = read_basis(caller, needs_images=False)
    write_out(f"policy {clean(basis.policy.name)}, from {clean(basis.policy.source)}\n")
    for line in explain_policy(basis.policy).rstrip().splitlines():
        write_out(f"{clean(line)}\n")
    for waiver in basis.waivers:
        ids = ", ".join(waiver.vulnerabilities)
        text = f"waiver {waiver.id}: {ids}, owner {waiver.owner}, until {waiver.expires}"
        write_out(f"{clean(text)}\n")


@policy.command()
@setting_options()
@log_options
def check(**values: Any) -> None:
    """Read policy and waivers; report every problem at once (exit 2)."""
    from ci_registry.wiring.basis import read_basis

    with open_caller(values) as caller:
        basis = read_basis(caller, needs_images=False)
    rules, waivers = len(basis.policy.rules), len(basis.waivers)
    write_out(f"valid: {rules} rules from {basis.policy.source}, {waivers} waivers\n")

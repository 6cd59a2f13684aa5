"""`keys generate`: a key pair that cosign reads too."""

import os
import sys
from pathlib import Path

import click

from ci_registry.cli.streams import write_out
from ci_registry.errors import SetupError, UsageError
from ci_registry.files import write_atomic
from ci_registry.secret import Secret


@click.group()
def keys() -> None:
    """Generate signing keys."""


@keys.command()
@click.option(
    "--output-prefix",
    default="cosign",
    show_default=True,
    help="Writes PREFIX.key (encrypted, mode 0600) and PREFIX.pub.",
)
def generate(output_prefix: str) -> None:
    """Generate an ECDSA P-256 key pair; the password comes from COSIGN_PASSWORD or a prompt."""
    import secrets

    from ci_registry.signers.keys import generate_key_pair

    private, public = Path(f"{output_prefix}.key"), Path(f"{output_prefix}.pub")
    for path in (private, public):
        if path.exists():
            raise UsageError(
                f"{path} exists already", hint="keys are never overwritten; move it away"
            )
    pair = generate_key_pair(_password(), secrets.token_bytes)
    write_atomic(private, pair.private_pem.reveal(), mode=0o600)
    write_atomic(public, pair.public_pem)
    write_out(f"private key: {private}\npublic key:  {public}\n")


def _password() -> Secret:
    if "COSIGN_PASSWORD" in os.environ:
        return Secret(os.environ["COSIGN_PASSWORD"])
    if not sys.stdin.isatty():
        raise SetupError(
            "no password for the new key",
            hint="set COSIGN_PASSWORD (it may be empty), or run on a terminal",
        )
    return Secret(
        click.prompt("Password for the private key", hide_input=True, confirmation_prompt=True)
    )

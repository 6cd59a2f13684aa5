"""`serve`: the embedded registry, its users, and its export as an OCI layout."""

import sys
from pathlib import Path
from typing import Any

import click

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import log_options
from ci_registry.cli.streams import write_out

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group(invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5000,
    show_default=True,
    help="Port; 0 = any free one.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where images are kept; default: in memory, gone at the end.",
)
@click.option("--tls-cert", type=_FILE, help="PEM certificate (then its chain): serve https.")
@click.option("--tls-key", type=_FILE, help="PEM private key of the certificate, unencrypted.")
@click.option(
    "--users",
    type=_FILE,
    help="Ask for a password; made by `serve hash-password`, or by `htpasswd -B`.",
)
@click.option(
    "--token-auth",
    is_flag=True,
    help="With --users: give tokens at /token instead of taking passwords everywhere.",
)
@click.option("--read-only", is_flag=True, help="Refuse every write; nothing is collected.")
@click.option(
    "--missing-content",
    type=click.Choice(["refuse", "accept"]),
    default="refuse",
    show_default=True,
    help="What to do with a manifest whose blobs or children are not there.",
)
@click.option(
    "--gc-grace",
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long content that no tag leads to stays after it was last used; `never`: for good.",
)
@click.option(
    "--drain-timeout",
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="How long SIGTERM waits for running answers.",
)
@click.option("--access-log", is_flag=True, help="One line of JSON per request on stderr.")
@click.option(
    "--allow-public",
    is_flag=True,
    help="Allow a --host that other machines reach; needs --tls-cert and --users.",
)
@click.option(
    "--allow-public-unprotected",
    is_flag=True,
    help="Allow it without TLS or users: whoever reaches it can overwrite images.",
)
@log_options
@click.pass_context
def serve(context: click.Context, /, **values: Any) -> None:
    """Serve a registry until interrupted; prints `host:port` on stdout once it listens.

    Loopback only, unless --allow-public is given with TLS and users. /metrics answers Prometheus,
    /healthz load balancers.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    from ci_registry.wiring.server import ServerSettings, run_server

    settings = ServerSettings(
        host=values["host"],
        port=values["port"],
        folder=values["folder"],
        tls_certificate=values["tls_cert"],
        tls_key=values["tls_key"],
        users=values["users"],
        token_auth=values["token_auth"],
        read_only=values["read_only"],
        accept_missing=values["missing_content"] == "accept",
        grace=values["gc_grace"],
        drain=values["drain_timeout"],
        access_log=values["access_log"],
        allow_public=values["allow_public"],
        allow_public_unprotected=values["allow_public_unprotected"],
    )
    with open_caller(values) as caller:
        run_server(caller, settings, lambda address: write_out(f"{address}\n"))


def _refuse_options(context: click.Context) -> None:
    """Refuse options of the server in front of a command that would not look at them."""
    given = click.core.ParameterSource.COMMANDLINE
    for parameter in context.command.params:
        if parameter.name and context.get_parameter_source(parameter.name) is given:
            raise click.UsageError(
                f"{parameter.opts[0]} is not for `serve {context.invoked_subcommand}`", context
            )


@serve.command()
@click.argument("name")
def hash_password(name: str) -> None:
    """Print a line for the --users file; the password comes from a prompt, or one line of stdin."""
    import secrets

    from ci_registry.secret import Secret
    from ci_registry.wiring.server import users_line

    if sys.stdin.isatty():
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    write_out(users_line(name, Secret(text), secrets.token_bytes) + "\n")


@serve.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="A folder of `serve --folder` that is not being served.",
)
def export(folder: Path) -> None:
    """Write index.json, so that the folder is an OCI image layout too; a clean stop does the same."""
    from ci_registry.wiring.server import export_index

    write_out(f"{export_index(folder)}\n")

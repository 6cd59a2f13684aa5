"""`serve`: the embedded registry on loopback."""

import sys
from pathlib import Path
from typing import Any

import click

from ci_registry.cli.caller import open_caller
from ci_registry.cli.options import log_options


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on."
)
@click.option("--port", default=5000, show_default=True, help="Port; 0 = any free one.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=None,
    help="Where images are kept; default: in memory, gone at the end.",
)
@log_options
def serve(host: str, port: int, folder: Path | None, **values: Any) -> None:
    """Serve a registry until interrupted; prints `host:port` on stdout once it listens.

    It has no authentication and no TLS and therefore listens on loopback only.
    """
    from ci_registry.registry_server.serve import serve_forever
    from ci_registry.wiring.registries import open_store

    def announce(address: str) -> None:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()

    with open_caller(values) as caller, open_store(folder) as store:
        serve_forever(
            store,
            cancel=caller.cancel,
            host=host,
            port=port,
            on_started=announce,
            events=caller.on_event,
        )

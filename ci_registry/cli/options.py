"""Options shared by commands: every setting as an option, logging, output format."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from ci_registry.config.options import OptionSpec, Scope, all_options
from ci_registry.events import Level

Command = Callable[..., Any]


def setting_options(
    *, scopes: tuple[Scope, ...] = tuple(Scope), parts: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """Add an option for every setting of these scopes; values stay raw, `config.load` reads them.

    `parts` names the sections (`network`) and settings (`config`) to offer; empty: all.
    """

    def decorate(function: Command) -> Command:
        for spec in reversed(all_options()):
            wanted = not parts or spec.path[0] in parts
            if wanted and spec.scope in scopes and not spec.is_secret:
                function = _option(spec)(function)
        return function

    return decorate


def _option(spec: OptionSpec) -> Callable[[Command], Command]:
    text = spec.help
    if spec.choices:
        text += f" [{'|'.join(spec.choices)}]"
    if spec.default_text and not spec.is_flag:
        text += f" [default: {spec.default_text}]"
    name = f"setting_{spec.name.replace('-', '_')}"
    if spec.is_flag:
        return click.option(f"{spec.option}/--no-{spec.name}", name, default=None, help=text)
    return click.option(
        spec.option,
        name,
        default=None,
        multiple=spec.multiple,
        help=text,
        metavar="TEXT" if not spec.multiple else "ITEM",
    )


def given_options(values: Mapping[str, Any]) -> dict[str, object]:
    """Return what the user gave, by the option's name; what was not given is absent."""
    found: dict[str, object] = {}
    for spec in all_options():
        value = values.get(f"setting_{spec.name.replace('-', '_')}")
        if value is None or value == ():
            continue
        found[spec.name] = value
    return found


def log_options(function: Command) -> Command:
    """Add `-v`, `-q` and `--log-format`."""
    function = click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        help="How progress and logs are written to stderr.",
    )(function)
    function = click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")(
        function
    )
    return click.option("-v", "--verbose", is_flag=True, help="Every detail.")(function)


def format_option(function: Command) -> Command:
    """Add `--format`, for results on stdout."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(["text", "json"]),
        default="text",
        help="How the result is written to stdout.",
    )(function)


def log_level(*, verbose: bool, quiet: bool) -> Level:
    """Return the level that `-v` and `-q` ask for."""
    return Level.DEBUG if verbose else Level.WARNING if quiet else Level.INFO

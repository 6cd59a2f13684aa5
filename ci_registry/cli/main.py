"""The group of all commands, loaded lazily; turns errors into one line and an exit code."""

import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence

import click

from ci_registry import __version__
from ci_registry.cli.streams import Lines, accept_any_text, to_nowhere
from ci_registry.errors import CiRegistryError, ConfigError, ExitCode, Problem

_COMMANDS = {
    "run": ("run", "Build, scan, judge, push, sign and tag; the whole pipeline."),
    "plan": ("run", "Print what `run` would do and why; runs nothing."),
    "build": ("image", "Build and verify images into OCI layouts; nothing is pushed."),
    "scan": ("image", "Scan and judge an image in a registry or a layout."),
    "rescan": ("rescan", "Match published images with the advisories of today; pulls no layer."),
    "sign": ("image", "Sign a digest that passed, and verify what was written."),
    "verify": ("image", "Verify the signatures of an image with the public key."),
    "copy": ("registry", "Copy images between registries, layouts and archives."),
    "ls": ("registry", "List the tags of a repository."),
    "inspect": ("registry", "Show what an image is made of."),
    "referrers": ("registry", "List signatures, attestations and SBOMs of an image."),
    "du": ("registry", "Count the bytes of repositories."),
    "tag": ("registry", "Put further tags on an image."),
    "untag": ("registry", "Delete one tag and nothing else."),
    "rm": ("registry", "Delete an image with all of its tags and signatures."),
    "db": ("db", "Build, look at, push and pull your own advisory database."),
    "serve": ("serve", "Serve a registry on loopback, for tests and laptops."),
    "config": ("config", "Show, check and describe the settings."),
    "policy": ("policy", "Check and explain the policy and the waivers."),
    "keys": ("keys", "Generate signing keys."),
}
"""Command → (module in this package, one line for `--help`)."""


class LazyGroup(click.Group):
    """A group that imports the module of a command only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table."""
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"ci_registry.cli.{_COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is no command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As the parent, with a suggestion for a typo."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], _COMMANDS, 1)
            if close:
                message = f"{error.message} Did you mean {close[0]!r}?"
                raise click.UsageError(message, ctx) from error
            raise

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ci-registry")
def cli() -> None:
    """One CI step for container images: build, scan, judge, push, sign, tag, report.

    \b
    Exit codes: 0 pass, 1 blocked by policy, 2 usage or settings, 3 build failed,
    4 infrastructure, 5 incomplete evidence, 6 signature, 70 bug, 130 interrupted.
    """  # noqa: D301 - click's mark for a paragraph that is not rewrapped


def run_command_line(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code and never raises."""
    accept_any_text()
    try:
        result = cli.main(args=list(argv), prog_name="ci-registry", standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        text = io.StringIO()
        error.show(file=text)
        Lines(sys.stderr).write(text.getvalue().rstrip())
        return int(ExitCode.CONFIG)
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return int(ExitCode.INTERRUPTED)
    except CiRegistryError as error:
        show_error(error)
        return int(error.exit_code)
    except (BrokenPipeError, SystemExit) as error:
        return _end_of_output(error)
    except OSError as error:
        from ci_registry.files import storage_error

        show_error(storage_error(error, error.filename or "a file", "read or write"))
        return int(ExitCode.INFRASTRUCTURE)
    except Exception:  # noqa: BLE001 - a bug: the traceback is what we need to mend it
        _say("this is a bug in ci-registry; please report it with these lines:")
        _say(traceback.format_exc())
        return int(ExitCode.BUG)


def _end_of_output(error: BaseException) -> int:
    """Tell shell completion, which click ends with 0, from a reader that went away, which it makes 1."""
    if isinstance(error, SystemExit) and not error.code:
        return int(ExitCode.OK)
    to_nowhere(sys.stdout)
    return int(ExitCode.INFRASTRUCTURE)


def show_error(error: CiRegistryError) -> None:
    """Print an expected failure: what happened and what to do next, one line each; annotated on GitHub."""
    whole = Problem(message=error.message, file=error.file, line=error.line)
    for problem in error.problems if isinstance(error, ConfigError) else (whole,):
        _say(str(problem))
        if os.environ.get("GITHUB_ACTIONS") == "true":
            _annotate(problem)
    if error.hint:
        _say(f"hint: {error.hint}")


def _annotate(problem: Problem) -> None:
    from ci_registry.cli.workflow_commands import write_command
    from ci_registry.reports.escape import command_data, command_property, printable

    where = ""
    if problem.file:
        where = f" file={command_property(problem.file)},line={problem.line or 1}"
    message = command_data(printable(problem.message))
    write_command(sys.stderr, _masked(f"::error{where}::{message}"))


def _masked(text: str) -> str:
    from ci_registry.secret import Masker
    from ci_registry.wiring.known_secrets import known_secrets

    return Masker(known_secrets(os.environ)).mask(text)


def _say(text: str) -> None:
    from ci_registry.cli.console import clean

    text = _masked(text)
    color = "\x1b[31m" if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ""
    reset = "\x1b[0m" if color else ""
    lines = Lines(sys.stderr)
    for line in text.splitlines() or [""]:
        lines.write(f"{color}ci-registry:{reset} {clean(line)}")

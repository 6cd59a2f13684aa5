"""Prints what a deletion would take along and how it went, and asks before it."""

import sys

import click

from ci_registry.cli.console import clean
from ci_registry.errors import UsageError
from ci_registry.registry.deletion import DeletionPlan, Removal, RemovalKind, RemovalOutcome
from ci_registry.registry.place import Place
from ci_registry.wiring.editing import Deletion

_WORDS = {
    RemovalKind.TAG: "tag",
    RemovalKind.IMAGE: "image",
    RemovalKind.CHILD: "platform",
    RemovalKind.REFERRER: "referrer",
}


def plan_as_text(place: Place, plan: DeletionPlan) -> str:
    """Return everything that would go, and what stays."""
    lines = [f"{place.name}: these would go, in this order"]
    lines += [f"  {_WORDS[removal.kind]:<9} {removal}" for removal in plan.removals]
    lines += [f"  kept      {line}" for line in plan.kept]
    return "".join(f"{clean(line)}\n" for line in lines)


class Confirmation:
    """Shows the plan on stderr and asks, unless `--yes` was given."""

    def __init__(self, *, yes: bool, dry_run: bool) -> None:
        self._yes = yes
        self._dry_run = dry_run

    def __call__(self, place: Place, plan: DeletionPlan, /) -> bool:
        """Return whether to delete.

        Raises:
            UsageError: nobody can be asked.
        """
        click.echo(plan_as_text(place, plan), err=True, nl=False)
        if self._dry_run:
            return False
        if self._yes:
            return True
        if not sys.stdin.isatty():
            raise UsageError(
                f"nothing was deleted: {plan.root} needs --yes, nobody can be asked here",
                hint="read above what would go, then add --yes",
            )
        count = len(plan.removals)
        return click.confirm(f"Delete these {count} things?", default=False, err=True)


def deletion_as_text(deletion: Deletion) -> str:
    """Return how a deletion went, a line for each thing."""
    lines = [_line(outcome) for outcome in deletion.outcomes]
    left = deletion.plan.removals[len(deletion.outcomes) :] if deletion.outcomes else ()
    lines += [f"not tried {_WORDS[removal.kind]} {removal}" for removal in left]
    if not deletion.outcomes:
        lines.append("nothing was deleted")
    return "".join(f"{clean(line)}\n" for line in lines)


def _line(outcome: RemovalOutcome) -> str:
    what = f"{_WORDS[outcome.removal.kind]} {outcome.removal}"
    if outcome.error is not None:
        return f"FAILED    {what}: {outcome.error.headline}"
    detail = f": {outcome.detail}" if outcome.detail else ""
    return f"{'deleted  ' if outcome.done else 'left     '} {what}{detail}"


def deletion_as_json(deletion: Deletion) -> dict[str, object]:
    """Return plan and outcome as JSON values; versioned, only additions within a version."""
    done = {id(outcome.removal): outcome for outcome in deletion.outcomes}
    return {
        "schema_version": 1,
        "repository": deletion.place.name,
        "digest": deletion.plan.root,
        "exit_code": int(deletion.exit_code),
        "removals": [_removal_json(r, done.get(id(r))) for r in deletion.plan.removals],
        "kept": list(deletion.plan.kept),
    }


def _removal_json(removal: Removal, outcome: RemovalOutcome | None) -> dict[str, object]:
    status = "planned"
    if outcome is not None:
        status = "failed" if outcome.error else "deleted" if outcome.done else "left"
    return {
        "kind": _WORDS[removal.kind],
        "digest": removal.digest,
        "tag": removal.tag,
        "detail": removal.detail,
        "status": status,
        "error": outcome.error.headline if outcome is not None and outcome.error else "",
    }

"""The `--mount` flags of `RUN`."""

import csv
from dataclasses import dataclass

from ci_registry.dockerfile.model import Instruction

_SOURCES = ("source", "src")
_TARGETS = ("target", "dst", "destination")


class MountError(ValueError):
    """A `--mount` is malformed; the caller adds file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One `--mount`; values are not expanded."""

    type: str = "bind"
    """As written; may hold a variable."""
    source_stage: str = ""
    """`from=`: a stage or an image; empty for the build context."""
    source: str = ""
    target: str = ""
    options: tuple[tuple[str, str], ...] = ()
    """Every option in order, keys in lower case; empty value for `ro` and its like."""

    @property
    def reads_context(self) -> bool:
        """Whether files of the build context reach the instruction; true when that can't be ruled out."""
        return not self.source_stage and (self.type == "bind" or "$" in self.type)


def mounts_of(instruction: Instruction) -> tuple[Mount, ...]:
    """Return the mounts of a `RUN`.

    Raises:
        MountError: a value is no comma-separated list, or `from=` holds a variable.
    """
    return tuple(_mount(value) for value in instruction.flag_values("mount"))


def _mount(text: str) -> Mount:
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise MountError(f"--mount={text}: not a comma-separated list: {error}") from error
    options = []
    for part in fields:
        key, _, value = part.partition("=")
        options.append((key.lower(), value))
    by_key = dict(options)
    stage = by_key.get("from", "")
    if 0 <= stage.find("$") < len(stage) - 1:
        raise MountError(
            "--mount: from doesn't support variables: give the image a stage of its own"
        )
    return Mount(
        type=by_key.get("type", "bind").lower() or "bind",
        source_stage=stage,
        source=next((by_key[k] for k in _SOURCES if k in by_key), ""),
        target=next((by_key[k] for k in _TARGETS if k in by_key), ""),
        options=tuple(options),
    )

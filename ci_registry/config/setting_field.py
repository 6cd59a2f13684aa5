"""How a setting is declared: a dataclass field whose metadata says everything about it."""

from dataclasses import field
from typing import Any

PLACEHOLDERS = ("branch", "sha", "short_sha", "tag", "version", "major", "minor", "change", "date")
"""What a tag template may name in braces."""
IMAGE_NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""What `images.<name>` may be called: names of files and test cases are made from it."""
TAG_PATTERN = r"(?![.-])(?:[A-Za-z0-9_.-]|\{(?:" + "|".join(PLACEHOLDERS) + r")\})+"
NO_KEY_PATTERN = r"(?![\s\S]*(?:PRIVATE KEY|PUBLIC KEY))\S[\s\S]*"


def setting(
    default: Any,
    text: str,
    *,
    surface: str = "",
    trusted: bool = False,
    hidden: bool = False,
    **limits: Any,
) -> Any:
    """Make a dataclass field.

    Args:
        default: immutable default value.
        text: help in one or two sentences, with the unit where there is one.
        surface: name that the setting has everywhere, with hyphens; empty for section and key.
        trusted: decides the verdict, so a file's value counts only from the trusted ref.
        hidden: comes only from environment or command line, never from the file.
        limits: further metadata: `minimum`, `maximum`, `pattern` with `pattern_hint`, `masked`, as
            `conversion` explains them; `commas` (items of the environment may be separated by them),
            `single` (a list of one may be written without brackets),
            `file_only` (no option and no `CIREG_…` name), `no_input` (no input of the wrappers).
    """
    metadata = {"help": text, "surface": surface, "trusted": trusted, "hidden": hidden, **limits}
    return field(default=default, metadata=metadata)


def mapping_setting(text: str, *, surface: str = "", **limits: Any) -> Any:
    """Make a dataclass field that holds `NAME=value` pairs, empty by default; else as `setting`."""
    metadata = {"help": text, "surface": surface, "trusted": False, "hidden": False, **limits}
    return field(default_factory=dict, metadata=metadata)

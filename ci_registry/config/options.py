"""Every setting as an option: its names on the command line, in the environment and in the file.

All of it is read from `model.py`; the command line, the reference page, `action.yml` and the GitLab
template are made from this list or compared with it.
"""

import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Any

from ci_registry.config.conversion import format_duration
from ci_registry.config.model import ImageSettings, InlineDocument, RunOptions, Settings
from ci_registry.oci.platform import Platform
from ci_registry.secret import MASK, Secret


class Scope(StrEnum):
    """Which dataclass an option belongs to."""

    SETTINGS = "settings"
    IMAGE = "image"
    """A field of `ImageSettings`; as an option it needs exactly one selected image."""
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One setting and everything that a front end needs to offer it."""

    name: str
    """With hyphens, the same everywhere: `scan-max-db-age`."""
    scope: Scope
    path: tuple[str, ...]
    """Attribute names from the scope's dataclass: `("scan", "max_db_age")`."""
    type: Any
    """The annotation of the field."""
    help: str
    default: object
    default_text: str
    """The default as it would be written in a file; empty when there is none."""
    choices: tuple[str, ...]
    trusted: bool
    hidden: bool
    """Never read from the file."""
    wrapper_input: bool
    """Whether both wrappers have an input of this name."""
    multiple: bool
    """Whether it is a list or a mapping: repeatable on the command line, one item per line elsewhere."""
    metadata: typing.Mapping[str, Any]

    @property
    def option(self) -> str:
        """`--scan-max-db-age`."""
        return f"--{self.name}"

    @property
    def env(self) -> str:
        """`CIREG_SCAN_MAX_DB_AGE`."""
        return "CIREG_" + self.name.upper().replace("-", "_")

    @property
    def key(self) -> str:
        """Dotted key in the file, `images.*.target` for images; also names it in `config show`."""
        prefix = ("images", "*") if self.scope is Scope.IMAGE else ()
        return ".".join((*prefix, *self.path))

    @property
    def is_flag(self) -> bool:
        """Whether it is `true` or `false`."""
        return self.type is bool

    @property
    def is_secret(self) -> bool:
        """Whether it holds a secret: then it is no command-line option, because argv is public."""
        return self.type is Secret


@cache
def all_options() -> tuple[OptionSpec, ...]:
    """Return every setting that has an option, in the order of the model: settings, images, run."""
    return (
        *_options_of(Settings, Scope.SETTINGS, ()),
        *_options_of(ImageSettings, Scope.IMAGE, ()),
        *_options_of(RunOptions, Scope.RUN, ()),
    )


def is_list_type(target: Any) -> bool:
    """Whether a field's annotation is `tuple[T, ...]` or `dict[str, T]`."""
    return typing.get_origin(target) in (tuple, dict)


def format_value(value: object) -> str:
    """Return a setting as text: the way it is written in a file, secrets as `***`."""
    match value:
        case bool():
            return str(value).lower()
        case timedelta():
            return format_duration(value)
        case InlineDocument():
            return f"(written inline, {value.file}:{value.line})"
        case tuple():
            return ", ".join(format_value(item) for item in value)
        case dict():
            return ", ".join(f"{name}={format_value(item)}" for name, item in value.items())
        case Secret():
            return MASK if value else ""
        case _:
            return str(value)


def default_of(field: "Field[Any]") -> object:
    """Return the default value of a dataclass field that has one."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _options_of(owner: type, scope: Scope, path: tuple[str, ...]) -> Iterator[OptionSpec]:
    hints = typing.get_type_hints(owner)
    for field in fields(owner):
        target = hints[field.name]
        if is_dataclass(target) and target is not Platform:
            yield from _options_of(typing.cast("type", target), scope, (*path, field.name))
        elif not field.metadata.get("file_only") and ImageSettings not in typing.get_args(target):
            yield _option(field, target, scope, (*path, field.name))


def _option(field: "Field[Any]", target: Any, scope: Scope, path: tuple[str, ...]) -> OptionSpec:
    meta = field.metadata
    default = default_of(field)
    return OptionSpec(
        name=meta["surface"] or "-".join(path).replace("_", "-"),
        scope=scope,
        path=path,
        type=target,
        help=meta["help"],
        default=default,
        default_text=format_value(default),
        choices=_choices(target),
        trusted=meta["trusted"],
        hidden=meta["hidden"],
        wrapper_input=bool(meta["surface"]) and not meta.get("no_input"),
        multiple=is_list_type(target),
        metadata=meta,
    )


def _choices(target: Any) -> tuple[str, ...]:
    if typing.get_origin(target) not in (None, types.UnionType):
        target = typing.get_args(target)[0]
    is_enum = isinstance(target, type) and issubclass(target, StrEnum)
    return tuple(str(word) for word in target) if is_enum else ()

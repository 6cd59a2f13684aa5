"""Makes a node of what stands in an environment variable or on the command line.

Lists have one item per line; items that can't contain a comma may be separated by commas too. Mappings
have one `NAME=value` per line; where a value is a list, commas separate its items.
"""

import typing
from collections.abc import Mapping
from enum import StrEnum

from ci_registry.config.options import OptionSpec
from ci_registry.config.yaml_reader import Kind, Node
from ci_registry.errors import Problem
from ci_registry.oci.platform import Platform
from ci_registry.secret import Secret


def node_from_text(
    spec: OptionSpec, raw: object, *, where: str, env: Mapping[str, str], problems: list[Problem]
) -> Node:
    """Return `raw` as the node that a file would have had at this place.

    Args:
        spec: the option it belongs to.
        raw: text; or a tuple of texts of a repeated option; a `bool` of a flag; a `Secret`.
        where: the name of the variable or option, for messages.
        env: where bare names of build arguments take their values from.
        problems: grows by one entry for each line that has the wrong shape.
    """
    if isinstance(raw, bool):
        return _scalar("true" if raw else "false", is_plain=True)
    if isinstance(raw, Secret):
        return _scalar(raw.reveal())
    texts = [str(item) for item in raw] if isinstance(raw, tuple | list) else [str(raw)]
    origin = typing.get_origin(spec.type)
    if origin is tuple:
        return Node(kind=Kind.LIST, items=tuple(_scalar(item) for item in _items(spec, texts)))
    if origin is dict:
        lines = _items(spec, texts)
        known = env if spec.metadata.get("bare_names") else None
        holds_lists = typing.get_origin(typing.get_args(spec.type)[1]) is tuple
        return _mapping(lines, where, known, problems, holds_lists=holds_lists)
    text = "\n".join(texts)
    text = text.rstrip("\r\n") if spec.is_secret else text.strip()
    return _scalar(text, is_plain=spec.type in (int, bool))


def bare_names(spec: OptionSpec, raw: object) -> frozenset[str]:
    """Return the build arguments in `raw` whose values come from the environment: not to be shown."""
    if not spec.metadata.get("bare_names"):
        return frozenset()
    texts = [str(item) for item in raw] if isinstance(raw, tuple | list) else [str(raw)]
    return frozenset(line for line in _items(spec, texts) if "=" not in line)


def _scalar(text: str, *, is_plain: bool = False) -> Node:
    return Node(kind=Kind.SCALAR, text=text, is_plain=is_plain)


def _items(spec: OptionSpec, texts: list[str]) -> list[str]:
    item = typing.get_args(spec.type)[0]
    is_word = isinstance(item, type) and issubclass(item, StrEnum | Platform)
    if is_word or spec.metadata.get("commas"):
        texts = [text.replace(",", "\n") for text in texts]
    lines = (line.strip() for text in texts for line in text.splitlines())
    return [line for line in lines if line]


def _list(text: str) -> Node:
    items = (item.strip() for item in text.split(","))
    return Node(kind=Kind.LIST, items=tuple(_scalar(item) for item in items if item))


def _mapping(
    lines: list[str],
    where: str,
    env: Mapping[str, str] | None,
    problems: list[Problem],
    *,
    holds_lists: bool,
) -> Node:
    entries: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals and env is not None and name in env:
            value = env[name]
        elif not equals:
            message, hint = f"{where}: {name!r} has no value", "write NAME=value"
            if env is not None:
                message = f"{where}: the environment has no variable {name!r}"
                hint = "set it, or write NAME=value"
            problems.append(Problem(message=message, hint=hint))
        if name in entries:
            problems.append(Problem(message=f"{where}: {name!r} is given twice"))
        entries[name] = value
    make = _list if holds_lists else _scalar
    pairs = tuple((_scalar(name), make(value)) for name, value in entries.items())
    return Node(kind=Kind.MAPPING, entries=pairs)

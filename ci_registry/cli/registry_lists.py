"""Prints lists as they come: tags."""

import json
from collections.abc import Iterable

from ci_registry.cli.console import clean
from ci_registry.cli.registry_text import size_text
from ci_registry.cli.streams import write_out
from ci_registry.registry.listing import ListedTag

_AT_ONCE = 500


def print_tags(tags: Iterable[ListedTag], *, is_long: bool, as_json: bool) -> None:
    """Print tags, some hundred at a time; as JSON one document at the end."""
    if as_json:
        rows = [_as_json(tag, is_long=is_long) for tag in tags]
        write_out(json.dumps({"schema_version": 1, "tags": rows}, indent=2) + "\n")
        return
    lines: list[str] = []
    for tag in tags:
        lines.append(_line(tag, is_long=is_long))
        if len(lines) >= _AT_ONCE:
            write_out("".join(lines))
            lines.clear()
    write_out("".join(lines))


def _line(tag: ListedTag, *, is_long: bool) -> str:
    if not is_long:
        return f"{clean(tag.tag)}\n"
    if tag.descriptor is None:
        return f"{'gone':<71}  {'':>9}  {'':<58}  {clean(tag.tag)}\n"
    found = tag.descriptor
    size = size_text(found.size)
    return f"{found.digest:<71}  {size:>9}  {clean(found.media_type):<58}  {clean(tag.tag)}\n"


def _as_json(tag: ListedTag, *, is_long: bool) -> dict[str, object]:
    if not is_long:
        return {"tag": tag.tag}
    found = tag.descriptor
    if found is None:
        return {"tag": tag.tag, "digest": None}
    return {
        "tag": tag.tag,
        "digest": found.digest,
        "media_type": found.media_type,
        "size": found.size,
    }
